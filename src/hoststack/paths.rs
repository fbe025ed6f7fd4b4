//! Path MTU: what routers say of packets that were too big, and connections cut to it (RFC 1191, RFC 8201).
//!
//! smoltcp sends segments of the size that the two ends agree on. Where a router on the way says that a packet was too big, the segments of that peer are cut into smaller ones on
//! their way out: for the peer it is the same stream.

use crate::frame::{Meta, Net, quote};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr,
};
use std::net::IpAddr;

/// Paths that are remembered.
const PATHS: usize = 64;
/// For so long (RFC 1191 section 6.3, RFC 8201 section 4).
const REMEMBERED: Duration = Duration::from_secs(600);
/// No path is narrower: what is said to be is a lie, or carries one segment in many. Of IPv4 as Linux has it (`min_pmtu`); of IPv6 by RFC 8200 section 5.
const LEAST_V4: u16 = 552;
const LEAST_V6: u16 = 1280;
const ETHERNET: usize = 14;
const TCP: u8 = 6;

/// Paths that carry less than the link.
#[derive(Default)]
pub struct Paths {
    known: Vec<(IpAddr, u16, Instant)>,
}

impl Paths {
    /// Takes an ICMP message of a packet that was too big. It is heeded where it quotes a segment of ours to somebody whom `talks` knows: address and port of the peer.
    /// Says whether it was.
    pub fn hear(
        &mut self,
        frame: &[u8],
        meta: &Meta,
        now: Instant,
        talks: impl Fn(IpAddr, u16) -> bool,
    ) -> bool {
        let Some(mtu) = narrower(frame, meta) else {
            return false;
        };
        let body = frame.get(usize::from(meta.payload)..usize::from(meta.end));
        let Some(quoted) = body.and_then(|body| quote::parse(body, meta)) else {
            return false;
        };
        let quoted = &quoted.meta;
        let Some(peer) = quoted.dst_ip() else {
            return false;
        };
        let ours = quoted.proto == TCP && quoted.src == meta.dst;
        if !ours || !talks(peer, quoted.dport) {
            return false;
        }
        self.forget(now);
        if let Some(path) = self.known.iter_mut().find(|path| path.0 == peer) {
            // Only ever narrower: wider is found out by forgetting.
            (path.1, path.2) = (path.1.min(mtu), now + REMEMBERED);
        } else if self.known.len() < PATHS {
            self.known.push((peer, mtu, now + REMEMBERED));
        }
        true
    }

    /// Hands on a frame that is to be sent, in as many pieces as its path asks for.
    pub fn cut(&mut self, frame: &[u8], now: Instant, mut send: impl FnMut(&[u8])) {
        let mtu = destination(frame).and_then(|to| {
            let known = self.known.iter();
            let mut known = known.filter(|path| path.0 == to && path.2 > now);
            known.next().map(|path| usize::from(path.1))
        });
        match mtu {
            Some(mtu) if frame.len() > ETHERNET + mtu => {
                for piece in pieces(frame, mtu).unwrap_or_default() {
                    send(&piece);
                }
            }
            _ => send(frame),
        }
    }

    fn forget(&mut self, now: Instant) {
        self.known.retain(|path| path.2 > now);
    }
}

/// What a router says that it can carry; `None` where that is not what it says, or makes no sense.
fn narrower(frame: &[u8], meta: &Meta) -> Option<u16> {
    let at = usize::from(meta.l4);
    let (mtu, least) = match (meta.net, meta.proto, meta.sport, meta.dport) {
        // Next-hop MTU (RFC 1191 section 4). Routers from before that say 0.
        (Net::V4, 1, 3, 4) => {
            let mtu = frame.get(at + 6..at + 8)?.first_chunk::<2>()?;
            (u32::from(u16::from_be_bytes(*mtu)), LEAST_V4)
        }
        // RFC 4443 section 3.2.
        (Net::V6, 58, 2, _) => {
            let mtu = frame.get(at + 4..at + 8)?.first_chunk::<4>()?;
            (u32::from_be_bytes(*mtu), LEAST_V6)
        }
        _ => return None,
    };
    let mtu = u16::try_from(mtu).ok()?;
    Some(mtu.max(least))
}

fn destination(frame: &[u8]) -> Option<IpAddr> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            Some(IpAddr::V4(packet.dst_addr()))
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            Some(IpAddr::V6(packet.dst_addr()))
        }
        _ => None,
    }
}

/// A segment in pieces that fit; `None` where it is none.
fn pieces(frame: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let checksums = ChecksumCapabilities::default();
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let (ip, segment): (IpRepr, &[u8]) = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            let repr = Ipv4Repr::parse(&packet, &checksums).ok()?;
            (IpRepr::Ipv4(repr), packet.payload())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            let repr = Ipv6Repr::parse(&packet).ok()?;
            (IpRepr::Ipv6(repr), packet.payload())
        }
        _ => return None,
    };
    if ip.next_header() != IpProtocol::Tcp {
        return None;
    }
    let (src, dst): (IpAddress, IpAddress) = (ip.src_addr(), ip.dst_addr());
    let packet = TcpPacket::new_checked(segment).ok()?;
    let whole = TcpRepr::parse(&packet, &src, &dst, &checksums).ok()?;
    let most = mtu.checked_sub(ip.header_len() + whole.header_len())?;
    let count = whole.payload.len().div_ceil(most.max(1));
    let mut made = Vec::with_capacity(count);
    for (at, payload) in whole.payload.chunks(most.max(1)).enumerate() {
        let piece = TcpRepr {
            seq_number: whole.seq_number + at * most,
            // What ends a stream, or is to be handed on at once, is said by the last.
            control: match at + 1 == count {
                true => whole.control,
                false => TcpControl::None,
            },
            payload,
            ..whole
        };
        let ip = IpRepr::new(
            src,
            dst,
            IpProtocol::Tcp,
            piece.buffer_len(),
            ip.hop_limit(),
        );
        let mut bytes = vec![0; ETHERNET + ip.buffer_len()];
        bytes[..ETHERNET].copy_from_slice(&frame[..ETHERNET]);
        ip.emit(&mut bytes[ETHERNET..], &checksums);
        let body = bytes.get_mut(ETHERNET + ip.header_len()..)?;
        piece.emit(&mut TcpPacket::new_unchecked(body), &src, &dst, &checksums);
        made.push(bytes);
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use etherparse::{PacketBuilder, PacketHeaders, TransportHeader};

    const PEER: [u8; 4] = [10, 77, 0, 9];
    const OURS: [u8; 4] = [10, 77, 0, 2];

    fn segment(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(OURS, PEER, 64);
        let builder = builder.tcp(9155, 40_000, 1000, 512).ack(7).psh().fin();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    fn too_big(mtu: u16, quoted: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let header =
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
        PacketBuilder::ethernet2([4; 6], [2; 6])
            .ipv4([192, 0, 2, 1], OURS, 64)
            .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(header))
            .write(&mut frame, &quoted[14..14 + 40])
            .unwrap();
        frame
    }

    fn told(paths: &mut Paths, frame: &[u8], port: u16) -> bool {
        let meta = frame::parse(frame).unwrap();
        paths.hear(frame, &meta, Instant::ZERO, |ip, at| {
            (ip, at) == (PEER.into(), port)
        })
    }

    fn sent(paths: &mut Paths, frame: &[u8], at: i64) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        paths.cut(frame, Instant::from_secs(at), |piece| {
            out.push(piece.to_owned())
        });
        out
    }

    #[test]
    fn a_segment_is_cut_to_what_its_path_carries_and_the_pieces_are_the_same_stream() {
        let payload: Vec<u8> = (0..1400u32).map(|n| n as u8).collect();
        let frame = segment(&payload);
        let mut paths = Paths::default();
        assert_eq!(sent(&mut paths, &frame, 1), std::slice::from_ref(&frame));
        assert!(told(&mut paths, &too_big(600, &frame), 40_000));
        let pieces = sent(&mut paths, &frame, 1);
        let (mut stream, mut seq): (Vec<u8>, u32) = (Vec::new(), 1000);
        for (at, piece) in pieces.iter().enumerate() {
            assert!(piece.len() <= 14 + 600);
            let parsed = PacketHeaders::from_ethernet_slice(piece).unwrap();
            let Some(TransportHeader::Tcp(tcp)) = parsed.transport else {
                panic!("no segment")
            };
            let last = at + 1 == pieces.len();
            assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (seq, 7));
            assert_eq!((tcp.fin, tcp.ack), (last, true));
            let part = parsed.payload.slice();
            seq += part.len() as u32;
            stream.extend(part);
            assert!(frame::parse(piece).is_ok());
        }
        assert_eq!(stream, payload);
        assert_eq!(pieces.len(), 3);
        assert_eq!(sent(&mut paths, &frame, 700).len(), 1, "forgotten");
    }

    #[test]
    fn what_quotes_no_segment_of_an_open_connection_is_not_heeded() {
        let frame = segment(&[0; 1400]);
        let mut paths = Paths::default();
        assert!(!told(&mut paths, &too_big(600, &frame), 40_001));
        let mut foreign = frame.clone();
        foreign[14 + 12..14 + 16].copy_from_slice(&[1, 2, 3, 4]);
        assert!(!told(&mut paths, &too_big(600, &foreign), 40_000));
        assert_eq!(sent(&mut paths, &frame, 1).len(), 1);
    }

    #[test]
    fn a_path_is_never_taken_for_narrower_than_any_real_one() {
        let frame = segment(&[0; 1400]);
        let mut paths = Paths::default();
        assert!(told(&mut paths, &too_big(0, &frame), 40_000));
        assert!(told(&mut paths, &too_big(68, &frame), 40_000));
        let pieces = sent(&mut paths, &frame, 1);
        assert_eq!(pieces[0].len(), 14 + 552);
    }

    #[test]
    fn cutting_never_panics() {
        use proptest::prelude::*;
        proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..300), mtu in 0usize..200)| {
            let _ = pieces(&bytes, mtu);
            let _ = destination(&bytes);
        });
        let frame = segment(&[1; 100]);
        for mtu in 0..200 {
            for at in 0..frame.len() {
                let mut frame = frame.clone();
                frame[at] ^= 0xff;
                let _ = pieces(&frame, mtu);
            }
        }
    }
}

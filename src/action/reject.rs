//! The answer of a rejecting rule: a TCP RST, or an ICMP error "administratively prohibited", to the inside only.
//!
//! Built with smoltcp's wire types in place of the frame it answers; the link header is that frame's, turned round, so VLAN and PPPoE tags stay.

use crate::frame::{Frag, Meta, Net};
use crate::policy::Side;
use af_xdp::{Frame, Umem};
use ipnet::IpNet;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr,
    IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use std::net::IpAddr;

/// Answers a second, on average.
const RATE: u64 = 1_000;
/// Answers that may be given at once after a quiet time.
const BUCKET: u64 = 200;
/// Bytes quoted of the transport header and what follows it (RFC 792 asks for 8).
const QUOTE: usize = 64;
const HOP_LIMIT: u8 = 64;
const TCP: u8 = 6;
/// Ethernet, two tags, PPPoE, IPv6, ICMPv6, quoted IPv6 header, quote: 14 + 8 + 8 + 40 + 8 + 40 + 64.
const LONGEST: usize = 192;
/// The least length of an Ethernet frame without FCS (IEEE 802.3).
const SHORTEST: usize = 60;

/// Builds answers, within a rate. One for each worker.
#[derive(Debug)]
pub struct Rejector {
    tokens: u64,
    filled: u64,
}

impl Default for Rejector {
    fn default() -> Rejector {
        Rejector::new()
    }
}

impl Rejector {
    /// Its bucket full.
    pub fn new() -> Rejector {
        Rejector {
            tokens: BUCKET,
            filled: 0,
        }
    }

    /// Answers nobody: for a replay, whose hosts are not there.
    pub fn silent() -> Rejector {
        Rejector {
            tokens: 0,
            filled: u64::MAX,
        }
    }

    /// Turns a rejected frame into the answer to it, to be sent where it came from. Only sources in `inside` are answered; an empty list is every unicast source of the LAN
    /// side.
    ///
    /// # Errors
    /// The frame, unchanged, where there may be no answer: from outside, to or from no single host, to an RST or an ICMP error, to a fragment whose
    /// datagram would be quoted wrong, from a source that is not inside, or beyond the rate.
    pub fn answer(
        &mut self,
        (umem, inside): (&Umem, &[IpNet]),
        mut frame: Frame,
        meta: &Meta,
        side: Side,
        now: u64,
    ) -> Result<Frame, Frame> {
        if side != Side::Lan || !may_answer(meta, inside) || !self.take_token(now) {
            return Err(frame);
        }
        let mut reply = [0; LONGEST];
        let Some(len) = build(umem.bytes(&frame), meta, &mut reply) else {
            return Err(frame);
        };
        match umem.write(&mut frame, &reply[..len]) {
            Ok(()) => Ok(frame),
            Err(_) => Err(frame),
        }
    }

    fn take_token(&mut self, now: u64) -> bool {
        const NANOS: u64 = 1_000_000_000 / RATE;
        let earned = now.saturating_sub(self.filled) / NANOS;
        self.tokens = self.tokens.saturating_add(earned).min(BUCKET);
        // The part of a token that is not earned yet stays for the next time.
        self.filled = self.filled.saturating_add(earned.saturating_mul(NANOS));
        let some = self.tokens > 0;
        self.tokens -= u64::from(some);
        some
    }
}

fn may_answer(meta: &Meta, inside: &[IpNet]) -> bool {
    let (Some(src), Some(dst)) = (meta.src_ip(), meta.dst_ip()) else {
        return false;
    };
    let group_mac = (meta.dst_mac[0] | meta.src_mac[0]) & 1 == 1;
    let single = |ip: IpAddr| {
        !ip.is_multicast()
            && !ip.is_unspecified()
            && ip != IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
    };
    let inside = inside.is_empty() || inside.iter().any(|net| net.contains(&src));
    !group_mac
        && single(src)
        && single(dst)
        && inside
        && meta.frag == Frag::Whole
        && !is_error(meta)
}

/// RFC 1122 section 3.2.2 and RFC 4443 section 2.4(e): no error in answer to an error; RFC 9293 section 3.5.2: no RST in answer to an RST.
fn is_error(meta: &Meta) -> bool {
    match (meta.net, meta.proto) {
        (_, 6) => meta.tcp_flags & 0x04 != 0,
        (Net::V4, 1) => !matches!(meta.sport, 8 | 13 | 15 | 17),
        (Net::V6, 58) => meta.sport < 128,
        _ => false,
    }
}

/// Writes the answer to `frame` into `out`; its length, or `None` if the frame is not what `meta` says.
fn build(frame: &[u8], meta: &Meta, out: &mut [u8; LONGEST]) -> Option<usize> {
    let (l3, l4, end) = (
        usize::from(meta.l3),
        usize::from(meta.l4),
        usize::from(meta.end),
    );
    let link = frame
        .get(..l3)
        .filter(|link| (14..=30).contains(&link.len()))?;
    let transport = frame.get(l4..end)?;
    out[..l3].copy_from_slice(link);
    out[..6].copy_from_slice(&meta.src_mac);
    out[6..12].copy_from_slice(&meta.dst_mac);
    let ip = &mut out[l3..];
    let (host, far) = (address(meta.src_ip()?), address(meta.dst_ip()?));
    let ip_len = if meta.proto == TCP {
        let rst = reset(transport)?;
        let body = header(ip, far, host, IpProtocol::Tcp, rst.buffer_len())?;
        let mut packet = TcpPacket::new_unchecked(&mut *body.1);
        rst.emit(&mut packet, &far, &host, &checksums());
        body.0 + rst.buffer_len()
    } else {
        let data = &transport[..transport.len().min(QUOTE)];
        match IpRepr::new(
            host,
            far,
            meta.proto.into(),
            transport.len(),
            meta.hop_limit,
        ) {
            IpRepr::Ipv4(quoted) => {
                let reason = Icmpv4DstUnreachable::CommProhibited;
                let error = Icmpv4Repr::DstUnreachable {
                    reason,
                    header: quoted,
                    data,
                };
                let body = header(ip, far, host, IpProtocol::Icmp, error.buffer_len())?;
                let mut packet = Icmpv4Packet::new_unchecked(&mut *body.1);
                error.emit(&mut packet, &checksums());
                body.0 + error.buffer_len()
            }
            IpRepr::Ipv6(quoted) => {
                let (from, to) = (quoted.dst_addr, quoted.src_addr);
                let reason = Icmpv6DstUnreachable::AdminProhibit;
                let error = Icmpv6Repr::DstUnreachable {
                    reason,
                    header: quoted,
                    data,
                };
                let body = header(ip, far, host, IpProtocol::Icmpv6, error.buffer_len())?;
                let mut packet = Icmpv6Packet::new_unchecked(&mut *body.1);
                error.emit(&from, &to, &mut packet, &checksums());
                body.0 + error.buffer_len()
            }
        }
    };
    set_pppoe_length(out, meta, ip_len);
    Some((l3 + ip_len).max(SHORTEST))
}

/// Writes an IP header for `len` bytes; its length, and the place for those.
fn header(
    out: &mut [u8],
    from: IpAddress,
    to: IpAddress,
    next: IpProtocol,
    len: usize,
) -> Option<(usize, &mut [u8])> {
    let ip = IpRepr::new(from, to, next, len, HOP_LIMIT);
    let at = ip.header_len();
    ip.emit(out.get_mut(..at + len)?, &checksums());
    Some((at, out.get_mut(at..at + len)?))
}

fn address(ip: IpAddr) -> IpAddress {
    match ip {
        IpAddr::V4(ip) => IpAddress::Ipv4(ip),
        IpAddr::V6(ip) => IpAddress::Ipv6(ip),
    }
}

/// The RST that ends the connection a segment belongs to (RFC 9293 section 3.10.7.1).
fn reset(segment: &[u8]) -> Option<TcpRepr<'static>> {
    let tcp = TcpPacket::new_checked(segment).ok()?;
    let (seq_number, ack_number) = if tcp.ack() {
        (tcp.ack_number(), None)
    } else {
        (TcpSeqNumber(0), Some(tcp.seq_number() + tcp.segment_len()))
    };
    Some(TcpRepr {
        src_port: tcp.dst_port(),
        dst_port: tcp.src_port(),
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    })
}

/// PPPoE carries the length of what follows it (RFC 2516 section 4): the PPP protocol field and the packet.
fn set_pppoe_length(out: &mut [u8; LONGEST], meta: &Meta, ip_len: usize) {
    let ethertype = 12 + 4 * usize::from(meta.vlan_depth);
    let l3 = usize::from(meta.l3);
    if out[ethertype..ethertype + 2] == [0x88, 0x64] && l3 == ethertype + 10 {
        out[l3 - 4..l3 - 2].copy_from_slice(&((ip_len + 2) as u16).to_be_bytes());
    }
}

fn checksums() -> ChecksumCapabilities {
    ChecksumCapabilities::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use af_xdp::UmemConfig;
    use etherparse::{
        NetHeaders, PacketBuilder, PacketBuilderStep, PacketHeaders, TransportHeader,
    };

    const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SRC4: [u8; 4] = [10, 77, 0, 9];
    const DST4: [u8; 4] = [93, 184, 216, 34];
    const SRC6: [u8; 16] = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    const DST6: [u8; 16] = [0x26, 6, 0x28, 0, 2, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x34];

    fn link() -> PacketBuilderStep<etherparse::Ethernet2Header> {
        PacketBuilder::ethernet2(HOST, ROUTER)
    }

    fn tcp4() -> etherparse::PacketBuilderStep<etherparse::TcpHeader> {
        link().ipv4(SRC4, DST4, 64).tcp(40_000, 6667, 1000, 512)
    }

    fn write<T>(
        step: PacketBuilderStep<T>,
        finish: impl Fn(PacketBuilderStep<T>, &mut Vec<u8>),
    ) -> Vec<u8> {
        let mut frame = Vec::new();
        finish(step, &mut frame);
        frame
    }

    fn answer_by(rejector: &mut Rejector, frame: &[u8], side: Side, now: u64) -> Option<Vec<u8>> {
        answer_within(rejector, &[], frame, side, now)
    }

    fn answer_within(
        rejector: &mut Rejector,
        inside: &[IpNet],
        frame: &[u8],
        side: Side,
        now: u64,
    ) -> Option<Vec<u8>> {
        let config = UmemConfig {
            frames: 64,
            chunk: 2048,
            headroom: 0,
            huge_pages: false,
        };
        let (umem, mut frames) = Umem::new(&config).unwrap();
        let mut token = frames.pop().unwrap();
        umem.write(&mut token, frame).unwrap();
        let meta = frame::parse(frame).unwrap();
        match rejector.answer((&umem, inside), token, &meta, side, now) {
            Ok(reply) => Some(umem.bytes(&reply).to_vec()),
            Err(same) => {
                assert_eq!(umem.bytes(&same), frame, "a refused frame is unchanged");
                None
            }
        }
    }

    fn answer(frame: &[u8]) -> Option<Vec<u8>> {
        answer_by(&mut Rejector::new(), frame, Side::Lan, 0)
    }

    /// What the host takes the answer for: link, ends and transport, with every checksum looked at.
    fn read(reply: &[u8]) -> (Vec<u8>, Vec<u8>, TransportHeader) {
        assert!(reply.len() >= SHORTEST);
        let headers = PacketHeaders::from_ethernet_slice(reply).unwrap();
        let ethernet = headers.link.unwrap().ethernet2().unwrap();
        assert_eq!((ethernet.source, ethernet.destination), (ROUTER, HOST));
        let transport = headers.transport.unwrap();
        let payload = headers.payload.slice();
        match headers.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => {
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                let sum = match &transport {
                    TransportHeader::Tcp(tcp) => {
                        (tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap())
                    }
                    TransportHeader::Icmpv4(icmp) => {
                        (icmp.checksum, icmp.icmp_type.calc_checksum(payload))
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(sum.0, sum.1);
                (ip.source.to_vec(), ip.destination.to_vec(), transport)
            }
            NetHeaders::Ipv6(ip, _) => {
                let sum = match &transport {
                    TransportHeader::Tcp(tcp) => {
                        (tcp.checksum, tcp.calc_checksum_ipv6(&ip, payload).unwrap())
                    }
                    TransportHeader::Icmpv6(icmp) => (
                        icmp.checksum,
                        icmp.icmp_type
                            .calc_checksum(ip.source, ip.destination, payload)
                            .unwrap(),
                    ),
                    other => panic!("{other:?}"),
                };
                assert_eq!(sum.0, sum.1);
                (ip.source.to_vec(), ip.destination.to_vec(), transport)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_syn_is_answered_with_a_reset_that_acknowledges_it_in_both_families() {
        let v4 = write(tcp4().syn(), |step, frame| step.write(frame, &[]).unwrap());
        let v6 = write(
            link()
                .ipv6(SRC6, DST6, 64)
                .tcp(40_000, 6667, 1000, 512)
                .syn(),
            |step, frame| step.write(frame, &[]).unwrap(),
        );
        for (frame, src, dst) in [
            (v4, SRC4.to_vec(), DST4.to_vec()),
            (v6, SRC6.to_vec(), DST6.to_vec()),
        ] {
            let (from, to, transport) = read(&answer(&frame).unwrap());
            assert_eq!((from, to), (dst, src));
            let tcp = transport.tcp().unwrap();
            assert!(tcp.rst && tcp.ack && !tcp.syn);
            assert_eq!((tcp.source_port, tcp.destination_port), (6667, 40_000));
            assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (0, 1001));
        }
    }

    #[test]
    fn a_segment_with_an_acknowledgment_is_reset_at_that_number() {
        let frame = write(tcp4().ack(777), |step, frame| {
            step.write(frame, b"data").unwrap()
        });
        let tcp = read(&answer(&frame).unwrap()).2.tcp().unwrap();
        assert!(tcp.rst && !tcp.ack);
        assert_eq!(tcp.sequence_number, 777);
    }

    #[test]
    fn udp_is_answered_with_administratively_prohibited_and_a_quote_of_it() {
        let v4 = write(
            link().ipv4(SRC4, DST4, 64).udp(40_000, 161),
            |step, frame| step.write(frame, &[7; 300]).unwrap(),
        );
        let v6 = write(
            link().ipv6(SRC6, DST6, 64).udp(40_000, 161),
            |step, frame| step.write(frame, &[7; 300]).unwrap(),
        );
        let reply = answer(&v4).unwrap();
        let icmp = read(&reply).2.icmpv4().unwrap();
        assert_eq!(&icmp.to_bytes()[..2], &[3, 13], "RFC 1812 section 5.2.7.1");
        // Ethernet, IPv4, ICMP, then the quoted IPv4 header and the first bytes of the datagram.
        assert_eq!(reply[14 + 20 + 8 + 12..][..8], [SRC4, DST4].concat());
        assert_eq!(reply[14 + 20 + 8 + 20..][..8], v4[34..42]);
        let reply = answer(&v6).unwrap();
        let icmp = read(&reply).2.icmpv6().unwrap();
        assert_eq!(&icmp.to_bytes()[..2], &[1, 1], "RFC 4443 section 3.1");
        assert_eq!(reply[14 + 40 + 8 + 40..][..8], v6[54..62]);
    }

    #[test]
    fn vlan_and_pppoe_tags_stay_on_the_answer() {
        let plain = write(tcp4().syn(), |step, frame| step.write(frame, &[]).unwrap());
        let tagged = [
            &plain[..12],
            &[0x88, 0xa8, 0, 5, 0x81, 0, 0x20, 7],
            &plain[12..],
        ]
        .concat();
        let reply = answer(&tagged).unwrap();
        assert_eq!(reply[12..22], tagged[12..22]);
        assert!(frame::parse(&reply).unwrap().tcp_flags & 4 != 0);
        let ip_len = (plain.len() - 14 + 2) as u16;
        let session = [
            &plain[..12],
            &[0x88, 0x64, 0x11, 0, 0, 9],
            &ip_len.to_be_bytes(),
            &[0, 0x21],
            &plain[14..],
        ]
        .concat();
        let reply = answer(&session).unwrap();
        let meta = frame::parse(&reply).expect("a PPPoE length that fits");
        assert_eq!(
            (meta.dst, meta.dst_mac),
            (u32::from_be_bytes(SRC4).into(), HOST)
        );
        assert_eq!(reply[14..18], session[14..18], "the session id stays");
    }

    #[test]
    fn nobody_is_answered_who_must_not_be() {
        let syn = write(tcp4().syn(), |step, frame| step.write(frame, &[]).unwrap());
        let reset = write(tcp4().rst(), |step, frame| step.write(frame, &[]).unwrap());
        let error = write(
            link().ipv4(SRC4, DST4, 64).icmpv4_raw(3, 1, [0; 4]),
            |step, frame| step.write(frame, &[0; 28]).unwrap(),
        );
        let error6 = write(
            link().ipv6(SRC6, DST6, 64).icmpv6_raw(2, 0, [0; 4]),
            |step, frame| step.write(frame, &[0; 48]).unwrap(),
        );
        let multicast = write(
            link().ipv4(SRC4, [224, 0, 0, 251], 64).udp(1, 5353),
            |step, frame| step.write(frame, &[]).unwrap(),
        );
        let broadcast = write(
            PacketBuilder::ethernet2(HOST, [255; 6])
                .ipv4(SRC4, [255; 4], 64)
                .udp(1, 69),
            |step, frame| {
                step.write(frame, &[]).unwrap();
            },
        );
        let nobody = write(link().ipv4([0; 4], DST4, 64).udp(1, 69), |step, frame| {
            step.write(frame, &[]).unwrap()
        });
        for frame in [reset, error, error6, multicast, broadcast, nobody] {
            assert_eq!(answer(&frame), None, "{frame:02x?}");
        }
        assert_eq!(
            answer_by(&mut Rejector::new(), &syn, Side::Uplink, 0),
            None,
            "never towards the uplink"
        );
        let elsewhere = ["192.0.2.0/24".parse().unwrap()];
        assert_eq!(
            answer_within(&mut Rejector::new(), &elsewhere, &syn, Side::Lan, 0),
            None,
            "not a source of ours"
        );
        assert_eq!(
            answer_by(&mut Rejector::silent(), &syn, Side::Lan, u64::MAX),
            None
        );
    }

    #[test]
    fn answers_are_limited_in_rate_and_come_back_with_time() {
        let syn = write(tcp4().syn(), |step, frame| step.write(frame, &[]).unwrap());
        let mut rejector = Rejector::new();
        let mut many = |now| {
            (0..500)
                .filter(|_| answer_by(&mut rejector, &syn, Side::Lan, now).is_some())
                .count() as u64
        };
        assert_eq!(many(1_000_000_000), BUCKET);
        assert_eq!(many(1_000_000_000), 0);
        assert_eq!(many(1_100_000_000), RATE / 10);
    }
}

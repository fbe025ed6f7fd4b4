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
    IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, Ipv6Address, Ipv6Packet, Ipv6Repr,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use std::net::IpAddr;

/// Answers a second, on average.
const RATE: u64 = 1_000;
/// Answers that may be given at once after a quiet time.
const BUCKET: u64 = 200;
/// Bytes quoted of the transport header and what follows it (RFC 792 asks for 8).
const QUOTE: usize = 64;
const HOP_LIMIT: u8 = 64;
/// Ethernet, two tags, PPPoE, IPv6, ICMPv6, quoted IPv6 header, quote: 14 + 8 + 8 + 40 + 8 + 40 + 64.
const LONGEST: usize = 192;
/// The least length of an Ethernet frame without FCS (IEEE 802.3).
const SHORTEST: usize = 60;

/// Builds answers, within a rate. One for each worker.
#[derive(Debug)]
pub struct Rejector {
    inside: Vec<IpNet>,
    tokens: u64,
    filled: u64,
}

impl Rejector {
    /// Answers only sources in `inside`; an empty list is every unicast source of the LAN side.
    pub fn new(inside: Vec<IpNet>) -> Rejector {
        Rejector {
            inside,
            tokens: BUCKET,
            filled: 0,
        }
    }

    /// Turns a rejected frame into the answer to it, to be sent where it came from.
    ///
    /// # Errors
    /// The frame, unchanged, where there may be no answer: from outside, to or from no single host, to an RST or an ICMP error, to a fragment whose
    /// datagram would be quoted wrong, from a source that is not inside, or beyond the rate.
    pub fn answer(
        &mut self,
        umem: &Umem,
        mut frame: Frame,
        meta: &Meta,
        side: Side,
        now: u64,
    ) -> Result<Frame, Frame> {
        if side != Side::Lan || !self.may_answer(meta) || !self.take_token(now) {
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

    fn may_answer(&self, meta: &Meta) -> bool {
        let (Some(src), Some(dst)) = (meta.src_ip(), meta.dst_ip()) else {
            return false;
        };
        let group_mac = (meta.dst_mac[0] | meta.src_mac[0]) & 1 == 1;
        let single = |ip: IpAddr| {
            !ip.is_multicast()
                && !ip.is_unspecified()
                && ip != IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
        };
        let inside = self.inside.is_empty() || self.inside.iter().any(|net| net.contains(&src));
        !group_mac
            && single(src)
            && single(dst)
            && inside
            && meta.frag == Frag::Whole
            && !is_error(meta)
    }

    fn take_token(&mut self, now: u64) -> bool {
        const NANOS: u64 = 1_000_000_000 / RATE;
        let earned = now.saturating_sub(self.filled) / NANOS;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BUCKET);
            self.filled = now;
        }
        let some = self.tokens > 0;
        self.tokens -= u64::from(some);
        some
    }
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
    let ip_len = match (meta.net, meta.proto) {
        (Net::V4, 6) => {
            let (src, dst) = v4(meta);
            let rst = reset(transport)?;
            let header = Ipv4Repr {
                src_addr: dst,
                dst_addr: src,
                next_header: IpProtocol::Tcp,
                payload_len: rst.buffer_len(),
                hop_limit: HOP_LIMIT,
            };
            header.emit(&mut Ipv4Packet::new_unchecked(&mut *ip), &checksums());
            let at = header.buffer_len();
            emit_tcp(
                &rst,
                ip.get_mut(at..at + rst.buffer_len())?,
                dst.into(),
                src.into(),
            );
            at + rst.buffer_len()
        }
        (Net::V6, 6) => {
            let (src, dst) = v6(meta);
            let rst = reset(transport)?;
            let header = Ipv6Repr {
                src_addr: dst,
                dst_addr: src,
                next_header: IpProtocol::Tcp,
                payload_len: rst.buffer_len(),
                hop_limit: HOP_LIMIT,
            };
            header.emit(&mut Ipv6Packet::new_unchecked(&mut *ip));
            let at = header.buffer_len();
            emit_tcp(
                &rst,
                ip.get_mut(at..at + rst.buffer_len())?,
                dst.into(),
                src.into(),
            );
            at + rst.buffer_len()
        }
        (Net::V4, proto) => {
            let (src, dst) = v4(meta);
            let quoted = Ipv4Repr {
                src_addr: src,
                dst_addr: dst,
                next_header: IpProtocol::from(proto),
                payload_len: transport.len(),
                hop_limit: meta.hop_limit,
            };
            let data = &transport[..transport.len().min(QUOTE)];
            let error = Icmpv4Repr::DstUnreachable {
                reason: Icmpv4DstUnreachable::CommProhibited,
                header: quoted,
                data,
            };
            let header = Ipv4Repr {
                src_addr: dst,
                dst_addr: src,
                next_header: IpProtocol::Icmp,
                payload_len: error.buffer_len(),
                hop_limit: HOP_LIMIT,
            };
            header.emit(&mut Ipv4Packet::new_unchecked(&mut *ip), &checksums());
            let at = header.buffer_len();
            error.emit(
                &mut Icmpv4Packet::new_unchecked(ip.get_mut(at..at + error.buffer_len())?),
                &checksums(),
            );
            at + error.buffer_len()
        }
        (Net::V6, proto) => {
            let (src, dst) = v6(meta);
            let quoted = Ipv6Repr {
                src_addr: src,
                dst_addr: dst,
                next_header: IpProtocol::from(proto),
                payload_len: transport.len(),
                hop_limit: meta.hop_limit,
            };
            let data = &transport[..transport.len().min(QUOTE)];
            let error = Icmpv6Repr::DstUnreachable {
                reason: Icmpv6DstUnreachable::AdminProhibit,
                header: quoted,
                data,
            };
            let header = Ipv6Repr {
                src_addr: dst,
                dst_addr: src,
                next_header: IpProtocol::Icmpv6,
                payload_len: error.buffer_len(),
                hop_limit: HOP_LIMIT,
            };
            header.emit(&mut Ipv6Packet::new_unchecked(&mut *ip));
            let at = header.buffer_len();
            let mut packet = Icmpv6Packet::new_unchecked(ip.get_mut(at..at + error.buffer_len())?);
            error.emit(&dst, &src, &mut packet, &checksums());
            at + error.buffer_len()
        }
        (Net::Other | Net::Llc, _) => return None,
    };
    set_pppoe_length(out, meta, ip_len);
    Some((l3 + ip_len).max(SHORTEST))
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

fn emit_tcp(rst: &TcpRepr<'_>, out: &mut [u8], from: IpAddress, to: IpAddress) {
    rst.emit(&mut TcpPacket::new_unchecked(out), &from, &to, &checksums());
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

fn v4(meta: &Meta) -> (Ipv4Address, Ipv4Address) {
    (
        Ipv4Address::from(meta.src as u32),
        Ipv4Address::from(meta.dst as u32),
    )
}

fn v6(meta: &Meta) -> (Ipv6Address, Ipv6Address) {
    (Ipv6Address::from(meta.src), Ipv6Address::from(meta.dst))
}

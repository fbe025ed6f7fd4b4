//! What kind of thing to remember a frame is.

use super::tcp;
use crate::frame::{Frag, Meta, Net};

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What kind of thing to remember a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment of a connection.
    Tcp,
    /// An ICMP message that asks, or answers what was asked: the type of the request, which is part of the flow's key.
    Query {
        /// It asks.
        request: bool,
        /// The type of the request.
        asks: u8,
    },
    /// A packet of a protocol that has no more to it than who talks to whom.
    Plain,
    /// An ICMP error: it belongs to the flow of the packet that it quotes.
    Error,
    /// A fragment that is not the first.
    Later,
    /// No flow is to be had of it: its answer, if any, comes from somebody else. The rules decide over each.
    Alone,
}

impl Kind {
    /// [`Kind::Tcp`] or [`Kind::Plain`] of a frame that is surely nothing but data between two hosts, with no VLAN and in no tunnel: TCP with the flags of an ordinary segment, or
    /// UDP. `None` where more has to be looked at.
    #[inline(always)]
    pub(super) fn of_ordinary(meta: &Meta) -> Option<Kind> {
        // By the same instructions for both: which protocol comes next nobody can foretell.
        let tcp = meta.proto == TCP;
        let known = (tcp & tcp::is_ordinary(meta.tcp_flags)) | (meta.proto == UDP);
        let kind = if tcp { Kind::Tcp } else { Kind::Plain };
        // A mark of a tunnel stands in the place of the tags.
        (known && is_between_hosts(meta) && meta.vlan == [0; 2]).then_some(kind)
    }

    /// Of a parsed IP frame.
    pub fn of(meta: &Meta) -> Kind {
        if meta.frag == Frag::Later {
            return Kind::Later;
        }
        if is_group(meta.net, meta.dst) || is_group(meta.net, meta.src) || meta.src == 0 {
            return Kind::Alone;
        }
        match meta.proto {
            TCP => Kind::Tcp,
            ICMP if meta.net == Net::V4 => icmp(meta.sport as u8),
            ICMPV6 if meta.net == Net::V6 => icmpv6(meta.sport as u8),
            // Listeners speak to groups and to the router, who answers to the group (RFC 3376 section 4).
            IGMP => Kind::Alone,
            _ => Kind::Plain,
        }
    }
}

/// Whether it is surely no later fragment, and surely from one host to another: where this says no, it may be all the same.
#[inline(always)]
fn is_between_hosts(meta: &Meta) -> bool {
    let hosts = match meta.net {
        // Above are groups, what is reserved (RFC 1112 section 4) and the broadcast address.
        Net::V4 => {
            let (src, dst) = (meta.src as u32, meta.dst as u32);
            src != 0 && src < 0xe000_0000 && dst < 0xe000_0000
        }
        // No address of a host starts with a byte of 0 but the loopback's and embedded ones of IPv4 (RFC 4291 sections 2.5.3, 2.5.5).
        _ => {
            let (src, dst) = ((meta.src >> 120) as u8, (meta.dst >> 120) as u8);
            src.wrapping_sub(1) < 0xfe && dst != 0xff
        }
    };
    hosts && meta.frag != Frag::Later
}

/// RFC 792, RFC 950; redirects (5) quote a packet too.
fn icmp(kind: u8) -> Kind {
    match kind {
        3 | 4 | 5 | 11 | 12 => Kind::Error,
        8 | 13 | 15 | 17 => Kind::Query {
            request: true,
            asks: kind,
        },
        0 => Kind::Query {
            request: false,
            asks: 8,
        },
        14 | 16 | 18 => Kind::Query {
            request: false,
            asks: kind - 1,
        },
        _ => Kind::Alone,
    }
}

/// RFC 4443 section 2.1: below 128 an error; echo, and node information (RFC 4620).
fn icmpv6(kind: u8) -> Kind {
    match kind {
        0..128 => Kind::Error,
        128 | 139 => Kind::Query {
            request: true,
            asks: kind,
        },
        129 | 140 => Kind::Query {
            request: false,
            asks: kind - 1,
        },
        _ => Kind::Alone,
    }
}

/// A multicast group (224.0.0.0/4, ff00::/8) or the broadcast address.
fn is_group(net: Net, address: u128) -> bool {
    match net {
        Net::V4 => address as u32 >> 28 == 0xe || address as u32 == u32::MAX,
        _ => address >> 120 == 0xff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(net: Net, proto: u8, sport: u16, src: u128, dst: u128) -> Kind {
        Kind::of(&Meta {
            net,
            proto,
            sport,
            src,
            dst,
            ..Meta::default()
        })
    }

    #[test]
    fn every_icmp_type_is_a_query_an_error_or_stands_alone() {
        let v4 = |kind| of(Net::V4, 1, kind, 1, 2);
        let v6 = |kind| of(Net::V6, 58, kind, 1 << 64, 2 << 64);
        let query = |request, asks| Kind::Query { request, asks };
        assert_eq!((v4(8), v4(0)), (query(true, 8), query(false, 8)));
        assert_eq!((v4(13), v4(14)), (query(true, 13), query(false, 13)));
        assert_eq!((v6(128), v6(129)), (query(true, 128), query(false, 128)));
        for error in [3, 4, 5, 11, 12] {
            assert_eq!(v4(error), Kind::Error);
        }
        for error in [1, 2, 3, 4, 100, 127] {
            assert_eq!(v6(error), Kind::Error);
        }
        for alone in [9, 10, 40, 253] {
            assert_eq!(v4(alone), Kind::Alone);
        }
        for alone in [130, 131, 132, 143, 200] {
            assert_eq!(v6(alone), Kind::Alone);
        }
    }

    #[test]
    fn icmp_of_the_other_family_is_a_plain_protocol() {
        assert_eq!(of(Net::V6, 1, 3, 1 << 64, 2 << 64), Kind::Plain);
        assert_eq!(of(Net::V4, 58, 3, 1, 2), Kind::Plain);
    }

    #[test]
    fn the_short_way_says_what_the_long_one_says() {
        let v6 = |first: u128| first << 112 | 9;
        let addresses = [
            (
                Net::V4,
                [0, 1, 0x0a4d_0009, 0xdfff_ffff, 0xe000_0000, 0xefff_ffff],
            ),
            (Net::V4, [0xf000_0001, u32::MAX.into(), 2, 3, 4, 5]),
            (
                Net::V6,
                [0, 1, v6(0x2606), v6(0xfe80), v6(0xff02), u128::MAX],
            ),
        ];
        let mut ordinary = 0;
        for (net, addresses) in addresses {
            for (src, dst) in addresses.iter().flat_map(|a| addresses.map(|b| (*a, b))) {
                for proto in [TCP, UDP, 47] {
                    for frag in [Frag::Whole, Frag::First, Frag::Later] {
                        let meta = Meta {
                            net,
                            src,
                            dst,
                            proto,
                            frag,
                            tcp_flags: tcp::ACK,
                            ..Meta::default()
                        };
                        if let Some(kind) = Kind::of_ordinary(&meta) {
                            ordinary += 1;
                            assert_eq!(Kind::of(&meta), kind, "{meta:?}");
                        }
                    }
                }
            }
        }
        assert!(ordinary > 50, "{ordinary}");
    }

    #[test]
    fn groups_broadcast_and_hosts_without_an_address_have_no_flows() {
        for dst in [0xe000_00fb, 0xefff_fffa, 0xffff_ffff] {
            assert_eq!(of(Net::V4, 17, 5353, 1, dst), Kind::Alone);
        }
        assert_eq!(of(Net::V4, 17, 53, 1, 0x0a4d_00ff), Kind::Plain);
        assert_eq!(of(Net::V4, 17, 68, 0, 5), Kind::Alone);
        assert_eq!(of(Net::V6, 17, 1, 1, 0xff02 << 112 | 0xfb), Kind::Alone);
        assert_eq!(of(Net::V6, 17, 1, 0xff02 << 112, 1), Kind::Alone);
        assert_eq!(of(Net::V4, 2, 0, 1, 2), Kind::Alone);
    }
}

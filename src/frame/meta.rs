//! What parsing leaves of a frame: one fixed-size record.

/// Which protocol family the frame carries, and so which fields of [`Meta`] mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Net {
    /// Not IP: [`Meta::ethertype`] is the ethertype inside any VLAN tags; no address, no port.
    #[default]
    Other,
    /// IEEE 802.3 with LLC: [`Meta::ethertype`] is `DSAP << 8 | SSAP`.
    Llc,
    /// IPv4 (RFC 791).
    V4,
    /// IPv6 (RFC 8200).
    V6,
}

/// Where in its datagram the frame stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Frag {
    /// The whole datagram, or an IPv6 atomic fragment (RFC 6946).
    #[default]
    Whole,
    /// The first fragment, with the whole transport header.
    First,
    /// A later fragment: `sport`, `dport` and `tcp_flags` are not known and hold 0.
    Later,
}

/// A parsed frame. `Copy`, fixed size, no reference into the frame.
///
/// Offsets are bytes from the start of the frame. Numbers are in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Source address; an IPv4 address stands in the low 32 bits.
    pub src: u128,
    /// Destination address; an IPv4 address stands in the low 32 bits.
    pub dst: u128,
    /// Identification of the datagram's fragments (IPv4 16 bits, IPv6 32 bits); 0 when not a fragment.
    pub frag_id: u32,
    /// Offset of this fragment's data within the datagram, bytes; 0 when not a later fragment.
    pub frag_offset: u16,
    /// Where the fragment's data starts in the frame, bytes: behind the IPv4 header or the fragment header. 0 when not a fragment.
    pub frag_data: u16,
    /// Which family, see [`Net`].
    pub net: Net,
    /// Place in the datagram, see [`Frag`].
    pub frag: Frag,
    /// More fragments of the datagram follow; false when not a fragment.
    pub frag_more: bool,
    /// The protocol that the IPv4 header or the fragment header says, the same in all fragments of a datagram (of IPv6 usually); 0 when not a
    /// fragment.
    pub frag_proto: u8,
    /// The transport protocol (IANA number) after any extension headers; 0 where `net` is not IP. Of a later fragment
    /// what its IPv4 or fragment header says, which may be an extension header (RFC 8200 section 4.5).
    pub proto: u8,
    /// TCP flags as in byte 13 of the header (RFC 9293 section 3.1); 0 for other protocols.
    pub tcp_flags: u8,
    /// Hop limit or time to live; 0 where `net` is not IP.
    pub hop_limit: u8,
    /// How many VLAN tags (0 to 2).
    pub vlan_depth: u8,
    /// Source port of TCP, UDP, UDP-Lite, SCTP and DCCP; ICMP and ICMPv6 type; else 0.
    pub sport: u16,
    /// Destination port of TCP, UDP, UDP-Lite, SCTP and DCCP; ICMP and ICMPv6 code; else 0.
    pub dport: u16,
    /// Ethertype inside the VLAN tags, or for [`Net::Llc`] `DSAP << 8 | SSAP`. For IP inside a PPPoE session that of
    /// IPv4 or IPv6, as if it came without; for the session's control protocols 0x8864.
    pub ethertype: u16,
    /// Tag control fields (priority, DEI, VLAN id), outer tag first; 0 where there is none.
    pub vlan: [u16; 2],
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Where the network header starts: after Ethernet, VLAN tags and, where it carries IP, PPPoE.
    pub l3: u16,
    /// Where the transport header starts, or the data of a later fragment; equal to `end` when there is none.
    pub l4: u16,
    /// Where the transport payload starts (of ICMP: after 8 bytes); equal to `end` when there is none or it is not
    /// known.
    pub payload: u16,
    /// The first byte past the datagram: what follows is padding.
    pub end: u16,
}

impl Meta {
    /// Nothing known.
    pub const NONE: Meta = Meta {
        src: 0,
        dst: 0,
        frag_id: 0,
        frag_offset: 0,
        frag_data: 0,
        net: Net::Other,
        frag: Frag::Whole,
        frag_more: false,
        frag_proto: 0,
        proto: 0,
        tcp_flags: 0,
        hop_limit: 0,
        vlan_depth: 0,
        sport: 0,
        dport: 0,
        ethertype: 0,
        vlan: [0; 2],
        dst_mac: [0; 6],
        src_mac: [0; 6],
        l3: 0,
        l4: 0,
        payload: 0,
        end: 0,
    };

    /// The source as a standard address; `None` where the frame is not IP.
    pub fn src_ip(&self) -> Option<std::net::IpAddr> {
        to_ip(self.net, self.src)
    }

    /// The destination as a standard address; `None` where the frame is not IP.
    pub fn dst_ip(&self) -> Option<std::net::IpAddr> {
        to_ip(self.net, self.dst)
    }

    /// A router or neighbour solicitation or advertisement, or a redirect, that its receiver would heed: ICMPv6 type
    /// 133 to 137 and code 0, whole, and with a hop limit of 255, so from this link (RFC 4861 sections 6.1, 7.1, 8.1).
    /// Says nothing of where it goes: see [`Meta::stays_on_link`].
    pub fn is_neighbour_discovery(&self) -> bool {
        self.net == Net::V6
            && self.proto == 58
            && self.frag == Frag::Whole
            && self.hop_limit == 255
            && matches!(self.sport, 133..=137)
            && self.dport == 0
    }

    /// An IPv6 packet that no router passes on: to a link-local address (fe80::/10, RFC 4291 section 2.5.6) or to a
    /// multicast group of link-local scope (ff02::/16, section 2.7).
    pub fn stays_on_link(&self) -> bool {
        self.net == Net::V6 && (self.dst >> 118 == 0xfe80 >> 6 || self.dst >> 112 == 0xff02)
    }
}

fn to_ip(net: Net, addr: u128) -> Option<std::net::IpAddr> {
    match net {
        Net::V4 => Some(std::net::Ipv4Addr::from(addr as u32).into()),
        Net::V6 => Some(std::net::Ipv6Addr::from(addr).into()),
        Net::Other | Net::Llc => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_80_bytes() {
        assert_eq!(size_of::<Meta>(), 80);
    }

    #[test]
    fn neighbour_discovery_is_what_a_receiver_would_heed() {
        let solicitation = Meta {
            net: Net::V6,
            proto: 58,
            hop_limit: 255,
            sport: 135,
            ..Meta::default()
        };
        assert!(solicitation.is_neighbour_discovery());
        for kind in 0..=255 {
            let meta = Meta {
                sport: kind,
                ..solicitation
            };
            assert_eq!(meta.is_neighbour_discovery(), (133..=137).contains(&kind));
        }
        for other in [
            Meta {
                net: Net::V4,
                ..solicitation
            },
            Meta {
                proto: 1,
                ..solicitation
            },
            Meta {
                hop_limit: 254,
                ..solicitation
            },
            Meta {
                dport: 1,
                ..solicitation
            },
            Meta {
                frag: Frag::First,
                ..solicitation
            },
        ] {
            assert!(!other.is_neighbour_discovery());
        }
    }
}

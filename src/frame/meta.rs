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
    /// Which family, see [`Net`].
    pub net: Net,
    /// Place in the datagram, see [`Frag`].
    pub frag: Frag,
    /// The transport protocol (IANA number) after any extension headers; 0 where `net` is not IP.
    pub proto: u8,
    /// TCP flags as in byte 13 of the header (RFC 9293 section 3.1); 0 for other protocols.
    pub tcp_flags: u8,
    /// Hop limit or time to live; 0 where `net` is not IP.
    pub hop_limit: u8,
    /// How many VLAN tags (0 to 2).
    pub vlan_depth: u8,
    /// Source port of TCP and UDP; ICMP and ICMPv6 type; else 0.
    pub sport: u16,
    /// Destination port of TCP and UDP; ICMP and ICMPv6 code; else 0.
    pub dport: u16,
    /// Ethertype inside the VLAN tags, or for [`Net::Llc`] `DSAP << 8 | SSAP`.
    pub ethertype: u16,
    /// Tag control fields (priority, DEI, VLAN id), outer tag first; 0 where there is none.
    pub vlan: [u16; 2],
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Where the network header starts: after Ethernet, VLAN tags and PPPoE.
    pub l3: u16,
    /// Where the transport header starts; equal to `end` when there is none.
    pub l4: u16,
    /// Where the transport payload starts; equal to `end` when there is none or it is not known.
    pub payload: u16,
    /// The first byte past the datagram: what follows is padding.
    pub end: u16,
}

impl Meta {
    /// The source as a standard address; `None` where the frame is not IP.
    pub fn src_ip(&self) -> Option<std::net::IpAddr> {
        to_ip(self.net, self.src)
    }

    /// The destination as a standard address; `None` where the frame is not IP.
    pub fn dst_ip(&self) -> Option<std::net::IpAddr> {
        to_ip(self.net, self.dst)
    }
}

fn to_ip(net: Net, addr: u128) -> Option<std::net::IpAddr> {
    match net {
        Net::V4 => Some(std::net::Ipv4Addr::from(addr as u32).into()),
        Net::V6 => Some(std::net::Ipv6Addr::from(addr).into()),
        Net::Other | Net::Llc => None,
    }
}

//! Frames built by etherparse, field by field against what etherparse was told, and what holds for any bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, IpAuthHeader, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header,
    Ipv4Options, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader,
    Ipv6RoutingExtensions, PacketBuilder, SingleVlanHeader, TcpHeader, VlanId, ip_number,
};
use portcullis::frame::{Frag, Meta, Net, parse};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

/// What stands between Ethernet and the transport.
#[derive(Clone, Debug)]
struct Shape {
    v6: bool,
    addresses: ([u8; 16], [u8; 16]),
    hop_limit: u8,
    vlans: Vec<u16>,
    pppoe: bool,
    /// Words of no-operation options of IPv4.
    option_words: usize,
    /// Words of 8 bytes in hop-by-hop options, destination options, and a routing header.
    hop_by_hop: Option<usize>,
    destination: Option<usize>,
    routing: Option<usize>,
    atomic: bool,
    /// Words of integrity check value.
    auth: Option<usize>,
    padding: usize,
}

#[derive(Clone, Debug)]
enum Transport {
    Udp(u16, u16),
    Tcp {
        ports: (u16, u16),
        flags: u8,
        option_words: usize,
    },
    Icmp(u8, u8),
}

fn shape() -> impl Strategy<Value = Shape> {
    let words = || option::of(0usize..4);
    let link = (vec(0u16..4096, 0..=2), any::<bool>(), 0usize..30);
    let network = (any::<bool>(), any::<([u8; 16], [u8; 16])>(), any::<u8>());
    let extras = (
        0usize..=10,
        words(),
        words(),
        words(),
        any::<bool>(),
        words(),
    );
    (link, network, extras).prop_map(|(link, network, extras)| Shape {
        v6: network.0,
        addresses: network.1,
        hop_limit: network.2,
        vlans: link.0,
        pppoe: link.1,
        option_words: extras.0,
        hop_by_hop: extras.1,
        destination: extras.2,
        routing: extras.3,
        atomic: extras.4,
        auth: extras.5,
        padding: link.2,
    })
}

fn transport() -> impl Strategy<Value = Transport> {
    let tcp = (any::<(u16, u16)>(), any::<u8>(), 0usize..=10);
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(sport, dport)| Transport::Udp(sport, dport)),
        tcp.prop_map(|(ports, flags, option_words)| Transport::Tcp {
            ports,
            flags,
            option_words
        }),
        any::<(u8, u8)>().prop_map(|(kind, code)| Transport::Icmp(kind, code)),
    ]
}

fn raw_header(words: usize) -> Ipv6RawExtHeader {
    // Type 4 where it is a routing header; else an option that is not looked into.
    let mut body = vec![0; 6 + 8 * words];
    body[0] = 4;
    Ipv6RawExtHeader::new_raw(ip_number::UDP, &body).unwrap()
}

fn auth_header(words: usize) -> IpAuthHeader {
    IpAuthHeader::new(ip_number::UDP, 7, 8, &vec![9; 4 * words]).unwrap()
}

impl Shape {
    fn plain(&self) -> Shape {
        Shape {
            vlans: Vec::new(),
            pppoe: false,
            option_words: 0,
            hop_by_hop: None,
            destination: None,
            routing: None,
            atomic: false,
            auth: None,
            padding: 0,
            ..self.clone()
        }
    }

    fn first4(bytes: [u8; 16]) -> [u8; 4] {
        [bytes[0], bytes[1], bytes[2], bytes[3]]
    }

    fn ip(&self) -> IpHeaders {
        let (src, dst) = self.addresses;
        let auth = self.auth.map(auth_header);
        if self.v6 {
            let header = Ipv6Header {
                source: src,
                destination: dst,
                hop_limit: self.hop_limit,
                ..Ipv6Header::default()
            };
            let extensions = Ipv6Extensions {
                hop_by_hop_options: self.hop_by_hop.map(raw_header),
                destination_options: self.destination.map(raw_header),
                routing: self.routing.map(|words| Ipv6RoutingExtensions {
                    routing: raw_header(words),
                    final_destination_options: None,
                }),
                fragment: self.atomic.then(|| {
                    Ipv6FragmentHeader::new(ip_number::UDP, IpFragOffset::ZERO, false, 77)
                }),
                auth,
            };
            IpHeaders::Ipv6(header, extensions)
        } else {
            let (src, dst) = (Self::first4(src), Self::first4(dst));
            let mut header = Ipv4Header::new(0, self.hop_limit, IpNumber::UDP, src, dst).unwrap();
            header.options = Ipv4Options::try_from(&vec![1u8; 4 * self.option_words][..]).unwrap();
            IpHeaders::Ipv4(header, Ipv4Extensions { auth })
        }
    }

    /// The IP packet alone, built by etherparse.
    fn packet(&self, transport: &Transport, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ip(self.ip());
        let mut bytes = Vec::new();
        match *transport {
            Transport::Udp(sport, dport) => {
                builder
                    .udp(sport, dport)
                    .write_to_vec(&mut bytes, payload)
                    .unwrap();
            }
            Transport::Tcp {
                ports,
                flags,
                option_words,
            } => {
                let bit = |n: u8| flags & (1 << n) != 0;
                let mut header = TcpHeader::new(ports.0, ports.1, 1, 1000);
                (header.fin, header.syn, header.rst, header.psh) = (bit(0), bit(1), bit(2), bit(3));
                (header.ack, header.urg, header.ece, header.cwr) = (bit(4), bit(5), bit(6), bit(7));
                header.set_options_raw(&vec![1; 4 * option_words]).unwrap();
                builder
                    .tcp_header(header)
                    .write_to_vec(&mut bytes, payload)
                    .unwrap();
            }
            Transport::Icmp(kind, code) if self.v6 => {
                let step = builder.icmpv6_raw(kind, code, [0; 4]);
                step.write_to_vec(&mut bytes, payload).unwrap();
            }
            Transport::Icmp(kind, code) => {
                let step = builder.icmpv4_raw(kind, code, [0; 4]);
                step.write_to_vec(&mut bytes, payload).unwrap();
            }
        }
        bytes
    }

    /// The frame: etherparse's packet behind etherparse's link headers. etherparse has no PPPoE, so that is by hand.
    fn frame(&self, transport: &Transport, payload: &[u8]) -> Vec<u8> {
        let mut packet = self.packet(transport, payload);
        let mut kind = if self.v6 {
            EtherType::IPV6
        } else {
            EtherType::IPV4
        };
        if self.pppoe {
            let protocol = if self.v6 { 0x57 } else { 0x21 };
            let len = (packet.len() as u16 + 2).to_be_bytes();
            packet.splice(0..0, [0x11, 0, 0, 1, len[0], len[1], 0, protocol]);
            kind = EtherType(0x8864);
        }
        for id in self.vlans.iter().rev() {
            let vlan_id = VlanId::try_new(*id).unwrap();
            let tag = SingleVlanHeader {
                vlan_id,
                ether_type: kind,
                ..Default::default()
            };
            packet.splice(0..0, tag.to_bytes());
            kind = EtherType::VLAN_TAGGED_FRAME;
        }
        let header = etherparse::Ethernet2Header {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            ether_type: kind,
        };
        let mut frame = header.to_bytes().to_vec();
        frame.extend(packet);
        frame.resize(frame.len() + self.padding, 0xee);
        frame
    }
}

fn in_order(frame: &[u8], meta: &Meta) -> bool {
    meta.l3 <= meta.l4
        && meta.l4 <= meta.payload
        && meta.payload <= meta.end
        && usize::from(meta.end) <= frame.len()
}

/// What no decoration may change.
fn judged_by(meta: &Meta) -> (Net, Frag, u128, u128, [u16; 2], [u8; 3], u16) {
    let numbers = [meta.proto, meta.tcp_flags, meta.hop_limit];
    let ports = [meta.sport, meta.dport];
    (
        meta.net,
        meta.frag,
        meta.src,
        meta.dst,
        ports,
        numbers,
        meta.ethertype,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_field_is_what_the_frame_was_built_from(
        shape in shape(),
        transport in transport(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let frame = shape.frame(&transport, &payload);
        let meta = parse(&frame).unwrap();
        prop_assert!(in_order(&frame, &meta));

        let (src, dst) = shape.addresses;
        let (src, dst) = if shape.v6 {
            (Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into())
        } else {
            (Ipv4Addr::from(Shape::first4(src)).into(), Ipv4Addr::from(Shape::first4(dst)).into())
        };
        prop_assert_eq!((meta.src_ip(), meta.dst_ip()), (Some(src), Some(dst)));
        prop_assert_eq!((meta.frag, meta.frag_id, meta.frag_offset), (Frag::Whole, 0, 0));
        prop_assert_eq!(meta.hop_limit, shape.hop_limit);
        prop_assert_eq!(meta.dst_mac, [2, 0, 0, 0, 0, 2]);
        prop_assert_eq!(meta.src_mac, [2, 0, 0, 0, 0, 1]);
        prop_assert_eq!(usize::from(meta.vlan_depth), shape.vlans.len());
        for (depth, tci) in meta.vlan.iter().enumerate() {
            prop_assert_eq!(*tci, shape.vlans.get(depth).copied().unwrap_or(0));
        }

        let (proto, sport, dport, flags, header) = match transport {
            Transport::Udp(sport, dport) => (17, sport, dport, 0, 8),
            Transport::Tcp { ports, flags, option_words } => {
                (6, ports.0, ports.1, flags, 20 + 4 * option_words)
            }
            Transport::Icmp(kind, code) => {
                (if shape.v6 { 58 } else { 1 }, kind.into(), code.into(), 0, 8)
            }
        };
        prop_assert_eq!((meta.proto, meta.sport, meta.dport), (proto, sport, dport));
        prop_assert_eq!(meta.tcp_flags, flags);
        let [l4, start, end] = [meta.l4, meta.payload, meta.end].map(usize::from);
        prop_assert_eq!(header, start - l4);
        prop_assert_eq!(&frame[start..end], &payload[..]);
        prop_assert_eq!(frame.len() - end, shape.padding);
        let link = 14 + 4 * shape.vlans.len() + if shape.pppoe { 8 } else { 0 };
        prop_assert_eq!(usize::from(meta.l3), link);
        prop_assert_eq!(usize::from(meta.l4) - link, shape.ip().header_len());
    }

    #[test]
    fn decorations_change_nothing_that_a_rule_looks_at(
        shape in shape(),
        transport in transport(),
    ) {
        let decorated = parse(&shape.frame(&transport, b"data")).unwrap();
        let plain = parse(&shape.plain().frame(&transport, b"data")).unwrap();
        prop_assert_eq!(judged_by(&decorated), judged_by(&plain));
    }

    #[test]
    fn no_beginning_of_a_good_frame_shows_other_ports(
        shape in shape(),
        transport in transport(),
        payload in vec(any::<u8>(), 0..32),
    ) {
        let frame = shape.frame(&transport, &payload);
        let whole = parse(&frame).unwrap();
        for len in 0..frame.len() {
            match parse(&frame[..len]) {
                Ok(meta) => {
                    prop_assert!(len >= usize::from(whole.end));
                    prop_assert_eq!(judged_by(&meta), judged_by(&whole));
                }
                Err(_) => prop_assert!(len < frame.len() - shape.padding),
            }
        }
    }

    #[test]
    fn a_good_frame_with_some_bytes_changed_never_panics(
        shape in shape(),
        transport in transport(),
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut frame = shape.frame(&transport, b"data");
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if let Ok(meta) = parse(&frame) {
            prop_assert!(in_order(&frame, &meta));
        }
    }

    #[test]
    fn any_bytes_behind_any_known_type_never_panic(
        kind in prop::sample::select(vec![0x0800u16, 0x86dd, 0x8100, 0x88a8, 0x8864, 0x0806, 46, 0x88cc]),
        first in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60, 0x11, 0]),
        body in vec(any::<u8>(), 0..200),
    ) {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        frame.extend(kind.to_be_bytes());
        frame.push(first);
        frame.extend(body);
        if let Ok(meta) = parse(&frame) {
            prop_assert!(in_order(&frame, &meta));
        }
    }

    #[test]
    fn any_bytes_never_panic(frame in vec(any::<u8>(), 0..300)) {
        if let Ok(meta) = parse(&frame) {
            prop_assert!(in_order(&frame, &meta));
        }
    }

    #[test]
    fn the_fragments_of_a_datagram_share_what_joins_them(
        mut shape in shape(),
        ports in any::<(u16, u16)>(),
        cut in 1usize..10,
        ident in any::<u16>(),
    ) {
        (shape.atomic, shape.auth) = (false, None);
        let datagram = shape.plain().packet(&Transport::Udp(ports.0, ports.1), &[5; 100]);
        let data = &datagram[if shape.v6 { 40 } else { 20 }..];
        let mut seen = Vec::new();
        for (offset, more, part) in [(0, true, &data[..8 * cut]), (cut, false, &data[8 * cut..])] {
            let mut ip = shape.ip();
            let offset = IpFragOffset::try_new(offset as u16).unwrap();
            match &mut ip {
                IpHeaders::Ipv4(header, _) => {
                    header.identification = ident;
                    header.dont_fragment = false;
                    header.more_fragments = more;
                    header.fragment_offset = offset;
                }
                IpHeaders::Ipv6(_, extensions) => {
                    let header = Ipv6FragmentHeader::new(ip_number::UDP, offset, more, ident.into());
                    extensions.fragment = Some(header);
                }
            }
            let mut frame = vec![0; 12];
            frame.extend(if shape.v6 { [0x86, 0xdd] } else { [0x08, 0] });
            ip.set_payload_len(part.len()).unwrap();
            ip.set_next_headers(ip_number::UDP);
            ip.write(&mut frame).unwrap();
            frame.extend(part);
            let meta = parse(&frame).unwrap();
            prop_assert!(in_order(&frame, &meta));
            prop_assert_eq!(meta.frag_id, u32::from(ident));
            prop_assert_eq!(meta.frag_offset, offset.byte_offset());
            seen.push(meta);
        }
        let [first, later] = [seen[0], seen[1]];
        prop_assert_eq!((first.frag, later.frag), (Frag::First, Frag::Later));
        prop_assert_eq!((first.sport, first.dport), ports);
        prop_assert_eq!((later.sport, later.dport), (0, 0));
        prop_assert_eq!((first.src, first.dst, first.proto), (later.src, later.dst, later.proto));
        prop_assert_eq!(usize::from(later.end - later.l4), data.len() - 8 * cut);
    }
}

//! How a packet is dressed up. A [`Recipe`] says what is odd about it; [`Recipe::frames`] writes it, with etherparse and by hand, never with the parser
//! that is to be tricked.

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use std::net::{Ipv4Addr, Ipv6Addr};

pub const HOST4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 9);
pub const SERVER4: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x220, 1, 0, 0, 0, 0x34);

/// How the datagram is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Into pieces of so many bytes, in order.
    Pieces(usize),
    /// The last first.
    Backwards(usize),
    /// Odd pieces first, then even ones.
    Interleaved(usize),
    /// Every piece twice.
    Twice(usize),
    /// A first piece of so many bytes, then the rest.
    First(usize),
    /// The second piece reaches eight bytes back over the first.
    Overlap(usize),
    /// The ports of an allowed service first, then once more with those that are meant (RFC 1858 section 3.1).
    Rewrite,
    /// An IPv6 atomic fragment (RFC 6946).
    Atomic,
}

impl Cut {
    /// Bytes of the fragment at offset 0, where there is one of its own.
    pub fn first_piece(self) -> Option<usize> {
        match self {
            Cut::Pieces(size)
            | Cut::Backwards(size)
            | Cut::Interleaved(size)
            | Cut::Twice(size)
            | Cut::First(size)
            | Cut::Overlap(size) => Some(size),
            Cut::Rewrite => Some(24),
            Cut::Atomic => None,
        }
    }
}

/// What is odd about a packet.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    pub v6: bool,
    pub tcp: bool,
    /// TPID and TCI, outermost first.
    pub tags: Vec<[u16; 2]>,
    /// Options of IPv4, a multiple of four bytes.
    pub options: Vec<u8>,
    /// Extension headers of IPv6: number, and the bytes after next header and length, 6 plus a multiple of 8.
    pub ext: Vec<(u8, Vec<u8>)>,
    pub cut: Option<Cut>,
    /// Bytes after the end of the packet.
    pub padding: usize,
    /// Bytes after the end of the UDP datagram, within the packet.
    pub slack: usize,
    pub sport: Option<u16>,
    pub ttl: Option<u8>,
    pub tos: u8,
    /// The reserved bit of IPv4 (RFC 3514 has a use for it).
    pub evil: bool,
    pub dont_fragment: bool,
    /// No UDP checksum (RFC 768).
    pub no_checksum: bool,
    pub flow_label: u32,
    /// TCP flags beside SYN, as in byte 13 of the header.
    pub flags: u8,
    /// The three reserved bits of byte 12.
    pub reserved: u8,
    pub tcp_options: Vec<u8>,
    pub window: Option<u16>,
    pub urgent: u16,
    /// Bytes of payload beside the number.
    pub body: usize,
}

impl Recipe {
    /// The frames of this packet to a port, with a number in it: the payload of UDP, the sequence number of TCP.
    pub fn frames(
        &self,
        (src, dst): ([u8; 6], [u8; 6]),
        sport: u16,
        port: u16,
        number: u32,
    ) -> Vec<Vec<u8>> {
        let sport = self.sport.unwrap_or(sport);
        let transport = self.transport(sport, port, number);
        let proto = if self.tcp { 6 } else { 17 };
        let packets = if self.v6 {
            self.v6_packets(proto, &transport, number)
        } else {
            self.v4_packets(proto, &transport, number)
        };
        let decoy = (self.cut == Some(Cut::Rewrite)).then(|| {
            let mut other = transport.clone();
            other[2..4].copy_from_slice(&if self.tcp { 80u16 } else { 53 }.to_be_bytes());
            other
        });
        let mut frames = Vec::new();
        for packet in decoy_first(self, proto, decoy, packets, number) {
            let mut frame = [dst, src].concat();
            for [tpid, tci] in &self.tags {
                frame.extend(tpid.to_be_bytes());
                frame.extend(tci.to_be_bytes());
            }
            frame.extend(if self.v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
            frame.extend(packet);
            let padded = frame.len() + self.padding;
            frame.resize(padded, 0x5a);
            frames.push(frame);
        }
        frames
    }

    fn transport(&self, sport: u16, port: u16, number: u32) -> Vec<u8> {
        let (src4, dst4) = (HOST4.octets(), SERVER4.octets());
        let (src6, dst6) = (HOST6.octets(), SERVER6.octets());
        if self.tcp {
            let mut tcp = TcpHeader {
                syn: true,
                ..TcpHeader::new(sport, port, number, self.window.unwrap_or(64_240))
            };
            tcp.urgent_pointer = self.urgent;
            tcp.set_options_raw(&self.tcp_options).expect("they fit");
            let mut bytes = tcp.to_bytes().to_vec();
            bytes[12] |= self.reserved << 1 & 0x0e;
            bytes[13] |= self.flags;
            bytes.extend(vec![0x41; self.body]);
            bytes[16..18].fill(0);
            let sum = self.sum(6, &bytes, (src4, dst4), (src6, dst6));
            bytes[16..18].copy_from_slice(&sum.to_be_bytes());
            return bytes;
        }
        let mut payload = b"evade".to_vec();
        payload.extend(number.to_be_bytes());
        payload.extend(vec![0x41; self.body]);
        let header = UdpHeader {
            source_port: sport,
            destination_port: port,
            length: 8 + payload.len() as u16,
            checksum: 0,
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(payload);
        if !self.no_checksum {
            let sum = match self.sum(17, &bytes, (src4, dst4), (src6, dst6)) {
                0 => 0xffff,
                sum => sum,
            };
            bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        bytes.extend(vec![0x42; self.slack]);
        bytes
    }

    /// The checksum with the pseudo header (RFC 768, RFC 8200 section 8.1).
    fn sum(
        &self,
        proto: u8,
        bytes: &[u8],
        v4: ([u8; 4], [u8; 4]),
        v6: ([u8; 16], [u8; 16]),
    ) -> u16 {
        let mut all = match self.v6 {
            true => [v6.0, v6.1].concat(),
            false => [v4.0, v4.1].concat(),
        };
        all.extend((bytes.len() as u32).to_be_bytes());
        all.extend([0, 0, 0, proto]);
        all.extend(bytes);
        let mut sum = 0u32;
        for pair in all.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }

    fn v4_packet(&self, proto: u8, id: u32, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
        let (src, dst) = (HOST4.octets(), SERVER4.octets());
        let mut header = Ipv4Header::new(
            data.len() as u16,
            self.ttl.unwrap_or(64),
            IpNumber(proto),
            src,
            dst,
        )
        .expect("it fits");
        header.options = self
            .options
            .as_slice()
            .try_into()
            .expect("a multiple of four");
        header.identification = id as u16;
        header.more_fragments = more;
        header.fragment_offset = ((offset / 8) as u16).try_into().expect("an offset");
        header.dont_fragment = self.dont_fragment;
        header.set_payload_len(data.len()).expect("it fits");
        let mut bytes = Vec::new();
        header.write_raw(&mut bytes).expect("memory");
        bytes[1] = self.tos;
        if self.evil {
            bytes[6] |= 0x80;
        }
        bytes[10..12].fill(0);
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        bytes[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    fn v4_packets(&self, proto: u8, data: &[u8], id: u32) -> Vec<Vec<u8>> {
        let pieces = pieces(self.cut, data);
        let packet = |(offset, more, data): &(usize, bool, Vec<u8>)| {
            self.v4_packet(proto, id, *offset, *more, data)
        };
        pieces.iter().map(packet).collect()
    }

    fn v6_packet(&self, number: u8, body: &[u8]) -> Vec<u8> {
        let mut next = number;
        let mut chain = Vec::new();
        for (kind, rest) in self.ext.iter().rev() {
            let mut header = vec![next, (rest.len() / 8) as u8];
            header.extend(rest);
            chain = [header, chain].concat();
            next = *kind;
        }
        let header = Ipv6Header {
            traffic_class: self.tos,
            flow_label: self.flow_label.try_into().expect("20 bits"),
            payload_length: (chain.len() + body.len()) as u16,
            next_header: IpNumber(next),
            hop_limit: self.ttl.unwrap_or(64),
            source: HOST6.octets(),
            destination: SERVER6.octets(),
        };
        [header.to_bytes().to_vec(), chain, body.to_vec()].concat()
    }

    fn v6_packets(&self, proto: u8, data: &[u8], id: u32) -> Vec<Vec<u8>> {
        let Some(cut) = self.cut else {
            return vec![self.v6_packet(proto, data)];
        };
        let pieces = match cut {
            Cut::Atomic => vec![(0, false, data.to_vec())],
            cut => pieces(Some(cut), data),
        };
        let packet = |(offset, more, data): &(usize, bool, Vec<u8>)| {
            let field = (*offset as u16 | u16::from(*more)).to_be_bytes();
            let mut body = vec![proto, 0, field[0], field[1]];
            body.extend(id.to_be_bytes());
            body.extend(data);
            self.v6_packet(44, &body)
        };
        pieces.iter().map(packet).collect()
    }
}

/// Where a packet is written twice, the harmless one goes first: only its first piece.
fn decoy_first(
    recipe: &Recipe,
    proto: u8,
    decoy: Option<Vec<u8>>,
    packets: Vec<Vec<u8>>,
    number: u32,
) -> Vec<Vec<u8>> {
    let Some(decoy) = decoy else { return packets };
    let mut all = match recipe.v6 {
        true => recipe.v6_packets(proto, &decoy, number),
        false => recipe.v4_packets(proto, &decoy, number),
    };
    all.truncate(1);
    all.extend(packets);
    all
}

/// Offset, whether more follow, and data of each piece.
fn pieces(cut: Option<Cut>, data: &[u8]) -> Vec<(usize, bool, Vec<u8>)> {
    let split = |size: usize| -> Vec<(usize, bool, Vec<u8>)> {
        let count = data.len().div_ceil(size);
        data.chunks(size)
            .enumerate()
            .map(|(n, part)| (n * size, n + 1 < count, part.to_vec()))
            .collect()
    };
    match cut {
        None | Some(Cut::Atomic) => vec![(0, false, data.to_vec())],
        Some(Cut::Pieces(size)) => split(size),
        Some(Cut::Rewrite) => split(24),
        Some(Cut::Backwards(size)) => split(size).into_iter().rev().collect(),
        Some(Cut::Interleaved(size)) => {
            let all = split(size);
            let odd = all.iter().skip(1).step_by(2).cloned();
            odd.chain(all.iter().step_by(2).cloned()).collect()
        }
        Some(Cut::Twice(size)) => split(size)
            .into_iter()
            .flat_map(|part| [part.clone(), part])
            .collect(),
        Some(Cut::First(size)) => {
            let size = size.min(data.len() / 8 * 8);
            vec![
                (0, true, data[..size].to_vec()),
                (size, false, data[size..].to_vec()),
            ]
        }
        Some(Cut::Overlap(size)) => {
            let size = size.min(data.len() / 8 * 8);
            vec![
                (0, true, data[..size].to_vec()),
                (size - 8, false, data[size - 8..].to_vec()),
            ]
        }
    }
}

//! Frames, byte by byte.

use etherparse::PacketBuilder;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The workstation on the LAN.
pub const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// The router at the uplink.
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const HOST4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 9);
pub const SERVER4: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x220, 1, 0, 0, 0, 0x34);

pub const UDP: u8 = 17;
pub const TCP: u8 = 6;

/// One packet, to be changed and then made a frame.
#[derive(Clone)]
pub struct Packet {
    pub out: bool,
    pub v6: bool,
    pub proto: u8,
    pub sport: u16,
    pub dport: u16,
    pub src4: Ipv4Addr,
    pub dst4: Ipv4Addr,
    pub payload: Vec<u8>,
}

impl Packet {
    /// From inside to outside, IPv4.
    pub fn out(proto: u8, dport: u16) -> Packet {
        Packet {
            out: true,
            v6: false,
            proto,
            sport: 40_000,
            dport,
            src4: HOST4,
            dst4: SERVER4,
            payload: Vec::new(),
        }
    }

    /// From outside to inside: the answer to [`Packet::out`].
    pub fn back(proto: u8, sport: u16) -> Packet {
        Packet {
            out: false,
            sport,
            dport: 40_000,
            src4: SERVER4,
            dst4: HOST4,
            ..Packet::out(proto, 0)
        }
    }

    pub fn v6(mut self) -> Packet {
        self.v6 = true;
        self
    }

    pub fn from(mut self, src: [u8; 4]) -> Packet {
        self.src4 = src.into();
        self
    }

    pub fn sport(mut self, port: u16) -> Packet {
        self.sport = port;
        self
    }

    pub fn payload(mut self, bytes: &[u8]) -> Packet {
        self.payload = bytes.to_vec();
        self
    }

    /// A frame of exactly `len` bytes, the payload counting up; `len` must leave room for the headers.
    pub fn sized(mut self, len: usize) -> Vec<u8> {
        self.payload.clear();
        let headers = self.frame().len();
        self.payload = (0..len - headers).map(|n| n as u8).collect();
        let frame = self.frame();
        assert_eq!(frame.len(), len);
        frame
    }

    pub fn frame(&self) -> Vec<u8> {
        let (src, dst) = if self.out {
            (HOST, ROUTER)
        } else {
            (ROUTER, HOST)
        };
        let link = PacketBuilder::ethernet2(src, dst);
        let (src6, dst6) = if self.out {
            (HOST6, SERVER6)
        } else {
            (SERVER6, HOST6)
        };
        let mut frame = Vec::new();
        let ip = if self.v6 {
            link.ipv6(src6.octets(), dst6.octets(), 64)
        } else {
            link.ipv4(self.src4.octets(), self.dst4.octets(), 64)
        };
        let written = match self.proto {
            TCP => ip
                .tcp(self.sport, self.dport, 1, 64_240)
                .syn()
                .write(&mut frame, &self.payload),
            _ => ip
                .udp(self.sport, self.dport)
                .write(&mut frame, &self.payload),
        };
        written.expect("a frame");
        frame
    }
}

/// An allowed frame, out, with a number in it.
pub fn numbered(n: u64) -> Vec<u8> {
    padded(Packet::out(UDP, 53).payload(&n.to_be_bytes()).frame(), 60)
}

/// The number in it.
pub fn number_of(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[42..50].try_into().expect("8 bytes"))
}

/// Puts tags (TPID, TCI) behind the addresses, the first one outermost.
pub fn tagged(frame: &[u8], tags: &[[u16; 2]]) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    for [tpid, tci] in tags {
        out.extend(tpid.to_be_bytes());
        out.extend(tci.to_be_bytes());
    }
    out.extend(&frame[12..]);
    out
}

/// Pads with bytes that are not zero, so that a lost or rewritten padding shows.
pub fn padded(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.resize(len.max(frame.len()), 0xa5);
    frame
}

/// A frame of any ethertype.
pub fn ethernet(dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [dst, src].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    padded(frame, 60)
}

/// An ARP request of the host, or of the router (RFC 826).
pub fn arp(out: bool) -> Vec<u8> {
    let (mac, ip, asked) = if out {
        (HOST, [10, 77, 0, 9], [10, 77, 0, 1])
    } else {
        (ROUTER, [10, 77, 0, 1], [10, 77, 0, 9])
    };
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
    body.extend(mac);
    body.extend(ip);
    body.extend([0; 6]);
    body.extend(asked);
    ethernet([0xff; 6], mac, 0x0806, &body)
}

/// A neighbour solicitation (RFC 4861 section 4.3).
pub fn neighbour_solicitation(out: bool) -> Vec<u8> {
    let (mac, src, target) = if out {
        (HOST, HOST6, SERVER6)
    } else {
        (ROUTER, SERVER6, HOST6)
    };
    let group: Ipv6Addr = "ff02::1:ff00:9".parse().expect("an address");
    let mut message = vec![0; 4];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(mac);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, [0x33, 0x33, 0xff, 0, 0, 9])
        .ipv6(src.octets(), group.octets(), 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &message[4..])
        .expect("a frame");
    frame
}

/// An LLDP frame (IEEE 802.1AB), its TLVs made up.
pub fn lldp(src: [u8; 6]) -> Vec<u8> {
    let tlvs = [
        0x02, 0x07, 0x04, 2, 0, 0, 0, 0, 9, 0x04, 0x02, 0x07, b'1', 0x06, 0x02, 0, 120, 0, 0,
    ];
    ethernet([0x01, 0x80, 0xc2, 0, 0, 0x0e], src, 0x88cc, &tlvs)
}

/// A spanning-tree configuration message in an LLC frame (IEEE 802.1D section 9.3.1): the type is a length.
pub fn stp(src: [u8; 6]) -> Vec<u8> {
    let mut body = vec![0x42, 0x42, 0x03];
    body.extend([0; 35]);
    ethernet([0x01, 0x80, 0xc2, 0, 0, 0], src, 38, &body)
}

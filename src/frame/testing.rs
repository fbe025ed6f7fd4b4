//! Frames written byte by byte, for the tests of each protocol file.

/// A SYN from port 40000 to port 80, without options.
pub(super) const TCP_SYN: [u8; 20] = [
    0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
];

/// `body` in an Ethernet frame.
pub(super) fn ethernet(kind: u16, body: &[u8]) -> Vec<u8> {
    tagged(&[], kind, body)
}

/// `body` in an Ethernet frame with tags (TPID, tag control), outer first.
pub(super) fn tagged(tags: &[(u16, u16)], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(body);
    frame
}

/// `body` in a PPPoE session.
pub(super) fn pppoe(protocol: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x11, 0, 0, 7];
    bytes.extend((body.len() as u16 + 2).to_be_bytes());
    bytes.extend(protocol.to_be_bytes());
    bytes.extend(body);
    bytes
}

pub(super) fn udp(sport: u16, dport: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = [sport, dport, data.len() as u16 + 8, 0]
        .map(u16::to_be_bytes)
        .concat();
    bytes.extend(data);
    bytes
}

pub(super) fn udp4(dport: u16, data: &[u8]) -> Vec<u8> {
    Ip4::new(17).build(&udp(40000, dport, data))
}

pub(super) fn udp6(dport: u16, data: &[u8]) -> Vec<u8> {
    Ip6::new(17).build(&udp(40000, dport, data))
}

/// An IPv4 datagram from 10.77.0.9 to 93.184.216.34.
pub(super) struct Ip4 {
    proto: u8,
    options: Vec<u8>,
    fragment: u16,
}

impl Ip4 {
    pub(super) fn new(proto: u8) -> Self {
        Ip4 {
            proto,
            options: Vec::new(),
            fragment: 0,
        }
    }

    /// `options` must be a multiple of 4 bytes.
    pub(super) fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// `offset` in bytes.
    pub(super) fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = (offset / 8) | (u16::from(more) << 13);
        self
    }

    pub(super) fn build(&self, data: &[u8]) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut bytes = vec![0x40 | (header / 4) as u8, 0];
        bytes.extend(((header + data.len()) as u16).to_be_bytes());
        bytes.extend([0x12, 0x34]);
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([64, self.proto, 0, 0, 10, 77, 0, 9, 93, 184, 216, 34]);
        bytes.extend(&self.options);
        bytes.extend(data);
        bytes
    }
}

/// An IPv6 packet from fd77::9 to 2606:2800:220:1::1.
pub(super) struct Ip6 {
    next: u8,
}

impl Ip6 {
    pub(super) fn new(next: u8) -> Self {
        Ip6 { next }
    }

    pub(super) fn build(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend([self.next, 64]);
        bytes.extend("fd77::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
        bytes.extend(
            "2606:2800:220:1::1"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        bytes.extend(data);
        bytes
    }
}

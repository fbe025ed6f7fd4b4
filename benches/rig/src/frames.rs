//! The frames of a load: 60 bytes each (64 with the FCS), of so many flows, the same for the same seed.
//!
//! A flow is opened before it is measured, as its two ends would open it: see [`Step`].

use std::net::Ipv4Addr;

/// Bytes of a frame without its FCS: the shortest that Ethernet has.
pub const LEN: usize = 60;

const SEED: u64 = 0x5eed_0ff1_ce00;
const HEADERS: usize = 14 + 20;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// What a TCP segment with data carries: what is left of the frame.
const DATA: u32 = 6;
/// Bytes of every payload. No application begins like this.
const FILLER: u8 = 0x2e;
/// First bytes of public addresses: none of RFC 6890's special blocks lies in them.
const PUBLIC: [u8; 8] = [23, 34, 52, 93, 104, 142, 151, 185];

/// A frame in the shape of the generator's map: 60 bytes and four of padding, as words of memory.
pub type Template = [u64; 8];

/// Which frame of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first, from the LAN: a SYN, or a datagram.
    Open,
    /// The answer of the uplink: SYN and ACK, or a datagram.
    Answer,
    /// The first payload, from the LAN.
    Speak,
    /// Its acknowledgement, or a datagram.
    Hear,
    /// What is measured: a frame with payload, from the LAN, of an open flow.
    On,
}

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Last byte of the LAN host's address, 10.77.0.0/24, and of its MAC address.
    host: u8,
    destination: Ipv4Addr,
    protocol: u8,
    source_port: u16,
    port: u16,
    /// Initial sequence numbers of the LAN's end and of the other.
    numbers: [u32; 2],
}

/// So many flows that the baseline allows: 70 % TCP to 443 and 80, 20 % UDP to 443 and 53, 10 % others.
pub fn office(count: usize) -> Vec<Flow> {
    let mut random = Random(SEED);
    let flow = |_| {
        let (protocol, port) = match random.below(100) {
            0..50 => (TCP, 443),
            50..70 => (TCP, 80),
            70..80 => (UDP, 443),
            80..90 => (UDP, 53),
            other => {
                [(TCP, 22), (TCP, 587), (TCP, 993), (UDP, 123), (UDP, 4500)][other as usize % 5]
            }
        };
        Flow::public(protocol, port, &mut random)
    };
    (0..count).map(flow).collect()
}

/// So many flows that the baseline forbids: UDP to port 69.
pub fn tftp(count: usize) -> Vec<Flow> {
    let mut random = Random(SEED);
    (0..count)
        .map(|_| Flow::public(UDP, 69, &mut random))
        .collect()
}

/// One frame of each flow, as the generator takes them.
pub fn templates<'a>(flows: impl IntoIterator<Item = &'a Flow>, step: Step) -> Vec<Template> {
    flows
        .into_iter()
        .map(|flow| pack(&flow.frame(step)))
        .collect()
}

impl Flow {
    fn public(protocol: u8, port: u16, random: &mut Random) -> Flow {
        let first = PUBLIC[random.below(8) as usize];
        let destination = Ipv4Addr::new(
            first,
            random.below(256) as u8,
            random.below(256) as u8,
            1 + random.below(254) as u8,
        );
        Flow::to(destination, protocol == TCP, port, random)
    }

    /// Of any host of the LAN to this service.
    pub fn to(destination: Ipv4Addr, tcp: bool, port: u16, random: &mut Random) -> Flow {
        Flow {
            host: 10 + random.below(200) as u8,
            destination,
            protocol: if tcp { TCP } else { UDP },
            source_port: 32_768 + random.below(28_000) as u16,
            port,
            numbers: [random.next() as u32, random.next() as u32],
        }
    }

    /// One of its frames, with right checksums.
    fn frame(&self, step: Step) -> [u8; LEN] {
        let back = matches!(step, Step::Answer | Step::Hear);
        let lan_mac = [0x02, 0, 0, 1, 0, self.host];
        let uplink_mac = [0x02, 0, 0, 0xfe, 0, 1];
        let lan = Ipv4Addr::new(10, 77, 0, self.host);
        let mut macs = [uplink_mac, lan_mac];
        let mut addresses = [lan, self.destination];
        let mut ports = [self.source_port, self.port];
        if back {
            macs.reverse();
            addresses.reverse();
            ports.reverse();
        }

        let mut frame = [0; LEN];
        frame[..12].copy_from_slice(macs.as_flattened());
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let transport = &mut frame[HEADERS..];
        transport[0..2].copy_from_slice(&ports[0].to_be_bytes());
        transport[2..4].copy_from_slice(&ports[1].to_be_bytes());
        let (length, sum_at) = if self.protocol == TCP {
            (self.segment(step, transport), 16)
        } else {
            let length = transport.len();
            transport[4..6].copy_from_slice(&(length as u16).to_be_bytes());
            transport[8..].fill(FILLER);
            (length, 6)
        };
        let mut pseudo = [0; 12];
        pseudo[..4].copy_from_slice(&addresses[0].octets());
        pseudo[4..8].copy_from_slice(&addresses[1].octets());
        pseudo[9] = self.protocol;
        pseudo[10..].copy_from_slice(&(length as u16).to_be_bytes());
        // A UDP checksum of zero would mean "none" (RFC 768).
        let sum = match checksum(sum_of(0, &pseudo), &transport[..length]) {
            0 => 0xffff,
            sum => sum,
        };
        transport[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());

        let ip = &mut frame[14..HEADERS];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&((20 + length) as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&self.source_port.to_be_bytes());
        ip[6] = 0x40; // don't fragment
        ip[8] = 64;
        ip[9] = self.protocol;
        ip[12..16].copy_from_slice(&addresses[0].octets());
        ip[16..20].copy_from_slice(&addresses[1].octets());
        let sum = checksum(0, ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// Writes sequence numbers, flags and data of a segment (RFC 9293, section 3.1); returns its length.
    fn segment(&self, step: Step, to: &mut [u8]) -> usize {
        const SYN: u8 = 0x02;
        const PSH: u8 = 0x08;
        const ACK: u8 = 0x10;
        let [ours, theirs] = self.numbers;
        let after = |number: u32, by| number.wrapping_add(by);
        let (sequence, acknowledged, flags, data) = match step {
            Step::Open => (ours, 0, SYN, false),
            Step::Answer => (theirs, after(ours, 1), SYN | ACK, false),
            Step::Speak => (after(ours, 1), after(theirs, 1), PSH | ACK, true),
            Step::Hear => (after(theirs, 1), after(ours, 1 + DATA), ACK, false),
            Step::On => (after(ours, 1 + DATA), after(theirs, 1), ACK, true),
        };
        to[4..8].copy_from_slice(&sequence.to_be_bytes());
        to[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        to[12] = 5 << 4;
        to[13] = flags;
        to[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        if !data {
            return 20;
        }
        to[20..].fill(FILLER);
        to.len()
    }
}

fn pack(frame: &[u8; LEN]) -> Template {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(frame.chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(padded);
    }
    words
}

/// The Internet checksum (RFC 1071) of `bytes` after what `start` sums up.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = sum_of(start, bytes);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn sum_of(start: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(start, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
    })
}

/// SplitMix64: enough to spread flows, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const FLOWS: usize = 4096;
    const STEPS: [Step; 5] = [Step::Open, Step::Answer, Step::Speak, Step::Hear, Step::On];

    #[test]
    fn every_checksum_verifies_to_zero() {
        for flow in [office(FLOWS), tftp(FLOWS)].concat() {
            for frame in STEPS.map(|step| flow.frame(step)) {
                assert_eq!(checksum(0, &frame[14..HEADERS]), 0);
                let total = u16::from_be_bytes([frame[16], frame[17]]);
                let length = (total - 20).to_be_bytes();
                let pseudo = [&frame[26..34], &[0, frame[23]], &length].concat();
                let transport = &frame[HEADERS..14 + usize::from(total)];
                assert_eq!(checksum(sum_of(0, &pseudo), transport), 0);
            }
        }
    }

    #[test]
    fn the_office_is_mostly_tcp_and_the_flood_is_tftp_only() {
        let office = office(FLOWS);
        let tcp = office.iter().filter(|flow| flow.protocol == TCP).count();
        assert!((FLOWS * 70 / 100..FLOWS * 85 / 100).contains(&tcp), "{tcp}");
        for flow in tftp(FLOWS) {
            let frame = flow.frame(Step::On);
            assert!(frame[23] == UDP && frame[36..38] == [0, 69]);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_flows_and_no_flow_twice() {
        let flows = office(100_000);
        assert_eq!(flows, office(100_000));
        let named = |flow: &Flow| flow.frame(Step::Open)[23..38].to_vec();
        let different: HashSet<_> = flows.iter().map(named).collect();
        assert_eq!(different.len(), flows.len());
    }

    #[test]
    fn what_a_connection_says_is_acknowledged_before_it_is_measured() {
        let mut random = Random(1);
        let flow = Flow::to(Ipv4Addr::new(93, 1, 2, 3), true, 443, &mut random);
        let number = |frame: &[u8; LEN], at: usize| {
            u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        let [open, answer, speak, hear, on] = STEPS.map(|step| flow.frame(step));
        assert_eq!([open[47], answer[47]], [0x02, 0x12], "SYN, SYN and ACK");
        let (sequence, acknowledged) = (38, 42);
        assert_eq!(
            number(&answer, acknowledged),
            number(&open, sequence).wrapping_add(1)
        );
        assert_eq!(number(&speak, sequence), number(&answer, acknowledged));
        assert_eq!(number(&on, sequence), number(&hear, acknowledged));
        assert_eq!(
            (&answer[..6], &answer[26..30]),
            (&open[6..12], &open[30..34])
        );
    }
}

//! The frames of a load: 4,096 flows of 60-byte frames (64 with the FCS), the same for the same seed.

use std::net::Ipv4Addr;

/// Flows of a load; as in `bpf/rig.bpf.c`.
pub const FLOWS: usize = 4096;
/// Bytes of a frame without its FCS: the shortest that Ethernet has.
pub const LEN: usize = 60;

const SEED: u64 = 0x5eed_0ff1_ce00;
const HEADERS: usize = 14 + 20;
/// First bytes of public addresses: none of RFC 6890's special blocks lies in them.
const PUBLIC: [u8; 8] = [23, 34, 52, 93, 104, 142, 151, 185];

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Allowed by the baseline: 70 % TCP to 443 and 80, 20 % UDP to 443 and 53, 10 % others.
    Office,
    /// Forbidden by the baseline: all UDP to 69.
    Tftp,
}

/// A frame in the shape of the generator's map: 60 bytes and four of padding, as words of memory.
pub type Template = [u64; 8];

/// The frames of a load, one for each flow.
pub fn templates(load: Load) -> Vec<Template> {
    let mut random = Random(SEED);
    (0..FLOWS)
        .map(|_| pack(&frame(load, &mut random)))
        .collect()
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

fn frame(load: Load, random: &mut Random) -> [u8; LEN] {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let (protocol, port) = match (load, random.below(100)) {
        (Load::Tftp, _) => (UDP, 69),
        (_, 0..50) => (TCP, 443),
        (_, 50..70) => (TCP, 80),
        (_, 70..80) => (UDP, 443),
        (_, 80..90) => (UDP, 53),
        (_, other) => {
            [(TCP, 22), (TCP, 587), (TCP, 993), (UDP, 123), (UDP, 4500)][other as usize % 5]
        }
    };
    let host = 10 + random.below(200) as u8;
    let source = Ipv4Addr::new(10, 77, 0, host);
    let first = PUBLIC[random.below(8) as usize];
    let destination = Ipv4Addr::new(
        first,
        random.below(256) as u8,
        random.below(256) as u8,
        1 + random.below(254) as u8,
    );
    let source_port = 32_768 + random.below(28_000) as u16;

    let mut frame = [0; LEN];
    frame[..6].copy_from_slice(&[0x02, 0, 0, 0xfe, 0, 1]);
    frame[6..12].copy_from_slice(&[0x02, 0, 0, 1, 0, host]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[14..HEADERS];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((LEN - 14) as u16).to_be_bytes());
    ip[4..6].copy_from_slice(&(random.below(65_536) as u16).to_be_bytes());
    ip[6] = 0x40; // don't fragment
    ip[8] = 64;
    ip[9] = protocol;
    ip[12..16].copy_from_slice(&source.octets());
    ip[16..20].copy_from_slice(&destination.octets());
    let sum = checksum(0, ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let length = (LEN - HEADERS) as u16;
    let transport = &mut frame[HEADERS..];
    transport[0..2].copy_from_slice(&source_port.to_be_bytes());
    transport[2..4].copy_from_slice(&u16::to_be_bytes(port));
    let at = if protocol == TCP {
        transport[4..12].copy_from_slice(&random.next().to_ne_bytes()); // sequence and acknowledgement
        transport[12] = 5 << 4;
        transport[13] = 0x10; // ACK
        transport[14..16].copy_from_slice(&8192u16.to_be_bytes());
        16
    } else {
        transport[4..6].copy_from_slice(&length.to_be_bytes());
        6
    };
    let mut pseudo = [0; 12];
    pseudo[..4].copy_from_slice(&source.octets());
    pseudo[4..8].copy_from_slice(&destination.octets());
    pseudo[9] = protocol;
    pseudo[10..].copy_from_slice(&length.to_be_bytes());
    // A UDP checksum of zero would mean "none" (RFC 768).
    let sum = match checksum(sum_of(0, &pseudo), transport) {
        0 => 0xffff,
        sum => sum,
    };
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
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
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(load: Load) -> Vec<[u8; LEN]> {
        let mut random = Random(SEED);
        (0..FLOWS).map(|_| frame(load, &mut random)).collect()
    }

    #[test]
    fn every_checksum_verifies_to_zero() {
        for load in [Load::Office, Load::Tftp] {
            for frame in frames(load) {
                assert_eq!(checksum(0, &frame[14..HEADERS]), 0);
                let pseudo = [&frame[26..34], &[0, frame[23]], &26u16.to_be_bytes()].concat();
                assert_eq!(checksum(sum_of(0, &pseudo), &frame[HEADERS..]), 0);
            }
        }
    }

    #[test]
    fn the_office_is_mostly_tcp_and_the_flood_is_tftp_only() {
        let office = frames(Load::Office);
        let tcp = office.iter().filter(|frame| frame[23] == 6).count();
        assert!((FLOWS * 70 / 100..FLOWS * 85 / 100).contains(&tcp), "{tcp}");
        assert!(
            frames(Load::Tftp)
                .iter()
                .all(|frame| frame[23] == 17 && frame[36..38] == [0, 69])
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_frames() {
        assert_eq!(templates(Load::Office), templates(Load::Office));
    }
}

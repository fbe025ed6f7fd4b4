//! Frame sizes, and what a line could carry of them.

use std::fmt;
use std::str::FromStr;

/// What a frame takes on the wire beside itself: preamble, start of frame and gap (IEEE 802.3 sections 4.4.2 and 3.1.1).
const BETWEEN: u64 = 20;
/// The frame check sequence, which counts as part of a frame's size and is not in memory.
pub const FCS: usize = 4;
/// The longest size without tags, and the shortest.
pub const LONGEST: usize = 1518;
const SHORTEST: usize = 64;

/// The size of the frames of a trial, with FCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All alike.
    Fixed(u16),
    /// Seven of 64, four of 594, one of 1518: "simple IMIX" (RFC 6985 section 4 says how mixes are named).
    Imix,
}

/// The sizes of RFC 2544 section 9.1 for Ethernet, and IMIX.
pub const ALL: [Size; 8] = [
    Size::Fixed(64),
    Size::Fixed(128),
    Size::Fixed(256),
    Size::Fixed(512),
    Size::Fixed(1024),
    Size::Fixed(1280),
    Size::Fixed(1518),
    Size::Imix,
];

const IMIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594];

impl Size {
    /// The sizes of twelve frames in a row, with FCS.
    pub fn pattern(self) -> [u16; 12] {
        match self {
            Size::Fixed(size) => [size; 12],
            Size::Imix => IMIX,
        }
    }

    /// Bytes of a frame on the average, with FCS.
    pub fn mean(self) -> f64 {
        let sum: u32 = self.pattern().into_iter().map(u32::from).sum();
        f64::from(sum) / 12.0
    }

    /// Bits that a frame takes on the wire on the average, what is between frames included.
    pub fn wire_bits(self) -> f64 {
        (self.mean() + BETWEEN as f64) * 8.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Fixed(size) => write!(f, "{size}"),
            Size::Imix => f.write_str("imix"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        if text.eq_ignore_ascii_case("imix") {
            return Ok(Size::Imix);
        }
        text.parse()
            .ok()
            .filter(|size| (SHORTEST..=LONGEST).contains(&usize::from(*size)))
            .map(Size::Fixed)
            .ok_or_else(|| {
                format!("a size is from {SHORTEST} to {LONGEST} bytes, FCS included, or `imix`")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ten_gigabits_carries_as_many_frames_as_everybody_says() {
        let rate = |size: Size| (10e9 / size.wire_bits()) as u64;
        assert_eq!(rate(Size::Fixed(64)), 14_880_952);
        assert_eq!(rate(Size::Fixed(1518)), 812_743);
    }

    #[test]
    fn imix_is_seven_four_one() {
        let count = |size| IMIX.iter().filter(|s| **s == size).count();
        assert_eq!([count(64), count(594), count(1518)], [7, 4, 1]);
    }

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        for size in ALL {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for wrong in ["63", "1519", "", "large"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}

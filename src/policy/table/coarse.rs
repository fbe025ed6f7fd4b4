//! A field in a byte, for the [sieves](super::plan::Sieve).

use super::rows::Span;

/// The highest byte.
const HIGHEST: usize = 255;

/// The byte of each value. Values that follow each other have bytes that do not go down, and as many ends of ranges lie in
/// each byte, as far as these can be told apart: what many rows name has one of its own.
pub(super) fn coarse(spans: impl Iterator<Item = Span>, values: usize) -> Vec<u8> {
    let mut ends = vec![0u32; values];
    let mut all = 0;
    for (first, last) in spans {
        for end in [first, last + 1] {
            if let Some(count) = ends.get_mut(end as usize).filter(|_| end > 0) {
                *count += 1;
                all += 1;
            }
        }
    }
    let (mut byte, mut since, mut left) = (0, 0, all);
    let byte_of = |count: u32| {
        since += count;
        // What is left is shared out among the bytes that are left.
        if byte < HIGHEST && count > 0 && since as usize * (HIGHEST - byte) >= left as usize {
            byte += 1;
            left -= since;
            since = 0;
        }
        byte as u8
    };
    ends.into_iter().map(byte_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_rows_name_has_a_byte_of_its_own_and_no_byte_goes_down() {
        let scattered = (0..5000).map(|at| (at * 13, at * 13 + 5));
        let named = std::iter::repeat_n((443, 443), 5000);
        let bytes = coarse(scattered.chain(named), 65_536);
        assert!(bytes.is_sorted() && *bytes.last().unwrap() > 100);
        assert!(bytes[442] < bytes[443] && bytes[443] < bytes[444]);
        assert_eq!(coarse([(0, 9)].into_iter(), 10), [0; 10]);
        let all = coarse((0..255).map(|at| (at, at)), 255);
        assert_eq!((all[0], all[254]), (0, 254));
    }
}

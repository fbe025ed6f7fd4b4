//! The authentication header (RFC 4302 section 2): it hides nothing, so what follows it is judged.

use super::chunk;

/// IANA protocol number.
pub(super) const PROTO: u8 = 51;

/// Next header, length, reserved, SPI, sequence number; a shorter header contradicts itself.
const FIXED_LEN: usize = 12;

/// A checked header.
pub(super) struct Header<'a>(&'a [u8; FIXED_LEN]);

impl<'a> Header<'a> {
    /// `None` where the header is not whole in `bytes` at `pos`, or says that it is shorter than its fixed part.
    pub(super) fn new_checked(bytes: &'a [u8], pos: usize) -> Option<Self> {
        let header = Header(chunk(bytes, pos)?);
        (header.len() >= FIXED_LEN && pos + header.len() <= bytes.len()).then_some(header)
    }

    /// The protocol that follows.
    pub(super) fn next(&self) -> u8 {
        self.0[0]
    }

    /// Bytes; the field counts words of 4, less 2.
    pub(super) fn len(&self) -> usize {
        (usize::from(self.0[1]) + 2) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_in_words_of_four_less_two() {
        let bytes = [
            6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let header = Header::new_checked(&bytes, 0).unwrap();
        assert_eq!((header.next(), header.len()), (6, 24));
        assert!(Header::new_checked(&bytes[..23], 0).is_none());
        assert!(Header::new_checked(&bytes, 1).is_none());
    }

    #[test]
    fn a_header_shorter_than_its_fixed_part_is_refused() {
        assert!(Header::new_checked(&[6, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], 0).is_none());
    }
}

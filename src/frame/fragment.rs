//! What holds for the fragments of both IP versions (RFC 791 section 3.2, RFC 8200 section 4.5).

use super::transport;
use crate::telemetry::Reason;

/// The longest datagram: what a 16-bit length can say, bytes.
const LONGEST_DATAGRAM: usize = 65535;

/// The fragment fields of either version, and where the fragment's data lies.
#[derive(Clone, Copy)]
pub(super) struct Fragment {
    /// Offset of the data in the datagram, bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Length of the data, bytes.
    pub len: usize,
    /// What the 16-bit length of the reassembled datagram counts before the data: IPv4 header, or the IPv6 extension
    /// headers before the fragment header, bytes.
    pub before: usize,
}

impl Fragment {
    /// The rules for a fragment that is not the first and carries `proto`.
    ///
    /// # Errors
    /// `FragmentTiny` for TCP at 8 bytes, which would write the flags of the header (RFC 1858 section 3.2.2, RFC 3128).
    /// `Malformed` where it is empty, would end past 65,535 bytes, or is not the last and not a multiple of 8 long.
    pub(super) fn check_later(&self, proto: u8) -> Result<(), Reason> {
        if proto == transport::TCP && self.offset == 8 {
            return Err(Reason::FragmentTiny);
        }
        if self.len == 0 || self.before + self.offset + self.len > LONGEST_DATAGRAM {
            return Err(Reason::Malformed);
        }
        self.check_multiple()
    }

    /// The rule for a first fragment, once it is known to hold the whole transport header.
    ///
    /// # Errors
    /// `Malformed` where its length is not a multiple of 8.
    pub(super) fn check_multiple(&self) -> Result<(), Reason> {
        if self.more && !self.len.is_multiple_of(8) {
            Err(Reason::Malformed)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Fragment = Fragment {
        offset: 1480,
        more: true,
        len: 1480,
        before: 20,
    };

    #[test]
    fn tcp_at_eight_bytes_is_tiny_and_udp_there_is_not() {
        let second = Fragment { offset: 8, ..LATER };
        assert_eq!(
            second.check_later(transport::TCP),
            Err(Reason::FragmentTiny)
        );
        assert_eq!(second.check_later(transport::UDP), Ok(()));
        assert_eq!(
            Fragment {
                offset: 16,
                ..LATER
            }
            .check_later(transport::TCP),
            Ok(())
        );
    }

    #[test]
    fn a_datagram_may_be_65535_bytes_and_not_one_more() {
        let last = Fragment {
            offset: 65512,
            more: false,
            len: 3,
            before: 20,
        };
        assert_eq!(last.check_later(transport::UDP), Ok(()));
        assert_eq!(
            Fragment { len: 4, ..last }.check_later(transport::UDP),
            Err(Reason::Malformed)
        );
    }

    #[test]
    fn only_the_last_fragment_may_have_an_odd_length_and_none_may_be_empty() {
        let odd = Fragment { len: 1479, ..LATER };
        assert_eq!(odd.check_later(transport::UDP), Err(Reason::Malformed));
        assert_eq!(
            Fragment { more: false, ..odd }.check_later(transport::UDP),
            Ok(())
        );
        assert_eq!(
            Fragment { len: 0, ..LATER }.check_later(transport::UDP),
            Err(Reason::Malformed)
        );
    }
}

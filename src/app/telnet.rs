//! Telnet: a negotiation (RFC 854), which its clients begin with or answer the server's with.

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;

pub(super) const STARTS: &[(u8, u8)] = &[(IAC, IAC)];

const IAC: u8 = 255;
/// SB, WILL, WONT, DO, DONT; between SB and WILL there is nothing.
const COMMANDS: std::ops::RangeInclusive<u8> = 250..=254;

/// Over TCP. One command with an option that clients speak of is enough: a client may have no more to say. Another option needs a second command behind it.
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(negotiation(bytes))
}

fn negotiation(bytes: &[u8]) -> Result<(), Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(&[IAC])?;
    rest.byte_in(COMMANDS)?;
    let option = rest.u8()?;
    if matches!(option, 0 | 1 | 3 | 5 | 6 | 24 | 31..=39) {
        return Ok(());
    }
    check(option != IAC)?;
    rest.literal(&[IAC])?;
    rest.byte_in(COMMANDS).map(drop)
}

/// Nothing in it tells one client from another.
pub(super) fn details(_: &[u8], _: &mut Fields) {}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;

    #[test]
    fn a_command_has_an_option() {
        for (expected, payload) in [
            (Match, &[255, 253, 3][..]),
            (Match, &[255, 252, 24, 13]),
            (Match, &[255, 250, 31, 0, 80, 0, 24, 255, 240]),
            (Match, &[255, 251, 201, 255, 253]),
            (More, &[255]),
            (More, &[255, 253]),
            (More, &[255, 251, 201]),
            (No, &[255, 251, 201, 3]),
            (No, &[255, 240]),
            (No, &[255, 255]),
            (No, &[255, 253, 255]),
        ] {
            assert_eq!(tcp(payload), expected, "{payload:?}");
        }
    }
}

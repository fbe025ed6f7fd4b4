//! VNC: the version of RFB that either side says first (RFC 6143 section 7.1.1).

use super::Looks;
use super::cursor::{Cursor, looks};
use super::details::Fields;

pub(super) const STARTS: &[(u8, u8)] = &[(b'R', b'R')];

/// Over TCP.
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(version(bytes))
}

fn version(bytes: &[u8]) -> Result<(), Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(b"RFB ")?;
    for end in [b'.', b'\n'] {
        for _ in 0..3 {
            rest.byte_in(b'0'..=b'9')?;
        }
        rest.literal(&[end])?;
    }
    Ok(())
}

/// The version.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    fields.add("version", payload.get(4..11).unwrap_or(&[]));
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;

    #[test]
    fn a_version_is_twelve_bytes() {
        assert_eq!(tcp(b"RFB 003.008\n"), Match);
        assert_eq!(tcp(b"RFB 003.008"), More);
        assert_eq!(tcp(b"RFB 3.8\n"), No);
        assert_eq!(tcp(b"RFC 1459"), No);
    }
}

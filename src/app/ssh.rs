//! SSH: the version that either side says first (RFC 4253 section 4.2).

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;

pub(super) const STARTS: &[(u8, u8)] = &[(b'S', b'S')];

/// Over TCP: version 2, 1.99, or another of the first.
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(version(bytes))
}

fn version(bytes: &[u8]) -> Result<(), Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(b"SSH-")?;
    match rest.u8()? {
        b'2' => rest.literal(b".0-"),
        b'1' => {
            rest.literal(b".")?;
            check(rest.u8()?.is_ascii_digit())
        }
        _ => Err(Looks::No),
    }
}

/// What it calls itself.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let end = payload
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'));
    let line = payload
        .get(..end.unwrap_or(payload.len()))
        .unwrap_or(payload);
    fields.add(
        "software",
        line.splitn(3, |byte| *byte == b'-').nth(2).unwrap_or(&[]),
    );
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;

    #[test]
    fn a_version_matches_once_its_number_is_there() {
        for (expected, payload) in [
            (Match, "SSH-2.0-OpenSSH_9.2"),
            (Match, "SSH-1.99-x"),
            (Match, "SSH-1.5-x"),
            (More, "SSH-"),
            (More, "SSH-2.0"),
            (More, "SSH-1."),
            (No, "SSH-3"),
            (No, "SSH_"),
            (No, "SSH-2.1"),
        ] {
            assert_eq!(tcp(payload.as_bytes()), expected, "{payload:?}");
        }
    }
}

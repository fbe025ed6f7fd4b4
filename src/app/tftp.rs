//! TFTP (RFC 1350 section 5): a request to read or write.

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;
use super::text::begins;

pub(super) const STARTS: &[(u8, u8)] = &[(0, 0)];

const MODES: [&[u8]; 3] = [b"netascii", b"octet", b"mail"];

/// Over UDP. The file's name may be any bytes: servers take it as it is. Mode and NUL have to be there; options may follow (RFC 2347).
pub fn udp(bytes: &[u8]) -> Looks {
    looks(request(bytes).map(drop))
}

/// Opcode, file and mode.
fn request(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(&[0])?;
    let opcode = rest.byte_in(1..=2)?;
    // No name is refused by every server, and would be half of STUN's first header.
    check(rest.0.first() != Some(&0))?;
    let file = rest.until_nul()?;
    let end = rest.0.iter().position(|byte| *byte == 0);
    let mode = rest.0.get(..end.unwrap_or(rest.0.len())).unwrap_or(&[]);
    if end.is_some() {
        check(MODES.iter().any(|name| name.eq_ignore_ascii_case(mode)))?;
        return Ok((opcode, file, mode));
    }
    check(MODES.iter().any(|name| begins(name, mode)))?;
    Err(Looks::More)
}

/// Which way, which file, which mode.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let Ok((opcode, file, mode)) = request(payload) else {
        return;
    };
    fields.add("operation", if opcode == 1 { b"read" } else { b"write" });
    fields.add("file", file);
    fields.add("mode", mode);
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::udp;

    #[test]
    fn a_request_has_opcode_name_mode_and_nul() {
        for (expected, payload) in [
            (Match, &b"\0\x01boot\0octet\0"[..]),
            (Match, b"\0\x02a b\0NetASCII\0"),
            (Match, b"\0\x01x\0octet\0tsize\x000\0"),
            (Match, b"\0\x01\xe9\x01\0mail\0"),
            (More, b"\0"),
            (More, b"\0\x01"),
            (More, b"\0\x01boot"),
            (More, b"\0\x01boot\0"),
            (More, b"\0\x01boot\0oct"),
            (More, b"\0\x01boot\0octet"),
            (No, b"\0\x03"),
            (No, b"\0\x01\0octet\0"),
            (No, b"\0\x01boot\0octets\0"),
            (No, b"\0\x01boot\0\0"),
            (No, b"\0\x01boot\0x"),
            (No, b"\x01\x01boot\0octet\0"),
        ] {
            assert_eq!(udp(payload), expected, "{payload:?}");
        }
    }
}

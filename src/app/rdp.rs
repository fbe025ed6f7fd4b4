//! RDP: the connection request (MS-RDPBCGR section 2.2.1.1), of X.224 class 0 in a TPKT (RFC 2126 section 4.3).

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;

pub(super) const STARTS: &[(u8, u8)] = &[(3, 3)];

const CONNECTION_REQUEST: u8 = 0xe0;
/// TPKT and X.224 without anything behind.
const HEADERS: u16 = 11;
/// The longest: a cookie, and both requests behind it.
const LONGEST: u16 = 512;
const COOKIE: &[u8] = b"Cookie: ";
/// RDP_NEG_REQ: type 1, flags, 8 bytes.
const NEGOTIATION: u8 = 1;

/// Over TCP. Others that open a connection like this (S7, H.323) have parameters where RDP has its cookie, its negotiation, or nothing.
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(request(bytes).map(drop))
}

/// What stands behind the headers.
fn request(bytes: &[u8]) -> Result<&[u8], Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(&[3, 0])?;
    let length = rest.u16()?;
    check((HEADERS..=LONGEST).contains(&length))?;
    let header = rest.u8()?;
    check(u16::from(header) + 5 == length || header == 0xff)?;
    rest.literal(&[CONNECTION_REQUEST, 0, 0])?;
    // Source reference, and class 0.
    rest.u16()?;
    rest.literal(&[0])?;
    let data = rest.0;
    if length == HEADERS {
        return Ok(&[]);
    }
    if data.first() == Some(&NEGOTIATION) {
        rest.array::<2>()?;
        rest.literal(&[8, 0])?;
    } else {
        rest.literal(COOKIE)?;
    }
    Ok(data)
}

/// The user's name, or the token of a balancer, that the cookie is.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let cookie = request(payload)
        .ok()
        .and_then(|data| data.strip_prefix(COOKIE));
    if let Some(cookie) = cookie {
        let end = cookie.iter().position(|byte| *byte == b'\r');
        let cookie = cookie.get(..end.unwrap_or(cookie.len())).unwrap_or(cookie);
        fields.add(
            "cookie",
            cookie.strip_prefix(b"mstshash=").unwrap_or(cookie),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;

    #[test]
    fn a_connection_request_has_a_cookie_a_negotiation_or_nothing() {
        for (expected, payload) in [
            (Match, &b"\x03\0\0\x0b\x06\xe0\0\0\0\0\0"[..]),
            (
                Match,
                b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0",
            ),
            (
                Match,
                b"\x03\0\0\x22\x1d\xe0\0\0\0\0\0Cookie: mstshash=eltons\r\n",
            ),
            (More, b"\x03\0\0\x22\x1d\xe0\0\0\0\0\0Cookie"),
            (More, b"\x03\0\0\x22\x1d\xe0\0\0\0\0\0"),
            (No, b"\x03\0\0\x16\x11\xe0\0\0\0\x01\0\xc1\x02\x01\0"),
            (No, b"\x03\0\0\x16\x11\xd0"),
            (No, b"\x03\0\0\x16\x08"),
            (No, b"\x03\0\0\x07"),
        ] {
            assert_eq!(tcp(payload), expected, "{payload:02x?}");
        }
    }
}

//! SOCKS: a request of version 4 or 4a, and the methods that a client of version 5 offers (RFC 1928 section 3).

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;
use std::net::Ipv4Addr;

pub(super) const STARTS: &[(u8, u8)] = &[(4, 5)];

/// The last method that is assigned (IANA, SOCKS Methods).
const LAST_METHOD: u8 = 9;
/// The longest user name, and the longest host name.
const LONGEST: usize = 255;

/// Over TCP. A client of version 5 waits for the answer to its methods, so these have to be enough, and what an eager one sends behind them does not count.
pub fn tcp(bytes: &[u8]) -> Looks {
    match bytes.first() {
        Some(4) => looks(request(bytes).map(drop)),
        _ => looks(methods(bytes)),
    }
}

/// Each method once, none of them unassigned.
fn methods(bytes: &[u8]) -> Result<(), Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(&[5])?;
    let count = rest.byte_in(1..=LAST_METHOD + 1)?;
    let mut seen = 0u16;
    for _ in 0..count {
        let bit = 1 << rest.byte_in(0..=LAST_METHOD)?;
        check(seen & bit == 0)?;
        seen |= bit;
    }
    Ok(())
}

/// Where to, of version 4.
struct Target<'a> {
    port: u16,
    address: Ipv4Addr,
    /// Of version 4a.
    host: &'a [u8],
}

fn request(bytes: &[u8]) -> Result<Target<'_>, Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(&[4])?;
    rest.byte_in(1..=2)?;
    let port = rest.u16()?;
    check(port != 0)?;
    let address = Ipv4Addr::from(*rest.array::<4>()?);
    let named = matches!(address.octets(), [0, 0, 0, 1..=255]);
    check(named || !matches!(address.octets(), [0, ..]))?;
    text(&mut rest)?;
    let host = if named { text(&mut rest)? } else { &[] };
    check(!named || !host.is_empty())?;
    Ok(Target {
        port,
        address,
        host,
    })
}

/// A text that ends with NUL.
fn text<'a>(rest: &mut Cursor<'a>) -> Result<&'a [u8], Looks> {
    let there = rest
        .0
        .iter()
        .take_while(|byte| !byte.is_ascii_control())
        .count();
    check(there <= LONGEST && rest.0.get(there).is_none_or(|byte| *byte == 0))?;
    rest.until_nul()
}

/// The version, and where to, if it is said yet.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let version: &[u8] = if payload.first() == Some(&4) {
        b"4"
    } else {
        b"5"
    };
    fields.add("version", version);
    if let Ok(target) = request(payload) {
        let Target {
            port,
            address,
            host,
        } = target;
        if host.is_empty() {
            fields.add("target", format!("{address}:{port}").as_bytes());
        } else {
            fields.add("target", &[host, format!(":{port}").as_bytes()].concat());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;

    #[test]
    fn a_request_or_a_list_of_methods_matches() {
        for (expected, payload) in [
            (Match, &b"\x04\x01\0\x50\xc0\0\x02\x07\0"[..]),
            (Match, b"\x04\x02\0\x50\xc0\0\x02\x07bob\0"),
            (Match, b"\x04\x01\0\x50\0\0\0\x01\0example.com\0"),
            (Match, b"\x05\x01\0"),
            (Match, b"\x05\x03\0\x01\x02"),
            (Match, b"\x05\x01\0\x05\x01\0\x01"),
            (More, b"\x04\x01\0\x50\0\0\0\x01\0example"),
            (More, b"\x04\x01\0\x50\xc0\0\x02\x07bob"),
            (More, b"\x05\x02\0"),
            (No, b"\x05\0"),
            (No, b"\x05\x01\x0b"),
            (No, b"\x05\x02\0\0"),
            (No, b"\x04\x03"),
            (No, b"\x04\x01\0\0"),
            (No, b"\x04\x01\0\x50\0\0\0\0"),
            (No, b"\x04\x01\0\x50\xc0\0\x02\x07\x01"),
            (No, b"\x04\x01\0\x50\0\0\0\x01\0\0"),
        ] {
            assert_eq!(tcp(payload), expected, "{payload:02x?}");
        }
    }
}

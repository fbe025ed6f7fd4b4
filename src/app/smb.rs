//! SMB over TCP: behind the session header of NetBIOS (RFC 1002 section 4.3), which direct TCP has too (MS-SMB2 section 2.1).

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;

pub(super) const STARTS: &[(u8, u8)] = &[
    (MESSAGE, MESSAGE),
    (REQUEST, REQUEST),
    (KEEPALIVE, KEEPALIVE),
];

const MESSAGE: u8 = 0;
const REQUEST: u8 = 0x81;
const KEEPALIVE: u8 = 0x85;
/// A NetBIOS name of 16 bytes, a letter for each half.
const NAME: usize = 32;
/// The header of SMB 1, the shortest.
const SHORTEST: usize = 32;

/// Over TCP: a message of SMB 1, of SMB 2 and 3, one of these that is encrypted or compressed, or a request for a session.
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(begin(bytes).map(drop))
}

/// How a session begins.
enum Begin<'a> {
    /// The first byte of the protocol identifier.
    Message(u8),
    /// The name that is called, encoded.
    Request(&'a [u8; NAME]),
}

fn begin(bytes: &[u8]) -> Result<Begin<'_>, Looks> {
    let mut rest = Cursor(bytes);
    let mut kind = rest.u8()?;
    while kind == KEEPALIVE {
        rest.literal(&[0, 0, 0])?;
        kind = rest.u8()?;
    }
    match kind {
        MESSAGE => {
            let [high, mid, low] = *rest.array()?;
            check(u32::from_be_bytes([0, high, mid, low]) as usize >= SHORTEST)?;
            let protocol = rest.byte_in(0xfc..=0xff)?;
            rest.literal(b"SMB")?;
            Ok(Begin::Message(protocol))
        }
        REQUEST => {
            rest.byte_in(0..=1)?;
            rest.u16()?;
            rest.literal(&[NAME as u8])?;
            let there = rest.0.get(..NAME).unwrap_or(rest.0);
            check(there.iter().all(|byte| matches!(byte, b'A'..=b'P')))?;
            rest.array().map(Begin::Request)
        }
        _ => Err(Looks::No),
    }
}

/// The family, or the name that is called.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    match begin(payload) {
        Ok(Begin::Message(0xff)) => fields.add("dialect", b"1"),
        Ok(Begin::Message(_)) => fields.add("dialect", b"2/3"),
        Ok(Begin::Request(name)) => {
            // The last byte is the kind of service.
            let half = |letter: u8| letter.wrapping_sub(b'A') & 0xf;
            let (pairs, _) = name.as_chunks::<2>();
            let name: Vec<u8> = pairs
                .iter()
                .take(15)
                .map(|[high, low]| half(*high) << 4 | half(*low))
                .collect();
            fields.add("called", name.trim_ascii_end());
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;

    #[test]
    fn a_message_or_a_request_for_a_session_matches() {
        let request = [b"\x81\0\0\x44 ", &[b'C'; 32][..]].concat();
        for (expected, payload) in [
            (Match, &b"\0\0\0\x3e\xffSMB"[..]),
            (Match, b"\0\0\x10\0\xfeSMB"),
            (Match, b"\0\x01\0\0\xfdSMB"),
            (Match, b"\x85\0\0\0\x85\0\0\0\0\0\0\x3e\xffSMB"),
            (Match, &request),
            (More, &request[..36]),
            (More, b"\x85\0\0\0"),
            (More, b"\0\0\0\x3e\xffS"),
            (No, b"\0\0\0\x08\x04\xd2\x16\x2f"),
            (No, b"\0\0\0\x1f\xffSMB"),
            (No, b"\0\0\0\x3e\xffXMB"),
            (No, b"\x81\0\0\x44 AZ"),
            (No, b"\x81\x02"),
        ] {
            assert_eq!(tcp(payload), expected, "{payload:02x?}");
        }
    }
}

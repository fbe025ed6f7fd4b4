//! TLS: a ClientHello (RFC 8446 section 4.1.2) in its record, in that of SSL 2 (RFC 5246 appendix E.2), or in one of DTLS (RFC 9147 section 5).

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::{Fields, joined};

pub(super) const STARTS: &[(u8, u8)] = &[(HANDSHAKE, HANDSHAKE), (0x80, 0x83)];
pub(super) const STARTS_UDP: &[(u8, u8)] = &[(HANDSHAKE, HANDSHAKE)];

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The longest record, with what encryption may add (RFC 5246 section 6.2.3).
const LONGEST_RECORD: u16 = 16384 + 2048;

/// Over TCP. The hello may be split over records, of one byte each if the client likes.
pub fn tcp(bytes: &[u8]) -> Looks {
    match bytes.first() {
        Some(&HANDSHAKE) => looks(hello(bytes)),
        _ => looks(old_hello(bytes)),
    }
}

fn hello(bytes: &[u8]) -> Result<(), Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(&[HANDSHAKE, 3])?;
    rest.byte_in(0..=4)?;
    let length = rest.u16()?;
    check((1..=LONGEST_RECORD).contains(&length))?;
    rest.literal(&[CLIENT_HELLO])?;
    if length >= 6 {
        rest.byte_in(0..=1)?;
        rest.u16()?;
        rest.literal(&[3])?;
        rest.byte_in(0..=4)?;
    }
    Ok(())
}

/// The hello of SSL 2 that offers version 3 or later.
fn old_hello(bytes: &[u8]) -> Result<(), Looks> {
    let mut rest = Cursor(bytes);
    let [high, low] = [rest.byte_in(0x80..=0x83)?, rest.u8()?];
    let length = u16::from_be_bytes([high & 0x7f, low]);
    rest.literal(&[CLIENT_HELLO, 3])?;
    rest.byte_in(0..=3)?;
    let (ciphers, session, challenge) = (rest.u16()?, rest.u16()?, rest.u16()?);
    check(
        ciphers > 0
            && ciphers % 3 == 0
            && matches!(session, 0 | 16)
            && (16..=32).contains(&challenge),
    )?;
    check(u32::from(length) == 9 + u32::from(ciphers) + u32::from(session) + u32::from(challenge))
}

/// Over UDP: DTLS 1.0, 1.2, and 1.3, which says 1.2.
pub fn udp(bytes: &[u8]) -> Looks {
    looks(datagram(bytes))
}

fn datagram(bytes: &[u8]) -> Result<(), Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(&[HANDSHAKE, 0xfe])?;
    check(matches!(rest.u8()?, 0xff | 0xfd))?;
    // The first epoch, and a sequence number that is still low.
    rest.literal(&[0, 0, 0, 0, 0])?;
    rest.array::<3>()?;
    check((13..=LONGEST_RECORD).contains(&rest.u16()?))?;
    rest.literal(&[CLIENT_HELLO])
}

/// Whom it wants to speak to, what about, and the highest version that it offers.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let mut found = Found::default();
    let message = handshake(payload);
    let is_datagram = payload.get(1) == Some(&0xfe);
    if payload.first() == Some(&HANDSHAKE) {
        // What the payload cuts off is not shown; what stands before it is.
        let _ = found.read(Cursor(&message), is_datagram);
    } else if let Some([major, minor]) = payload.get(3..).and_then(|rest| rest.first_chunk()) {
        found.version = u16::from_be_bytes([*major, *minor]);
    }
    fields.add("sni", found.server);
    fields.add("alpn", &joined(found.protocols));
    if found.version != 0 {
        fields.add("version", version_name(found.version).as_bytes());
    }
}

/// The handshake's bytes out of their records, without the headers before the hello itself.
fn handshake(payload: &[u8]) -> Vec<u8> {
    let mut rest = Cursor(payload);
    if payload.get(1) == Some(&0xfe) {
        // Record, and message with its place in the datagrams.
        return payload.get(13 + 12..).unwrap_or(&[]).to_vec();
    }
    let mut message = Vec::new();
    while let Ok([HANDSHAKE, _, _, high, low]) = rest.array() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        message.extend_from_slice(rest.0.get(..length).unwrap_or(rest.0));
        if rest.take(length).is_err() {
            break;
        }
    }
    message.drain(..message.len().min(4));
    message
}

/// What a hello shows.
#[derive(Default)]
struct Found<'a> {
    server: &'a [u8],
    protocols: Vec<&'a [u8]>,
    version: u16,
}

impl<'a> Found<'a> {
    fn read(&mut self, mut rest: Cursor<'a>, is_datagram: bool) -> Result<(), Looks> {
        self.version = rest.u16()?;
        rest.take(32)?;
        let session = rest.u8()?;
        rest.take(usize::from(session))?;
        if is_datagram {
            let cookie = rest.u8()?;
            rest.take(usize::from(cookie))?;
        }
        let ciphers = rest.u16()?;
        rest.take(usize::from(ciphers))?;
        let compressions = rest.u8()?;
        rest.take(usize::from(compressions))?;
        rest.u16()?;
        loop {
            let kind = rest.u16()?;
            let length = rest.u16()?;
            let extension = Cursor(rest.take(usize::from(length))?);
            // One that is broken does not hide the others.
            let _ = self.extension(kind, extension);
        }
    }

    fn extension(&mut self, kind: u16, mut rest: Cursor<'a>) -> Result<(), Looks> {
        match kind {
            // RFC 6066 section 3.
            0 => {
                rest.u16()?;
                rest.literal(&[0])?;
                let length = rest.u16()?;
                self.server = rest.take(usize::from(length))?;
            }
            // RFC 7301 section 3.1.
            16 => {
                rest.u16()?;
                while let Ok(length) = rest.u8() {
                    self.protocols.push(rest.take(usize::from(length))?);
                }
            }
            // RFC 8446 section 4.2.1. Those of RFC 8701 are no versions; those of DTLS count down.
            43 => {
                rest.u8()?;
                while let Ok(version) = rest.u16() {
                    match version {
                        0x0300..=0x0304 => self.version = self.version.max(version),
                        0xfefc..=0xfeff => self.version = self.version.min(version),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn version_name(version: u16) -> String {
    let name = match version {
        0x0300 => "ssl3",
        0x0301 => "1.0",
        0x0302 => "1.1",
        0x0303 => "1.2",
        0x0304 => "1.3",
        0xfeff => "dtls1.0",
        0xfefd => "dtls1.2",
        0xfefc => "dtls1.3",
        _ => return format!("0x{version:04x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::{tcp, udp};

    #[test]
    fn a_client_hello_matches_in_records_of_any_size() {
        for (expected, payload) in [
            (Match, &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..]),
            (Match, b"\x16\x03\x03\0\x01\x01"),
            (Match, b"\x16\x03\0\0\x05\x01\0"),
            (More, b"\x16\x03\x01\x02\0"),
            (More, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03"),
            (No, b"\x16\x03\x01\x02\0\x02"),
            (No, b"\x16\x03\x05"),
            (No, b"\x16\x03\x01\0\0"),
            (No, b"\x16\x03\x01\x60\0"),
            (No, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x02"),
        ] {
            assert_eq!(tcp(payload), expected, "{payload:02x?}");
        }
    }

    #[test]
    fn the_hello_of_ssl_2_adds_up() {
        let mut hello = b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10".to_vec();
        assert_eq!(tcp(&hello), Match);
        assert_eq!(tcp(&hello[..10]), More);
        hello[1] = 0x2f;
        assert_eq!(tcp(&hello), No);
    }

    #[test]
    fn a_hello_of_dtls_is_the_first_of_its_epoch() {
        let hello = b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\xc0\x01";
        assert_eq!(udp(hello), Match);
        assert_eq!(udp(&hello[..13]), More);
        assert_eq!(udp(b"\x16\xfe\xfd\0\x01"), No);
        assert_eq!(udp(b"\x16\xfe\xfc"), No);
    }
}

//! SNMP in BER: v1 (RFC 1157 section 4), v2c (RFC 1901 section 3), v3 (RFC 3412 section 6).

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;

pub(super) const STARTS: &[(u8, u8)] = &[(SEQUENCE, SEQUENCE)];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
/// GetRequest to Report (RFC 3416 section 3).
const PDUS: std::ops::RangeInclusive<u8> = 0xa0..=0xa8;
const V3: u32 = 3;

/// Over UDP.
pub fn udp(bytes: &[u8]) -> Looks {
    looks(message(&mut Cursor(bytes)).map(drop))
}

/// Over TCP (RFC 3430), where messages follow each other as they are.
pub fn tcp(bytes: &[u8]) -> Looks {
    udp(bytes)
}

/// What leads to a match.
struct Message<'a> {
    version: u32,
    /// Of v1 and v2c.
    community: &'a [u8],
    pdu: u8,
}

fn message<'a>(rest: &mut Cursor<'a>) -> Result<Message<'a>, Looks> {
    rest.literal(&[SEQUENCE])?;
    let total = length(rest)?;
    check(total >= 8)?;
    let version = integer(rest)?;
    check(matches!(version, 0 | 1 | V3))?;
    if version == V3 {
        // msgID, msgMaxSize, msgFlags, msgSecurityModel.
        rest.literal(&[SEQUENCE])?;
        check((10..=64).contains(&length(rest)?))?;
        integer(rest)?;
        integer(rest)?;
        rest.literal(&[OCTETS])?;
        check(length(rest)? == 1)?;
        rest.byte_in(0..=7)?;
        integer(rest)?;
        rest.literal(&[OCTETS])?;
        return Ok(Message {
            version,
            community: &[],
            pdu: 0,
        });
    }
    rest.literal(&[OCTETS])?;
    let community = length(rest)?;
    check(community < total)?;
    let community = rest.take(community)?;
    let pdu = rest.byte_in(PDUS)?;
    Ok(Message {
        version,
        community,
        pdu,
    })
}

/// A length in any definite form of X.690 section 8.1.3, however many leading zeros it has: receivers take them.
fn length(rest: &mut Cursor) -> Result<usize, Looks> {
    let first = rest.u8()?;
    if first < 0x80 {
        return Ok(usize::from(first));
    }
    check((0x81..=0x88).contains(&first))?;
    let mut value = 0usize;
    for _ in 0x80..first {
        check(value <= 0xffff)?;
        value = value << 8 | usize::from(rest.u8()?);
    }
    Ok(value)
}

/// A number of up to four bytes that is not negative (five, with the zero that says so).
fn integer(rest: &mut Cursor) -> Result<u32, Looks> {
    rest.literal(&[INTEGER])?;
    let count = length(rest)?;
    check((1..=5).contains(&count))?;
    let mut value = 0u32;
    for _ in 0..count {
        check(value >> 24 == 0)?;
        value = value << 8 | u32::from(rest.u8()?);
    }
    Ok(value)
}

/// The version, and who asks for what, as far as it is in clear.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let mut rest = Cursor(payload);
    let Ok(message) = message(&mut rest) else {
        return;
    };
    let version: &[u8] = match message.version {
        0 => b"1",
        1 => b"2c",
        _ => b"3",
    };
    fields.add("version", version);
    if message.version == V3 {
        fields.add("user", user(&mut rest).unwrap_or(&[]));
    } else {
        fields.add("community", message.community);
        fields.add("pdu", pdu_name(message.pdu));
    }
}

fn pdu_name(pdu: u8) -> &'static [u8] {
    match pdu {
        0xa0 => b"get",
        0xa1 => b"getnext",
        0xa2 => b"response",
        0xa3 => b"set",
        0xa4 => b"trap",
        0xa5 => b"getbulk",
        0xa6 => b"inform",
        0xa7 => b"trap2",
        _ => b"report",
    }
}

/// msgUserName of the user-based security model (RFC 3414 section 2.4); what is read so far ends with the tag of its octets.
fn user<'a>(rest: &mut Cursor<'a>) -> Result<&'a [u8], Looks> {
    length(rest)?;
    rest.literal(&[SEQUENCE])?;
    length(rest)?;
    rest.literal(&[OCTETS])?;
    let engine = length(rest)?;
    rest.take(engine)?;
    integer(rest)?;
    integer(rest)?;
    rest.literal(&[OCTETS])?;
    let name = length(rest)?;
    rest.take(name)
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::udp;

    #[test]
    fn every_form_of_a_length_is_read() {
        for payload in [
            &b"\x30\x26\x02\x01\x01\x04\x06public\xa0"[..],
            b"\x30\x81\x26\x02\x01\x01\x04\x06public\xa0",
            b"\x30\x84\0\0\0\x26\x02\x01\x01\x04\x06public\xa0",
            b"\x30\x88\0\0\0\0\0\0\0\x26\x02\x82\0\x01\x00\x04\x81\x06public\xa5",
            b"\x30\x26\x02\x04\0\0\0\x01\x04\x00\xa3",
        ] {
            assert_eq!(udp(payload), Match, "{payload:02x?}");
            for end in 1..payload.len() {
                assert_eq!(udp(&payload[..end]), More, "{payload:02x?} to {end}");
            }
        }
    }

    #[test]
    fn other_ber_is_no() {
        for payload in [
            // LDAP: bind, search; SNMP of version 2; an indefinite length; a certificate.
            &b"\x30\x0c\x02\x01\x01\x60\x07"[..],
            b"\x30\x25\x02\x01\x03\x63",
            b"\x30\x26\x02\x01\x02\x04\x06public\xa0",
            b"\x30\x80\x02\x01\x01",
            b"\x30\x82\x03\x00\x30\x82",
            b"\x30\x26\x02\x01\x01\x04\x06public\x30",
        ] {
            assert_eq!(udp(payload), No, "{payload:02x?}");
        }
    }
}

//! DNS (RFC 1035 section 4): a query, a notify or an update, over UDP, and over TCP behind its length.
//!
//! A NetBIOS name query (RFC 1002 section 4.2.12) has the same form and is not taken for DNS: it asks for one label of 32 letters
//! from A to P, type 32 or 33. With anything behind that label it is DNS, so nothing can be carried to a domain that way.

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::{Fields, SafeText};

/// An identifier may be anything.
pub(super) const STARTS: &[(u8, u8)] = &[(0, 255)];

const QUERY: u8 = 0;
const NOTIFY: u8 = 4;
const UPDATE: u8 = 5;
const SOA: u16 = 6;
/// A header and a question for the root.
const SHORTEST: u16 = 17;
/// The longest name, with the lengths of its labels (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 255;

/// Over UDP.
pub fn udp(bytes: &[u8]) -> Looks {
    looks(question(Cursor(bytes)).map(drop))
}

/// Over TCP (RFC 7766 section 8).
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(over_tcp(bytes).map(drop))
}

fn over_tcp(bytes: &[u8]) -> Result<Question<'_>, Looks> {
    let mut rest = Cursor(bytes);
    check(rest.u16()? >= SHORTEST)?;
    question(rest)
}

/// The first question: its name as it stands there, without the root, and its type.
struct Question<'a> {
    name: &'a [u8],
    kind: u16,
}

fn question(mut rest: Cursor<'_>) -> Result<Question<'_>, Looks> {
    rest.u16()?;
    // A question: QR is 0, and so are TC, the reserved bit, and the code of an answer.
    let flags = rest.u8()?;
    let opcode = flags >> 3 & 0xf;
    check(flags & 0x82 == 0 && matches!(opcode, QUERY | NOTIFY | UPDATE))?;
    check(rest.u8()? & 0x4f == 0)?;
    rest.literal(&[0])?;
    // An update is of one zone (RFC 2136 section 2.3).
    rest.byte_in(1..=if opcode == UPDATE { 1 } else { 32 })?;
    // Answers, authorities, additional records: few in a question (known answers of mDNS), any number in an update.
    for _ in 0..3 {
        let count = rest.u8()?;
        check(count == 0 || opcode == UPDATE)?;
        rest.u8()?;
    }
    let start = rest.0;
    let mut length = 0;
    loop {
        let label = rest.byte_in(0..=63)?;
        if label == 0 {
            break;
        }
        length += usize::from(label) + 1;
        check(length < LONGEST_NAME)?;
        rest.take(usize::from(label))?;
    }
    let name = start.get(..length).unwrap_or(&[]);
    let kind = rest.u16()?;
    check(kind != 0 && (kind == SOA || opcode != UPDATE) && !is_netbios(name, kind))?;
    // The highest bit asks for an answer by unicast (RFC 6762 section 5.4): IN, CH, HS, NONE, ANY.
    let class = rest.u16()? & 0x7fff;
    check(matches!(class, 1 | 3 | 4 | 254 | 255))?;
    Ok(Question { name, kind })
}

fn is_netbios(name: &[u8], kind: u16) -> bool {
    let encoded = |label: &[u8]| label.iter().all(|byte| matches!(byte, b'A'..=b'P'));
    matches!(kind, 32 | 33)
        && name.len() == 33
        && name
            .split_first()
            .is_some_and(|(length, label)| *length == 32 && encoded(label))
}

/// What is asked for.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let Ok(question) = question(Cursor(payload)).or_else(|_| over_tcp(payload)) else {
        return;
    };
    let mut name = SafeText::new(super::details::LONGEST);
    let mut labels = Cursor(question.name);
    let mut first = true;
    while let Ok(label) = labels
        .u8()
        .and_then(|length| labels.take(usize::from(length)))
    {
        if !first {
            name.piece(".");
        }
        first = false;
        // A dot within a label is not one between labels.
        for (at, part) in label.split(|byte| *byte == b'.').enumerate() {
            if at > 0 {
                name.piece("\\x2e");
            }
            name.bytes(part);
        }
    }
    if first {
        name.piece(".");
    }
    fields.add_text("name", name.finish());
    fields.add("type", type_name(question.kind).as_bytes());
}

fn type_name(kind: u16) -> String {
    let name = match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        10 => "NULL",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        43 => "DS",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        _ => return format!("TYPE{kind}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::Looks::{self, Match, More, No};
    use super::{tcp, udp};

    fn query(flags: u16, counts: [u16; 4], question: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        bytes.extend(question);
        bytes
    }

    /// Over UDP and over TCP alike.
    fn judge(bytes: &[u8]) -> Looks {
        let framed = [&(bytes.len() as u16).max(17).to_be_bytes()[..], bytes].concat();
        assert_eq!(tcp(&framed), udp(bytes), "{bytes:02x?}");
        udp(bytes)
    }

    const WWW: &[u8] = b"\x03www\x02de\0\0\x01\0\x01";

    #[test]
    fn a_question_in_its_form_matches() {
        for (expected, payload) in [
            (Match, query(0x0100, [1, 0, 0, 0], WWW)),
            (Match, query(0x0120, [1, 0, 0, 1], WWW)),
            (Match, query(0x2400, [1, 1, 0, 0], WWW)),
            (
                Match,
                query(0x2800, [1, 0, 300, 0], b"\x02de\0\0\x06\0\x01"),
            ),
            (No, query(0x2800, [1, 0, 300, 0], WWW)),
            (
                Match,
                query(0, [3, 7, 0, 0], b"\x01a\x05local\0\0\x0c\x80\x01"),
            ),
            (Match, query(0x0100, [1, 0, 0, 0], b"\0\0\x02\0\x01")),
            (More, query(0x0100, [1, 0, 0, 0], b"\x03ww")),
            (More, query(0x0100, [1, 0, 0, 0], b"\0\0\x02\0")),
            (No, query(0x8180, [1, 1, 0, 0], WWW)),
            (No, query(0x0103, [1, 0, 0, 0], WWW)),
            (No, query(0x0800, [1, 0, 0, 0], WWW)),
            (No, query(0x0100, [0, 0, 0, 0], WWW)),
            (No, query(0x0100, [1, 300, 0, 0], WWW)),
            (No, query(0x0100, [1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01")),
            (No, query(0x0100, [1, 0, 0, 0], b"\0\0\0\0\x01")),
            (No, query(0x0100, [1, 0, 0, 0], b"\0\0\x01\0\x02")),
            (
                No,
                query(
                    0x0100,
                    [1, 0, 0, 0],
                    &[b"\x3f", &[b'a'; 63][..]].concat().repeat(5),
                ),
            ),
        ] {
            assert_eq!(judge(&payload), expected, "{payload:02x?}");
        }
    }

    #[test]
    fn a_netbios_name_query_is_not_dns_unless_it_asks_in_a_domain() {
        let name = [b" ", &[b'C'; 32][..]].concat();
        let ask = |tail: &[u8]| judge(&query(0x0110, [1, 0, 0, 0], &[&name, tail].concat()));
        assert_eq!(ask(b"\0\0\x20\0\x01"), No);
        assert_eq!(ask(b"\0\0\x21\0\x01"), No);
        assert_eq!(ask(b"\0\0\x10\0\x01"), Match);
        assert_eq!(ask(b"\x02de\0\0\x21\0\x01"), Match);
    }
}

//! HTTP: the request line of version 1 (RFC 9112 section 3), of a proxy, and of 0.9; the preface of version 2 (RFC 9113 section 3.4).

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;
use super::text::{Words, begins, lines, skip_blanks, skip_line_ends, strip, word};

pub(super) const STARTS: &[(u8, u8)] = &[
    (b'\n', b'\n'),
    (b'\r', b'\r'),
    (b'C', b'D'),
    (b'G', b'H'),
    (b'L', b'M'),
    (b'O', b'P'),
    (b'R', b'U'),
    (b'c', b'd'),
    (b'g', b'h'),
    (b'l', b'm'),
    (b'o', b'p'),
    (b'r', b'u'),
];

/// RFC 9110 section 9, RFC 5789, WebDAV (RFC 4918, 3253, 4791, 5323), and PRI, which opens version 2.
static METHODS: Words<()> = Words::new(&[
    (b"GET", ()),
    (b"POST", ()),
    (b"HEAD", ()),
    (b"PUT", ()),
    (b"DELETE", ()),
    (CONNECT, ()),
    (b"OPTIONS", ()),
    (b"TRACE", ()),
    (b"PATCH", ()),
    (b"PROPFIND", ()),
    (b"PROPPATCH", ()),
    (b"MKCOL", ()),
    (b"COPY", ()),
    (b"MOVE", ()),
    (b"LOCK", ()),
    (b"UNLOCK", ()),
    (b"REPORT", ()),
    (b"SEARCH", ()),
    (b"MKCALENDAR", ()),
    (b"PRI", ()),
]);
const CONNECT: &[u8] = b"CONNECT";
const SCHEMES: [&[u8]; 3] = [b"http://", b"https://", b"ftp://"];
/// So much of a path or an URL is enough, whatever follows.
const ENOUGH: usize = 64;
/// The longest authority: a name and a port.
const LONGEST_AUTHORITY: usize = 262;

/// Over TCP.
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(request(bytes))
}

fn request(bytes: &[u8]) -> Result<(), Looks> {
    let text = skip_line_ends(bytes);
    let longest = text.get(..12).unwrap_or(text);
    let Some(end) = longest.iter().position(|byte| *byte == b' ') else {
        check(METHODS.any_begins(longest))?;
        return Err(Looks::More);
    };
    let (method, rest) = text.split_at_checked(end).ok_or(Looks::More)?;
    check(METHODS.find(method).is_some())?;
    let mut rest = Cursor(skip_blanks(rest));
    let most = match rest.0.first() {
        None => return Err(Looks::More),
        Some(b'/') => ENOUGH,
        Some(b'*') => 1,
        Some(_) if method.eq_ignore_ascii_case(CONNECT) => LONGEST_AUTHORITY,
        Some(_) => return url(rest),
    };
    target(&mut rest, most, method)
}

/// The URL of a request to a proxy.
fn url(mut rest: Cursor) -> Result<(), Looks> {
    if let Some(after) = SCHEMES.iter().find_map(|scheme| strip(rest.0, scheme)) {
        rest.0 = after;
        return target(&mut rest, ENOUGH, b"");
    }
    check(SCHEMES.iter().any(|scheme| begins(scheme, rest.0)))?;
    Err(Looks::More)
}

/// What is asked for, up to `most` bytes of it, and the version behind it. Where it is not text, or too long and no path, it is no request.
fn target(rest: &mut Cursor, most: usize, method: &[u8]) -> Result<(), Looks> {
    let start = rest.0.get(..=most).unwrap_or(rest.0);
    let end = start.iter().position(|byte| *byte <= b' ' || *byte == 0x7f);
    let Some(end) = end else {
        return match start.len() > most {
            true if most == ENOUGH => Ok(()),
            true => Err(Looks::No),
            false => Err(Looks::More),
        };
    };
    rest.take(end)?;
    match rest.u8()? {
        b' ' => rest.0 = skip_blanks(rest.0),
        // Version 0.9 has none.
        b'\r' | b'\n' => return check(method.eq_ignore_ascii_case(b"GET") && most == ENOUGH),
        _ => return Err(Looks::No),
    }
    let version = b"HTTP/";
    let there = rest.0.get(..version.len()).unwrap_or(rest.0);
    check(begins(version, there))?;
    rest.take(version.len())?;
    rest.byte_in(b'0'..=b'9').map(drop)
}

/// What is asked for, where, and by what.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let text = skip_line_ends(payload);
    let end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let (method, rest) = word(text.get(..end.unwrap_or(text.len())).unwrap_or(text));
    fields.add("method", method);
    fields.add("path", word(rest).0);
    for line in lines(text).skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        let value = value.get(1..).unwrap_or(&[]).trim_ascii();
        if name.eq_ignore_ascii_case(b"host") {
            fields.add("host", value);
        } else if name.eq_ignore_ascii_case(b"user-agent") {
            fields.add("user_agent", value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;
    use crate::app::testing::all;

    #[test]
    fn a_request_line_matches() {
        let long = format!("POST /{}", "a".repeat(70));
        all(
            tcp,
            Match,
            &[
                "GET / HTTP/1.1\r\n",
                "\r\nget  /x?y  http/1.0\r\n",
                "OPTIONS * HTTP/1.1\r\n",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                "GET http://example.com/ HTTP/1.1\r\n",
                "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n",
                "PROPFIND /dav HTTP/1",
                "GET /\r\n",
                &long,
            ],
        );
    }

    #[test]
    fn what_is_not_whole_waits() {
        all(
            tcp,
            More,
            &[
                "",
                "\n",
                "G",
                "GET",
                "GET ",
                "GET /",
                "GET /x HT",
                "GET /x HTTP/",
                "GET htt",
                "CONNECT a",
                "OPTIONS *",
            ],
        );
    }

    #[test]
    fn other_text_with_the_same_words_is_no() {
        let long = format!("CONNECT {}", "a".repeat(300));
        all(
            tcp,
            No,
            &[
                "GETX",
                "GET x",
                "GET /a b",
                "get well soon",
                "OPTIONS sip:a@b SIP/2.0\r\n",
                "OPTIONS * RTSP/1.0\r\n",
                "POST /\r\n",
                "SETUP /x RTSP/1.0",
                "GET /\x01",
                "OPTIONS *x",
                &long,
            ],
        );
    }
}

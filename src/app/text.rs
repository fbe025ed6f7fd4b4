//! Lines and words of the text protocols, as lenient as their servers are.

/// Behind the line ends that it begins with: servers skip empty lines.
pub(super) fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    start.and_then(|start| bytes.get(start..)).unwrap_or(&[])
}

/// Behind the spaces and tabs that it begins with.
pub(super) fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_blank(*byte));
    start.and_then(|start| bytes.get(start..)).unwrap_or(&[])
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The first line without its end, which is LF, CR LF or CR, and what follows. `None` while the end is not there.
pub(super) fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))?;
    bytes.split_at_checked(end)
}

/// The lines that are whole, none of them empty.
pub(super) fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (found, rest) = line(skip_line_ends(bytes))?;
        bytes = rest;
        Some(found)
    })
}

/// The first word behind any blanks, and what follows it.
pub(super) fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let bytes = skip_blanks(bytes);
    let end = bytes.iter().position(|byte| is_blank(*byte));
    bytes
        .split_at_checked(end.unwrap_or(bytes.len()))
        .unwrap_or((bytes, &[]))
}

/// Whether a name begins with this part of it, in any case.
pub(super) fn begins(name: &[u8], part: &[u8]) -> bool {
    name.get(..part.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(part))
}

/// The rest of a text that begins with `start` in any case.
pub(super) fn strip<'a>(bytes: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

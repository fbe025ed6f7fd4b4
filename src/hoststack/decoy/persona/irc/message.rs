//! A line of a client, taken apart.

use crate::app::text::{skip_blanks, strip, word};

/// A line's command in upper case, and its parameters: at most 15 (RFC 2812 section 2.3).
pub(super) struct Message<'a> {
    pub command: Vec<u8>,
    pub parameters: Vec<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// `None` of a line that has no command.
    pub fn read(line: &'a [u8]) -> Option<Message<'a>> {
        let mut rest = skip_blanks(line);
        for mark in [b'@', b':'] {
            if rest.first() == Some(&mark) {
                rest = skip_blanks(word(rest).1);
            }
        }
        let (command, behind) = word(rest);
        rest = skip_blanks(behind);
        let mut parameters = Vec::new();
        while !rest.is_empty() && parameters.len() < 15 {
            let (parameter, behind) = match strip(rest, b":") {
                Some(trailing) => (trailing, &[][..]),
                None => word(rest),
            };
            parameters.push(parameter);
            rest = skip_blanks(behind);
        }
        (!command.is_empty()).then(|| Message {
            command: command.to_ascii_uppercase(),
            parameters,
        })
    }

    /// Empty where it is not there.
    pub fn parameter(&self, at: usize) -> &'a [u8] {
        self.parameters.get(at).copied().unwrap_or(&[])
    }
}

//! TCP flags as rules and packets write them.

use super::address::{Wrong, quoted};
use super::error::nearest;
use super::raw::{Reader, Value};
use crate::policy::FlagMatch;
use crate::policy::rule::TCP_FLAGS;

/// The flags of a rule: one alternative `"syn,!ack"`, or a list of alternatives. `None` after an error has been reported.
pub(super) fn flags(reader: &mut Reader, value: &Value<'_>) -> Option<FlagMatch> {
    let (mut alternatives, mut whole) = (Vec::new(), true);
    for item in reader.list(value, "tcp_flags")? {
        let Some(text) = reader.string(&item, "tcp_flags") else {
            whole = false;
            continue;
        };
        match alternative(&text) {
            Ok(alternative) => alternatives.push(alternative),
            Err((message, help)) => {
                reader.error(item.span(), message, "here", help);
                whole = false;
            }
        }
    }
    whole.then_some(FlagMatch(alternatives))
}

/// `syn,!ack` as the mask of the flags that it names and their values.
fn alternative(text: &str) -> Result<(u8, u8), Wrong> {
    let (mut mask, mut value) = (0, 0);
    for word in text.split(',').map(str::trim) {
        let name = word.strip_prefix('!').unwrap_or(word).trim_start();
        let bit = bit(name)?;
        let wanted = if word.starts_with('!') { 0 } else { bit };
        if mask & bit != 0 && value & bit != wanted {
            let help = "a segment has a flag or it has not; alternatives stand in a list: [\"syn\", \"!syn\"]";
            return Err((format!("{} can never hold", quoted(text)), help.to_owned()));
        }
        (mask, value) = (mask | bit, value | wanted);
    }
    Ok((mask, value))
}

/// The flags of one segment: `syn,ack`, or `none`.
pub(super) fn of_segment(text: &str) -> Result<u8, Wrong> {
    if text == "none" {
        return Ok(0);
    }
    let bits = text.split(',').map(|name| bit(name.trim()));
    bits.into_iter().try_fold(0, |flags, bit| Ok(flags | bit?))
}

fn bit(name: &str) -> Result<u8, Wrong> {
    let at = TCP_FLAGS.iter().position(|known| *known == name);
    at.map(|at| 1 << at).ok_or_else(|| {
        let help = match nearest(name, TCP_FLAGS) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!(
                "the flags are {}; write them as in \"syn,!ack\"",
                TCP_FLAGS.join(", ")
            ),
        };
        (format!("there is no TCP flag {}", quoted(name)), help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alternative_looks_at_the_flags_that_it_names_and_at_no_other() {
        assert_eq!(alternative("syn,!ack"), Ok((0x12, 0x02)));
        assert_eq!(alternative(" ! fin , rst"), Ok((0x05, 0x04)));
        assert_eq!(alternative("syn,syn"), Ok((0x02, 0x02)));
        for text in ["", "syn,", "syn,!syn", "sny", "!", "syn ack", "!!syn"] {
            assert!(alternative(text).is_err(), "{text:?}");
        }
        assert_eq!(
            (of_segment("none"), of_segment("syn, ack")),
            (Ok(0), Ok(0x12))
        );
    }
}

//! Numbers of a header field as rules write them: one, a range, a name, negated or not, or a list of these.

use super::address::{Wrong, quoted};
use super::raw::{Reader, Value, as_integer};
use crate::policy::{PortSet, ProtoSet};
use toml::de::DeValue;

/// Both ends included.
pub(super) type Span = (u16, u16);

/// Reads `value` as numbers of the field `key`, which has the values of `all`. The set holds any of the entries without
/// `!` (any value at all where there is none) and none of those with `!`. `None` after an error has been reported.
pub(super) fn set(
    reader: &mut Reader,
    value: &Value<'_>,
    key: &str,
    all: Span,
    parse: impl Fn(&DeValue<'_>) -> Result<Vec<Span>, Wrong>,
) -> Option<PortSet> {
    let (mut any_of, mut none_of, mut whole) = (Vec::new(), Vec::new(), true);
    for item in reader.list(value, key)? {
        let (negated, plain) = split(item.get_ref());
        match parse(plain.as_ref().unwrap_or(item.get_ref())) {
            Ok(spans) if negated => none_of.extend(spans),
            Ok(spans) => any_of.extend(spans),
            Err((message, help)) => {
                reader.error(item.span(), message, "here", help);
                whole = false;
            }
        }
    }
    if !whole {
        return None;
    }
    let set = without(any_of, none_of, all);
    if set.is_empty() {
        nothing_left(reader, value, key);
        return None;
    }
    Some(PortSet(set))
}

/// Reports a list whose negated entries take out everything.
pub(super) fn nothing_left(reader: &mut Reader, value: &Value<'_>, key: &str) {
    let help = "the entries with `!` take out every other one: a rule that matches nothing is better left out";
    let message = format!("`{key}` leaves nothing over");
    reader.error(value.span(), message, "matches nothing", help);
}

/// Whether a text begins with `!`, and if so what comes after it.
pub(super) fn split<'v>(value: &DeValue<'v>) -> (bool, Option<DeValue<'v>>) {
    let rest = value.as_str().and_then(|text| text.strip_prefix('!'));
    let plain = rest.map(|text| DeValue::String(text.trim().to_owned().into()));
    (plain.is_some(), plain)
}

/// Those of `any_of` (of `all`, where it is empty) that are not in `none_of`. The order stays where nothing is taken out.
fn without(any_of: Vec<Span>, none_of: Vec<Span>, all: Span) -> Vec<Span> {
    let mut hold = if any_of.is_empty() { vec![all] } else { any_of };
    for (first, last) in none_of {
        let pieces = hold.into_iter().flat_map(|(low, high)| {
            let below = (low < first).then(|| (low, high.min(first.saturating_sub(1))));
            let above = (high > last).then(|| (low.max(last.saturating_add(1)), high));
            [below, above]
        });
        hold = pieces.flatten().collect();
    }
    hold
}

/// A number or a range up to `max`, as `23`, `"23"` or `"2323-2330"`.
pub(super) fn plain(value: &DeValue<'_>, key: &str, max: u16) -> Result<Vec<Span>, Wrong> {
    range(value, 0, max, digits).ok_or_else(|| {
        let message = format!("`{key}` has something that is neither a number nor a range");
        let help = format!(
            "write a number from 0 to {max}, a range \"a-b\" in quotes, either with `!` before it in the quotes, or a list of these"
        );
        (message, help)
    })
}

/// A number or a range from `min` to `max`; `number` reads one end of a text.
pub(super) fn range(
    value: &DeValue<'_>,
    min: u16,
    max: u16,
    number: impl Fn(&str) -> Option<u16>,
) -> Option<Vec<Span>> {
    let fits = |number: u16| (min..=max).contains(&number).then_some(number);
    if let Some(number) = as_integer(value) {
        let number = fits(u16::try_from(number).ok()?)?;
        return Some(vec![(number, number)]);
    }
    let text = value.as_str()?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let end = |text: &str| number(text.trim()).and_then(fits);
    let (first, last) = (end(first)?, end(last)?);
    (first <= last).then(|| vec![(first, last)])
}

/// Transport protocols as a rule names them.
#[derive(Clone, Copy)]
pub(super) struct Protos {
    pub set: ProtoSet,
    /// All entries have a `!`: the set says what it is not.
    pub negated: bool,
}

/// Protocols by name or number. `None` after an error has been reported.
pub(super) fn protos(reader: &mut Reader, value: &Value<'_>) -> Option<Protos> {
    let (mut any_of, mut none_of, mut whole) = (Vec::new(), Vec::new(), true);
    for item in reader.list(value, "proto")? {
        let (negated, plain) = split(item.get_ref());
        match proto(plain.as_ref().unwrap_or(item.get_ref())) {
            Ok(number) if negated => none_of.push(number),
            Ok(number) => any_of.push(number),
            Err((message, help)) => {
                reader.error(item.span(), message, "here", help);
                whole = false;
            }
        }
    }
    if !whole {
        return None;
    }
    let negated = any_of.is_empty();
    any_of.retain(|number| !none_of.contains(number));
    let set = match negated {
        true => ProtoSet::all_but(&none_of),
        false => ProtoSet::of(&any_of),
    };
    if set == ProtoSet::EMPTY {
        nothing_left(reader, value, "proto");
        return None;
    }
    Some(Protos { set, negated })
}

/// The number of a protocol that is written as a name or a number.
pub(super) fn proto(value: &DeValue<'_>) -> Result<u8, Wrong> {
    if let Some(number) = as_integer(value) {
        return u8::try_from(number).map_err(|_| {
            let wanted = "a number from 0 to 255";
            (
                format!("`proto` must be {wanted}"),
                format!("write {wanted}"),
            )
        });
    }
    let Some(name) = value.as_str() else {
        let help = "write a name such as \"tcp\", a number from 0 to 255, or a list of these";
        return Err((
            "`proto` must be a name or a number".to_owned(),
            help.to_owned(),
        ));
    };
    proto_of(name).ok_or_else(|| {
        let known = crate::policy::rule::PROTOCOLS.iter().map(|(name, _)| *name);
        let help = match super::error::nearest(name, known) {
            Some(near) => {
                format!("did you mean \"{near}\"? A protocol is a name or a number from 0 to 255")
            }
            None => "write a name such as \"tcp\", \"udp\" or \"icmp\", or a number from 0 to 255"
                .to_owned(),
        };
        (format!("there is no protocol {}", quoted(name)), help)
    })
}

/// The number of a protocol's name, or of a number in letters.
pub(super) fn proto_of(name: &str) -> Option<u8> {
    let known = crate::policy::rule::PROTOCOLS.iter();
    let mut named = known.filter(|(known, _)| *known == name);
    named
        .next()
        .map(|(_, number)| *number)
        .or_else(|| digits(name)?.try_into().ok())
}

/// A number in decimal digits and nothing else.
pub(super) fn digits(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_negated_is_cut_out_at_both_ends_of_the_range() {
        let all = (0, u16::MAX);
        let cut = |any: &[Span], none: &[Span]| without(any.to_vec(), none.to_vec(), all);
        assert_eq!(cut(&[], &[(25, 25)]), [(0, 24), (26, u16::MAX)]);
        assert_eq!(
            cut(&[], &[(0, 0), (u16::MAX, u16::MAX)]),
            [(1, u16::MAX - 1)]
        );
        assert_eq!(
            cut(&[(20, 30), (5, 6)], &[(22, 28)]),
            [(20, 21), (29, 30), (5, 6)]
        );
        assert_eq!(cut(&[(20, 30)], &[(0, u16::MAX)]), []);
        assert_eq!(cut(&[(20, 30)], &[(30, 40), (10, 20)]), [(21, 29)]);
        assert_eq!(cut(&[(9, 9), (3, 4)], &[]), [(9, 9), (3, 4)]);
    }
}

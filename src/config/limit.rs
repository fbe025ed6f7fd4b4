//! `limit` and `ttl` of a rule.

use super::raw::{Reader, Value};
use crate::policy::Limit;
use std::time::Duration;
use toml::de::DeValue;

/// The longest time-to-live: 3650 days. What is to stay longer needs none.
const MAX_TTL: Duration = Duration::from_secs(3650 * 24 * 3600);

/// `"100/s"`, or `{ rate = "100/s", burst = 200 }`; the inner `None` is `"none"`. The burst is what comes in one second,
/// and at least 1, where it is not said. The outer `None` comes after an error has been reported.
pub(super) fn limit(reader: &mut Reader, value: Value<'_>) -> Option<Option<Limit>> {
    if value.get_ref().as_str() == Some("none") {
        return Some(None);
    }
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        return rate(reader, &value).map(Some);
    }
    let span = value.span();
    let mut section = reader.section(value, "limit")?;
    let (stated, burst) = (section.take("rate"), section.take("burst"));
    section.finish(reader);
    let Some(stated) = stated else {
        let help = "write { rate = \"100/s\", burst = 200 }";
        reader.error(span, "`limit` has no `rate`", "no `rate` here", help);
        return None;
    };
    let limit = rate(reader, &stated)?;
    let Some(burst) = burst else {
        return Some(Some(limit));
    };
    let burst = reader.integer(&burst, "burst", 1..=u32::MAX)?;
    Some(Some(Limit { burst, ..limit }))
}

fn rate(reader: &mut Reader, value: &Value<'_>) -> Option<Limit> {
    let text = reader.string(value, "limit")?;
    let read = || {
        let (frames, unit) = text.split_once('/')?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let frames = frames.trim();
        let digits = frames.bytes().all(|byte| byte.is_ascii_digit());
        let frames: u32 = frames.parse().ok().filter(|frames| digits && *frames > 0)?;
        Some(Limit {
            frames,
            per: Duration::from_secs(seconds),
            burst: (frames / seconds as u32).max(1),
        })
    };
    let limit = read();
    if limit.is_none() {
        let help = "write frames in a second, a minute or an hour: \"100/s\", \"10/m\", \"1000/h\"";
        let message = format!("`limit` cannot be {}", super::address::quoted(&text));
        reader.error(value.span(), message, "not a rate above zero", help);
    }
    limit
}

/// A duration of at most [`MAX_TTL`]. `None` after an error has been reported.
pub(super) fn ttl(reader: &mut Reader, value: &Value<'_>) -> Option<Duration> {
    let ttl = reader.duration(value, "ttl")?;
    if ttl > MAX_TTL {
        let help = "leave `ttl` out: the rule is then in force until the policy changes";
        reader.error(
            value.span(),
            "`ttl` is longer than ten years",
            "too long",
            help,
        );
        return None;
    }
    Some(ttl)
}

//! Applications by their names: `app = "irc"`, `["tls", "http"]`, `"!tls"`.

use super::address::{Wrong, quoted};
use super::error::nearest;
use super::number;
use super::raw::{Reader, Value};
use crate::policy::AppSet;

/// The applications of a rule. `None` after an error has been reported.
pub(super) fn apps(reader: &mut Reader, value: &Value<'_>) -> Option<AppSet> {
    let all = (1, AppSet::UNKNOWN.into());
    let spans = number::set(reader, value, "app", all, |value| {
        let number = named(value.as_str().unwrap_or_default())?;
        Ok(vec![(number.into(), number.into())])
    })?;
    let numbers = AppSet::all()
        .iter()
        .filter(|number| spans.contains(u16::from(*number)));
    let set = numbers.fold(AppSet::EMPTY, AppSet::with);
    if set == AppSet::EMPTY {
        number::nothing_left(reader, value, "app");
        return None;
    }
    Some(set)
}

/// The number of an application.
pub(super) fn named(name: &str) -> Result<u8, Wrong> {
    AppSet::number(name).ok_or_else(|| {
        let names: Vec<_> = AppSet::all().iter().map(AppSet::name).collect();
        let message = format!("{} is not an application that is known", quoted(name));
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {}", names.join(", ")),
        };
        (message, help)
    })
}

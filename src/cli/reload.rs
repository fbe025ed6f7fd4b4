//! `portcullis reload`, `portcullis commit`, `portcullis rollback`.

use super::gate::Gate;
use super::{cannot, print_json};
use crate::control::reload::{Ask, LONGEST_CONFIRM};
use crate::control::socket::Request;
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = RELOAD)]
pub(super) struct Reload {
    #[command(flatten)]
    gate: Gate,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const RELOAD: &str = "The config is read and compiled aside, judged by its own [[test]] entries, and then takes the place of the one in force at once: no frame is lost, and each is judged by one of the two. Where anything is wrong with it, all stays as it was. Flows that are open are judged again at their next frame.

SIGHUP does the same, and so does a change of the file itself unless `[control] watch = false`. Changes of [bridge] (but for `watchdog` and `on_failure`), [flows], [metrics], [inband], [alerts] (but for `window`), [evidence], [detect], [decoy], [[sink]] and [control] need a restart, and are refused.";

#[derive(clap::Args)]
#[command(after_help = COMMIT)]
pub(super) struct Commit {
    /// Take it back by itself after this time, unless `portcullis commit` confirms it: 60s, 5m
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm: Option<Duration>,
    #[command(flatten)]
    gate: Gate,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const COMMIT: &str = "Examples:
  portcullis diff -c new.toml                     what would change, and whom it would hit
  portcullis commit -c new.toml --confirm 60s     in force for a minute
  portcullis commit                               it stays; new.toml takes the place of the gate's own file
  portcullis rollback                             it goes, at once

Without --confirm, and where nothing waits to be confirmed, the file of -c is in force at once and for good.";

#[derive(clap::Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    gate: Gate,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_| "write a number and a unit, such as 60s or 5m".to_owned())?;
    let time = Duration::from_secs(time.as_secs());
    match (Duration::from_secs(1)..=LONGEST_CONFIRM).contains(&time) {
        true => Ok(time),
        false => Err("from a second to a day".into()),
    }
}

impl Reload {
    pub(super) fn run(self) -> ExitCode {
        match self.gate.request(&Request::Config(Ask::Reload)) {
            Ok(answer) if self.json => print_json(&answer),
            Ok(answer) => {
                println!("{}", taken(&answer));
                ExitCode::SUCCESS
            }
            Err(code) => code,
        }
    }
}

impl Commit {
    pub(super) fn run(self) -> ExitCode {
        match self.commit() {
            Ok(answer) if self.json => print_json(&answer),
            Ok(answer) => {
                println!("{}", committed(&answer));
                ExitCode::SUCCESS
            }
            Err(code) => code,
        }
    }

    fn commit(&self) -> Result<Value, ExitCode> {
        let status = self.gate.ask(&Request::Status)?;
        let waits = status["reloads"]["confirm_until"].is_u64();
        let file = std::path::absolute(self.gate.config()).map_err(cannot)?;
        let named = self.gate.config() != Path::new(super::CONFIG);
        let waiting = text(&status["config"]["file"]);
        if waits && self.confirm.is_none() && named && !same(&file, Path::new(waiting)) {
            return Err(cannot(format!(
                "it is {waiting} that waits to be confirmed; `portcullis commit` without -c keeps it, `portcullis rollback` takes it back"
            )));
        }
        if !waits && self.confirm.is_none() && !named {
            return Err(cannot(
                "nothing waits to be confirmed (its time may be over: then the config before is in force again); name a file with -c, or `portcullis reload`",
            ));
        }
        let mut answer = match (waits, self.confirm) {
            (true, None) => self.gate.request(&Request::Config(Ask::Confirm))?,
            (_, confirm) => {
                let confirm_s = confirm.map(|time| time.as_secs());
                self.gate
                    .request(&Request::Config(Ask::Commit { file, confirm_s }))?
            }
        };
        if answer["confirm_s"].is_null()
            && let Some(installed) = install(&answer).map_err(cannot)?
        {
            answer["installed"] = installed.display().to_string().into();
        }
        Ok(answer)
    }
}

impl Rollback {
    pub(super) fn run(self) -> ExitCode {
        match self.gate.request(&Request::Config(Ask::Rollback)) {
            Ok(answer) if self.json => print_json(&answer),
            Ok(answer) => {
                println!(
                    "{} is not in force any more: the config before is, as generation {}; {} was not touched",
                    text(&answer["file"]),
                    answer["generation"],
                    text(&answer["own_file"]),
                );
                ExitCode::SUCCESS
            }
            Err(code) => code,
        }
    }
}

/// Puts the file that is in force for good into the place of the gate's own, so that the next start reads it. `None` where it is that.
fn install(answer: &Value) -> Result<Option<PathBuf>, String> {
    let path = |key: &str| answer[key].as_str().map(PathBuf::from);
    let (Some(from), Some(to)) = (path("file"), path("own_file")) else {
        return Ok(None);
    };
    if same(&from, &to) {
        return Ok(None);
    }
    let failed = |e: std::io::Error| {
        format!(
            "{} is in force, and could not take the place of {}, which the next start reads: {e}; copy it there",
            from.display(),
            to.display()
        )
    };
    let bytes = std::fs::read(&from).map_err(failed)?;
    if digest(&bytes) != text(&answer["sha256"]) {
        return Err(format!(
            "{} has changed since it was taken, so it was not copied to {}: commit it again",
            from.display(),
            to.display()
        ));
    }
    replace(&to, &bytes).map_err(failed)?;
    Ok(Some(to))
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file whole or not at all: beside it, onto the disk, into its place. It keeps owner and mode.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Where it is a link, what it leads to is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let before = std::fs::metadata(&path).ok();
    let mode = before
        .as_ref()
        .map_or(0o644, |about| about.permissions().mode());
    let mut options = std::fs::OpenOptions::new();
    // What is left of one that was cut off, or was put there by somebody else, is not written into.
    match std::fs::remove_file(&beside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    if let Some(about) = before {
        use std::os::unix::fs::MetadataExt;
        // Whoever may not give files away keeps it as its own.
        let _ = fchown(&file, Some(about.uid()), Some(about.gid()));
    }
    // Whatever the umask of whoever runs this says: the gate has to read it at its next start.
    file.set_permissions(std::fs::Permissions::from_mode(mode & 0o7777))?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn taken(answer: &Value) -> String {
    let mut out = format!(
        "{} is in force: {} rules, generation {}, after {} ms",
        text(&answer["file"]),
        answer["rules"],
        answer["generation"],
        answer["took_ms"]
    );
    for set in answer["sets_gone"].as_array().into_iter().flatten() {
        out += &format!(
            "\nit has no set `{}` any more; what was added to that by command counts again when it has",
            text(set)
        );
    }
    out
}

fn committed(answer: &Value) -> String {
    let mut out = match answer["confirmed"] == true {
        true => format!("{} stays in force", text(&answer["file"])),
        false => taken(answer),
    };
    if let Some(seconds) = answer["confirm_s"].as_u64() {
        let time = humantime::format_duration(Duration::from_secs(seconds));
        out += &format!(
            "\nfor {time}: `portcullis commit` keeps it, otherwise the config before comes back by itself"
        );
    }
    if let Some(path) = answer["installed"].as_str() {
        out += &format!("\n{path} now holds it, for the next start");
    }
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

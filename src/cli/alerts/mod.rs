//! `portcullis alerts`.

mod files;
mod select;
pub(super) mod shadow;
pub(super) mod table;

use super::{CONFIG, cannot};
use crate::config;
use crate::control::sink::text::ascii;
use files::{Files, Follow};
use select::{Newest, Select};
use serde_json::Value;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use table::Table;
use tokio::signal::unix::{SignalKind, signal};

/// How often a file that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// What is shown without `--limit`, and with `--follow` before what is new.
const LIMIT: u32 = 1_000;
const LIMIT_BEFORE: u32 = 10;
const MOST: i64 = 100_000;

/// Which lines of which file.
#[derive(clap::Args)]
struct Which {
    /// The config file, for the alert file that it names
    #[arg(short, long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The alert file; without it, the one that the config names. Files that were put aside (FILE.1 and so on) are read too
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Of this inside host alone: an address, a prefix, a MAC address, or a host name
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Of this rule alone
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Not older than this: 90s, 1h, 7days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

impl Which {
    /// The alert file that is meant, or on standard error why there is none.
    fn path(&self) -> Result<PathBuf, ExitCode> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        match config::alert_file(&self.config) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(cannot(format!(
                "{} names no alert file, so alerts go to the standard output of the gate alone; write [alerts] file = \"/var/log/portcullis/alerts.jsonl\" and restart it",
                self.config.display()
            ))),
            Err(e) => Err(cannot(e)),
        }
    }

    /// Since when, and what is taken.
    fn select(&self) -> (Option<SystemTime>, Select) {
        let since = self.since;
        let since = since.and_then(|since| SystemTime::now().checked_sub(since));
        let select = Select::new(self.host.as_deref(), self.rule.as_deref(), since);
        (since, select)
    }
}

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Alerts {
    #[command(flatten)]
    which: Which,
    /// Go on with what comes, across rotation, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Print the lines of the file, one JSON object each
    #[arg(long)]
    json: bool,
    /// The newest so many [default: 1000; 10 with --follow]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST))]
    limit: Option<u32>,
    /// Every line, not only the latest of each incident
    #[arg(long)]
    all: bool,
    /// What was said to decoys, line by line: of each incident the last conversation, with --all each that a line tells of
    #[arg(long, conflicts_with = "json")]
    transcript: bool,
}

const EXAMPLES: &str = "Examples:
  portcullis alerts                                 the newest incidents, the latest last
  portcullis alerts --follow                        and what comes
  portcullis alerts --since 1h --rule irc           who spoke IRC in the last hour
  portcullis alerts --host 10.77.0.9 --all          all lines of one machine
  portcullis alerts --host 52:54:00:12:34:56
  portcullis alerts --rule irc --transcript         and what they said to the decoy
  portcullis alerts --host 10.77.3.0/24 --json | jq -r .alert.signature | sort | uniq -c

An incident is a rule and an inside host; the file has a line when it begins and one for each window in which it goes on. The latest has the counts of all, so it alone is shown; --all shows each. Times are UTC.";

impl Alerts {
    pub(super) fn run(self) -> ExitCode {
        let path = match self.which.path() {
            Ok(path) => path,
            Err(code) => return code,
        };
        match self.show(Files::new(path)) {
            // Whoever read has seen enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(e) => cannot(e),
            Ok(()) => ExitCode::SUCCESS,
        }
    }

    fn show(&self, files: Files) -> io::Result<()> {
        let (since, select) = self.which.select();
        let default = if self.follow { LIMIT_BEFORE } else { LIMIT };
        let limit = self.limit.unwrap_or(default) as usize;
        let mut newest = Newest::new(limit, self.all);
        let mut unread = 0;
        let follow = files.read(since, self.follow, |line| match select.takes(line) {
            Ok(Some(value)) => newest.add(line, value),
            Ok(None) => {}
            Err(()) => unread += 1,
        })?;
        let mut out = io::stdout().lock();
        let mut table = Table::new(newest.values()).with_transcripts(self.transcript);
        if !self.json && (self.follow || newest.values().next().is_some()) {
            out.write_all(table.head().as_bytes())?;
        }
        for (line, value) in newest.lines() {
            self.print(&mut out, &mut table, line, value)?;
        }
        out.flush()?;
        if newest.left_out() {
            eprintln!(
                "portcullis: note: these are the newest {limit}; --limit shows more, --since, --host and --rule fewer"
            );
        } else if newest.values().next().is_none() && !self.follow {
            eprintln!(
                "portcullis: no alert in {} is like that",
                files.path().display()
            );
        }
        tell_unread(unread);
        match follow {
            Some(follow) => self.follow(follow, &select, &mut table, &mut out, unread > 0),
            None => Ok(()),
        }
    }

    fn print(
        &self,
        out: &mut impl Write,
        table: &mut Table,
        line: &str,
        value: &Value,
    ) -> io::Result<()> {
        match self.json {
            true => writeln!(out, "{}", ascii(line.replace(['\t', '\r'], " "))),
            false => out.write_all(table.row(value).as_bytes()),
        }
    }

    fn follow(
        &self,
        mut follow: Follow,
        select: &Select,
        table: &mut Table,
        out: &mut impl Write,
        mut told: bool,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            loop {
                let (mut wrote, mut unread) = (Ok(()), 0);
                follow.read(|line| match select.takes(line) {
                    Ok(Some(value)) if wrote.is_ok() => {
                        wrote = self.print(out, table, line, &value);
                    }
                    Ok(_) => {}
                    Err(()) => unread += 1,
                })?;
                wrote.and_then(|()| out.flush())?;
                // Once: the lines that come are somebody's to read.
                if unread > 0 && !std::mem::replace(&mut told, true) {
                    tell_unread(unread);
                }
                tokio::select! {
                    _ = interrupt.recv() => return Ok(()),
                    _ = terminate.recv() => return Ok(()),
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        })
    }
}

fn tell_unread(count: u64) {
    if count > 0 {
        let lines = if count == 1 { "line is" } else { "lines are" };
        eprintln!("portcullis: note: {count} {lines} no alert in JSON, and left out");
    }
}

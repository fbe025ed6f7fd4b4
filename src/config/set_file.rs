//! A file of a named set: one address, prefix or range a line.

use super::address;
use super::error::{ConfigError, Problem, Source};
use crate::policy::AddrRange;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// How many errors of one file are reported: the first ones say what is wrong with the rest.
const ERRORS: usize = 20;
/// The longest file, bytes: some three million prefixes.
const MAX_BYTES: u64 = 64 << 20;
/// The longest line that is drawn under an error, bytes.
const MAX_DRAWN: usize = 400;

pub(super) const HELP_OF_FILE: &str =
    "a relative path is relative to the config file; an empty file is an empty set";

/// What is wrong with a file.
pub(super) enum Fault {
    /// It cannot be read at all: the message.
    Unreadable(String),
    /// What it says: at least one problem, at most [`ERRORS`].
    Lines(Vec<Problem>),
}

/// Reads the file of a set: one entry a line, `#` starts a comment, empty lines are nothing. Lines may end in CRLF, and
/// the file may begin with a byte order mark. Entries may overlap and come twice.
///
/// # Errors
/// [`ConfigError`] where the file cannot be read, is not a regular file, is longer than 64 MiB, is not UTF-8, or holds
/// something else than entries: at most 20 problems, each with its line and column.
pub fn load(path: &Path) -> Result<Vec<AddrRange>, ConfigError> {
    read(path).map_err(|fault| {
        let problems = match fault {
            Fault::Unreadable(message) => {
                vec![Problem::of_file(path.display().to_string(), message)]
            }
            Fault::Lines(problems) => problems,
        };
        ConfigError { problems }
    })
}

/// [`load`], with the two kinds of fault told apart.
pub(super) fn read(path: &Path) -> Result<Vec<AddrRange>, Fault> {
    let name = path.display();
    let bytes =
        bytes(path).map_err(|why| Fault::Unreadable(format!("cannot read {name}: {why}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!(
            "cannot read {name}: a set file holds at most {} MiB",
            MAX_BYTES >> 20
        );
        return Err(Fault::Unreadable(message));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let help = "save the file as UTF-8; only comments need anything but ASCII";
        let message = format!("{name} is not UTF-8");
        let problem = Lines::new(path, &text).problem(at..at + 1, message, help.to_owned());
        Fault::Lines(vec![problem])
    })?;
    Lines::new(path, &text).read()
}

/// At most one byte more than [`MAX_BYTES`]. Opening a pipe would wait for its writer, so only regular files are opened.
fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::with_capacity(about.len().min(MAX_BYTES) as usize + 1);
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A text on its way to ranges.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
    source: Option<Source>,
}

impl<'a> Lines<'a> {
    fn new(path: &'a Path, text: &'a str) -> Lines<'a> {
        Lines {
            path,
            text,
            source: None,
        }
    }

    fn read(mut self) -> Result<Vec<AddrRange>, Fault> {
        let (mut ranges, mut problems, mut more) = (Vec::new(), Vec::new(), 0);
        let mut offset = if self.text.starts_with('\u{feff}') {
            3
        } else {
            0
        };
        for line in self.text[offset..].split_inclusive('\n') {
            let entry = line.split('#').next().unwrap_or_default();
            let (start, entry) = (
                offset + entry.len() - entry.trim_start().len(),
                entry.trim(),
            );
            offset += line.len();
            if entry.is_empty() {
                continue;
            }
            match address::range(entry) {
                Ok(range) => ranges.push(range),
                Err((message, help)) if problems.len() < ERRORS => {
                    problems.push(self.problem(start..start + entry.len(), message, help));
                }
                Err(_) => more += 1,
            }
        }
        if let (Some(last), 1..) = (problems.last_mut(), more) {
            let lines = if more == 1 { "line" } else { "lines" };
            let help = last.help.take().unwrap_or_default();
            last.help = Some(format!(
                "{help}; {more} more {lines} of this file cannot be read"
            ));
        }
        if problems.is_empty() {
            Ok(ranges)
        } else {
            Err(Fault::Lines(problems))
        }
    }

    /// A problem with its place; a line that nobody could read is not drawn.
    fn problem(&mut self, span: std::ops::Range<usize>, message: String, help: String) -> Problem {
        let source = self.source.get_or_insert_with(|| {
            Source::new(self.path.display().to_string(), Arc::from(self.text))
        });
        let line_start = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..]
            .split('\n')
            .next()
            .unwrap_or_default();
        let problem = Problem::at(source, span, message, "here").help(help);
        if line.len() <= MAX_DRAWN {
            return problem;
        }
        let mut undrawn = Problem::of_file(problem.file, problem.message);
        (undrawn.line, undrawn.column, undrawn.help) = (problem.line, problem.column, problem.help);
        undrawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn problems(bytes: &[u8]) -> Vec<Problem> {
        load(file(bytes).path()).unwrap_err().problems
    }

    #[test]
    fn a_byte_order_mark_crlf_comments_and_duplicates_are_read() {
        let text = "\u{feff}10.0.0.0/8\r\n# all of it\r\n\r\n  10.1.0.0/16\t# again, inside\r\n::1 - ::9\r\n10.0.0.0/8";
        let ranges = load(file(text.as_bytes()).path()).unwrap();
        let read: Vec<_> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(read, ["10.0.0.0/8", "10.1.0.0/16", "::1-::9", "10.0.0.0/8"]);
        assert!(load(file(b"").path()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_not_utf8_is_refused_at_the_byte() {
        let problems = problems(b"10.0.0.1\n10.0.0.2 # caf\xe9\n");
        let [only] = &problems[..] else {
            panic!("{problems:?}")
        };
        assert_eq!((only.line, only.column), (2, 15));
        assert!(only.message.ends_with("is not UTF-8"), "{}", only.message);
    }

    #[test]
    fn twenty_errors_are_told_with_their_places_and_the_rest_counted() {
        let problems = problems("10.0.0.1\nnine\n".repeat(23).as_bytes());
        assert_eq!(problems.len(), 20);
        assert_eq!((problems[19].line, problems[19].column), (40, 1));
        let help = problems[19].help.as_deref().unwrap();
        assert!(
            help.ends_with("; 3 more lines of this file cannot be read"),
            "{help}"
        );
    }

    #[test]
    fn a_line_without_an_end_is_told_and_not_drawn() {
        let problems = problems(&b"x".repeat(100_000));
        let drawn = super::super::error::render(&problems, false);
        assert!(drawn.len() < 1000, "{} bytes", drawn.len());
        assert!(problems[0].message.len() < 200, "{}", problems[0].message);
    }

    #[test]
    fn a_hundred_thousand_prefixes_that_overlap_and_repeat_load_in_well_under_a_second() {
        let mut text = String::new();
        for at in 0..50_000u32 {
            let v4 = std::net::Ipv4Addr::from(0x0a00_0000 + (at % 9_000) * 16);
            let v6 = std::net::Ipv6Addr::from((0x2600_u128 << 112) + (u128::from(at) << 70));
            text.push_str(&format!("{v4}/28 # again\r\n{v6}/58\r\n"));
        }
        let file = file(text.as_bytes());
        let start = std::time::Instant::now();
        let ranges = load(file.path()).unwrap();
        let took = start.elapsed();
        assert_eq!(ranges.len(), 100_000);
        // Not optimized, and beside other tests, it may take longer.
        let most = if cfg!(debug_assertions) { 10 } else { 1 };
        assert!(took.as_secs() < most, "{took:?}");
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused() {
        let error = load(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        let error = load(Path::new("/nonexistent/set.txt")).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}

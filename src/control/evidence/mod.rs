//! Evidence: the frames behind an alert, in a capture that any analyser opens.
//!
//! When an incident begins, the frames of its flow that are still among the last ones recorded are written down, and then the next frames of its host. A thread of its
//! own does it: what a disk takes its time for holds nobody up, and what it refuses ends evidence and nothing else.

mod store;

use crate::config::evidence::Evidence as Settings;
use crate::port::capture::{CaptureError, CaptureWriter, Part};
use crate::telemetry::Counter;
use crate::telemetry::recording::{PAGE, Page, Pages, Record, Recorder};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use serde::Serialize;
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::Store;

/// How often the pages of the workers are looked at.
const OFTEN: Duration = Duration::from_millis(20);
/// Captures that are written at once; what begins beyond it has none.
const AT_ONCE: usize = 64;
/// Requests that wait, and transcripts.
const WAITING: usize = 256;
/// Bytes of transcripts that wait.
const PENDING: usize = 16 << 20;
/// How long a host is watched for its next frames.
const LONGEST: Duration = Duration::from_secs(60);
/// The frames of the burst that alerted may be in a page that comes later: so long a flow's earlier frames are looked for.
const PAUSE: Duration = Duration::from_secs(30);
/// The parts of a capture beside its frames, and the comments, are no longer than this for each frame.
const OVERHEAD: u64 = 128;

/// An incident that begins.
#[derive(Clone, Debug)]
pub struct Request {
    /// What its lines call it.
    pub incident: String,
    /// The rule or the reason.
    pub rule: String,
    /// The inside host in words.
    pub host: String,
    /// Its address; `None` where that is a lie, so that the MAC address alone says who it is.
    pub address: Option<u128>,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The flow of the frame that alerted.
    pub flow: u64,
    /// When that came, nanoseconds since the Unix epoch.
    pub time: u64,
}

/// A conversation that is over.
#[derive(Clone, Debug)]
struct Note {
    path: PathBuf,
    text: String,
}

/// What the thread is asked for.
struct Asked {
    captures: Receiver<Request>,
    notes: Receiver<Note>,
}

#[derive(Debug, Default)]
struct Tally {
    captures: AtomicU64,
    skipped: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
    /// Captures that are being written.
    open: AtomicUsize,
    /// Bytes of the transcripts that wait.
    pending: AtomicUsize,
    /// After an error of the disk nothing is begun.
    paused: AtomicBool,
    missed: Vec<Arc<Counter>>,
}

/// What became of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvidenceStatus {
    /// The folder of the captures.
    pub dir: PathBuf,
    /// Bytes of them.
    pub bytes: u64,
    /// Captures that were begun since the start.
    pub captures: u64,
    /// Incidents without one, and conversations without a transcript: too many at once, too long, or the disk had refused one.
    pub skipped: u64,
    /// Captures that the disk refused, or a part of one.
    pub errors: u64,
    /// Frames that were not recorded: those before them were still being read.
    pub missed_frames: u64,
}

/// The way to ask for evidence.
#[derive(Clone, Debug)]
pub struct Evidence {
    dir: PathBuf,
    /// Bytes of one host at most.
    per_host: u64,
    requests: Sender<Request>,
    notes: Sender<Note>,
    tally: Arc<Tally>,
}

impl Evidence {
    fn new(settings: &Settings, tally: Arc<Tally>) -> (Evidence, Asked) {
        let (requests, captures) = bounded(WAITING);
        let (sender, notes) = bounded(WAITING);
        let evidence = Evidence {
            dir: settings.dir.clone(),
            per_host: settings.per_host,
            requests,
            notes: sender,
            tally,
        };
        (evidence, Asked { captures, notes })
    }

    /// What became of it.
    pub fn status(&self) -> EvidenceStatus {
        let tally = &self.tally;
        EvidenceStatus {
            dir: self.dir.clone(),
            bytes: tally.bytes.load(Relaxed),
            captures: tally.captures.load(Relaxed),
            skipped: tally.skipped.load(Relaxed),
            errors: tally.errors.load(Relaxed),
            missed_frames: tally.missed.iter().map(|missed| missed.get()).sum(),
        }
    }

    /// Asks for the capture of an incident; where it will be, or `None` where too many are asked for at once. Never waits.
    pub fn ask(&self, request: Request) -> Option<PathBuf> {
        let path = Store::path(&self.dir, &request.incident, &request.host, &request.rule);
        // A line names no capture that there will not be.
        let under_way = self.tally.open.load(Relaxed) + self.requests.len();
        if under_way >= AT_ONCE || self.tally.paused.load(Relaxed) {
            self.tally.skipped.fetch_add(1, Relaxed);
            return None;
        }
        match self.requests.try_send(request) {
            Ok(()) => Some(path),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.tally.skipped.fetch_add(1, Relaxed);
                None
            }
        }
    }

    /// Asks for the transcript of a conversation of an incident to be kept, its number there; where it will be, or `None` where it will not. Never waits.
    pub fn keep(
        &self,
        (incident, host, rule): (&str, &str, &str),
        number: u64,
        text: String,
    ) -> Option<PathBuf> {
        let path = Store::transcript(&self.dir, incident, host, rule, number);
        let note = Note {
            path: path.clone(),
            text,
        };
        let kept = !self.tally.paused.load(Relaxed) && self.hand_over(note);
        if !kept {
            self.tally.skipped.fetch_add(1, Relaxed);
        }
        kept.then_some(path)
    }

    /// False where its host may not have so much, or too much waits.
    fn hand_over(&self, note: Note) -> bool {
        let bytes = note.text.len();
        let pending = &self.tally.pending;
        let more = |now: usize| now.checked_add(bytes).filter(|all| *all <= PENDING);
        if bytes as u64 > self.per_host || pending.fetch_update(Relaxed, Relaxed, more).is_err() {
            return false;
        }
        let taken = self.notes.try_send(note).is_ok();
        if !taken {
            pending.fetch_sub(bytes, Relaxed);
        }
        taken
    }
}

/// The thread that writes evidence; ends when it is dropped.
pub struct EvidenceThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EvidenceThread {
    /// Ends it, and waits for that so long. Whether it has; if not, it is left to itself.
    pub fn end_within(mut self, patience: Duration) -> bool {
        self.stop.store(true, Relaxed);
        let until = std::time::Instant::now() + patience;
        let Some(thread) = self.thread.take() else {
            return true;
        };
        while !thread.is_finished() {
            if std::time::Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
        true
    }
}

impl Drop for EvidenceThread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has said on standard error why, if it panicked.
            let _ = thread.join();
        }
    }
}

/// Pages for `workers` workers, and their hands on them.
pub fn pages(settings: &Settings, workers: usize) -> (Vec<Pages>, Vec<Recorder>) {
    // Half of them are on their way: the worker's, full ones, empty ones.
    let count = (settings.ring as usize / PAGE).max(8);
    let made = (0..workers).map(|_| Pages::new(count, settings.snap as usize));
    made.unzip()
}

/// Starts the thread.
///
/// # Errors
/// That the folder cannot be made or read, or that there is no thread to be had.
pub fn start(
    settings: &Settings,
    pages: Vec<Pages>,
    interfaces: [String; 2],
) -> std::io::Result<(Evidence, EvidenceThread)> {
    let store = Store::open(settings)?;
    let missed = pages.iter().map(|pages| Arc::clone(&pages.missed));
    let tally = Arc::new(Tally {
        bytes: AtomicU64::new(store.bytes()),
        missed: missed.collect(),
        ..Tally::default()
    });
    let (evidence, asked) = Evidence::new(settings, Arc::clone(&tally));
    let mut keeper = Keeper {
        settings: settings.clone(),
        store,
        interfaces,
        recent: pages.iter().map(|_| VecDeque::new()).collect(),
        // The rest is for the worker to fill meanwhile.
        most: (settings.ring as usize / PAGE).max(8) / 2,
        pages,
        open: Vec::new(),
        tally,
        paused: None,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("evidence".to_owned())
        .spawn(move || keeper.run(&asked, &stopped))?;
    let thread = EvidenceThread {
        stop,
        thread: Some(thread),
    };
    Ok((evidence, thread))
}

/// One capture that is being written.
struct Open {
    request: Request,
    path: PathBuf,
    writer: CaptureWriter,
    bytes: u64,
    /// Frames of the host that are still to come.
    left: u32,
    until: Instant,
}

impl Open {
    /// Whether a frame belongs in it: of the flow whenever it came, of the host from the alert on.
    fn wants(&self, record: &Record<'_>) -> bool {
        let host = match self.request.address {
            Some(address) => record.host == address,
            None => record.mac == self.request.mac,
        };
        record.flow == self.request.flow || (host && record.time >= self.request.time)
    }

    /// Writes one frame if it belongs in it. False where the capture is full.
    fn take(&mut self, record: &Record<'_>, most: u64) -> Result<bool, CaptureError> {
        if !self.wants(record) {
            return Ok(true);
        }
        let bytes = record.bytes.len() as u64 + OVERHEAD;
        if self.bytes + bytes > most {
            return Ok(false);
        }
        self.bytes += bytes;
        let comment = record.fate.describe();
        self.writer.write_part(&Part {
            interface: record.side as u32,
            time: record.time,
            len: record.len,
            bytes: record.bytes,
            comment: comment.as_deref(),
        })?;
        if record.time >= self.request.time {
            self.left = self.left.saturating_sub(1);
        }
        Ok(self.left > 0)
    }
}

struct Keeper {
    settings: Settings,
    store: Store,
    interfaces: [String; 2],
    pages: Vec<Pages>,
    /// The last pages of each worker, oldest first.
    recent: Vec<VecDeque<Page>>,
    /// How many of each.
    most: usize,
    open: Vec<Open>,
    tally: Arc<Tally>,
    /// After an error of the disk nothing is begun until then.
    paused: Option<Instant>,
}

impl Keeper {
    fn run(&mut self, asked: &Asked, stop: &AtomicBool) {
        loop {
            let stopping = stop.load(Relaxed);
            let captures = &asked.captures;
            let first = captures.recv_timeout(if stopping { Duration::ZERO } else { OFTEN });
            for request in first.into_iter().chain(captures.try_iter()) {
                self.begin(request);
            }
            // As many as there can be, so that whoever hands them over faster does not keep us here.
            for note in asked.notes.try_iter().take(WAITING) {
                self.write(&note);
                self.tally.pending.fetch_sub(note.text.len(), Relaxed);
            }
            self.read();
            let now = Instant::now();
            self.close(|open| stopping || now >= open.until);
            if self.paused.is_some_and(|until| now >= until) {
                self.paused = None;
            }
            self.tally.paused.store(self.paused.is_some(), Relaxed);
            self.tally.open.store(self.open.len(), Relaxed);
            if stopping {
                return;
            }
        }
    }

    /// Begins the capture of an incident with what is still there of its flow.
    fn begin(&mut self, request: Request) {
        if self.open.len() >= AT_ONCE || self.paused.is_some() {
            self.tally.skipped.fetch_add(1, Relaxed);
            return;
        }
        let path = Store::path(
            &self.settings.dir,
            &request.incident,
            &request.host,
            &request.rule,
        );
        let reserved = self.open.len() as u64 * self.settings.file;
        self.store.make_room(&path, self.settings.file, reserved);
        let comment = format!(
            "incident {}, rule {}, host {}",
            request.incident, request.rule, request.host
        );
        let writer = match CaptureWriter::create_for(&path, &comment, &self.interfaces) {
            Ok(writer) => writer,
            Err(error) => return self.refused(&error, &path),
        };
        self.tally.captures.fetch_add(1, Relaxed);
        let mut open = Open {
            request,
            path,
            writer,
            bytes: 0,
            left: self.settings.frames,
            until: Instant::now() + LONGEST,
        };
        let mut goes_on = Ok(true);
        for page in self.recent.iter().flatten() {
            for record in page.records() {
                if let Ok(true) = goes_on {
                    goes_on = open.take(&record, self.settings.file);
                }
            }
        }
        match goes_on {
            Ok(true) => self.open.push(open),
            Ok(false) => self.end(open),
            Err(error) => {
                self.refused(&error, &open.path);
                self.end(open);
            }
        }
    }

    /// Writes a transcript, for its owner alone.
    fn write(&mut self, note: &Note) {
        if self.paused.is_some() {
            self.tally.skipped.fetch_add(1, Relaxed);
            return;
        }
        let reserved = self.open.len() as u64 * self.settings.file;
        self.store
            .make_room(&note.path, note.text.len() as u64, reserved);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let refusal = |source| CaptureError::Io {
            path: note.path.clone(),
            source,
        };
        let mut file = match options.open(&note.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // One of that name is kept and counted already: no fault of the disk.
                self.tally.skipped.fetch_add(1, Relaxed);
                return;
            }
            Err(error) => return self.refused(&refusal(error), &note.path),
        };
        if let Err(error) = file.write_all(note.text.as_bytes()) {
            self.refused(&refusal(error), &note.path);
        }
        self.store.add(&note.path);
        self.tally.bytes.store(self.store.bytes(), Relaxed);
    }

    /// Takes the pages that the workers have handed over since.
    fn read(&mut self) {
        for worker in 0..self.pages.len() {
            // As many as there can be, so that a worker that fills them faster does not keep us here.
            for _ in 0..self.most {
                let Some(page) = self.pages[worker].take() else {
                    break;
                };
                self.search(&page);
                let recent = &mut self.recent[worker];
                recent.push_back(page);
                if recent.len() > self.most
                    && let Some(oldest) = recent.pop_front()
                {
                    self.pages[worker].give(oldest);
                }
            }
        }
    }

    /// Writes the frames of a page into the captures that they belong in.
    fn search(&mut self, page: &Page) {
        if self.open.is_empty() {
            return;
        }
        let mut over = Vec::new();
        for record in page.records() {
            for (at, open) in self.open.iter_mut().enumerate() {
                if over.iter().any(|(ended, _)| *ended == at) {
                    continue;
                }
                match open.take(&record, self.settings.file) {
                    Ok(true) => {}
                    Ok(false) => over.push((at, None)),
                    Err(error) => over.push((at, Some(error))),
                }
            }
        }
        over.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        for (at, error) in over {
            let open = self.open.swap_remove(at);
            if let Some(error) = error {
                self.refused(&error, &open.path);
            }
            self.end(open);
        }
    }

    /// Ends the captures of which this holds.
    fn close(&mut self, over: impl Fn(&Open) -> bool) {
        let mut at = 0;
        while at < self.open.len() {
            if over(&self.open[at]) {
                let open = self.open.swap_remove(at);
                self.end(open);
            } else {
                at += 1;
            }
        }
        for open in &mut self.open {
            // So that whoever reads the alert finds what is there by now; an error comes again with the next frame.
            let _ = open.writer.flush();
        }
    }

    fn end(&mut self, open: Open) {
        if let Err(error) = open.writer.finish() {
            self.refused(&error, &open.path);
        }
        self.store.add(&open.path);
        self.tally.bytes.store(self.store.bytes(), Relaxed);
    }

    /// A disk that is full, a folder that is gone: no evidence for a while, and filtering as before.
    fn refused(&mut self, error: &CaptureError, path: &Path) {
        self.tally.errors.fetch_add(1, Relaxed);
        if self.paused.replace(Instant::now() + PAUSE).is_none() {
            eprintln!(
                "portcullis: warning: evidence stops for {} s: {error} ({})",
                PAUSE.as_secs(),
                path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests;

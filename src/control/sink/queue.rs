//! The lines that wait for one sink, and what became of those before them.

use crate::control::alerts::Line;
use crate::policy::Severity;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes of the lines that wait for one sink, about: a line with a transcript may be a hundred times as long as another.
const BYTES: usize = 64 << 20;
/// Of a line without its transcript.
const LINE: usize = 1 << 10;

/// A queue that is bounded in lines and in bytes. A line stays in it until it is delivered, so that what is under way has its place in the bound.
pub struct Queue {
    /// What the sink is called.
    pub name: String,
    /// `file`, `journald`, `syslog`, `webhook` or `alertmanager`.
    pub kind: &'static str,
    level: Severity,
    most: usize,
    lines: Mutex<Waiting>,
    /// A line came, or the end did.
    news: Notify,
    /// The end came.
    end: Notify,
    closed: AtomicBool,
    sent: AtomicU64,
    lost: AtomicU64,
    errors: AtomicU64,
    error: Mutex<Trouble>,
}

/// Lines, oldest first.
#[derive(Default)]
struct Waiting {
    lines: VecDeque<Arc<Line>>,
    /// What they weigh.
    bytes: usize,
}

/// About how much memory a line takes.
fn weight(line: &Line) -> usize {
    let transcript = line.decoy.iter().flat_map(|decoy| &decoy.transcript);
    LINE + transcript
        .map(|said| said.len() + size_of::<String>())
        .sum::<usize>()
}

/// The last error, and whether anything was delivered since.
#[derive(Default)]
struct Trouble {
    last: Option<String>,
    now: bool,
}

/// How a sink does.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs)]
pub struct SinkStatus {
    pub kind: &'static str,
    /// `ok`, or `failing` while what was tried last did not succeed.
    pub state: &'static str,
    /// Lines delivered.
    pub sent: u64,
    /// Lines that wait.
    pub waiting: u64,
    /// Lines that found the queue full, or that the other side will not have.
    pub lost: u64,
    /// Failed attempts.
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Queue {
    /// An empty queue with room for `most` lines of at least `level`.
    pub fn new(name: &str, kind: &'static str, level: Severity, most: usize) -> Queue {
        Queue {
            name: name.to_owned(),
            kind,
            level,
            most,
            lines: Mutex::default(),
            news: Notify::new(),
            end: Notify::new(),
            closed: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            error: Mutex::default(),
        }
    }

    /// Takes a line, or counts it as lost. Never waits for the sink.
    pub fn push(&self, line: &Arc<Line>) {
        // EVE counts severity downwards from 1.
        let level = [Severity::High, Severity::Medium, Severity::Low];
        let loud = level.get(usize::from(line.alert.severity).saturating_sub(1));
        if loud.is_some_and(|loud| *loud < self.level) {
            return;
        }
        let bytes = weight(line);
        let mut waiting = self.lines();
        let full = waiting.lines.len() >= self.most || waiting.bytes + bytes > BYTES;
        if full || self.is_closed() {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        waiting.lines.push_back(Arc::clone(line));
        waiting.bytes += bytes;
        drop(waiting);
        self.news.notify_one();
    }

    /// The oldest lines, at most `most`; they stay in the queue. Waits for one; `None` when there are none and none will come.
    pub async fn peek(&self, most: usize) -> Option<Vec<Arc<Line>>> {
        loop {
            let lines = self.oldest(most);
            if !lines.is_empty() {
                return Some(lines);
            }
            if self.is_closed() {
                return None;
            }
            self.news.notified().await;
        }
    }

    fn oldest(&self, most: usize) -> Vec<Arc<Line>> {
        self.lines().lines.iter().take(most).cloned().collect()
    }

    /// The oldest `n` are delivered.
    pub fn delivered(&self, n: usize) {
        let n = self.remove(n);
        self.sent.fetch_add(n, Relaxed);
    }

    /// The oldest `n` will never be delivered.
    pub fn give_up(&self, n: usize) {
        let n = self.remove(n);
        self.lost.fetch_add(n, Relaxed);
    }

    fn remove(&self, n: usize) -> u64 {
        let mut waiting = self.lines();
        let n = n.min(waiting.lines.len());
        let gone: usize = waiting.lines.drain(..n).map(|line| weight(&line)).sum();
        waiting.bytes -= gone;
        n as u64
    }

    /// What was tried last succeeded.
    pub fn well(&self) {
        self.error().now = false;
    }

    /// An attempt failed.
    pub fn failed(&self, why: &str) {
        self.errors.fetch_add(1, Relaxed);
        *self.error() = Trouble {
            last: Some(super::text::clean(why)),
            now: true,
        };
    }

    /// No line comes any more.
    pub fn close(&self) {
        self.closed.store(true, Relaxed);
        self.news.notify_one();
        self.end.notify_one();
    }

    /// Waits, and not for what is over once the queue is closed.
    pub async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.end.notified() => {}
        }
    }

    /// Whether [`Queue::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Gives up what waits; how much that was.
    pub fn abandon(&self) -> usize {
        let waiting = self.lines().lines.len();
        self.give_up(waiting);
        waiting
    }

    /// Lines lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// How it stands.
    pub fn status(&self) -> SinkStatus {
        let trouble = self.error();
        SinkStatus {
            kind: self.kind,
            state: if trouble.now { "failing" } else { "ok" },
            sent: self.sent.load(Relaxed),
            waiting: self.lines().lines.len() as u64,
            lost: self.lost(),
            errors: self.errors.load(Relaxed),
            last_error: trouble.last.clone(),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds it can panic half-way.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self) -> MutexGuard<'_, Trouble> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

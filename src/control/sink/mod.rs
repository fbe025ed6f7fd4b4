//! Where alert lines go: the file, and the `[[sink]]`s of the config.
//!
//! ```text
//!                   ┌► queue ► task ► file
//! Incidents ► line ─┼► queue ► task ► syslog        a queue is bounded; full, the line is counted as lost for that sink
//!                   └► queue ► task ► webhook       a task sends in order, and tries again for ever
//! ```
//! The tasks run on the control thread; what may block a thread (files, names) goes to threads of tokio's.

mod alertmanager;
mod file;
mod http;
mod journald;
pub mod queue;
mod syslog;
pub mod text;
mod tls;
mod webhook;

use super::alerts::Line;
use crate::config::{Alerts, sinks};
use crate::policy::Severity;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use queue::{Queue, SinkStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// The first wait after a failure, before jitter doubles it at most.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest, before jitter.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// A moment in which lines are delivered.
const SETTLES: Duration = Duration::from_millis(10);
/// The longest once the gate is ending.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// Why a sink cannot be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error("{0}")]
    File(std::io::Error),
    #[error("the sink `{name}`: {why}")]
    Tls { name: String, why: String },
}

/// Why lines were not delivered.
#[derive(Debug)]
struct Failure {
    /// So many, the oldest, were.
    done: usize,
    /// The next one, or one of those that went with it, will never be taken: trying again is no use.
    refused: bool,
    why: String,
}

impl Failure {
    /// To be tried again.
    fn again(done: usize, why: impl ToString) -> Failure {
        Failure {
            done,
            refused: false,
            why: why.to_string(),
        }
    }

    /// Nothing to be tried again.
    fn refused(done: usize, why: impl ToString) -> Failure {
        Failure {
            refused: true,
            ..Failure::again(done, why)
        }
    }
}

/// The other side of a queue.
enum Outlet {
    File(file::File),
    Journald(journald::Journald),
    Syslog(syslog::Syslog),
    Webhook(webhook::Webhook),
    Alertmanager(alertmanager::Alertmanager),
}

impl Outlet {
    /// How many lines at most go together.
    fn most(&self) -> usize {
        match self {
            Outlet::File(_) => 1024,
            Outlet::Journald(_) | Outlet::Syslog(_) => 64,
            Outlet::Webhook(_) | Outlet::Alertmanager(_) => 256,
        }
    }

    /// When it wants to be asked to deliver even though there are no lines.
    fn due(&self) -> Option<Instant> {
        match self {
            Outlet::Alertmanager(outlet) => outlet.due(),
            _ => None,
        }
    }

    async fn deliver(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        match self {
            Outlet::File(outlet) => outlet.deliver(lines).await,
            Outlet::Journald(outlet) => outlet.deliver(lines).await,
            Outlet::Syslog(outlet) => outlet.deliver(lines).await,
            Outlet::Webhook(outlet) => outlet.deliver(lines).await,
            Outlet::Alertmanager(outlet) => outlet.deliver(lines).await,
        }
    }
}

/// Sinks that can be started.
pub struct Opened(Vec<(Arc<Queue>, Outlet)>);

/// Opens the file and makes ready what the sinks need; sends nothing yet.
///
/// # Errors
/// That the file cannot be opened, or that a server could never be trusted.
pub fn open(alerts: &Alerts, sinks: &[sinks::Sink]) -> Result<Opened, OpenError> {
    let path = alerts.file.as_deref();
    let file = file::File::open(path, alerts.rotate).map_err(OpenError::File)?;
    let queue = Queue::new(sinks::FILE, sinks::FILE, Severity::Low, alerts.queue);
    let mut all = vec![(Arc::new(queue), Outlet::File(file))];
    for sink in sinks {
        let outlet = match &sink.kind {
            sinks::Kind::Journald(socket) => Ok(Outlet::Journald(journald::Journald::new(socket))),
            sinks::Kind::Syslog(to) => syslog::Syslog::new(to).map(Outlet::Syslog),
            sinks::Kind::Webhook(to) => webhook::Webhook::new(to).map(Outlet::Webhook),
            sinks::Kind::Alertmanager(to) => {
                let hold = alertmanager::hold(alerts.window);
                alertmanager::Alertmanager::new(to, hold, sink.queue).map(Outlet::Alertmanager)
            }
        };
        let name = sink.name.clone();
        let outlet = outlet.map_err(|why| OpenError::Tls { name, why })?;
        let queue = Queue::new(&sink.name, sink.kind.name(), sink.level, sink.queue);
        all.push((Arc::new(queue), outlet));
    }
    Ok(Opened(all))
}

impl Opened {
    /// Starts a task for each, on the runtime that the caller is in.
    pub fn start(self) -> (Sinks, Delivery) {
        let start = |(queue, outlet): (Arc<Queue>, Outlet)| {
            let task = tokio::spawn(run(Arc::clone(&queue), outlet));
            (queue, task)
        };
        let tasks: Vec<_> = self.0.into_iter().map(start).collect();
        let queues = tasks.iter().map(|(queue, _)| Arc::clone(queue)).collect();
        (Sinks(queues), Delivery(tasks))
    }
}

/// The queues, on the side where lines go in.
pub struct Sinks(Vec<Arc<Queue>>);

impl Sinks {
    /// Gives a line to every sink. Waits for none.
    pub fn write(&self, line: Line) {
        let line = Arc::new(line);
        for queue in &self.0 {
            queue.push(&line);
        }
    }

    /// Lines that were lost for the file.
    pub fn lost_for_file(&self) -> u64 {
        self.0.first().map_or(0, |file| file.lost())
    }

    /// How each stands, the file first.
    pub fn status(&self) -> Vec<(String, SinkStatus)> {
        let one = |queue: &Arc<Queue>| (queue.name.clone(), queue.status());
        self.0.iter().map(one).collect()
    }
}

/// The tasks behind the queues.
pub struct Delivery(Vec<(Arc<Queue>, JoinHandle<()>)>);

impl Delivery {
    /// Lets the sinks deliver for a moment, and goes on to take lines. Whether all are delivered.
    pub async fn settle(&self) -> bool {
        let waits = || self.0.iter().any(|(queue, _)| queue.status().waiting > 0);
        if waits() {
            tokio::time::sleep(SETTLES).await;
        }
        !waits()
    }

    /// Takes no more lines, and lets the sinks deliver what they have, for `patience` in all. Says which did not, and how many
    /// lines each still had.
    pub async fn finish(self, patience: Duration) -> Vec<(String, usize)> {
        for (queue, _) in &self.0 {
            queue.close();
        }
        let deadline = Instant::now() + patience;
        let mut left = Vec::new();
        for (queue, mut task) in self.0 {
            if timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
            let waiting = queue.abandon();
            if waiting > 0 {
                left.push((queue.name.clone(), waiting));
            }
        }
        left
    }
}

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Delivers what comes into the queue, in order, until it is closed and empty.
async fn run(queue: Arc<Queue>, mut outlet: Outlet) {
    let mut wait = waits();
    // Lines that go one by one, to find the one among them that is not taken.
    let mut singly = 0usize;
    let mut away = false;
    loop {
        let most = if singly > 0 { 1 } else { outlet.most() };
        let lines = match outlet.due() {
            Some(due) => timeout_at(due, queue.peek(most))
                .await
                .unwrap_or(Some(Vec::new())),
            None => queue.peek(most).await,
        };
        let Some(lines) = lines else { return };
        let failure = match outlet.deliver(&lines).await {
            Ok(()) => {
                queue.delivered(lines.len());
                queue.well();
                singly = singly.saturating_sub(lines.len());
                wait = waits();
                if std::mem::take(&mut away) {
                    eprintln!(
                        "portcullis: note: the sink `{}` takes alerts again",
                        queue.name
                    );
                }
                continue;
            }
            Err(failure) => failure,
        };
        queue.delivered(failure.done);
        queue.failed(&failure.why);
        let left = lines.len().saturating_sub(failure.done);
        if failure.refused && left > 1 {
            singly = left;
        } else if failure.refused && left == 1 {
            queue.give_up(1);
            singly = singly.saturating_sub(1);
        } else {
            // Once, and not for each attempt: status and metrics have the rest.
            if !std::mem::replace(&mut away, true) {
                eprintln!(
                    "portcullis: warning: the sink `{}` takes no alerts, which wait in its queue: {}",
                    queue.name,
                    text::clean(&failure.why)
                );
            }
            let pause = wait.next().unwrap_or(LONGEST_WAIT);
            let most = if queue.is_closed() { LAST_WAIT } else { pause };
            queue.pause(pause.min(most)).await;
        }
    }
}

/// Bounds one attempt, and makes its time running out an error like any other.
async fn within<T>(
    limit: Duration,
    what: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<T> {
    match timeout(limit, what).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer in {} s", limit.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::alerts::Incidents;
    use super::super::decoys::Conversation;
    use super::*;
    use crate::frame::{Meta, Net};
    use crate::policy::{Generation, Side, Verdict};
    use crate::telemetry::event::Snippet;
    use crate::telemetry::{Cause, Event, Reason};
    use axum::Router;
    use axum::routing::post;
    use std::path::Path;
    use std::sync::Mutex;
    use tokio::net::TcpListener;

    /// A line about TFTP by 10.77.0.(8 + n).
    pub(super) fn line(n: u32) -> Line {
        let text = "[lan]\nprefixes = [\"10.77.0.0/24\"]\n";
        let config = crate::config::parse(text, "test", Path::new(".")).unwrap();
        let generation = Generation::first(&config.policy).unwrap();
        let cause = Cause::Rule(generation.roster().slot("tftp").unwrap());
        let mut all = Incidents::new(generation.in_force(), Duration::from_secs(60));
        let event = Event {
            time: 1_700_000_000_000_000_000,
            cause,
            verdict: Verdict::Drop(Reason::Rule),
            shadow: false,
            side: Side::Lan,
            frames: 1,
            app: None,
            payload: Snippet::EMPTY,
            len: 60,
            meta: Meta {
                net: Net::V4,
                proto: 17,
                src: (0x0a4d_0008 + n).into(),
                dst: 0x5db8_d822,
                sport: 40_000,
                dport: 69,
                src_mac: [2, 0, 0, 0, 0, 9],
                ..Meta::NONE
            },
        };
        all.take(&event).unwrap()
    }

    #[test]
    fn waits_grow_to_a_maximum_and_never_end() {
        let all: Vec<Duration> = waits().take(40).collect();
        assert_eq!(all.len(), 40);
        assert!(all[0] >= FIRST_WAIT && all[0] <= 2 * FIRST_WAIT);
        assert!(
            all.iter()
                .skip(8)
                .all(|wait| *wait >= LONGEST_WAIT && *wait <= 2 * LONGEST_WAIT)
        );
    }

    /// A server that counts the alerts of each request.
    async fn counting(requests: Arc<Mutex<Vec<usize>>>) -> u16 {
        let count = move |body: String| async move {
            let all: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
            requests.lock().unwrap().push(all.len());
        };
        let router = Router::new().route("/api/v2/alerts", post(count));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    #[tokio::test]
    async fn what_fires_is_posted_again_though_no_line_comes() {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let port = counting(Arc::clone(&requests)).await;
        let to = sinks::Http {
            url: format!("http://127.0.0.1:{port}").parse().unwrap(),
            roots: sinks::Roots::System,
            token_file: None,
        };
        let hold = Duration::from_secs(180);
        let mut outlet = alertmanager::Alertmanager::new(&to, hold, 10).unwrap();
        outlet.again = Instant::now() + Duration::from_millis(300);
        let queue = Arc::new(Queue::new("a", "alertmanager", Severity::Low, 10));
        queue.push(&Arc::new(line(1)));
        queue.push(&Arc::new(line(2)));
        let task = tokio::spawn(run(Arc::clone(&queue), Outlet::Alertmanager(outlet)));
        let two = async {
            while requests.lock().unwrap().len() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), two).await.unwrap();
        assert_eq!(*requests.lock().unwrap(), [2, 2]);
        assert_eq!((queue.status().sent, queue.status().errors), (2, 0));
        queue.close();
        timeout(Duration::from_secs(10), task)
            .await
            .unwrap()
            .unwrap();
    }

    #[test]
    fn a_full_queue_counts_what_it_does_not_take_and_a_level_keeps_the_rest_out() {
        let queue = Queue::new("a", "webhook", Severity::Low, 2);
        let high = Queue::new("b", "webhook", Severity::High, 2);
        let mut low = line(1);
        low.alert.severity = 3;
        let low = Arc::new(low);
        for _ in 0..5 {
            queue.push(&low);
            high.push(&low);
        }
        let counts = |queue: &Queue| (queue.status().waiting, queue.status().lost);
        assert_eq!((counts(&queue), counts(&high)), ((2, 3), (0, 0)));
        queue.delivered(1);
        queue.push(&low);
        assert_eq!(counts(&queue), (2, 3));
        high.push(&Arc::new(line(1)));
        assert_eq!(counts(&high), (1, 0));
    }

    #[test]
    fn a_queue_is_full_of_bytes_too_and_what_goes_makes_room() {
        let queue = Queue::new("a", "webhook", Severity::Low, 10_000);
        let mut long = line(1);
        long.decoy = Some(Conversation {
            protocol: "raw",
            began: String::new(),
            seconds: 0.0,
            ended: "the client closed it",
            client_bytes: 0,
            decoy_bytes: 0,
            transcript: vec!["C: ".repeat(1000); 300],
            cut: false,
            conversations: 1,
            evidence: None,
        });
        let long = Arc::new(long);
        let counts = |queue: &Queue| (queue.status().waiting, queue.status().lost);
        for _ in 0..100 {
            queue.push(&long);
        }
        // 74 of 908,224 bytes are just over 64 MiB.
        assert_eq!(counts(&queue), (73, 27));
        queue.delivered(3);
        for _ in 0..5 {
            queue.push(&long);
        }
        assert_eq!(counts(&queue), (73, 29));
        queue.give_up(73);
        for _ in 0..73 {
            queue.push(&long);
        }
        assert_eq!(counts(&queue), (73, 102));
    }
}

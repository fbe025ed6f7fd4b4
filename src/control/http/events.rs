//! `/api/events`: server-sent events (WHATWG HTML, section 9.2), one beat a second.
//!
//! A beat is written once, whoever listens: listeners get the same bytes. One that is slow misses beats, and holds up nobody.

use super::api::{incidents_text, status_text};
use super::{Shared, busy};
use crate::control::recent::MOST;
use crate::control::status::State as Gate;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Who may listen at once.
const LISTENERS: usize = 16;
/// How often there is a beat.
const BEAT: Duration = Duration::from_secs(1);
/// A comment goes out where nothing else did for so long, so that what stands between keeps the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What goes to listeners: events as they stand on the wire.
#[derive(Clone, Debug, Default)]
struct Beat {
    status: Bytes,
    incidents: Bytes,
    /// Counts the changes of `incidents`; 0 before the first beat.
    change: u64,
}

/// The beats of one server.
pub(super) struct Beats {
    latest: watch::Sender<Beat>,
    seats: Arc<Semaphore>,
}

impl Default for Beats {
    fn default() -> Beats {
        Beats {
            latest: watch::Sender::new(Beat::default()),
            seats: Arc::new(Semaphore::new(LISTENERS)),
        }
    }
}

impl Beats {
    /// Makes beats for ever, while somebody listens.
    pub(super) async fn run(&self, gate: Arc<Gate>) {
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.latest.receiver_count() == 0 {
                continue;
            }
            let gate = Arc::clone(&gate);
            // Thousands of rules are a long text, and the control thread has rings to empty.
            let written = tokio::task::spawn_blocking(move || {
                (
                    event("status", &status_text(&gate)),
                    event("incidents", &incidents_text(&gate, MOST)),
                )
            });
            // None where the gate is ending.
            if let Ok((status, incidents)) = written.await {
                self.tell(status, incidents);
            }
        }
    }

    fn tell(&self, status: Bytes, incidents: Bytes) {
        self.latest.send_modify(|beat| {
            beat.status = status;
            if beat.incidents != incidents {
                beat.incidents = incidents;
                beat.change += 1;
            }
        });
    }

    /// `None` where all seats are taken.
    fn listen(&self) -> Option<Listener> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        Some(Listener {
            beats: self.latest.subscribe(),
            told: 0,
            _seat: seat,
        })
    }
}

/// One that listens.
struct Listener {
    beats: watch::Receiver<Beat>,
    /// The change of the incidents that it has.
    told: u64,
    _seat: OwnedSemaphorePermit,
}

impl Listener {
    /// What is next to be sent, a comment where there was nothing for so long; `None` when the server ends.
    async fn next(&mut self, patience: Duration) -> Option<Bytes> {
        match timeout(patience, self.beats.changed()).await {
            Err(_) => Some(Bytes::from_static(b": still here\n\n")),
            Ok(Err(_)) => None,
            Ok(Ok(())) => {
                let beat = self.beats.borrow_and_update().clone();
                if beat.change == self.told {
                    return Some(beat.status);
                }
                self.told = beat.change;
                Some([beat.status, beat.incidents].concat().into())
            }
        }
    }
}

/// One event; JSON has no line breaks in it.
fn event(name: &str, data: &[u8]) -> Bytes {
    [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"]
        .concat()
        .into()
}

pub(super) async fn events(State(shared): State<Shared>) -> Response {
    let Some(listener) = shared.beats.listen() else {
        return busy("as many pages are open as may be; close one, or try again");
    };
    let events = stream::unfold(listener, |mut listener| async move {
        let bytes = listener.next(KEEP_ALIVE).await?;
        Some((Ok::<_, Infallible>(bytes), listener))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(events)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Option<Bytes>) -> String {
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn incidents_are_sent_when_they_have_changed_and_a_slow_listener_misses_beats() {
        let beats = Beats::default();
        let mut quick = beats.listen().unwrap();
        let mut slow = beats.listen().unwrap();
        beats.tell(event("status", b"1"), event("incidents", b"[]"));
        assert_eq!(
            text(quick.next(KEEP_ALIVE).await),
            "event: status\ndata: 1\n\nevent: incidents\ndata: []\n\n"
        );
        beats.tell(event("status", b"2"), event("incidents", b"[]"));
        assert_eq!(
            text(quick.next(KEEP_ALIVE).await),
            "event: status\ndata: 2\n\n"
        );
        beats.tell(event("status", b"3"), event("incidents", b"[7]"));
        let last = "event: status\ndata: 3\n\nevent: incidents\ndata: [7]\n\n";
        assert_eq!(text(quick.next(KEEP_ALIVE).await), last);
        assert_eq!(text(slow.next(KEEP_ALIVE).await), last);
        drop(beats);
        assert_eq!(slow.next(KEEP_ALIVE).await, None);
    }

    #[test]
    fn seats_are_bounded_and_come_back() {
        let beats = Beats::default();
        let mut all: Vec<_> = (0..LISTENERS).map(|_| beats.listen().unwrap()).collect();
        assert!(beats.listen().is_none());
        all.pop();
        assert!(beats.listen().is_some());
    }

    #[tokio::test]
    async fn a_quiet_connection_is_kept_by_comments() {
        let beats = Beats::default();
        let mut listener = beats.listen().unwrap();
        assert!(text(listener.next(Duration::from_millis(1)).await).starts_with(':'));
    }
}

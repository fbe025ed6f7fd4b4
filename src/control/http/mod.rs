//! What the gate shows over HTTP: the page, what feeds it, the metrics, and whether the gate is well. It changes nothing.
//!
//! ```text
//! request ► access ─┬► page       /, /app.js, /app.css, /favicon.svg
//!                   ├► api        /api/status, /api/incidents, /api/explain
//!                   ├► events     /api/events: one beat a second, made once for all who listen
//!                   ├► evidence   /evidence/NAME
//!                   └► health     /metrics, /healthz, /readyz
//! ```

pub mod access;
mod api;
mod events;
mod evidence;
mod health;
mod page;

use super::status::State as Gate;
use access::Access;
use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use events::Beats;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

/// Connections at once; others wait.
const CONNECTIONS: usize = 128;
/// How long a connection may take to ask, or be silent after an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nobody is let in after that has failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Answers that are written at once, aside: of thousands of rules they are long. Beyond it askers are told to come again.
const WRITING: usize = 8;
/// How long a peer may leave what was sent to it unacknowledged, milliseconds: one that is gone, or takes nothing, gives its place back.
const SILENT_MS: u32 = 20_000;

/// What the requests share.
#[derive(Clone)]
struct Shared {
    gate: Arc<Gate>,
    /// The folder of the captures; `None` where none are kept.
    evidence: Option<Arc<PathBuf>>,
    beats: Arc<Beats>,
    writing: Arc<Semaphore>,
}

impl Shared {
    /// Does what takes its time beside the control thread, which has rings to empty. `None` where as many do so as may.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Gate) -> T + Send + 'static,
    ) -> Option<T> {
        let seat = Arc::clone(&self.writing).try_acquire_owned().ok()?;
        let gate = Arc::clone(&self.gate);
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&gate);
            drop(seat);
            done
        });
        worked.await.ok()
    }
}

/// Where askers come from.
pub struct Doors {
    /// The kernel's.
    pub listener: Option<TcpListener>,
    /// The box's own stack.
    pub inband: Option<Receiver<DuplexStream>>,
}

/// Serves for ever. `evidence` is the folder of the captures.
pub async fn serve(doors: Doors, gate: Arc<Gate>, access: Access, evidence: Option<PathBuf>) {
    let beats = Arc::new(Beats::default());
    let shared = Shared {
        gate: Arc::clone(&gate),
        evidence: evidence.map(Arc::new),
        beats: Arc::clone(&beats),
        writing: Arc::new(Semaphore::new(WRITING)),
    };
    let router = router(shared, access);
    let Doors { listener, inband } = doors;
    let by_kernel = async {
        match listener {
            Some(listener) => accept(listener, &router).await,
            None => std::future::pending().await,
        }
    };
    let by_stack = async {
        match inband {
            Some(inband) => take_in(inband, &router).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Ends with the server: a task of its own would outlive it.
        () = beats.run(gate) => {}
        () = by_kernel => {}
        () = by_stack => {}
    }
}

/// Lets connections in for ever, so many at once, and none of them silent for long.
async fn accept(listener: TcpListener, router: &Router) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left, most likely: others give theirs back.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // A socket that cannot have it is closed by its other end, as ever.
        let _ = setsockopt(&stream, TcpUserTimeout, &SILENT_MS);
        let router = router.clone();
        tokio::spawn(async move {
            answer(stream, router).await;
            drop(seat);
        });
    }
}

/// The same for connections to the box's own address, of which its stack has a bounded number.
async fn take_in(mut inband: Receiver<DuplexStream>, router: &Router) {
    while let Some(stream) = inband.recv().await {
        tokio::spawn(answer(stream, router.clone()));
    }
    std::future::pending().await
}

/// Answers what one connection asks.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whoever goes away in the middle gets no answer: nothing else depends on it.
    let _ = connection.await;
}

fn router(shared: Shared, access: Access) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/app.js", get(page::script))
        .route("/app.css", get(page::style))
        .route("/favicon.svg", get(page::icon))
        .route("/api/status", get(api::status))
        .route("/api/incidents", get(api::incidents))
        .route("/api/explain", get(api::explain))
        .route("/api/events", get(events::events))
        .route("/evidence/{name}", get(evidence::capture))
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::healthy))
        .route("/readyz", get(health::ready))
        .with_state(shared)
        .layer(middleware::from_fn_with_state(
            Arc::new(access),
            access::check,
        ))
        .layer(middleware::map_response(guarded))
}

/// What a browser is told of every answer: take it as what it says it is, load nothing from elsewhere, show it in nobody's frame.
async fn guarded(mut response: Response) -> Response {
    const CONTENT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
        base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let own = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", own);
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => json_text(status, text),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

fn json_text(status: StatusCode, text: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// As many answers are being written as may be.
fn crowded() -> Response {
    busy("too many ask at once; try again")
}

/// Too many ask at once.
fn busy(what: &str) -> Response {
    let mut response = json(
        StatusCode::SERVICE_UNAVAILABLE,
        &serde_json::json!({ "error": what }),
    );
    let soon = HeaderValue::from_static("5");
    response.headers_mut().insert(header::RETRY_AFTER, soon);
    response
}

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
use axum::serve::ListenerExt;
use events::Beats;
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use serde::Serialize;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Explanations at once. Fewer than the desk has places for, so that commands about sets find one.
const EXPLAINING: usize = 4;
/// How long a peer may leave what was sent to it unacknowledged, milliseconds: one that is gone, or takes nothing, gives its place back.
const SILENT_MS: u32 = 20_000;

/// What the requests share.
#[derive(Clone)]
struct Shared {
    gate: Arc<Gate>,
    /// The folder of the captures; `None` where none are kept.
    evidence: Option<Arc<PathBuf>>,
    beats: Arc<Beats>,
    explaining: Arc<Semaphore>,
}

/// Serves until `stop` is done. `evidence` is the folder of the captures.
///
/// # Errors
/// What the listener says.
pub async fn serve(
    listener: tokio::net::TcpListener,
    gate: Arc<Gate>,
    access: Access,
    evidence: Option<PathBuf>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let beats = Arc::new(Beats::default());
    let shared = Shared {
        gate: Arc::clone(&gate),
        evidence: evidence.map(Arc::new),
        beats: Arc::clone(&beats),
        explaining: Arc::new(Semaphore::new(EXPLAINING)),
    };
    let listener = listener.tap_io(|stream| {
        // A socket that cannot have it is closed by its other end, as ever.
        let _ = setsockopt(stream, TcpUserTimeout, &SILENT_MS);
    });
    let serving = axum::serve(listener, router(shared, access)).with_graceful_shutdown(stop);
    tokio::select! {
        // Ends with the server: a task of its own would outlive it.
        () = beats.run(gate) => Ok(()),
        served = serving => served,
    }
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

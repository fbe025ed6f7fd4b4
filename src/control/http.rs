//! `/metrics` and `/healthz`, over axum.

use super::metrics::Format;
use super::status::State as Gate;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::future::Future;
use std::sync::Arc;

/// Serves until `stop` is done.
///
/// # Errors
/// What the listener says.
pub async fn serve(
    listener: tokio::net::TcpListener,
    gate: Arc<Gate>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(gate);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}

async fn index() -> &'static str {
    "Portcullis\n\n/metrics  Prometheus metrics\n/healthz  200 while every worker turns\n"
}

async fn metrics(State(gate): State<Arc<Gate>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let format = Format::of_accept(accept.and_then(|accept| accept.to_str().ok()));
    match gate.metrics(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

async fn health(State(gate): State<Arc<Gate>>) -> (StatusCode, &'static str) {
    if gate.healthy() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a worker does not turn\n")
    }
}

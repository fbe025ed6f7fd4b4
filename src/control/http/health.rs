//! The metrics, and whether the gate is well.

use super::{Shared, crowded};
use crate::control::metrics::Format;
use crate::control::status::Heart;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

pub(super) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let format = Format::of_accept(accept.and_then(|accept| accept.to_str().ok()));
    match shared.aside(move |gate| gate.metrics(format)).await {
        None => crowded(),
        Some(Ok(text)) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Some(Err(e)) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

/// Every worker has turned within the last second. A worker takes the policy in force at the start of a turn, so it is applied then.
pub(super) async fn healthy(State(shared): State<Shared>) -> (StatusCode, String) {
    answer(shared.gate.hearts(), |heart| !heart.fresh)
}

/// Every worker has turned at least once: from then on the gate forwards what the policy allows.
pub(super) async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    answer(shared.gate.hearts(), |heart| heart.silent_ms.is_none())
}

fn answer(hearts: Vec<Heart>, unwell: fn(&Heart) -> bool) -> (StatusCode, String) {
    let told: Vec<_> = hearts
        .iter()
        .enumerate()
        .filter(|(_, h)| unwell(h))
        .collect();
    if told.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let one = |(worker, heart): (usize, &Heart)| match heart.silent_ms {
        None => format!("worker {worker} (core {}) has not turned yet\n", heart.core),
        Some(ms) => format!(
            "worker {worker} (core {}) has not turned for {ms} ms\n",
            heart.core
        ),
    };
    let text = told.into_iter().map(one).collect();
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stands_still_is_told_by_its_number_and_core() {
        let heart = |core, silent_ms, fresh| Heart {
            core,
            silent_ms,
            fresh,
        };
        let well = vec![heart(1, Some(3), true), heart(2, Some(0), true)];
        assert_eq!(answer(well, |h| !h.fresh), (StatusCode::OK, "ok\n".into()));
        let unwell = vec![
            heart(1, Some(3), true),
            heart(2, Some(1500), false),
            heart(3, None, false),
        ];
        let (status, text) = answer(unwell, |heart| !heart.fresh);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            text,
            "worker 1 (core 2) has not turned for 1500 ms\nworker 2 (core 3) has not turned yet\n"
        );
    }
}

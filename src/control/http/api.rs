//! What the page is made of, for programs: the status, the last incidents, and `explain`.

use super::{Shared, busy, crowded, json, json_text};
use crate::config::packet::Asked;
use crate::control::recent::MOST;
use crate::control::socket::wrong_packet;
use crate::control::status::State as Gate;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json as value;
use std::time::Duration;

/// How long an explanation may wait for the thread that keeps the policy, which may be compiling one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The status as JSON: what `portcullis status --json` prints.
pub(super) fn status_text(gate: &Gate) -> Vec<u8> {
    serde_json::to_vec(&gate.status()).unwrap_or_default()
}

/// At most so many incidents as JSON, the latest first.
pub(super) fn incidents_text(gate: &Gate, most: usize) -> Vec<u8> {
    // Not put together and written while the lock is held: workers' events wait for it.
    let latest = gate.incidents().0.latest(most);
    serde_json::to_vec(&value!({ "incidents": latest.lines() })).unwrap_or_default()
}

pub(super) async fn status(State(shared): State<Shared>) -> Response {
    match shared.aside(status_text).await {
        Some(text) => json_text(StatusCode::OK, text),
        None => crowded(),
    }
}

/// What may be asked of the incidents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    most: Option<usize>,
}

pub(super) async fn incidents(
    State(shared): State<Shared>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    match wanted {
        Ok(Query(Wanted { most })) => {
            let most = most.unwrap_or(MOST).min(MOST);
            match shared.aside(move |gate| incidents_text(gate, most)).await {
                Some(text) => json_text(StatusCode::OK, text),
                None => crowded(),
            }
        }
        Err(e) => wrong(&e, &format!("write most=N, at most {MOST}")),
    }
}

/// What the policy in force does with a packet. 400 says what is wrong with the packet and what would be right.
pub(super) async fn explain(
    State(shared): State<Shared>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(e) => {
            return wrong(
                &e,
                "write direction=out&proto=udp&src=10.0.0.1:40000&dst=192.0.2.1:53; icmp_type, icmp_code, vlan, ethertype, src_mac, tcp_flags, fragment and app may be given besides",
            );
        }
    };
    let key = match asked.packet().key() {
        Ok(key) => key,
        Err(e) => return json(StatusCode::BAD_REQUEST, &wrong_packet(&e)),
    };
    let answer = shared.gate.desk.explain(key);
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) if answer.get("error").is_some() => {
            json(StatusCode::SERVICE_UNAVAILABLE, &answer)
        }
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(_) => busy("the policy is being changed; try again"),
    }
}

fn wrong(rejected: &QueryRejection, help: &str) -> Response {
    let error = rejected.body_text();
    json(
        StatusCode::BAD_REQUEST,
        &value!({ "error": error, "help": help }),
    )
}

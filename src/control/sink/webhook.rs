//! Any web server: each request is one JSON array of lines.

use super::Failure;
use super::http::Http;
use super::text::json;
use crate::config::sinks;
use crate::control::alerts::Line;
use std::sync::Arc;

pub(super) struct Webhook(Http);

impl Webhook {
    pub fn new(to: &sinks::Http) -> Result<Webhook, String> {
        Http::new(to, "").map(Webhook)
    }

    pub async fn deliver(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        let all: Vec<String> = lines.iter().map(|line| json(line)).collect();
        let body = format!("[{}]", all.join(","));
        self.0.post(body.into_bytes()).await
    }
}

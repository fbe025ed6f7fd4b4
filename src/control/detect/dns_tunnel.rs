//! Data in names that are asked for: many different ones of one domain, long and like noise; or ten times as many, whatever they are, which is what the acknowledgements of a download look like.

use super::bits::Bits;
use super::places::Places;
use super::{Found, is_over, seconds};
use crate::app::safe_text;
use crate::config::detect;
use crate::telemetry::Behaviour;
use crate::telemetry::observe::{DOMAIN, Peer, Question};
use serde_json::json;

/// So many times the bound on names is a tunnel even where they are short.
const SHORT: u32 = 10;
/// Where addresses are looked up by their numbers (RFC 3172): whoever reads logs asks for thousands of names.
const REVERSE: &[u8] = b".arpa";

/// Names of one domain.
struct Names {
    since: u64,
    told: bool,
    questions: u32,
    length: u64,
    longest: u8,
    /// Eighths of a bit.
    entropy: u64,
    different: Bits,
}

impl Names {
    fn since(now: u64) -> Names {
        Names {
            since: now,
            told: false,
            questions: 0,
            length: 0,
            longest: 0,
            entropy: 0,
            different: Bits::default(),
        }
    }
}

/// Of one host.
#[derive(Default)]
pub(super) struct DnsTunnel {
    domains: Places<[u8; DOMAIN], Names, 8>,
}

impl DnsTunnel {
    pub fn asked(
        &mut self,
        settings: &detect::DnsTunnel,
        question: &Question,
        now: u64,
    ) -> Option<Found> {
        let end = question.domain.iter().position(|byte| *byte == 0);
        let domain = &question.domain[..end.unwrap_or(DOMAIN)];
        let is_let_be = settings
            .domains
            .iter()
            .any(|name| name.as_bytes() == domain);
        if question.length == 0 || domain.ends_with(REVERSE) || is_let_be {
            return None;
        }
        let window = settings.window;
        let weight = |names: &Names| match is_over(names.since, window, now) {
            true => 0,
            false => 1 + u64::from(names.different.count()),
        };
        let names = self
            .domains
            .get(question.domain, || Names::since(now), weight);
        if is_over(names.since, window, now) {
            *names = Names::since(now);
        }
        names.questions = names.questions.saturating_add(1);
        names.length += u64::from(question.length);
        names.longest = names.longest.max(question.longest);
        names.entropy += u64::from(question.entropy);
        names.different.set(question.hash);
        let different = names.different.count();
        let questions = names.questions as f32;
        let length = names.length as f32 / questions;
        let entropy = names.entropy as f32 / 8.0 / questions;
        let like_noise = length >= settings.length as f32 && entropy >= settings.entropy;
        let many =
            different >= settings.names && (like_noise || different >= settings.names * SHORT);
        if !many || std::mem::replace(&mut names.told, true) {
            return None;
        }
        Some(Found {
            behaviour: Behaviour::DnsTunnel,
            // By whatever server it goes.
            peer: Peer {
                address: question.server,
                port: 53,
                proto: 17,
            },
            frames: names.questions,
            numbers: json!({
                "kind": Behaviour::DnsTunnel.name(),
                "domain": safe_text(domain, DOMAIN),
                "names": different,
                "length": tenths(length),
                "longest_label": names.longest,
                "entropy": tenths(entropy),
                "seconds": seconds(names.since, now),
            }),
        })
    }
}

/// With one decimal place.
fn tenths(number: f32) -> f64 {
    (f64::from(number) * 10.0).round() / 10.0
}

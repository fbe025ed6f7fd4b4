//! The rules, and the policy that they are of.

use super::family::{Families, Of};
use super::lines::{Kind, head, sample};
use super::{Format, Source};
use crate::control::snapshot::RuleHits;
use crate::control::status::origin;
use crate::policy::Severity;
use std::fmt;

/// What there is of each rule, straight into the text.
pub(super) fn rules(out: &mut String, format: Format, source: &Source<'_>) -> fmt::Result {
    let rules = &source.counters.rules.0;
    let counters: [Of<RuleHits, u64>; 3] = [
        (
            "portcullis_rule_packets_total",
            "Frames that a rule decided.",
            |hits| hits.packets,
        ),
        (
            "portcullis_rule_bytes_total",
            "Bytes of the frames that a rule decided.",
            |hits| hits.bytes,
        ),
        ("portcullis_alerts_total", "Alerts told, by rule.", |hits| {
            hits.alerts
        }),
    ];
    for (name, help, of) in counters {
        head(out, format, (name, Kind::Counter), help)?;
        for (rule, hits) in rules {
            sample(out, name, [("rule", &**rule)], of(hits))?;
        }
    }
    let gauges: [Of<RuleHits, bool>; 2] = [
        (
            "portcullis_rule_expired",
            "1 for a rule whose time-to-live is over, so that it matches nothing any more, else 0.",
            |hits| hits.expired,
        ),
        (
            "portcullis_rule_shadow",
            "1 for a rule that is judged and not enforced, else 0.",
            |hits| hits.shadow,
        ),
    ];
    for (name, help, of) in gauges {
        head(out, format, (name, Kind::Gauge), help)?;
        for (rule, hits) in rules {
            sample(out, name, [("rule", &**rule)], u8::from(of(hits)))?;
        }
    }
    let name = "portcullis_rule_info";
    let help = "Always 1; the place of the rule in the order of evaluation, what it does, how loud its alert is, and where it comes from stand in the labels.";
    head(out, format, (name, Kind::Gauge), help)?;
    for (order, rule) in source.policy.rules().iter().enumerate() {
        let labels = [
            ("rule", &*rule.name),
            ("order", &*(order + 1).to_string()),
            ("action", rule.action.name()),
            ("alert", rule.alert.map_or("none", Severity::name)),
            ("from", &*origin(rule)),
        ];
        sample(out, name, labels, 1)?;
    }
    Ok(())
}

pub(super) fn policy(families: &mut Families, source: &Source<'_>) {
    let config = source.config;
    families
        .gauge(
            "portcullis_config_info",
            "Always 1; the SHA-256 of the config file's text stands in the label.",
        )
        .count(&[("sha256", &config.sha256)], 1);
    for (name, help, n) in [
        (
            "portcullis_config_loaded_timestamp_seconds",
            "When the config file was read, seconds since the Unix epoch.",
            config.loaded,
        ),
        (
            "portcullis_shadow",
            "1 where every frame is forwarded and nothing is enforced, else 0.",
            source.policy.is_shadow().into(),
        ),
        (
            "portcullis_policy_generation",
            "Policies in force since the start, this one included.",
            source.policy.number(),
        ),
    ] {
        families.gauge(name, help).count(&[], n);
    }
    let mut reloads = families.counter(
        "portcullis_config_reloads_total",
        "Other configs since the start, by what became of them: taken, refused, or taken and then rolled back.",
    );
    let status = source.reloads;
    reloads.count(&[("result", "ok")], status.taken);
    reloads.count(&[("result", "error")], status.refused);
    reloads.count(&[("result", "rolled-back")], status.rolled_back);
    let name = "portcullis_config_refused";
    let help = "1 where the last config that was to be taken was refused, so that the one before is in force, else 0.";
    families
        .gauge(name, help)
        .count(&[], status.error.is_some().into());
    let name = "portcullis_config_unconfirmed";
    let help = "1 while a config is in force that is rolled back unless it is confirmed, else 0.";
    families
        .gauge(name, help)
        .count(&[], status.confirm_until.is_some().into());
    families
        .gauge(
            "portcullis_quarantined_hosts",
            "Hosts that are in quarantine.",
        )
        .count(&[], source.quarantined as u64);
    let mut reloads = families.counter(
        "portcullis_set_reloads_total",
        "Set files that changed, by whether the change was taken.",
    );
    let (ok, error) = source.set_reloads;
    reloads.count(&[("result", "ok")], ok);
    reloads.count(&[("result", "error")], error);
    let mut refused = families.gauge(
        "portcullis_set_refused",
        "1 for a set whose file as it is now was not taken, so that what was read before is in force, else 0.",
    );
    for (set, is) in source.set_refused {
        refused.count(&[("set", set)], (*is).into());
    }
}

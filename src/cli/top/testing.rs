//! Answers of a gate, for tests.

use serde_json::{Value, json};

/// What [`crate::control::status::Status`] is as JSON.
pub(super) fn status() -> Value {
    let port = |interface: &str| {
        json!({
            "interface": interface, "mode": "copy", "queues": 1, "rx": 1000, "rx_bytes": 100_000,
            "forwarded": 900, "forwarded_bytes": 90_000, "dropped": { "rule": 90, "no-flow": 10 }, "rejected": 0,
            "shadow": {}, "to_host_stack": 0, "tx": 900, "tx_failed": 0, "replies": 0, "balanced": true,
            "kernel": {}, "gate_no_socket": 0, "gate_stale": 0, "gate_unfiltered": 0, "gate_unfiltered_ms": 0,
        })
    };
    let rule = |action: &str, alert: Value, packets: u64, alerts: u64| {
        json!({
            "action": action, "alert": alert, "from": "built in", "packets": packets, "bytes": packets * 57 + 1 - packets % 2,
            "alerts": alerts,
        })
    };
    let mut status = json!({
        "version": "0.1.0", "pid": 7, "uptime_s": 192, "healthy": true, "balanced": true, "shadow": false,
        "generation": 1, "ports": { "lan": port("enp1s0"), "uplink": port("enp2s0") },
        "rules": {
            "tftp": rule("drop", "high".into(), 7, 2),
            "irc": rule("drop", "high".into(), 0, 0),
            "web": rule("allow", Value::Null, 123_456_789, 0),
            "guests": rule("drop", Value::Null, 0, 0),
            "default": rule("allow", Value::Null, 12, 0),
        },
        "workers": [
            { "core": 1, "heartbeat_ms": 3, "turns": 800, "busy_turns": 50, "rx": 9 },
            { "core": 2, "heartbeat_ms": 0, "turns": 800, "busy_turns": 50, "rx": 9 },
        ],
        "config": { "file": "/etc/portcullis/portcullis.toml", "sha256": "ab12cd34ef567890", "loaded": 1 },
        "alerts": 2, "alert_events_lost": 0, "alerts_lost": 0,
        "sinks": { "file": { "kind": "file", "state": "ok", "sent": 2, "waiting": 0, "lost": 0, "errors": 0 } },
        "sets": {},
    });
    status["rules"]["tftp"]["bytes"] = 400.into();
    status["rules"]["guests"]["shadow"] = true.into();
    status
}

/// What the gate says to [`Incidents`](crate::control::socket::Request::Incidents).
pub(super) fn incidents() -> Value {
    json!({ "incidents": [
        incident("2", "tftp", "high", "10.77.0.9"),
        incident("1", "irc", "medium", "10.77.0.31"),
    ] })
}

pub(super) fn incident(id: &str, rule: &str, level: &str, host: &str) -> Value {
    json!({
        "timestamp": "1970-01-01T12:04:05.250000+0000", "direction": "out", "src_ip": host, "src_port": 40000,
        "dest_ip": "93.184.216.34", "dest_port": 69, "proto": "UDP", "src_mac": "02:00:00:00:00:09",
        "dest_mac": "02:00:00:00:00:01", "app_proto": "tftp",
        "tftp": { "operation": "read", "file": "payload.bin", "mode": "octet" },
        "alert": {
            "action": "blocked", "signature": rule, "level": level, "host": host, "host_name": "desk-9",
            "host_name_from": "dhcp", "verdict": "drop", "incident": id, "packets": 17, "destinations": 1,
            "first_seen": "1970-01-01T12:04:01.000000+0000", "last_seen": "1970-01-01T12:04:05.250000+0000",
            "evidence": "/var/lib/portcullis/evidence/1-tftp.pcapng",
            "hint": "if 10.77.0.9 is a mail server, run: portcullis sets add mail_servers 10.77.0.9",
        },
    })
}

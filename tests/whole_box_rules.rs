//! What a rule may carry beside its match: a limit, a time-to-live, shadow; and the whole box in shadow.

mod common;

use common::craft::{self, Packet, TCP, UDP, numbered};
use common::gate::{config, dropped, get, number, portcullis};
use common::wire::NOT_COMING;
use common::{Gate, Lab, SOON, Wire, until};
use std::time::{Duration, Instant};

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:9155\"\n";

#[test]
fn a_limit_lets_its_rate_and_burst_through_at_ten_times_the_rate_and_nothing_else_suffers() {
    let Some(lab) = Lab::new() else { return };
    let rule = r#"
[[rule]]
name   = "some-dns"
proto  = "udp"
dport  = [53]
action = "allow"
limit  = { rate = "50/s", burst = 50 }
"#;
    let gate = Gate::with(&lab, &config(&lab, "", rule));
    let (lan, uplink) = Wire::both(&lab);
    let other = Packet::out(TCP, 443).frame();
    // A thousand frames in two seconds: ten times the rate.
    let (start, every) = (Instant::now(), Duration::from_millis(2));
    let sent = 1000;
    for n in 0..sent {
        lan.send(&numbered(n));
        if n.is_multiple_of(10) {
            lan.send(&other);
        }
        std::thread::sleep((every * n as u32).saturating_sub(start.elapsed()));
    }
    let status = gate.assert_accounts([sent + sent / 10, 0]);
    let took = start.elapsed().as_secs_f64();
    let passed = uplink.drain().len() as u64 - sent / 10;
    let most = 50.0 + 50.0 * took + 1.0;
    assert!(passed as f64 <= most, "{passed} of {sent} in {took} s");
    // What a machine with other things to do holds up comes at once, and finds the bucket emptier than it might have been.
    assert!(passed >= 75, "{passed} of {sent} in {took} s");
    assert_eq!(dropped(&status, "lan", "rate-limit"), sent - passed);
    assert_eq!(number(&status["rules"]["some-dns"]["packets"]), sent);
}

#[test]
fn a_rule_ends_with_its_time_to_live_and_status_and_metrics_say_so() {
    let Some(lab) = Lab::new() else { return };
    let rule = r#"
[[rule]]
name   = "for-now"
proto  = "udp"
dport  = [53]
action = "drop"
ttl    = "3s"
"#;
    let start = Instant::now();
    let gate = Gate::with(&lab, &config(&lab, "", &format!("{rule}{METRICS}")));
    let (lan, uplink) = Wire::both(&lab);
    let mut sent = 0;
    let mut passes = |limit| {
        lan.send(&numbered(sent));
        sent += 1;
        uplink.next(limit).is_some()
    };
    // A slow start may have used the time up.
    let early = passes(NOT_COMING);
    assert!(!early || start.elapsed() > Duration::from_secs(3));
    until("the end of the rule", SOON, || {
        passes(Duration::from_millis(20)).then_some(())
    });
    assert!(start.elapsed() >= Duration::from_secs(3));
    assert!(start.elapsed() < Duration::from_secs(8));
    let status = gate.assert_accounts([sent, 0]);
    assert_eq!(status["rules"]["for-now"]["expired"], true);
    // A frame that was slow to come has passed all the same.
    let passed = number(&status["ports"]["lan"]["forwarded"]);
    assert!(passed > 0);
    assert_eq!(
        number(&status["rules"]["for-now"]["packets"]),
        sent - passed
    );
    assert_eq!(status["generation"], 2);
    assert!(gate.log().contains("rule `for-now`"), "{}", gate.log());
    let page = get(&lab, "/metrics").1;
    assert!(page.contains("portcullis_rule_expired{rule=\"for-now\"} 1"));
}

#[test]
fn a_rule_in_shadow_alerts_and_lets_the_frame_through() {
    let Some(lab) = Lab::new() else { return };
    let rule = r#"
[[rule]]
name   = "trial"
proto  = "udp"
dport  = [53, 69]
action = "drop"
shadow = true
"#;
    let gate = Gate::with(&lab, &config(&lab, "", rule));
    let (lan, uplink) = Wire::both(&lab);
    lan.send(&Packet::out(UDP, 69).frame());
    lan.send(&numbered(7));
    assert_eq!(uplink.next(SOON), Some(numbered(7)));
    assert_eq!(uplink.next(NOT_COMING), None, "the built-in rule decides");
    let status = gate.assert_accounts([2, 0]);
    let trial = &status["rules"]["trial"];
    assert_eq!(
        (number(&trial["packets"]), &trial["shadow"]),
        (2, &true.into())
    );
    assert_eq!(number(&status["rules"]["tftp"]["packets"]), 1);
    // One incident of `trial`, one of `tftp`.
    let alerts = gate.alerts(2);
    let of = |name: &str| {
        let found = alerts.iter().find(|a| a["alert"]["signature"] == name);
        &found.unwrap_or_else(|| panic!("no {name}: {alerts:#?}"))["alert"]
    };
    let trial = of("trial");
    assert_eq!(trial["shadow"], true);
    assert_eq!(
        (&trial["verdict"], &trial["action"]),
        (&"drop".into(), &"allowed".into())
    );
    assert!(of("tftp")["shadow"].is_null());
    assert_eq!(of("tftp")["action"], "blocked");
}

#[test]
fn a_box_in_shadow_forwards_every_frame_and_says_that_nothing_is_enforced() {
    let Some(lab) = Lab::new() else { return };
    let more = format!("[policy]\nshadow = true\n{METRICS}");
    let gate = Gate::with(&lab, &config(&lab, "", &more));
    assert!(gate.log().contains("NOTHING IS ENFORCED"), "{}", gate.log());
    let (lan, uplink) = Wire::both(&lab);
    let mut malformed = numbered(1);
    // An IPv4 header that is longer than the frame.
    malformed[14] = 0x4f;
    malformed.truncate(40);
    let frames = [
        Packet::out(UDP, 69).frame(),
        craft::padded(Packet::out(TCP, 25).frame(), 60),
        malformed,
        craft::ethernet(craft::ROUTER, craft::HOST, 0x8847, &[0; 46]),
        numbered(2),
    ];
    for frame in &frames {
        lan.send(frame);
    }
    assert_eq!(uplink.frames(frames.len(), SOON), frames);
    let status = gate.assert_accounts([5, 0]);
    assert_eq!(status["shadow"], true);
    let port = &status["ports"]["lan"];
    assert_eq!(port["dropped"], serde_json::json!({}));
    let would = serde_json::json!({"rule": 2, "malformed": 1, "ethertype": 1});
    assert_eq!(port["shadow"], would);
    for alert in gate.alerts(2) {
        assert_eq!(alert["alert"]["shadow"], true, "{alert:#}");
        assert_eq!(alert["alert"]["verdict"], "drop");
        assert_eq!(alert["alert"]["action"], "allowed");
    }
    let arguments = ["status", "--socket", gate.socket.to_str().expect("UTF-8")];
    let human = portcullis(&lab, &arguments).stdout;
    assert!(human.contains("NOTHING IS ENFORCED"), "{human}");
    let page = get(&lab, "/metrics").1;
    for line in [
        "portcullis_shadow 1",
        "portcullis_shadow_frames_total{port=\"lan\",reason=\"malformed\"} 1",
        "portcullis_dropped_frames_total{port=\"lan\",reason=\"malformed\"} 0",
    ] {
        assert!(page.contains(line), "no `{line}` in {page}");
    }
}

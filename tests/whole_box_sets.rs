//! Sets that come from files, changed while the whole box runs.

mod common;

use common::craft::{Packet, UDP, number_of, numbered, padded};
use common::gate::{config, get, number, portcullis};
use common::wire::NOT_COMING;
use common::{Gate, Lab, SOON, Wire, until};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Where the two hosts are that go in and out of the set.
const OLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const NEW: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// UDP to nobody but those in the file; numbered frames to the server go to port 53 and pass.
const RULE: &str = r#"
[policy]
profile = "none"

[[rule]]
name  = "partners-only"
proto = "udp"
dport = [4000]
dst   = "!@partners"
action = "drop"
"#;

fn behind(lab: &Lab, more: &str) -> String {
    let text = config(lab, "", &format!("{RULE}{more}"));
    text.replace(
        "[sets]\n",
        "[sets]\npartners = { file = \"partners.txt\" }\n",
    )
}

fn write(lab: &Lab, text: &str) {
    std::fs::write(lab.dir().join("partners.txt"), text).expect("a set file");
}

/// By a new file that is renamed into place, as a careful administrator does.
fn replace(lab: &Lab, text: &str) {
    let new = lab.dir().join("partners.new");
    std::fs::write(&new, text).expect("a set file");
    std::fs::rename(&new, lab.dir().join("partners.txt")).expect("renamed");
}

/// A frame to a host of the set, with a number in it.
fn to(host: Ipv4Addr, n: u64) -> Vec<u8> {
    let mut packet = Packet::out(UDP, 4000).payload(&n.to_be_bytes());
    packet.dst4 = host;
    padded(packet.frame(), 60)
}

fn set(status: &Value) -> &Value {
    &status["sets"]["partners"]
}

fn wait_for(gate: &Gate<'_>, key: &str, n: u64) -> Value {
    until("the set file to be read", SOON, || {
        let status = gate.status();
        (number(&set(&status)[key]) == n).then_some(status)
    })
}

#[test]
fn a_host_added_to_a_set_file_is_allowed_within_two_seconds_and_no_frame_is_lost_or_judged_by_a_mix()
 {
    let Some(lab) = Lab::new() else { return };
    write(&lab, &format!("{OLD}\n"));
    let gate = Gate::with(&lab, &behind(&lab, ""));
    let (lan, uplink) = Wire::both(&lab);
    let stop = AtomicBool::new(false);
    // In turn to the host that goes, to the one that comes, and to one that every policy allows.
    let frame = |n: u64| match n % 3 {
        0 => to(OLD, n),
        1 => to(NEW, n),
        _ => numbered(n),
    };
    let (sent, changed) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = Vec::new();
            while !stop.load(Relaxed) && sent.len() < 20_000 {
                lan.send(&frame(sent.len() as u64));
                sent.push(Instant::now());
                std::thread::sleep(Duration::from_micros(300));
            }
            sent
        });
        std::thread::sleep(Duration::from_millis(300));
        let changed = Instant::now();
        replace(&lab, &format!("{NEW}\n"));
        wait_for(&gate, "reloads", 1);
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Relaxed);
        (sending.join().expect("the sender"), changed)
    });
    let status = gate.assert_accounts([sent.len() as u64, 0]);
    let got: Vec<u64> = uplink.drain().iter().map(|f| number_of(f)).collect();
    assert!(got.is_sorted(), "out of order");
    let of = |kind: u64| got.iter().copied().filter(move |n| n % 3 == kind);
    let first_new = of(1).next().expect("a frame to the new host");
    let took = sent[first_new as usize].duration_since(changed);
    assert!(took < Duration::from_secs(2), "{took:?}");
    // There is one frame from which on everything was judged by the new policy.
    let all = |kind: u64| (0..sent.len() as u64).filter(move |n| n % 3 == kind);
    let last_old = of(0).next_back().expect("a frame to the old host");
    assert!(of(0).eq(all(0).filter(|n| *n <= last_old)), "a hole");
    assert!(of(1).eq(all(1).filter(|n| *n >= first_new)), "a hole");
    assert!(
        last_old < first_new && first_new - last_old <= 4,
        "the old host until {last_old}, the new one from {first_new} on"
    );
    assert!(
        of(2).eq(all(2)),
        "a frame that every policy allows was lost"
    );
    assert_eq!(status["generation"], 2);
    assert_eq!(number(&status["ports"]["lan"]["tx"]), got.len() as u64);
}

#[test]
fn a_broken_or_missing_set_file_leaves_the_old_set_in_force_and_says_where_it_is_wrong() {
    let Some(lab) = Lab::new() else { return };
    write(&lab, &format!("# ours\n{OLD}\n"));
    let more = "[metrics]\nlisten = \"127.0.0.1:9155\"\n";
    let gate = Gate::with(&lab, &behind(&lab, more));
    let (lan, uplink) = Wire::both(&lab);
    let assert_old = |n: u64| {
        lan.send(&to(NEW, n));
        lan.send(&to(OLD, n));
        let got = uplink.next(SOON).expect("a frame to the old host");
        assert_eq!(got, to(OLD, n));
        assert_eq!(uplink.next(NOT_COMING), None);
    };
    assert_old(1);
    write(&lab, &format!("{OLD}\n{NEW}/33\n"));
    let status = wait_for(&gate, "errors", 1);
    let error = set(&status)["error"].as_str().expect("an error");
    assert!(error.contains("partners.txt:2:1"), "{error}");
    assert_eq!(number(&set(&status)["entries"]), 1);
    assert_old(2);
    let arguments = ["status", "--socket", gate.socket.to_str().expect("UTF-8")];
    let human = portcullis(&lab, &arguments).stdout;
    assert!(human.contains("NOT TAKEN"), "{human}");
    assert!(gate.log().contains("partners.txt:2:1"), "{}", gate.log());
    std::fs::remove_file(lab.dir().join("partners.txt")).expect("removed");
    wait_for(&gate, "errors", 2);
    assert_old(3);
    write(&lab, &format!("{NEW}\n"));
    let status = wait_for(&gate, "reloads", 1);
    assert!(set(&status)["error"].is_null(), "{status:#}");
    lan.send(&to(OLD, 4));
    lan.send(&to(NEW, 4));
    assert_eq!(uplink.next(SOON), Some(to(NEW, 4)));
    let page = get(&lab, "/metrics").1;
    for line in [
        "portcullis_set_reloads_total{result=\"ok\"} 1",
        "portcullis_set_reloads_total{result=\"error\"} 2",
        "portcullis_policy_generation 2",
        "portcullis_shadow 0",
    ] {
        assert!(page.contains(line), "no `{line}` in {page}");
    }
    gate.assert_accounts([8, 0]);
}

#[test]
fn a_hundred_thousand_prefixes_come_into_force_while_frames_go_on() {
    let Some(lab) = Lab::new() else { return };
    write(&lab, &format!("{OLD}\n"));
    let gate = Gate::with(&lab, &behind(&lab, ""));
    let (lan, uplink) = Wire::both(&lab);
    // 100,000 prefixes that do not merge, and the host.
    let mut text: String = (0..100_000u32)
        .map(|n| format!("{}/31\n", Ipv4Addr::from(0x2000_0000 + n * 4)))
        .collect();
    text += &format!("{NEW}\n");
    replace(&lab, &text);
    let (mut sent, mut got) = (0, Vec::new());
    until("the new host", SOON * 3, || {
        lan.send(&to(NEW, sent));
        lan.send(&numbered(sent));
        sent += 1;
        got.extend(uplink.frames(2, Duration::from_millis(20)));
        got.contains(&to(NEW, sent - 1)).then_some(())
    });
    let status = wait_for(&gate, "reloads", 1);
    assert_eq!(number(&set(&status)["entries"]), 100_001);
    gate.assert_accounts([2 * sent, 0]);
    got.extend(uplink.drain());
    let missing = (0..sent).find(|n| !got.contains(&numbered(*n)));
    assert_eq!(missing, None, "an allowed frame was lost");
    let log = gate.log();
    let line = log.lines().find(|line| line.contains("set @partners"));
    let line = line.expect("a line about the set");
    eprintln!("{line}");
    let spent: u64 = line
        .split(" ms")
        .filter_map(|part| part.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    // Unoptimised code is another thing.
    assert!(cfg!(debug_assertions) || spent < 1000, "{line}");
}

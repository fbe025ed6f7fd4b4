//! One host of the LAN floods with connections that nobody answers, tens of thousands a second; another one goes on connecting. (As fast as it
//! can it would take the two cores of a small machine too, and what is lost then is lost before the gate.)

mod common;

use common::gate::{config, number};
use common::{Gate, Lab};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

/// Far fewer than the flood opens.
const FLOWS: u64 = 4096;
const CONNECTIONS: usize = 20;

#[test]
fn a_syn_flood_leaves_another_host_s_new_connections_working() {
    let Some(lab) = Lab::addressed() else { return };
    lab.ip("lan", "address add 10.77.0.10/24 dev lan0");
    let text = format!("[flows]\nsize = {FLOWS}\nper_host = {FLOWS}\n");
    let gate = Gate::with(&lab, &config(&lab, "idle = \"spin\"", &text));
    let listener = lab.within("uplink", || TcpListener::bind("93.184.216.34:80").unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever is gone already has no need of the answer.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    lab.must("lan", "ping", "-c 1 -W 5 93.184.216.34");
    // Nobody has that address: every SYN stays half-open.
    // It ends with this thread at the latest.
    let mut flood = lab
        .command("lan", "hping3")
        .args(["-q", "-n", "-i", "u20", "-S", "-p", "80", "93.184.216.99"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("hping3 is needed");
    let opened = || number(&gate.status()["flows"]["opened"]);
    common::until(
        "the table to be full several times over",
        common::SOON,
        || (opened() > 4 * FLOWS).then_some(()),
    );
    for n in 0..CONNECTIONS {
        let out = lab
            .command("lan", "curl")
            .args([
                "-s",
                "-m",
                "30",
                "--interface",
                "10.77.0.10",
                "http://93.184.216.34/",
            ])
            .output()
            .expect("curl is needed");
        assert_eq!(out.stdout, b"ok", "connection {n}: {out:?}");
    }
    let flooded = opened();
    let still = flood.try_wait().expect("a child").is_none();
    let _ = flood.kill();
    let _ = flood.wait();
    assert!(still, "the flood went on all the while");
    let status = gate.status();
    let flows = &status["flows"];
    println!("{CONNECTIONS} connections beside a flood of {flooded}: {flows}");
    assert!(number(&flows["evicted"]) > FLOWS);
    assert_eq!(
        status["ports"]["lan"]["dropped"].get("flow-table-full"),
        None
    );
    gate.assert_balanced();
}

/// Frames that alert, as fast as they can be sent. (A million in memory: src/worker/teller.rs.)
const ALARMS: u64 = 200_000;

#[test]
fn alerting_frames_of_one_host_are_counted_and_another_host_s_first_alert_comes_within_a_second() {
    let Some(lab) = Lab::addressed() else { return };
    lab.ip("lan", "address add 10.77.0.10/24 dev lan0");
    let gate = Gate::with(&lab, &config(&lab, "idle = \"spin\"", ""));
    lab.must("lan", "ping", "-c 1 -W 5 93.184.216.34");
    let mut flood = lab
        .command("lan", "hping3")
        .args(["-q", "-n", "--flood", "--udp", "-p", "69", "93.184.216.34"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("hping3 is needed");
    let begun = Instant::now();
    let of_tftp = |key: &str| number(&gate.status()["rules"]["tftp"][key]);
    common::until("half of the flood", common::SOON * 6, || {
        (of_tftp("packets") > ALARMS / 2).then_some(())
    });
    let asked = lab.within("lan", || UdpSocket::bind("10.77.0.10:0").unwrap());
    let line = common::until("the other host's alert", common::SOON, || {
        // Under a flood a frame may be lost before the gate.
        asked
            .send_to(b"\0\x01a\0octet\0", "93.184.216.34:69")
            .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        lines(&lab)
            .into_iter()
            .find(|line| line["src_ip"] == "10.77.0.10")
    });
    let stamp = line["timestamp"].as_str().unwrap().replace("+0000", "Z");
    let came = humantime::parse_rfc3339(&stamp);
    let late = SystemTime::now().duration_since(came.unwrap()).unwrap();
    common::until("the whole of it", common::SOON * 6, || {
        (of_tftp("packets") > ALARMS).then_some(())
    });
    let took = begun.elapsed();
    let _ = flood.kill();
    let _ = flood.wait();
    println!(
        "{} alerting frames in {took:?}; the other host's alert was read after {late:?}",
        of_tftp("packets")
    );
    assert!(late < Duration::from_secs(1), "{late:?}");
    let status = gate.status();
    assert_eq!(number(&status["alert_events_lost"]), 0);
    let of = |host: &str| {
        let all = lines(&lab).into_iter();
        all.filter(|line| line["src_ip"] == host)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("10.77.0.9").len(),
        1,
        "repeats within the window are counted, not told"
    );
    let dropped = common::until("all of it to be judged", common::SOON, || {
        let before = of_tftp("packets");
        std::thread::sleep(Duration::from_millis(300));
        (of_tftp("packets") == before).then_some(before)
    });
    gate.assert_balanced();
    gate.end(nix::sys::signal::Signal::SIGTERM);
    let packets = |host| number(&of(host).last().expect("a line")["alert"]["packets"]);
    assert_eq!(packets("10.77.0.9") + packets("10.77.0.10"), dropped);
}

/// The alert file as it is now.
fn lines(lab: &Lab) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.dir().join("alerts.jsonl")).unwrap_or_default();
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

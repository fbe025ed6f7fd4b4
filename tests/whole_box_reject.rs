//! A rejecting rule, as real sockets in the LAN see it.

mod common;

use common::craft::{SERVER4, SERVER6};
use common::gate::{config, number};
use common::lab::Cables;
use common::{Gate, Lab, Wire};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 9999;
const AT_ONCE: Duration = Duration::from_secs(1);

const RULE: &str = r#"
[[rule]]
name   = "no-9999"
proto  = ["tcp", "udp"]
dport  = [9999]
action = "reject"
alert  = "low"
"#;

fn servers() -> [SocketAddr; 2] {
    [IpAddr::from(SERVER4), IpAddr::from(SERVER6)].map(|ip| SocketAddr::new(ip, PORT))
}

/// Frames that carry the port anywhere in their first 80 bytes.
fn with_port(frames: &[Vec<u8>]) -> usize {
    let port = PORT.to_be_bytes();
    frames
        .iter()
        .filter(|frame| frame.windows(2).take(80).any(|two| two == port))
        .count()
}

/// Runs `attempts` in the LAN behind a gate with the rule; `rejected` frames were refused, and none reached the uplink.
fn behind_the_rule(attempts: impl FnOnce(&Lab) + Send, rejected: u64) {
    let Some(lab) = Lab::addressed() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", RULE));
    let uplink = Wire::open(&lab, "uplink", "up0");
    attempts(&lab);
    let status = gate.assert_nothing_lost();
    let lan = &status["ports"]["lan"];
    assert_eq!(number(&lan["rejected"]), rejected, "{status:#}");
    assert_eq!(
        number(&status["ports"]["uplink"]["replies"]),
        rejected,
        "{status:#}"
    );
    assert_eq!(number(&status["rules"]["no-9999"]["packets"]), rejected);
    let seen = uplink.drain();
    assert!(!seen.is_empty(), "not even ARP got through");
    assert_eq!(with_port(&seen), 0, "a rejected frame reached the uplink");
    // One incident for each address family.
    let alerts = gate.alerts(2);
    assert!(
        alerts.iter().all(|a| a["alert"]["verdict"] == "reject"),
        "{alerts:#?}"
    );
}

#[test]
fn a_rejected_connection_fails_at_once_as_refused() {
    let attempts = |lab: &Lab| {
        for server in servers() {
            let start = Instant::now();
            let failed = lab.within("lan", || TcpStream::connect_timeout(&server, AT_ONCE * 5));
            let took = start.elapsed();
            let kind = failed.err().map(|e| e.kind());
            assert_eq!(kind, Some(ErrorKind::ConnectionRefused), "{server}");
            assert!(took < AT_ONCE, "{took:?}");
        }
    };
    behind_the_rule(attempts, 2);
}

#[test]
fn curl_says_that_a_rejected_connection_was_refused() {
    let attempts = |lab: &Lab| {
        for server in servers() {
            let start = Instant::now();
            let out = lab
                .command("lan", "curl")
                .args(["-sS", "-g", "--max-time", "5", &format!("http://{server}/")])
                .output()
                .expect("curl is needed");
            let took = start.elapsed();
            let said = String::from_utf8_lossy(&out.stderr);
            // 7: could not connect (curl(1)).
            assert_eq!(out.status.code(), Some(7), "{said}");
            assert!(
                said.contains("refused") || said.contains("Couldn't connect"),
                "{said}"
            );
            assert!(took < AT_ONCE, "{took:?}");
        }
    };
    behind_the_rule(attempts, 2);
}

#[test]
fn a_rejected_datagram_is_answered_as_administratively_prohibited() {
    let attempts = |lab: &Lab| {
        for server in servers() {
            let any = if server.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let failed = lab.within("lan", || {
                let socket = UdpSocket::bind(any)?;
                socket.connect(server)?;
                socket.set_read_timeout(Some(AT_ONCE * 5))?;
                socket.send(b"hello")?;
                socket.recv(&mut [0; 64])
            });
            // icmp_err_convert in net/ipv4/icmp.c: code 13 is EHOSTUNREACH; tab_unreach in net/ipv6/icmp.c: code 1 is EACCES.
            let expected = if server.is_ipv4() {
                nix::libc::EHOSTUNREACH
            } else {
                nix::libc::EACCES
            };
            let code = failed.expect_err("nobody answers").raw_os_error();
            assert_eq!(code, Some(expected), "{server}");
        }
    };
    behind_the_rule(attempts, 2);
}

#[test]
fn what_is_not_rejected_connects_through_the_same_gate() {
    let Some(lab) = Lab::addressed() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", RULE));
    for ip in [IpAddr::from(SERVER4), IpAddr::from(SERVER6)] {
        let server = SocketAddr::new(ip, 8080);
        let listener = lab
            .within("uplink", || std::net::TcpListener::bind(server))
            .expect("a listener");
        let (from, to) = std::thread::scope(|scope| {
            let accepting = scope.spawn(|| listener.accept());
            let stream = lab.within("lan", || TcpStream::connect_timeout(&server, AT_ONCE * 5));
            let stream = stream.expect("a connection");
            let (_, from) = accepting.join().expect("a thread").expect("a client");
            (from, stream.local_addr().expect("an address"))
        });
        assert_eq!(from, to);
    }
    let status = gate.assert_nothing_lost();
    assert_eq!(number(&status["ports"]["lan"]["rejected"]), 0);
}

#[test]
fn answers_on_more_queues_inside_than_outside_are_all_accounted_for() {
    let cables = Cables {
        queues: [2, 1],
        addresses: true,
        ..Cables::default()
    };
    let Some(lab) = Lab::with(cables) else { return };
    let gate = Gate::with(&lab, &config(&lab, "", RULE));
    const ATTEMPTS: u64 = 60;
    for n in 0..ATTEMPTS {
        let server = servers()[n as usize % 2];
        // Each from another port, so that both queues have their share.
        let failed = lab.within("lan", || TcpStream::connect_timeout(&server, AT_ONCE * 5));
        let kind = failed.err().map(|e| e.kind());
        assert_eq!(kind, Some(ErrorKind::ConnectionRefused), "{server}");
    }
    let status = gate.assert_balanced();
    assert_eq!(number(&status["ports"]["lan"]["rejected"]), ATTEMPTS);
    assert_eq!(number(&status["ports"]["uplink"]["replies"]), ATTEMPTS);
}

//! Every expression of the dashboard and the rules, asked of a real Prometheus that scrapes a live gate with real traffic.

use super::common::gate::{config, get};
use super::common::{Gate, Lab, SOON, until};
use super::dashboard::{self, Expression};
use super::rules;
use super::server::Prometheus;
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A part of everything that has series of its own: a sink that is dead, captures, a rule in shadow, one that has ended, decoys, an address in band.
const EVERYTHING: &str = r#"
[metrics]
listen = "127.0.0.1:9155"

[[rule]]
name   = "proxy"
proto  = "tcp"
dport  = 8080
action = "drop"
alert  = "low"
shadow = true

[[rule]]
name   = "odd"
proto  = "tcp"
dport  = 4444
action = "decoy"
decoy  = "raw"

[inband]
address = "10.77.0.2/24"
allow   = ["10.77.0.9"]

[[rule]]
name   = "visitor"
src    = "10.77.0.99"
action = "allow"
ttl    = "1s"

[[sink]]
kind      = "syslog"
name      = "dead"
address   = "127.0.0.1:6514"
transport = "tcp"
queue     = 3
"#;

/// What has no data while all is well, and why.
const RIGHTLY_EMPTY: &[(&str, &str)] = &[
    (
        "changes(portcullis_config_loaded_timestamp_seconds{instance=\"127.0.0.1:9155\"}[2m]) > 0",
        "the config was loaded once, before the first scrape",
    ),
    (
        "sum by (port, reason) (rate(portcullis_shadow_frames_total{instance=\"127.0.0.1:9155\"}[15s])) > 0",
        "the box is not in shadow; it is where the alerts' causes are made, and has data there",
    ),
    (
        "portcullis_port_info{mode=\"generic\"}",
        "both ports run in driver mode; the cause of its alert is made elsewhere",
    ),
];

/// A program inside that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sh(lab: &Lab, role: &str, script: &str) -> Running {
    let child = lab
        .command(role, "sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.expect("sh"))
}

/// A web server, and a host that gets pages, pings, asks the box itself, talks to a decoy, and tries TFTP, mail and what a rule in shadow lets through.
fn traffic(lab: &Lab) -> [Running; 2] {
    let serve =
        "exec /usr/bin/python3 -m http.server -b 93.184.216.34 -d /usr/share/common-licenses 80";
    let server = sh(lab, "uplink", serve);
    until("the web server", SOON, || {
        let page = ["-s", "-m", "2", "http://93.184.216.34/"];
        let out = lab
            .command("lan", "curl")
            .args(page)
            .output()
            .expect("curl");
        out.status.success().then_some(())
    });
    // Each in turn and bounded in time; the kill of the shell ends it.
    let client = "s=93.184.216.34; while :; do \
        curl -s -m 1 -o /dev/null http://$s/GPL-3; \
        curl -s -m 0.2 -o /dev/null tftp://$s/boot; \
        curl -s -m 0.2 -o /dev/null smtp://$s:25; \
        curl -s -m 0.2 -o /dev/null http://$s:8080/; \
        curl -s -m 0.2 -o /dev/null http://$s:4444/; \
        curl -s -m 1 -o /dev/null http://10.77.0.2:9155/healthz; \
        ping -q -n -c 20 -i 0.005 -W 1 $s >/dev/null; done";
    [server, sh(lab, "lan", client)]
}

/// The expression of an alert without the bound that makes it one: what it looks at must be there when all is well.
fn without_bound(expr: &str) -> String {
    let bare = expr.trim();
    for comparison in [" > ", " == "] {
        if let Some((left, right)) = bare.rsplit_once(comparison)
            && right.parse::<f64>().is_ok()
        {
            return left.to_owned();
        }
    }
    panic!("no bound at the end of {bare}");
}

/// The same config with a set that comes from a file.
pub fn with_a_set_file(lab: &Lab, config: &str) -> String {
    std::fs::write(lab.dir().join("partners.txt"), "198.51.100.0/24\n").expect("a set file");
    let sets = "[sets]\npartners = { file = \"partners.txt\" }\n";
    config.replace("[sets]\n", sets)
}

fn every_expression() -> Vec<Expression> {
    let mut all = dashboard::expressions();
    for rule in rules::rules("recording.yml") {
        let name = rule["record"].as_str().expect("a name");
        let expr = rule["expr"].as_str().expect("an expression");
        for expr in [name.to_owned(), rules::shortened(expr)] {
            let panel = format!("rule {name}");
            all.push(Expression { panel, expr });
        }
    }
    for rule in rules::rules("alerts.yml") {
        let name = rule["alert"].as_str().expect("a name");
        let expr = rule["expr"].as_str().expect("an expression");
        let expr = rules::shortened(&without_bound(expr));
        let panel = format!("alert {name}");
        all.push(Expression { panel, expr });
    }
    all
}

#[test]
fn every_expression_of_the_dashboard_and_the_rules_has_data_of_a_live_gate() {
    let Some(lab) = Lab::addressed() else { return };
    let evidence = format!(
        "[evidence]\ndir = \"{}\"\n",
        lab.dir().join("kept").display()
    );
    // One alert a second for each host and rule, so that there are some in each window.
    let text = config(&lab, "", &(EVERYTHING.to_owned() + &evidence));
    let text = with_a_set_file(&lab, &text).replace("[alerts]\n", "[alerts]\nwindow = \"1s\"\n");
    let gate = Gate::with(&lab, &text);
    let prometheus = Prometheus::start(&lab);
    let _traffic = traffic(&lab);
    let (mut left, known): (Vec<_>, Vec<_>) = every_expression()
        .into_iter()
        .partition(|e| RIGHTLY_EMPTY.iter().all(|(expr, _)| *expr != e.expr));
    let count = left.len();
    assert_eq!(
        known.len(),
        RIGHTLY_EMPTY.len(),
        "a list that is out of date"
    );
    let deadline = Instant::now() + Duration::from_secs(40);
    while !left.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(500));
        left.retain(|e| {
            let values = prometheus.query(&e.expr);
            let values = values.unwrap_or_else(|why| panic!("{}: {}: {why}", e.panel, e.expr));
            !values.iter().any(|value| value.is_finite())
        });
    }
    let missing: Vec<_> = left
        .iter()
        .map(|e| format!("{}: {}", e.panel, e.expr))
        .collect();
    assert!(missing.is_empty(), "no data for\n{}", missing.join("\n"));
    for Expression { panel, expr } in known {
        let values = prometheus
            .query(&expr)
            .unwrap_or_else(|why| panic!("{expr}: {why}"));
        assert!(values.is_empty(), "{panel}: {expr} has data: {values:?}");
    }
    assert_eq!(prometheus.broken_rules(), [""; 0]);
    println!("{count} expressions have data");
    no_address_is_in(&get(&lab, "/metrics").1);
    gate.assert_balanced();
}

/// Prometheus keeps what it scrapes for long and shows it to many.
fn no_address_is_in(page: &str) {
    for value in page.split('"').skip(1).step_by(2) {
        assert!(value.parse::<IpAddr>().is_err(), "an address: {value}");
    }
}

#[test]
fn a_gate_that_wants_a_token_is_scraped_with_what_scrape_yml_says_of_it() {
    let Some(lab) = Lab::addressed() else { return };
    let token = lab.dir().join("page.token");
    std::fs::write(&token, "open-sesame\n").expect("a token");
    let metrics = format!(
        "[metrics]\nlisten = \"127.0.0.1:9155\"\ntoken_file = \"{}\"\n",
        token.display()
    );
    let _gate = Gate::with(&lab, &config(&lab, "", &metrics));
    let shipped = super::read("deploy/prometheus/scrape.yml");
    let scrape = shipped
        .replace("# authorization:", "authorization:")
        .replace("#   credentials_file:", "  credentials_file:")
        .replace(
            "/etc/prometheus/portcullis.token",
            token.to_str().expect("UTF-8"),
        );
    assert_eq!(up_with(&lab, "gate", &scrape), 1.0);
    assert_eq!(up_with(&lab, "gate", &shipped), 0.0);
}

/// What a Prometheus in this namespace says of its first scrape.
fn up_with(lab: &Lab, role: &'static str, scrape: &str) -> f64 {
    let prometheus = Prometheus::scraping(lab, role, scrape);
    let up = until("a scrape", SOON, || {
        let up = prometheus
            .query("up{job=\"portcullis\"}")
            .expect("an answer");
        up.first().copied()
    });
    drop(prometheus);
    std::fs::remove_dir_all(lab.dir().join("prometheus")).expect("what it has kept");
    up
}

/// The box's own address, for one machine of the LAN.
const INBAND: &str = "[inband]\naddress = \"10.77.0.2/24\"\nallow = [\"10.77.0.9\"]\n";

#[test]
fn a_prometheus_of_the_lan_scrapes_the_address_of_the_box_and_the_counters_grow() {
    let Some(lab) = Lab::addressed() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", INBAND));
    let scrape = super::read("deploy/prometheus/scrape.yml").replace("127.0.0.1", "10.77.0.2");
    let prometheus = Prometheus::scraping(&lab, "lan", &scrape);
    // Each scrape is of frames of its own, so the counter has grown from one to the next.
    let grown =
        "increase(portcullis_inband_received_frames_total{instance=\"10.77.0.2:9155\"}[10s])";
    let grown = until("a counter that grows", SOON * 3, || {
        let values = prometheus.query(grown).expect("an answer");
        values.into_iter().find(|value| *value > 0.0)
    });
    let missed = "min_over_time(up{job=\"portcullis\"}[1m])";
    assert_eq!(prometheus.query(missed), Ok(vec![1.0]));
    // All of the page came: its last family too.
    let ask = ["-s", "-m", "5", "http://10.77.0.2:9155/metrics"];
    let page = lab.command("lan", "curl").args(ask).output().expect("curl");
    let page = String::from_utf8(page.stdout).expect("UTF-8");
    let last = page.lines().last().expect("a line");
    let last = last.split(['{', ' ']).next().expect("a name");
    let values = prometheus.query(last).expect("an answer");
    assert!(!values.is_empty(), "no {last}");
    println!("{grown:.1} frames in ten seconds; {last} is there");
    gate.assert_balanced();
}

#[test]
fn a_prometheus_of_the_lan_needs_the_token_at_the_address_of_the_box_too() {
    let Some(lab) = Lab::addressed() else { return };
    let token = lab.dir().join("page.token");
    std::fs::write(&token, "open-sesame\n").expect("a token");
    let more = format!(
        "{INBAND}[metrics]\nlisten = \"off\"\ntoken_file = \"{}\"\n",
        token.display()
    );
    let gate = Gate::with(&lab, &config(&lab, "", &more));
    let bare = super::read("deploy/prometheus/scrape.yml").replace("127.0.0.1", "10.77.0.2");
    let scrape = bare
        .replace("# authorization:", "authorization:")
        .replace("#   credentials_file:", "  credentials_file:")
        .replace(
            "/etc/prometheus/portcullis.token",
            token.to_str().expect("UTF-8"),
        );
    assert_eq!(up_with(&lab, "lan", &scrape), 1.0);
    assert_eq!(up_with(&lab, "lan", &bare), 0.0);
    gate.assert_balanced();
}

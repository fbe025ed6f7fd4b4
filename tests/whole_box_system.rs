//! What the gate takes from the machine that it runs on: its resolver, and the authorities that it trusts.
//!
//! Each gate here has a mount namespace of its own, in which the machine's files are the test's.

mod common;

use common::gate::config;
use common::{Gate, Lab, SOON, until};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Running(quiet.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
}

/// Starts a gate on a machine where `file` is this one.
fn start_where<'lab>(lab: &'lab Lab, config: &str, file: &str, is: &Path) -> Gate<'lab> {
    let script = format!("mount --bind {} {file} && exec \"$@\"", is.display());
    let mut gate = Gate::spawn_by(lab, config, &["unshare", "-m", "sh", "-c", &script, "sh"]);
    gate.wait_ready();
    gate
}

/// A real client asks for a file by TFTP, which the baseline forbids.
fn fetch_by_tftp(lab: &Lab) {
    let mut curl = lab.command("lan", "curl");
    curl.args(["-s", "-m", "1", "tftp://93.184.216.34/tool"]);
    assert!(!curl.status().expect("curl").success());
}

fn lines(lab: &Lab) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.dir().join("alerts.jsonl")).unwrap_or_default();
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn a_host_without_another_name_has_that_of_the_machine_s_dns() {
    let Some(lab) = Lab::addressed() else { return };
    lab.ip("gate", "link set lo up");
    let mut dnsmasq = lab.command("gate", "dnsmasq");
    dnsmasq.args([
        "-k",
        "-R",
        "-h",
        "-u",
        "root",
        "-a",
        "127.0.0.1",
        "-z",
        "--log-facility=-",
    ]);
    dnsmasq.arg("--ptr-record=9.0.77.10.in-addr.arpa,printer.office.example");
    let _dns = start(&mut dnsmasq);
    let resolver = lab.dir().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:1\n").expect("a file");
    let alerts = format!(
        "[alerts]\nfile = \"{}/alerts.jsonl\"\n",
        lab.dir().display()
    );
    let on = config(&lab, "", "").replace(&alerts, &format!("{alerts}reverse_dns = true\n"));
    assert!(on.contains("reverse_dns"), "{on}");
    let _gate = start_where(&lab, &on, "/etc/resolv.conf", &resolver);
    // No line waits for a name: the first, that of TFTP, may be without, and those of other rules come later.
    let named = until("a line with the name", SOON * 3, || {
        fetch_by_tftp(&lab);
        lab.must(
            "lan",
            "sh",
            "-c curl\t-s\t-m\t1\tsmtp://93.184.216.34\t||\tsleep\t0.2",
        );
        lab.must(
            "lan",
            "sh",
            "-c curl\t-s\t-m\t1\thttp://93.184.216.34:445\t||\ttrue",
        );
        let mut alerts = lines(&lab).into_iter().map(|mut line| line["alert"].take());
        alerts.find(|alert| alert["host_name"] != Value::Null)
    });
    assert_eq!(named["host_name"], "printer.office.example");
    assert_eq!(named["host_name_from"], "dns");
    assert_eq!(named["host"], "10.77.0.9");
}

/// Takes POST requests over TLS, and keeps their bodies in a file.
const SERVER: &str = "import http.server as h, ssl, sys\n\
    class Web(h.BaseHTTPRequestHandler):\n\
    \x20   def do_POST(self):\n\
    \x20       open(sys.argv[1], 'ab').write(self.rfile.read(int(self.headers['Content-Length'])))\n\
    \x20       self.send_response(204); self.end_headers()\n\
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[2], sys.argv[3])\n\
    s = h.HTTPServer(('127.0.0.1', 8443), Web); s.socket = c.wrap_socket(s.socket, server_side=True)\n\
    s.serve_forever()\n";

#[test]
fn a_sink_without_an_authority_of_its_own_trusts_those_of_the_machine() {
    let Some(lab) = Lab::addressed() else { return };
    lab.ip("gate", "link set lo up");
    let dir = lab.dir();
    rig::tls_files(dir).expect("certificates");
    let mut server = lab.command("gate", "python3");
    server.args(["-c", SERVER]);
    server.args([
        dir.join("got"),
        dir.join("server.pem"),
        dir.join("server.key"),
    ]);
    let _server = start(&mut server);
    let sink =
        "[[sink]]\nkind = \"webhook\"\nname = \"hook\"\nurl = \"https://127.0.0.1:8443/alerts\"\n";
    let config = config(&lab, "", sink);
    let got = || std::fs::read_to_string(dir.join("got")).unwrap_or_default();
    // Where debian's ca-certificates puts them all.
    let store = "/etc/ssl/certs/ca-certificates.crt";
    let gate = start_where(&lab, &config, store, &dir.join("other.pem"));
    fetch_by_tftp(&lab);
    let said = until("the error", SOON * 2, || {
        let status = gate.status();
        status["sinks"]["hook"]["last_error"]
            .as_str()
            .map(str::to_owned)
    });
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(got(), "");
    drop(gate);
    let _gate = start_where(&lab, &config, store, &dir.join("ca.pem"));
    fetch_by_tftp(&lab);
    until("the line", SOON * 2, || {
        got().contains("\"tftp\"").then_some(())
    });
}

//! The detectors with real tools, through a whole box: what scans and tunnels is told, what people and machines do all day is not.

mod common;

use common::gate::config;
use common::{Gate, Lab, SOON};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A tool that runs until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program inside; its log is there for when something fails.
fn start(lab: &Lab, role: &str, program: &str, arguments: &[&str]) -> Running {
    let log = std::fs::File::create(log(lab, role, program)).expect("a log");
    let child = lab
        .command(role, program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    Running(child)
}

fn log(lab: &Lab, role: &str, program: &str) -> std::path::PathBuf {
    let name = Path::new(program).file_name().expect("a name");
    lab.dir().join(format!("{role}-{}.log", name.display()))
}

/// Runs a program inside to its end, whatever that is.
fn run(lab: &Lab, role: &str, program: &str, arguments: &str) -> String {
    let out = lab
        .command(role, program)
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn behaviours(lab: &Lab) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.dir().join("alerts.jsonl")).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .filter(|line| line.get("behaviour").is_some())
        .collect()
}

/// The first line of this signature.
fn told(lab: &Lab, signature: &str) -> Value {
    let line = common::until(signature, SOON, || {
        let mut lines = behaviours(lab).into_iter();
        lines.find(|line| line["alert"]["signature"] == signature)
    });
    println!("{signature}: {}", line["behaviour"]);
    assert_eq!(line["alert"]["action"], "allowed");
    assert_eq!(line["alert"]["verdict"], "forward");
    assert_eq!(line["behaviour"]["kind"], signature);
    assert_eq!(line["alert"]["host"], "10.77.0.9");
    line
}

fn names(lab: &Lab) -> Vec<String> {
    let lines = behaviours(lab);
    let names = lines
        .iter()
        .filter_map(|l| l["alert"]["signature"].as_str());
    names.map(str::to_owned).collect()
}

/// Longer than the control thread takes for what is in its rings.
fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn nmap_over_a_network_is_a_horizontal_scan() {
    let Some(lab) = Lab::addressed() else { return };
    let _gate = Gate::start(&lab);
    let scan = "-n -Pn -sS -T4 --max-retries 0 --host-timeout 20s -p 22 93.184.217.0/24";
    run(&lab, "lan", "nmap", scan);
    let line = told(&lab, "scan-horizontal");
    assert_eq!(
        (&line["proto"], &line["dest_port"]),
        (&"TCP".into(), &22.into())
    );
    assert_eq!(line["behaviour"]["port"], 22);
    assert_eq!(names(&lab), ["scan-horizontal"]);
}

#[test]
fn nmap_over_the_ports_of_a_host_is_a_vertical_scan_though_nothing_of_it_is_blocked() {
    let Some(lab) = Lab::addressed() else { return };
    let none = "[policy]\nprofile = \"none\"\n";
    let _gate = Gate::with(&lab, &config(&lab, "", none));
    let scan = "-n -Pn -sS -T4 --max-retries 1 -p 1-1000 93.184.216.34";
    run(&lab, "lan", "nmap", scan);
    let line = told(&lab, "scan-vertical");
    assert_eq!(line["dest_ip"], "93.184.216.34");
    assert_eq!(line["behaviour"]["blocked"], 0);
    assert_eq!(names(&lab), ["scan-vertical"]);
}

#[test]
fn iodine_is_a_dns_tunnel() {
    let Some(lab) = Lab::addressed() else { return };
    let gate = Gate::start(&lab);
    let served = [
        "-f",
        "-c",
        "-P",
        "secret",
        "-d",
        "dns0",
        "10.99.0.1",
        "t.example",
    ];
    let _server = start(&lab, "uplink", "iodined", &served);
    let asked = [
        "-f",
        "-r",
        "-P",
        "secret",
        "-d",
        "dns1",
        "93.184.216.34",
        "t.example",
    ];
    std::thread::sleep(Duration::from_millis(300));
    let _client = start(&lab, "lan", "iodine", &asked);
    common::until("a tunnel", 3 * SOON, || {
        let said = std::fs::read_to_string(log(&lab, "lan", "iodine")).unwrap_or_default();
        said.contains("Connection setup complete").then_some(())
    });
    let pings = run(&lab, "lan", "ping", "-c 60 -i 0.05 -s 600 -W 2 10.99.0.1");
    assert!(pings.contains("bytes from 10.99.0.1"), "{pings}");
    let line = told(&lab, "dns-tunnel");
    assert_eq!(line["behaviour"]["domain"], "t.example");
    assert_eq!(line["dest_ip"], "93.184.216.34");
    assert_eq!(names(&lab), ["dns-tunnel"]);
    gate.assert_balanced();
}

#[test]
fn ptunnel_is_an_icmp_tunnel() {
    let Some(lab) = Lab::addressed() else { return };
    let _gate = Gate::start(&lab);
    // The tool answers instead of the kernel.
    lab.must(
        "uplink",
        "sh",
        "-c echo\t1\t>/proc/sys/net/ipv4/icmp_echo_ignore_all",
    );
    let file = lab.dir().join("file");
    std::fs::write(&file, vec![b'x'; 60_000]).expect("a file");
    let _server = start(&lab, "uplink", "ptunnel-ng", &["-uroot"]);
    let asked = [
        "-uroot",
        "-p",
        "93.184.216.34",
        "-l",
        "8000",
        "-r93.184.216.34",
        "-R80",
    ];
    let _client = start(&lab, "lan", "ptunnel-ng", &asked);
    let file = file.to_str().expect("UTF-8");
    // What comes back is of another identifier than what was asked, and passes no gate that remembers pings: the file goes up again and again.
    common::until("a file on its way", 3 * SOON, || {
        let put = format!("-s -m 3 -H Expect: -T {file} http://127.0.0.1:8000/");
        run(&lab, "lan", "curl", &put);
        (!behaviours(&lab).is_empty()).then_some(())
    });
    let line = told(&lab, "icmp-tunnel");
    assert_eq!(
        (&line["proto"], &line["icmp_type"]),
        (&"ICMP".into(), &8.into())
    );
    assert_eq!(names(&lab), ["icmp-tunnel"]);
}

#[test]
fn hping_with_a_file_is_an_icmp_tunnel_and_with_a_pattern_it_is_none() {
    let Some(lab) = Lab::addressed() else { return };
    let _gate = Gate::start(&lab);
    run(
        &lab,
        "lan",
        "hping3",
        "-q -n --icmp -d 200 -c 60 -i u10000 93.184.216.34",
    );
    settle();
    assert_eq!(names(&lab), [""; 0]);
    let file = "-q -n --icmp -d 200 -E /etc/services -c 60 -i u10000 93.184.216.34";
    run(&lab, "lan", "hping3", file);
    assert_eq!(told(&lab, "icmp-tunnel")["behaviour"]["sizes"], 1);
}

/// A web server at the uplink that takes uploads, and what it serves.
fn web(lab: &Lab) -> Running {
    let server = "import http.server as h\n\
        class Web(h.SimpleHTTPRequestHandler):\n\
        \x20   def do_PUT(self):\n\
        \x20       left = int(self.headers['Content-Length'])\n\
        \x20       while left > 0: left -= len(self.rfile.read(min(left, 65536)))\n\
        \x20       self.send_response(201); self.send_header('Content-Length', '0'); self.end_headers()\n\
        h.ThreadingHTTPServer(('93.184.216.34', 80), Web).serve_forever()\n";
    let web = start(lab, "uplink", "/usr/bin/python3", &["-c", server]);
    common::until("the web server", SOON, || {
        let page = run(lab, "lan", "curl", "-s -m 2 http://93.184.216.34/");
        (!page.is_empty()).then_some(())
    });
    web
}

#[test]
fn curl_in_a_beat_is_a_beacon() {
    let Some(lab) = Lab::addressed() else { return };
    let few = "[detect.beacon]\ncount = 5\njitter = 20\n";
    let _gate = Gate::with(&lab, &config(&lab, "", few));
    let _web = web(&lab);
    let bot = "while :; do curl -s -m 2 -o /dev/null http://93.184.216.34/; sleep 6; done";
    let _bot = start(&lab, "lan", "sh", &["-c", bot]);
    let line = common::until("a beacon", Duration::from_secs(90), || {
        behaviours(&lab).into_iter().next()
    });
    assert_eq!(told(&lab, "beacon"), line);
    let every = line["behaviour"]["every_seconds"]
        .as_f64()
        .expect("seconds");
    assert!((5.5..8.0).contains(&every), "every {every} s");
    assert_eq!(line["behaviour"]["beats"], 5);
    assert_eq!(
        (&line["dest_ip"], &line["dest_port"]),
        (&"93.184.216.34".into(), &80.into())
    );
    assert_eq!(names(&lab), ["beacon"]);
}

#[test]
fn curl_that_sends_far_more_than_its_host_ever_did_is_an_upload() {
    let Some(lab) = Lab::addressed() else { return };
    let soon = "[detect.upload]\nlearn = \"2s\"\nleast = \"8MB\"\n";
    let _gate = Gate::with(&lab, &config(&lab, "", soon));
    let _web = web(&lab);
    let file = lab.dir().join("loot");
    std::fs::write(&file, vec![7; 2_000_000]).expect("a file");
    let send = format!("-s -m 20 -T {} http://93.184.216.34/", file.display());
    // Less than the least.
    run(&lab, "lan", "curl", &send);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(names(&lab), [""; 0]);
    let size = 30_000_000;
    std::fs::write(&file, vec![7; size]).expect("a file");
    run(&lab, "lan", "curl", &send);
    let line = told(&lab, "upload");
    let bytes = line["behaviour"]["bytes"].as_u64().expect("bytes");
    assert!((8_000_000..2 * size as u64).contains(&bytes), "{bytes}");
    assert_eq!(line["behaviour"]["watched_hours"], 0);
    assert_eq!(names(&lab), ["upload"]);
}

#[test]
fn pings_of_every_size_are_silent() {
    let Some(lab) = Lab::addressed() else { return };
    let _gate = Gate::start(&lab);
    for host in ["93.184.216.34", "2606:2800:220:1::34"] {
        for size in [0, 8, 16, 24, 33, 56, 100, 1000, 1400, 3000] {
            let pings = format!("-c 30 -i 0.002 -W 2 -s {size} {host}");
            let said = run(&lab, "lan", "ping", &pings);
            assert!(said.contains("30 received"), "{said}");
        }
    }
    let said = run(
        &lab,
        "lan",
        "ping",
        "-c 30 -i 0.002 -p c0ffee 93.184.216.34",
    );
    assert!(said.contains("30 received"), "{said}");
    settle();
    assert_eq!(names(&lab), [""; 0]);
}

/// The names that a page's parts come from.
const PAGES: usize = 120;

#[test]
fn browsing_look_ups_and_downloads_are_silent() {
    let Some(lab) = Lab::addressed() else { return };
    // Many servers with addresses of their own.
    let batch: String = (1..=60)
        .map(|n| format!("address add 93.184.218.{n}/32 dev lo\n"))
        .collect();
    let file = lab.dir().join("addresses");
    std::fs::write(&file, batch).expect("a file");
    lab.must("uplink", "ip", &format!("-batch {}", file.display()));
    let gate = Gate::start(&lab);
    let hosts: String = (0..PAGES)
        .map(|n| {
            let site = n % 60 + 1;
            format!("address=/www.site{n}.example/93.184.218.{site}\naddress=/d{n:x}3kq7.cdn.example/93.184.218.{site}\n")
        })
        .collect();
    let names_file = lab.dir().join("names");
    std::fs::write(&names_file, hosts).expect("a file");
    let folder = lab.dir().join("www");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("index.html"), vec![b'h'; 20_000]).expect("a page");
    std::fs::write(folder.join("package.deb"), vec![7; 2_000_000]).expect("a package");
    let conf = format!("--conf-file={}", names_file.display());
    let dns = [
        "-k",
        &conf,
        "-R",
        "-h",
        "-u",
        "root",
        "-p",
        "53",
        "-a",
        "93.184.216.34",
        "-z",
        "--log-facility=-",
    ];
    let _dns = start(&lab, "uplink", "dnsmasq", &dns);
    let www = folder.to_str().expect("UTF-8");
    let _web = start(
        &lab,
        "uplink",
        "/usr/bin/python3",
        &["-m", "http.server", "-d", www, "80"],
    );
    common::until("the servers", SOON, || {
        let page = run(&lab, "lan", "curl", "-s -m 2 http://93.184.218.1/");
        (page.len() == 20_000).then_some(())
    });
    // Each page by its name, and a part of it from a network of caches.
    let script = format!(
        "for n in $(seq 0 {}); do\n\
         for name in www.site$n.example d$(printf %x $n)3kq7.cdn.example; do\n\
         a=$(dig +short +time=2 +tries=2 @93.184.216.34 $name A); dig +short +time=2 @93.184.216.34 $name AAAA >/dev/null\n\
         [ -n \"$a\" ] && curl -s -m 5 -o /dev/null http://$a/ &\n\
         done; wait; done\n\
         for n in $(seq 1 60); do dig +short +time=1 +tries=1 @93.184.216.34 -x 93.184.218.$n >/dev/null; done\n\
         curl -s -m 20 -o /dev/null http://93.184.218.1/package.deb\n\
         curl -s -m 20 -T {www}/package.deb http://93.184.218.2/up >/dev/null\n\
         echo done\n",
        PAGES - 1
    );
    let path = lab.dir().join("life.sh");
    std::fs::write(&path, script).expect("a script");
    let said = run(&lab, "lan", "sh", path.to_str().expect("UTF-8"));
    assert!(said.contains("done"), "{said}");
    settle();
    let opened = common::gate::number(&gate.status()["flows"]["opened"]);
    println!("{opened} flows");
    assert!(opened > 6 * PAGES as u64, "{opened} flows");
    assert_eq!(names(&lab), [""; 0]);
}

#[test]
fn what_is_switched_off_tells_nothing_and_metrics_count_what_is_told() {
    let Some(lab) = Lab::addressed() else { return };
    let off = "[detect]\nscan = { enabled = false }\nicmp_tunnel = { echoes = 5 }\n[metrics]\nlisten = \"127.0.0.1:9155\"\n";
    let _gate = Gate::with(&lab, &config(&lab, "", off));
    let scan = "-n -Pn -sS -T4 --max-retries 0 -p 1-400 93.184.216.34";
    run(&lab, "lan", "nmap", scan);
    let file = "-q -n --icmp -d 200 -E /etc/services -c 9 -i u10000 93.184.216.34";
    run(&lab, "lan", "hping3", file);
    told(&lab, "icmp-tunnel");
    assert_eq!(names(&lab), ["icmp-tunnel"]);
    let (_, page) = common::gate::get(&lab, "/metrics");
    for line in [
        "portcullis_detector_findings_total{detector=\"icmp-tunnel\"} 1",
        "portcullis_detector_findings_total{detector=\"scan-vertical\"} 0",
        "portcullis_observations_lost_total 0",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
}

//! The tools that people use for it: nmap, hping3, thc-ipv6 and scapy from the LAN, first through a bridge, to see that what they send would arrive, then through
//! the gate. Nothing forbidden may come out at the uplink.

use super::common::gate::config;
use super::common::{Gate, Lab, Wire};
use super::recipe::{HOST4, SERVER4};
use super::server;
use etherparse::{Ipv6ExtensionSlice, NetSlice, SlicedPacket};
use std::net::Ipv4Addr;
use std::time::Duration;

const TCP: [u16; 5] = [25, 135, 139, 445, 6667];
const UDP: [u16; 4] = [69, 135, 137, 161];

/// How nmap is called, but for what is tried: no names, no host discovery, no patience.
const NMAP: &str = "nmap -n -Pn --max-retries 0 --initial-rtt-timeout 100ms --max-rtt-timeout 150ms --host-timeout 8s";
const PORTS: &str = "-p 25,135,139,445,6667";

/// Name and command line.
fn tools() -> Vec<(&'static str, String)> {
    let (v4, v6) = ("93.184.216.34", "2606:2800:220:1::34");
    let nmap = |what: &str| format!("{NMAP} {PORTS} {what} {v4}");
    let hping = |what: &str| format!("hping3 -q -n -c 5 -i u2000 {what} {v4}");
    let scapy = |what: &str| {
        format!(
            "/usr/bin/python3 -c\tfrom\u{a0}scapy.all\u{a0}import\u{a0}*;conf.verb=0;{}",
            what.replace(' ', "\u{a0}")
        )
    };
    let dns = "IPv6(dst='2606:2800:220:1::34')";
    vec![
        ("nmap SYN", nmap("-sS")),
        ("nmap fragments of 8", nmap("-sS -f")),
        ("nmap fragments of 16", nmap("-sS -ff")),
        ("nmap MTU 24", nmap("-sS --mtu 24")),
        ("nmap from port 53", nmap("-sS --source-port 53")),
        ("nmap wrong checksums", nmap("-sS --badsum")),
        ("nmap decoys", nmap("-sS -D 10.77.0.50,10.77.0.51,ME")),
        ("nmap Xmas", nmap("-sX")),
        ("nmap null", nmap("-sN")),
        ("nmap FIN", nmap("-sF")),
        ("nmap ACK", nmap("-sA")),
        ("nmap all flags", nmap("-sS --scanflags URGACKPSHRSTSYNFIN")),
        ("nmap data", nmap("-sS --data-length 200")),
        ("nmap record route", nmap("-sS --ip-options R")),
        ("nmap time to live 1", nmap("-sS --ttl 1")),
        ("nmap UDP", format!("{NMAP} -sU -p 69,135,137,161 {v4}")),
        ("nmap IPv6", format!("{NMAP} -6 -sS {PORTS} {v6}")),
        ("hping3 SYN", hping("-S -p 6667")),
        ("hping3 fragments", hping("-S -p 6667 -f -d 120")),
        ("hping3 UDP, more fragments", hping("-2 -p 69 -x -d 64")),
        ("hping3 wrong checksum", hping("-S -p 25 -b")),
        (
            "hping3 random sources",
            format!("hping3 -q -n -c 20 -i u2000 -S -p 80 --rand-source {v4}"),
        ),
        (
            "hping3 loose source route",
            hping("-S -p 6667 --lsrr 10.77.0.9"),
        ),
        (
            "thc-ipv6 firewall6",
            format!("atk6-firewall6 lan0 {v6} 6667"),
        ),
        (
            "thc-ipv6 firewall6 UDP",
            format!("atk6-firewall6 -u lan0 {v6} 69"),
        ),
        (
            "scapy IPv6 fragment train",
            scapy(&format!(
                "send(fragment6({dns}/IPv6ExtHdrFragment()/UDP(dport=69)/Raw(b'x'*600),200))"
            )),
        ),
        (
            "scapy extension headers",
            scapy(&format!(
                "send({dns}/IPv6ExtHdrHopByHop()/IPv6ExtHdrDestOpt()/IPv6ExtHdrDestOpt()/TCP(dport=6667,flags='S'))"
            )),
        ),
        (
            "scapy overlap",
            scapy(
                "a=IP(dst='93.184.216.34',id=7,proto=17);u=bytes(UDP(sport=9,dport=69,len=40)/Raw(b'x'*32));send([a.copy()/u[:24],a.copy()/u[:24]]);send(fragment(IP(dst='93.184.216.34',id=8)/UDP(dport=161)/Raw(b'x'*200),48)[::-1])",
            ),
        ),
    ]
}

/// Runs a tool to its end, or for so long.
fn run(lab: &Lab, command: &str) {
    // A tab stands before an argument that is one with the word before it, a hard space for one within it.
    let mut words = command
        .split([' ', '\t'])
        .map(|word| word.replace('\u{a0}', " "));
    let program = words.next().expect("a program");
    let out = lab
        .command("lan", "timeout")
        .args(["-s", "KILL", "6", &program])
        .args(words)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    // 127: not found; 126: cannot be run. What a tool thinks of what it found is its own business.
    assert!(
        !matches!(out.status.code(), Some(126 | 127)),
        "{program} is needed: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Why a frame may not leave, as another parser sees it.
fn forbidden(frame: &[u8]) -> Option<String> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (proto, payload, first) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let src = ip.header().source_addr();
            let lan = src.octets()[..3] == [10, 77, 0];
            if !lan && src != Ipv4Addr::UNSPECIFIED {
                return Some(format!("from {src}"));
            }
            let first = ip.header().fragments_offset().value() == 0;
            (ip.payload().ip_number.0, ip.payload().payload, first)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let later = ip.extensions().clone().into_iter().any(|ext| {
                matches!(ext, Ipv6ExtensionSlice::Fragment(part) if part.fragment_offset().value() > 0)
            });
            (ip.payload().ip_number.0, ip.payload().payload, !later)
        }
        _ => return None,
    };
    let port = u16::from_be_bytes([*payload.get(2)?, *payload.get(3)?]);
    let ports = match proto {
        6 => &TCP[..],
        17 => &UDP[..],
        _ => return None,
    };
    (first && ports.contains(&port)).then(|| format!("protocol {proto} to port {port}"))
}

/// What comes out at the uplink of each tool, as far as it is forbidden.
fn each(lab: &Lab, mut see: impl FnMut(&str, Vec<String>)) {
    // Both know each other before anything odd is sent.
    lab.must("lan", "ping", "-c 1 -W 5 93.184.216.34");
    lab.must("lan", "ping", "-c 1 -W 5 2606:2800:220:1::34");
    let wire = Wire::open(lab, "uplink", "up0");
    for (name, command) in tools() {
        wire.drain();
        run(lab, &command);
        let mut found = Vec::new();
        while let Some(frame) = wire.next(Duration::from_millis(60)) {
            found.extend(forbidden(&frame));
        }
        see(name, found);
    }
}

#[test]
fn nothing_forbidden_that_scanners_and_crafters_send_comes_out() {
    let Some(lab) = Lab::addressed() else { return };
    assert!(HOST4.octets()[..3] == [10, 77, 0] && SERVER4.octets()[0] == 93);
    server::bridge(&lab);
    let mut idle = Vec::new();
    each(&lab, |name, found| {
        if found.is_empty() {
            idle.push(name.to_owned());
        }
    });
    server::unbridge(&lab);
    println!(
        "of {} tools, without a filter nothing forbidden came of: {idle:?}",
        tools().len()
    );
    assert!(tools().len() - idle.len() >= 25, "{idle:?}");
    let gate = Gate::with(&lab, &config(&lab, "", "[flows]\nadopt = \"off\"\n"));
    each(&lab, |name, found| {
        assert!(found.is_empty(), "{name}: {found:?}")
    });
    let status = gate.assert_balanced();
    println!("dropped by the gate: {}", status["ports"]["lan"]["dropped"]);
}

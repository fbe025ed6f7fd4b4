//! One host of the LAN floods with connections that nobody answers, tens of thousands a second; another one goes on connecting. (As fast as it
//! can it would take the two cores of a small machine too, and what is lost then is lost before the gate.)

mod common;

use common::gate::config;
use common::{Gate, Lab};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

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
    let opened = || common::gate::number(&gate.status()["flows"]["opened"]);
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
    assert!(common::gate::number(&flows["evicted"]) > FLOWS);
    assert_eq!(
        status["ports"]["lan"]["dropped"].get("flow-table-full"),
        None
    );
    gate.assert_balanced();
}

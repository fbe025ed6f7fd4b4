//! Starts that must fail: one line that says what to do, exit status 2, and the NICs as they were.

mod common;

use common::gate::{BINARY, Output, config, dropped, portcullis, refused, write_config};
use common::lab::Cables;
use common::{Gate, Lab, SOON, Wire, craft::Packet};
use std::os::unix::fs::PermissionsExt;

/// Starts with `text`, and sees that it is refused with `words` and that nothing has changed.
fn assert_refused(lab: &Lab, text: &str, words: &[&str]) -> Output {
    let before = lab.ports();
    let out = refused(lab, &write_config(lab, "refused.toml", text));
    out.assert_one_line(words);
    assert_eq!(lab.ports(), before, "the ports are not as they were");
    let left = std::fs::read_dir(lab.dir()).expect("the folder").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    let leftover = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.ends_with(".before.json") || name.ends_with(".sock")
    };
    assert!(!left.iter().any(leftover), "left behind: {left:?}");
    out
}

fn replaced(lab: &Lab, from: &str, to: &str) -> String {
    let text = config(lab, "", "");
    assert!(text.contains(from));
    text.replace(from, to)
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let Some(lab) = Lab::new() else { return };
    let text = replaced(&lab, "lan = \"gl0\"", "lan = \"nope0\"");
    assert_refused(&lab, &text, &["nope0", "no such interface", "ip link"]);
}

#[test]
fn a_second_nic_that_is_bad_leaves_the_first_untouched() {
    let Some(lab) = Lab::new() else { return };
    lab.must("gate", "ethtool", "-K gl0 gro on");
    let text = replaced(&lab, "uplink = \"gu0\"", "uplink = \"nope0\"");
    assert_refused(&lab, &text, &["nope0", "no such interface"]);
    lab.ip("gate", "link set gu0 down");
    assert_refused(&lab, &config(&lab, "", ""), &["gu0 is down"]);
}

#[test]
fn a_second_nic_that_refuses_the_gate_leaves_the_first_as_it_was() {
    let Some(lab) = Lab::new() else { return };
    lab.must("gate", "ethtool", "-K gl0 gro on rxvlan on");
    // The chunk has room for it, a veth with XDP in its driver has not; and generic mode is not wanted.
    for (role, interface) in [("gate", "gu0"), ("uplink", "up0")] {
        lab.ip(role, &format!("link set {interface} mtu 3700"));
    }
    let words = ["gu0", "no XDP", "mode = \"auto\" or \"generic\""];
    assert_refused(&lab, &config(&lab, "mode = \"copy\"", ""), &words);
}

#[test]
fn without_privilege_the_line_says_which_is_needed() {
    let Some(lab) = Lab::new() else { return };
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    open(lab.dir(), 0o777);
    let path = write_config(&lab, "refused.toml", &config(&lab, "", ""));
    open(&path, 0o644);
    // Where nobody may read it: the target folder may be out of reach for others.
    let binary = lab.dir().join("portcullis");
    std::fs::copy(BINARY, &binary).expect("a copy");
    open(&binary, 0o755);
    let before = lab.ports();
    let nobody =
        "--reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --";
    let run = |more: &[&str]| {
        let out = lab
            .command("gate", "setpriv")
            .args(nobody.split(' '))
            .arg(&binary)
            .args(more)
            .output()
            .expect("setpriv is needed");
        Output {
            code: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    };
    let config = path.to_str().expect("UTF-8");
    run(&["run", "-c", config]).assert_one_line(&["not permitted", "root", "CAP_NET_ADMIN"]);
    // Where even the control socket may not be made.
    open(lab.dir(), 0o755);
    run(&["run", "-c", config]).assert_one_line(&["control.sock", "ermission", "root"]);
    assert_eq!(lab.ports(), before);
}

#[test]
fn a_nic_with_another_xdp_program_is_left_to_it() {
    let Some(lab) = Lab::new() else { return };
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bpf/gate.bpf.o");
    lab.ip(
        "gate",
        &format!("link set dev gu0 xdp obj {object} sec xdp"),
    );
    let words = [
        "gu0",
        "already runs an XDP program",
        "ip link set dev gu0 xdp off",
    ];
    assert_refused(&lab, &config(&lab, "", ""), &words);
    // What the line says, helps.
    lab.ip("gate", "link set dev gu0 xdp off");
    Gate::start(&lab).assert_balanced();
}

#[test]
fn an_mtu_that_a_chunk_cannot_hold_is_refused_with_the_one_that_fits() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("gate", "link set gl0 mtu 9000");
    let words = ["gl0", "MTU of 9000", "4096", "ip link set gl0 mtu 3818"];
    assert_refused(&lab, &config(&lab, "", ""), &words);
    lab.ip("gate", "link set gl0 mtu 3000");
    let words = [
        "MTU of 3000",
        "2048",
        "ip link set gl0 mtu 1770",
        "chunk = 4096",
    ];
    assert_refused(&lab, &config(&lab, "chunk = 2048", ""), &words);
}

#[test]
fn an_interface_that_is_down_or_enslaved_is_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("gate", "link set gl0 down");
    assert_refused(
        &lab,
        &config(&lab, "", ""),
        &["gl0 is down", "ip link set gl0 up"],
    );
    lab.ip("gate", "link set gl0 up");
    lab.ip("gate", "link add br0 type bridge");
    lab.ip("gate", "link set gl0 master br0");
    let words = ["gl0", "bridge", "ip link set gl0 nomaster"];
    assert_refused(&lab, &config(&lab, "", ""), &words);
}

#[test]
fn a_config_that_is_broken_is_refused_with_line_and_column() {
    let Some(lab) = Lab::new() else { return };
    let text = config(&lab, "", "");
    let broken = text.replacen("lan = \"gl0\"", "lan = = \"gl0\"", 1);
    assert_refused(&lab, &broken, &["refused.toml:2:7", "portcullis check"]);
    let unknown = text.replacen("uplink = ", "upling = 1\nuplink = ", 1);
    assert_refused(&lab, &unknown, &["refused.toml:3:1", "upling", "uplink"]);
    let no_bridge = "[policy]\nprofile = \"baseline\"\n";
    assert_refused(&lab, no_bridge, &["[bridge]", "lan", "uplink"]);
    let missing = refused(&lab, &lab.dir().join("nowhere.toml"));
    missing.assert_one_line(&["nowhere.toml"]);
}

#[test]
fn a_policy_that_fails_its_own_test_does_not_start() {
    let Some(lab) = Lab::new() else { return };
    let test = r#"
[[test]]
packet = { direction = "out", proto = "udp", src = "10.77.0.9:40000", dst = "93.184.216.34:69" }
expect = { verdict = "forward" }
"#;
    assert_refused(&lab, &config(&lab, "", test), &["refused.toml", "tftp"]);
}

#[test]
fn offloads_that_may_not_be_changed_are_refused_with_the_command_that_helps() {
    let Some(lab) = Lab::new() else { return };
    lab.must("gate", "ethtool", "-K gl0 gro on rxvlan on");
    let text = config(&lab, "offloads = \"check\"", "");
    for (port, offload) in [
        ("gl0", "rx-gro, rx-vlan-hw-parse"),
        ("gu0", "rx-vlan-stag-hw-parse"),
    ] {
        let helps = format!("run: ethtool -K {port} ");
        let out = assert_refused(&lab, &text, &[port, offload, &helps]);
        let command = out
            .stderr
            .trim_end()
            .rsplit("run: ethtool ")
            .next()
            .expect("a command");
        lab.must("gate", "ethtool", command);
    }
    let gate = Gate::with(&lab, &text);
    let (lan, uplink) = Wire::both(&lab);
    let frame = Packet::out(6, 443).sized(100);
    lan.send(&frame);
    assert_eq!(uplink.next(SOON), Some(frame));
    let status = gate.assert_accounts([1, 0]);
    assert_eq!(dropped(&status, "lan", "rule"), 0);
}

#[test]
fn more_queues_than_there_are_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let words = ["gl0", "1 receive queues", "4", "queues = \"auto\""];
    assert_refused(&lab, &config(&lab, "queues = 4", ""), &words);
}

#[test]
fn fewer_sockets_than_queues_is_refused() {
    let cables = Cables {
        queues: [2, 2],
        ..Cables::default()
    };
    let Some(lab) = Lab::with(cables) else { return };
    let words = ["gl0", "2 receive queues", "queues = \"auto\""];
    assert_refused(&lab, &config(&lab, "queues = 1", ""), &words);
}

#[test]
fn zero_copy_where_the_driver_has_none_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let words = ["gl0", "mode = \"auto\""];
    assert_refused(&lab, &config(&lab, "mode = \"zero-copy\"", ""), &words);
    let text = config(&lab, "mode = \"zero-copy\"\nchunk = 2048", "");
    assert_refused(&lab, &text, &["zero-copy", "chunk = 4096"]);
}

#[test]
fn a_metrics_port_in_use_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let address = "127.0.0.1:9155";
    let _taken = lab
        .within("gate", || std::net::TcpListener::bind(address))
        .expect("a port");
    let text = config(&lab, "", "[metrics]\nlisten = \"127.0.0.1:9155\"");
    assert_refused(&lab, &text, &["[metrics]", address, "in use"]);
}

#[test]
fn an_alert_file_that_cannot_be_written_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let text = replaced(&lab, "/alerts.jsonl", "/refused.toml/alerts.jsonl");
    assert_refused(&lab, &text, &["[alerts]", "alerts.jsonl"]);
}

#[test]
fn a_file_in_the_place_of_the_control_socket_is_not_replaced() {
    let Some(lab) = Lab::new() else { return };
    let precious = lab.dir().join("precious");
    std::fs::write(&precious, "do not lose").expect("a file");
    let text = replaced(&lab, "/control.sock", "/precious");
    assert_refused(&lab, &text, &["control socket", "precious", "not a socket"]);
    let kept = std::fs::read_to_string(&precious).expect("the file");
    assert_eq!(kept, "do not lose");
}

#[test]
fn a_place_for_pins_that_cannot_be_one_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let bridge = format!("bpffs = \"{}/refused.toml\"", lab.dir().display());
    let words = ["refused.toml", "not a BPF file system", "mount -t bpf"];
    assert_refused(&lab, &config(&lab, &bridge, ""), &words);
}

#[test]
fn detach_without_a_config_or_without_nics_says_so() {
    let Some(lab) = Lab::new() else { return };
    let before = lab.ports();
    portcullis(&lab, &["detach", "-c", "/nowhere.toml"]).assert_one_line(&["/nowhere.toml"]);
    let path = write_config(&lab, "empty.toml", "");
    let path = path.to_str().expect("UTF-8");
    portcullis(&lab, &["detach", "-c", path]).assert_one_line(&["[bridge]"]);
    assert_eq!(lab.ports(), before);
}

#[test]
fn cores_that_this_machine_does_not_have_are_refused() {
    let Some(lab) = Lab::new() else { return };
    assert_refused(
        &lab,
        &config(&lab, "cores = [4000]", ""),
        &["cores", "4000", "may run on"],
    );
}

//! The Debian package from installing to purging, with the real dpkg, systemd and unit: see [`machine`]. The package is made of the
//! binary that the other tests run, by the metadata that `make deb` uses.

#[path = "../common/mod.rs"]
mod common;
mod machine;

use common::craft::{Packet, UDP, number_of, numbered};
use common::gate::BINARY;
use common::wire::{NOT_COMING, assert_closed, assert_open};
use common::{Lab, SOON, Wire, until};
use machine::Machine;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What the service may do: `CAP_NET_ADMIN` (12), `CAP_NET_RAW` (13), `CAP_BPF` (39), and no other.
const CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 39;

/// Packet memory within the limit of locked memory that a sandbox may have, and no reload but the one that is asked for.
const CONFIG: &str = r#"
[bridge]
lan = "gl0"
uplink = "gu0"
huge_pages = false
idle = "adaptive"
watchdog = "20s"
handover = "10s"
ring = 1024
chunk = 2048
frames = 4096

[flows]
size = 1024

[lan]
prefixes = ["10.77.0.0/24"]

[sets]
mail_servers = ["10.77.0.25"]

[alerts]
file = "/var/log/portcullis/alerts.jsonl"

[control]
watch = false
"#;

const RULE: &str =
    "\n[[rule]]\nname = \"no-7777\"\nproto = \"udp\"\ndport = 7777\naction = \"drop\"\n";

/// The package, at this version.
fn package(dir: &Path, version: &str) -> PathBuf {
    manual::package(Path::new(BINARY), dir, version).expect("a package")
}

/// Sees that a datagram to this port does not pass.
fn assert_blocked(lan: &Wire, uplink: &Wire, port: u16) {
    uplink.drain();
    lan.send(&Packet::out(UDP, port).frame());
    assert_eq!(uplink.next(NOT_COMING), None, "port {port}");
}

/// Waits until the service answers.
fn ready(machine: &Machine) {
    until("the gate", SOON * 2, || {
        (machine.run("portcullis status").code == Some(0)).then_some(())
    });
}

/// Tells a sender to stop, however what it goes on beside ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Sends a numbered datagram every two milliseconds and a forbidden one too, while `work` is done, and a while longer. Sees that every one of those arrives, once and in
/// order, and none of these.
fn assert_nothing_lost(lan: &Wire, uplink: &Wire, work: impl FnOnce()) {
    uplink.drain();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Relaxed) {
                lan.send(&numbered(sent));
                lan.send(&Packet::out(UDP, 69).frame());
                sent += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        let stop = Stop(&done);
        work();
        std::thread::sleep(Duration::from_millis(100));
        drop(stop);
        let sent = sender.join().expect("the sender");
        let left: Vec<u64> = (uplink.frames(sent as usize, SOON).iter())
            .map(|frame| number_of(frame))
            .collect();
        assert!(
            sent > 100 && left.len() as u64 == sent,
            "{} of {sent}",
            left.len()
        );
        assert!(left.into_iter().eq(0..sent), "not in order");
        assert_eq!(uplink.next(NOT_COMING), None, "got out");
    });
}

/// Restarts the service by `line`, and sees that the new process has taken over, and that nothing is kept for another.
fn assert_taken_over(machine: &Machine, line: &str) {
    let pid = machine.property("MainPID");
    machine.must(line);
    until("the new process", SOON * 3, || {
        let ready = machine.run("portcullis status").code == Some(0);
        (ready && machine.property("MainPID") != pid).then_some(())
    });
    let status = machine.must("portcullis status");
    eprintln!("{line}: {}", status.lines().nth(2).unwrap_or_default());
    assert!(
        status.contains("Taken over"),
        "{status}\n{}",
        machine.journal()
    );
    assert_eq!(machine.property("NFileDescriptorStore"), "0");
}

/// Sees that without one of its capabilities the gate does not start.
fn assert_needs(machine: &Machine, capability: &str) {
    let dir = "/run/systemd/system/portcullis.service.d";
    assert_eq!(machine.property("NRestarts"), "0");
    machine.must(&format!(
        "mkdir -p {dir} && printf '[Service]\\nCapabilityBoundingSet=~{capability}\\nAmbientCapabilities=~{capability}\\n' > {dir}/less.conf
         systemctl daemon-reload; systemctl start --no-block portcullis"
    ));
    until(
        &format!("a start to fail without {capability}"),
        SOON * 3,
        || (machine.property("NRestarts") != "0").then_some(()),
    );
    assert_ne!(
        machine.run("portcullis status").code,
        Some(0),
        "ready without {capability}"
    );
    machine.must(&format!("systemctl stop portcullis; rm -r {dir}; systemctl daemon-reload; systemctl reset-failed portcullis || true"));
}

/// No bug of Debian's is closed by a package that Debian does not have.
#[test]
fn lintian_finds_nothing_wrong_with_the_package() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning"])
        .args(["--suppress-tags", "initial-upload-closes-no-bugs"])
        .arg(package(dir.path(), "0.1.0-1"))
        .output()
        .expect("lintian starts: `deploy/setup.sh test` installs it");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stdout)
    );
}

#[test]
fn the_package_is_installed_configured_run_upgraded_removed_and_purged() {
    let Some(lab) = Lab::new() else { return };
    let before = lab.ports();
    let dir = tempfile::tempdir().expect("a folder");
    let [first, second] = ["9.0.0-1", "9.1.0-1"].map(|version| package(dir.path(), version));
    let machine = Machine::boot(&lab);
    machine.put(&first, "/tmp/first.deb");
    machine.put(&second, "/tmp/second.deb");
    let (lan, uplink) = Wire::both(&lab);

    // Installing starts nothing, and what it brings can be read and checked.
    let said = machine.must("dpkg -i /tmp/first.deb");
    assert!(said.contains("nothing was started"), "{said}");
    assert_eq!(
        machine.run("systemctl is-active portcullis").stdout.trim(),
        "inactive"
    );
    assert_eq!(
        machine.run("systemctl is-enabled portcullis").stdout.trim(),
        "disabled"
    );
    machine.must("getent passwd portcullis && getent group portcullis");
    machine.must("portcullis check && grep -q 'Yours will differ' /etc/portcullis/portcullis.toml");
    let lost = machine.run("portcullis doctor");
    assert!(
        lost.code == Some(2) && lost.stderr.contains("no such interface"),
        "{lost:?}"
    );
    machine.must("zcat /usr/share/man/man1/portcullis-run.1.gz | grep -q 'Filter between'");
    machine.must("test -s /usr/share/bash-completion/completions/portcullis && test -s /usr/share/portcullis/prometheus/rules/alerts.yml");
    let wrong = machine.run("systemd-analyze verify portcullis.service 2>&1 | grep portcullis");
    assert_eq!(wrong.stdout, "", "systemd finds fault with the unit");
    assert_eq!(lab.ports(), before);

    // Configured and enabled it filters, without root, by three capabilities.
    let out = machine.feed("cat > /etc/portcullis/portcullis.toml", CONFIG.as_bytes());
    assert_eq!(out.code, Some(0), "{out:?}");
    for capability in ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"] {
        assert_needs(&machine, capability);
    }
    machine.must("systemctl enable --now portcullis");
    ready(&machine);
    assert_open(&lan, &uplink);
    assert_blocked(&lan, &uplink, 69);
    let status = machine.must(&format!("cat /proc/{}/status", machine.property("MainPID")));
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
            .trim()
            .to_string()
    };
    assert_ne!(field("Uid:").split('\t').next(), Some("0"), "{status}");
    // What it has been given it has given up when it was ready; the bounds are the unit's.
    for (set, has) in [
        ("CapEff:", 0),
        ("CapPrm:", 0),
        ("CapAmb:", 0),
        ("CapBnd:", CAPABILITIES),
    ] {
        let found = u64::from_str_radix(&field(set), 16);
        assert_eq!(found, Ok(has), "{set} {status}");
    }
    assert_eq!(
        (field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()),
        ("1", "2")
    );
    let socket = machine.must("stat -c '%U %G %a' /run/portcullis/control.sock");
    assert_eq!(socket, "portcullis portcullis 660");

    // The Internet is not for the service itself: an address of it is on the loopback here.
    machine.must("ip address add 198.51.100.1/32 dev lo");
    let send = |cgroup: &str, to: &str| {
        let join = format!("echo $BASHPID > /sys/fs/cgroup/{cgroup}/cgroup.procs");
        machine
            .run(&format!("bash -c '{join} && echo x > /dev/udp/{to}/9'"))
            .code
    };
    let service = "system.slice/portcullis.service";
    assert_eq!(send(service, "127.0.0.1"), Some(0));
    assert_eq!(send("init.scope", "198.51.100.1"), Some(0));
    assert_ne!(send(service, "198.51.100.1"), Some(0));

    // A reload by systemd, and a change that has to outlive what follows.
    assert_eq!(
        machine
            .feed("cat >> /etc/portcullis/portcullis.toml", RULE.as_bytes())
            .code,
        Some(0)
    );
    machine.must("systemctl reload portcullis");
    until("the reload", SOON, || {
        machine
            .must("portcullis status")
            .contains("no-7777")
            .then_some(())
    });
    assert_blocked(&lan, &uplink, 7777);
    assert_open(&lan, &uplink);
    machine.must("portcullis sets add mail_servers 10.77.0.26");

    // A restart, and an upgrade, which is one, lose no frame, and nothing forbidden gets out.
    assert_nothing_lost(&lan, &uplink, || {
        for _ in 0..3 {
            assert_taken_over(&machine, "systemctl restart portcullis");
        }
    });
    assert_nothing_lost(&lan, &uplink, || {
        assert_taken_over(&machine, "dpkg -i /tmp/second.deb");
    });
    assert_open(&lan, &uplink);
    assert_blocked(&lan, &uplink, 7777);
    assert!(machine.must("portcullis sets list").contains("10.77.0.26"));
    assert!(machine.must("dpkg-query -W portcullis").contains("9.1.0-1"));
    // Of a host that nobody has been told of yet: the incident of the one above stays open over restarts.
    let mut packet = Packet::out(UDP, 69);
    packet.src4 = [10, 77, 0, 77].into();
    until("the alert", SOON, || {
        lan.send(&packet.frame());
        machine
            .must("cat /var/log/portcullis/alerts.jsonl")
            .contains("10.77.0.77")
            .then_some(())
    });

    // Stopped, it stays stopped through an installation, and closed through a removal.
    machine.must("systemctl stop portcullis");
    assert_eq!(machine.property("NFileDescriptorStore"), "0");
    assert_closed(&lan, &uplink, 10);
    machine.must("dpkg -i --force-downgrade /tmp/first.deb");
    assert_eq!(
        machine.run("systemctl is-active portcullis").stdout.trim(),
        "inactive"
    );
    machine.must("systemctl start portcullis");
    ready(&machine);
    assert!(!machine.must("portcullis status").contains("Taken over"));
    // Killed, it comes back with sockets of its own.
    let pid = machine.property("MainPID");
    machine.must(&format!("kill -KILL {pid}"));
    assert_closed(&lan, &uplink, 10);
    ready(&machine);
    assert!(!machine.must("portcullis status").contains("Taken over"));
    let said = machine.must("dpkg -r portcullis");
    assert!(
        said.contains("still on the NICs") && said.contains("purge"),
        "{said}"
    );
    assert_closed(&lan, &uplink, 10);
    machine.must("test -s /var/log/portcullis/alerts.jsonl && test -e /etc/portcullis/portcullis.toml && ! test -e /usr/bin/portcullis");

    // Purged, the NICs are as they were and nothing is left.
    machine.must("dpkg -P portcullis");
    assert_eq!(lab.ports(), before, "the NICs are not as they were");
    let left = machine
        .run("ls -d /run/portcullis /sys/fs/bpf/portcullis/* 2>/dev/null")
        .stdout;
    assert_eq!(left, "");
    // man-db's cache is its own.
    let theirs = |path: &String| path.starts_with("tmp/") || path.starts_with("var/cache/man/");
    let left = machine.written();
    assert!(left.iter().all(theirs), "left behind: {left:?}");
}

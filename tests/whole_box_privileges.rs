//! What a running gate may still do: its threads are asked to try.
#![cfg(target_arch = "x86_64")]

mod common;

use common::gate::{config, get};
use common::wire::assert_open;
use common::{Gate, Lab, Wire};
use nix::libc;
use nix::sys::signal::Signal;
use rig::inject::system_call;
use std::path::Path;

/// Its threads by name: the worker, and the main one.
fn thread(pid: u32, name: &str) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let named = tasks.flatten().find_map(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
        (comm.trim_end() == name).then(|| task.file_name().to_string_lossy().parse().ok())?
    });
    named.unwrap_or_else(|| panic!("no thread {name}"))
}

fn field(status: &str, key: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
}

#[test]
fn no_thread_of_a_running_gate_has_a_capability_or_can_get_one() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(
        &lab,
        &config(&lab, "", "[metrics]\nlisten = \"127.0.0.1:9155\"\n"),
    );
    let mut threads = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", gate.pid()))
        .expect("its threads")
        .flatten()
    {
        let status = std::fs::read_to_string(task.path().join("status")).expect("a status");
        let name = field(&status, "Name:");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set} of {name}");
        }
        assert_eq!(field(&status, "NoNewPrivs:"), "1", "{name}");
        assert_eq!(field(&status, "Seccomp:"), "2", "{name}");
        let filters: u32 = field(&status, "Seccomp_filters:")
            .parse()
            .expect("a number");
        assert_eq!(
            filters > 1,
            name.starts_with("worker-") || name == "hoststack",
            "{filters} filters on {name}"
        );
        threads += 1;
    }
    assert!(threads >= 3, "{threads} threads");
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).expect("a status");
    let (locked, all) = (field(&status, "VmLck:"), field(&status, "VmRSS:"));
    let kb = |text: &str| {
        text.trim_end_matches(" kB")
            .trim()
            .parse::<u64>()
            .expect("kB")
    };
    assert!(kb(&locked) >= kb(&all) / 2, "locked {locked} of {all}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.pid())).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .expect("a line");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[test]
fn what_a_running_gate_gave_up_fails_when_it_is_tried() {
    let Some(lab) = Lab::new() else { return };
    let metrics = "[metrics]\nlisten = \"127.0.0.1:9155\"\n";
    let gate = Gate::with(&lab, &config(&lab, "", metrics));
    let (lan, uplink) = Wire::both(&lab);
    assert_open(&lan, &uplink);
    let pid = gate.pid();
    let (main, worker) = (thread(pid, "portcullis"), thread(pid, "worker-0"));
    let stack = thread(pid, "hoststack");
    let call = |thread, number, arguments| {
        system_call(pid, thread, number, arguments, None).expect("a call")
    };
    let open = |thread, path: &Path, flags: i32| {
        let text = path.to_str().expect("UTF-8");
        let at = libc::AT_FDCWD as i64 as u64;
        let arguments = [at, 0, flags as u64, 0o600, 0];
        system_call(
            pid,
            thread,
            libc::SYS_openat,
            arguments,
            Some((1, text.as_bytes())),
        )
        .expect("a call")
    };
    let eperm = -i64::from(libc::EPERM);
    // No other program, no debugger, no mount, no namespace, no program for the kernel, no raw packets.
    let never: &[(&str, i64, [u64; 5])] = &[
        ("execve", libc::SYS_execve, [0; 5]),
        ("execveat", libc::SYS_execveat, [0; 5]),
        (
            "ptrace",
            libc::SYS_ptrace,
            [libc::PTRACE_ATTACH.into(), 1, 0, 0, 0],
        ),
        (
            "process_vm_readv",
            libc::SYS_process_vm_readv,
            [1, 0, 0, 0, 0],
        ),
        ("mount", libc::SYS_mount, [0; 5]),
        ("umount2", libc::SYS_umount2, [0; 5]),
        ("setns", libc::SYS_setns, [0; 5]),
        (
            "unshare",
            libc::SYS_unshare,
            [libc::CLONE_NEWNS as u64, 0, 0, 0, 0],
        ),
        ("bpf: a program", libc::SYS_bpf, [5, 0, 0, 0, 0]),
        ("bpf: a map", libc::SYS_bpf, [0, 0, 0, 0, 0]),
        (
            "socket: packets",
            libc::SYS_socket,
            [libc::AF_PACKET as u64, libc::SOCK_RAW as u64, 0, 0, 0],
        ),
        (
            "socket: XDP",
            libc::SYS_socket,
            [libc::AF_XDP as u64, libc::SOCK_RAW as u64, 0, 0, 0],
        ),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]),
        ("init_module", libc::SYS_init_module, [0; 5]),
        ("setuid", libc::SYS_setuid, [65534, 0, 0, 0, 0]),
        ("capset", libc::SYS_capset, [0; 5]),
        ("keyctl", libc::SYS_keyctl, [0; 5]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 5]),
        ("reboot", libc::SYS_reboot, [0; 5]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0; 5]),
    ];
    for (name, number, arguments) in never {
        for thread in [main, worker, stack] {
            assert_eq!(call(thread, *number, *arguments), eperm, "{name}");
        }
    }
    // A worker opens nothing at all, and speaks to nobody; nor does the stack that answers for the box.
    let datagrams = [libc::AF_INET as u64, libc::SOCK_DGRAM as u64, 0, 0, 0];
    for thread in [worker, stack] {
        assert_eq!(call(thread, libc::SYS_socket, datagrams), eperm);
        let config = lab.dir().join("portcullis.toml");
        assert_eq!(open(thread, &config, libc::O_RDONLY), eperm);
        assert_eq!(call(thread, libc::SYS_clone, [0; 5]), eperm);
        assert_eq!(call(thread, libc::SYS_bpf, [1, 0, 0, 0, 0]), eperm);
    }
    // The control plane reaches what the config names.
    let socket = call(main, libc::SYS_socket, datagrams);
    assert!(socket >= 0, "{socket}");
    assert_eq!(call(main, libc::SYS_close, [socket as u64, 0, 0, 0, 0]), 0);
    let config = open(main, &lab.dir().join("portcullis.toml"), libc::O_RDONLY);
    assert!(config >= 0, "{config}");
    assert_eq!(call(main, libc::SYS_close, [config as u64, 0, 0, 0, 0]), 0);
    // And no other file, and listens nowhere else.
    let denied = -i64::from(libc::EACCES);
    let new = Path::new("/tmp/portcullis-may-not-make-this");
    for (path, flags) in [
        (Path::new("/etc/shadow"), libc::O_RDONLY),
        (Path::new("/etc/passwd"), libc::O_RDONLY),
        (Path::new("/proc/1/environ"), libc::O_RDONLY),
        (Path::new("/sys/fs/bpf"), libc::O_RDONLY | libc::O_DIRECTORY),
        (Path::new("/dev/full"), libc::O_WRONLY),
        (new, libc::O_WRONLY | libc::O_CREAT),
    ] {
        assert_eq!(open(main, path, flags), denied, "{}", path.display());
    }
    assert!(!new.exists());
    // No TCP to anywhere, and no port but those that it has.
    let stream = [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0];
    for (name, number) in [("connect", libc::SYS_connect), ("bind", libc::SYS_bind)] {
        let socket = call(main, libc::SYS_socket, stream) as u64;
        let mut address = [0u8; 16];
        address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        address[2..8].copy_from_slice(&[0x11, 0x5c, 127, 0, 0, 1]);
        let arguments = [socket, 0, 16, 0, 0];
        let answer = system_call(pid, main, number, arguments, Some((1, &address)));
        assert_eq!(answer.expect("a call"), denied, "{name}");
        assert_eq!(call(main, libc::SYS_close, [socket, 0, 0, 0, 0]), 0);
    }
    // It goes on as if nothing had been.
    assert_open(&lan, &uplink);
    assert!(get(&lab, "/healthz").0.contains(" 200 "));
    assert_eq!(gate.end(Signal::SIGTERM).code(), Some(0));
}

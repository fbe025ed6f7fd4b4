//! A machine of its own: the systemd of this one, booted in namespaces over a copy-on-write view of its files, in a lab's gate namespace.

use crate::common::gate::Output;
use crate::common::{Lab, SOON, until};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What boots it.
const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/package/boot.sh");

/// The machine; gone when it is dropped, with all that was written there.
pub struct Machine {
    holder: Child,
    /// Its first process, as this machine numbers it.
    init: u32,
    folder: PathBuf,
    cgroup: Option<PathBuf>,
}

impl Machine {
    /// Boots it, and waits until systemd says that it runs.
    pub fn boot(lab: &Lab) -> Machine {
        let folder = lab.dir().join("machine");
        std::fs::create_dir(&folder).expect("a folder");
        let cgroup = cgroup();
        // Into its cgroup first: systemd takes the one that it finds itself in for its own.
        let join = match &cgroup {
            Some(dir) => format!("echo 0 > {}/cgroup.procs && ", dir.display()),
            None => String::new(),
        };
        let boot = format!(
            "{join}exec unshare -m -p -C -u -i --fork --kill-child sh {BOOT} {}",
            folder.display()
        );
        let log = std::fs::File::create(lab.dir().join("machine.log")).expect("a log");
        let holder = lab
            .command("gate", "sh")
            .args(["-c", &boot])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("sh starts");
        let mut machine = Machine {
            holder,
            init: 0,
            folder,
            cgroup,
        };
        let log = lab.dir().join("machine.log");
        machine.init = until("the first process", SOON * 3, || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let ended = machine.holder.try_wait().expect("wait");
            assert!(ended.is_none(), "no machine boots here: {said}");
            let id = machine.holder.id();
            let children =
                std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
            let init = children.trim().parse().ok()?;
            let name = std::fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
            (name.trim() == "systemd").then_some(init)
        });
        until("systemd to run", SOON * 3, || {
            let state = machine.run("systemctl is-system-running").stdout;
            (state.trim() == "running").then_some(())
        });
        machine
    }

    /// Runs a line of shell inside to its end, at most a minute.
    pub fn run(&self, line: &str) -> Output {
        self.feed(line, b"")
    }

    /// The same with something on standard input.
    pub fn feed(&self, line: &str, input: &[u8]) -> Output {
        let init = self.init.to_string();
        let mut child = Command::new("timeout")
            .args([
                "-s", "KILL", "60", "nsenter", "-a", "-r", "-w", "-t", &init, "env",
            ])
            .args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that does not read it does not want it.
        let _ = stdin.write_all(input);
        drop(stdin);
        let out = child.wait_with_output().expect("its end");
        Output {
            code: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// What a line that must succeed prints.
    pub fn must(&self, line: &str) -> String {
        let out = self.run(line);
        assert_eq!(out.code, Some(0), "{line}: {out:?}\n{}", self.journal());
        out.stdout.trim().to_string()
    }

    /// A property of the service, as systemd tells it.
    pub fn property(&self, name: &str) -> String {
        self.must(&format!("systemctl show -P {name} portcullis"))
    }

    /// Copies a file to a path inside.
    pub fn put(&self, file: &Path, path: &str) {
        let bytes = std::fs::read(file).expect("a file");
        let out = self.feed(&format!("cat > {path}"), &bytes);
        assert_eq!(out.code, Some(0), "{out:?}");
    }

    /// What the service has said.
    pub fn journal(&self) -> String {
        self.run("journalctl -o cat --no-pager -u portcullis | tail -n 20")
            .stdout
    }

    /// Paths of all that is written and not deleted, and has `portcullis` in its name; without the leading `/`.
    pub fn written(&self) -> Vec<String> {
        let init = self.init.to_string();
        let upper = self.folder.join("upper");
        let out = Command::new("nsenter")
            .args(["-m", "-t", &init, "find"])
            .arg(&upper)
            // A character device stands for a file that was deleted.
            .args([
                "-iname",
                "*portcullis*",
                "!",
                "-type",
                "c",
                "-printf",
                "%P\\n",
            ])
            .output()
            .expect("nsenter starts");
        assert!(out.status.success(), "{out:?}");
        let text = String::from_utf8_lossy(&out.stdout);
        text.lines().map(str::to_string).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.init != 0 {
            eprintln!("the service said:\n{}", self.journal());
        }
        // Its first process goes with it, and with that all others.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        if let Some(dir) = &self.cgroup {
            // It empties when the last process is gone. One that is left over is empty, and harms nobody.
            let gone = (0..500).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                remove(dir).is_ok()
            });
            if !gone {
                eprintln!("{} is left over", dir.display());
            }
        }
    }
}

/// A new cgroup below this process's own; none where there is no second version of cgroups.
fn cgroup() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let root = mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| words[1].to_string())
    })?;
    let mine = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mine = mine.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dir = Path::new(&root)
        .join(mine)
        .join(format!("portcullis-test-{}", std::process::id()));
    std::fs::create_dir(&dir).ok().map(|()| dir)
}

/// Removes a cgroup and those below it.
fn remove(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    std::fs::remove_dir(dir)
}

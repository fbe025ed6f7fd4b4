//! Real clients, each with the proof that its server answered it.

use std::path::Path;
use std::time::Duration;

use crate::process::tail;
use crate::server::payload;
use crate::site::{Client, Inside, Site};
use crate::{Namespace, Output, Result, Rig, addr};

/// What the policy says about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It gets through.
    Passes,
    /// It does not.
    Blocked {
        /// The rule that counts it.
        rule: &'static str,
        /// Whether that rule alerts.
        alerts: bool,
    },
}

/// How an attempt shows that its server answered.
#[derive(Clone, Copy, Debug)]
pub enum Proof {
    /// The client ends with status 0 and its stdout holds this.
    Says(&'static str),
    /// The client's file `got` is, byte for byte, what the server serves.
    Payload,
    /// The message, told by a word of its own, lies in the server's mailbox.
    Mail,
    /// This text appears in this file under the client's directory; the client is then ended.
    Appears(&'static str, &'static str),
    /// The report of iperf3 (JSON), with the rate at the receiver.
    Rate,
}

/// One run of a real client.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What is tried.
    pub name: &'static str,
    /// The source address.
    pub from: &'static str,
    /// The destination, with the port where there is one.
    pub to: String,
    /// What the policy says.
    pub expect: Expect,
    /// The command line; `{dir}` stands for the client's directory, `{servers}` for that of the servers, `{nick}` for
    /// a nick that no other run uses.
    argv: Vec<String>,
    /// What the client reads from stdin; `{word}` stands for a word that no other run uses.
    input: &'static str,
    proof: Proof,
}

/// What an attempt got.
#[derive(Clone, Debug)]
pub struct Got {
    /// True where the proof is there.
    pub through: bool,
    /// In a few words.
    pub said: String,
    /// How long the client ran.
    pub took: Duration,
}

impl Attempt {
    /// An attempt whose client is `command`, split at white space.
    pub fn new(
        name: &'static str,
        from: &'static str,
        to: impl Into<String>,
        expect: Expect,
        command: &str,
        proof: Proof,
    ) -> Attempt {
        let argv = command.split_whitespace().map(str::to_owned).collect();
        Attempt {
            name,
            from,
            to: to.into(),
            expect,
            argv,
            input: "",
            proof,
        }
    }

    /// One more argument, white space and all.
    fn with(mut self, argument: &str) -> Attempt {
        self.argv.push(argument.to_owned());
        self
    }

    fn reading(mut self, input: &'static str) -> Attempt {
        self.input = input;
        self
    }

    /// One attempt for each thing that the baseline policy blocks.
    pub fn blocked_by_baseline() -> Vec<Attempt> {
        let blocked = |rule| Expect::Blocked { rule, alerts: true };
        let at = addr::SERVER;
        let to = |port: u16| format!("{at}:{port}");
        vec![
            Attempt::new(
                "TFTP get",
                addr::HOST,
                to(69),
                blocked("tftp"),
                &format!("curl -sS -o {{dir}}/got tftp://{at}/payload.bin"),
                Proof::Payload,
            ),
            smtp("SMTP, any host", addr::HOST, blocked("smtp")),
            Attempt::new(
                "IRC",
                addr::HOST,
                to(6667),
                blocked("irc"),
                &format!("ii -s {at} -p 6667 -n v{{nick}} -i {{dir}}"),
                Proof::Appears("93.184.216.34/out", "irc.rig.test"),
            ),
            // The handshake passes: only what the client says first tells what it is.
            Attempt::new(
                "IRC, another port",
                addr::HOST,
                to(8080),
                blocked("irc"),
                &format!("ii -s {at} -p 8080 -n w{{nick}} -i {{dir}}"),
                Proof::Appears("93.184.216.34/out", "irc.rig.test"),
            ),
            Attempt::new(
                "SNMP get",
                addr::HOST,
                to(161),
                blocked("snmp"),
                &format!("snmpget -v2c -c public -t 1 -r 5 -Ov {at} 1.3.6.1.2.1.1.6.0"),
                Proof::Says("the uplink of the rig"),
            ),
            Attempt::new(
                "SMB get",
                addr::HOST,
                to(445),
                blocked("smb"),
                &format!("smbclient -N -p 445 -m SMB3 -s {{servers}}/smb.conf //{at}/files -c"),
                Proof::Payload,
            )
            .with("get payload.bin {dir}/got"),
            Attempt::new(
                "MSRPC epmap",
                addr::HOST,
                to(135),
                blocked("msrpc"),
                &format!("rpcclient -U% -s {{servers}}/smb.conf ncacn_ip_tcp:{at}[135] -c epmmap"),
                Proof::Says("num_tower"),
            ),
            Attempt::new(
                "ping, source forged",
                addr::SPOOFED,
                at,
                blocked("spoofed-source"),
                &format!("ping -n -c 2 -i 0.2 -W 1 -I {} {at}", addr::SPOOFED),
                Proof::Says(" 2 received"),
            ),
            Attempt::new(
                "ping, private target",
                addr::HOST,
                addr::PRIVATE,
                Expect::Blocked {
                    rule: "bogon-destination",
                    alerts: false,
                },
                &format!(
                    "ping -n -c 2 -i 0.2 -W 1 -I {} {}",
                    addr::HOST,
                    addr::PRIVATE
                ),
                Proof::Says(" 2 received"),
            ),
        ]
    }

    /// What the baseline policy lets through: the designated mail server, and what everybody does all day.
    pub fn allowed_by_baseline() -> Vec<Attempt> {
        let (at, at6) = (addr::SERVER, addr::SERVER6);
        let dig = |server| format!("dig +short +time=2 +tries=2 @{server} rig.test A");
        let ping = |server| format!("ping -n -c 3 -i 0.2 -W 1 {server}");
        let curl = |host: &str| format!("curl -sS --fail -o {{dir}}/got http://{host}/payload.bin");
        let passes = Expect::Passes;
        vec![
            smtp("SMTP, designated", addr::MAIL, passes),
            Attempt::new(
                "DNS",
                addr::HOST,
                format!("{at}:53"),
                passes,
                &dig(at),
                Proof::Says(at),
            ),
            Attempt::new(
                "DNS, IPv6",
                addr::HOST6,
                format!("[{at6}]:53"),
                passes,
                &dig(at6),
                Proof::Says(at),
            ),
            Attempt::new(
                "HTTP",
                addr::HOST,
                format!("{at}:80"),
                passes,
                &curl(at),
                Proof::Payload,
            ),
            Attempt::new(
                "HTTP, IPv6",
                addr::HOST6,
                format!("[{at6}]:80"),
                passes,
                &curl(&format!("[{at6}]")),
                Proof::Payload,
            ),
            Attempt::new(
                "ping",
                addr::HOST,
                at,
                passes,
                &ping(at),
                Proof::Says(" 3 received"),
            ),
            Attempt::new(
                "ping, IPv6",
                addr::HOST6,
                at6,
                passes,
                &ping(at6),
                Proof::Says(" 3 received"),
            ),
            Attempt::new(
                "iperf3, TCP 2 s",
                addr::HOST,
                format!("{at}:5201"),
                passes,
                &format!("iperf3 -J -t 2 -c {at}"),
                Proof::Rate,
            ),
        ]
    }

    /// Runs the client in the lan namespace, for at most `limit`.
    pub fn run(&self, rig: &Rig, limit: Duration) -> Result<Got> {
        self.run_in(&rig.lan, rig, limit)
    }

    /// Runs the client in `namespace`, for at most `limit`.
    pub fn run_in(&self, namespace: &Namespace, rig: &Rig, limit: Duration) -> Result<Got> {
        self.run_at(&Inside { namespace, rig }, limit)
    }

    /// Runs the client at `site`, for at most `limit`.
    pub fn run_at(&self, site: &dyn Site, limit: Duration) -> Result<Got> {
        let client = site.client()?;
        let dir = client.dir();
        let word = dir
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        // An IRC nick holds nine characters (RFC 2812, section 1.2.1), and is kept while its last user is not yet gone.
        let nick = word.trim_start_matches(Client::PREFIX);
        let fill = |text: &str| {
            text.replace("{dir}", &dir.display().to_string())
                .replace("{servers}", &site.servers().display().to_string())
                .replace("{word}", &word)
                .replace("{nick}", nick)
        };
        let argv: Vec<String> = self.argv.iter().map(|arg| fill(arg)).collect();
        let evidence = Evidence {
            site,
            dir,
            word: &word,
        };
        let mut enough =
            || matches!(self.proof, Proof::Appears(..)) && evidence.of(self.proof, None).is_some();
        let output = site.run(&argv, &fill(self.input), limit, &mut enough)?;
        let proof = evidence.of(self.proof, Some(&output));
        Ok(Got {
            through: proof.is_some(),
            said: proof.unwrap_or_else(|| failure(&output)),
            took: output.took,
        })
    }
}

fn smtp(name: &'static str, from: &'static str, expect: Expect) -> Attempt {
    let at = addr::SERVER;
    let command = format!(
        "curl -sS --interface {from} --mail-from visitor@rig.test --mail-rcpt root@rig.test -T - smtp://{at}/rig.test"
    );
    Attempt::new(
        name,
        from,
        format!("{at}:25"),
        expect,
        &command,
        Proof::Mail,
    )
    .reading("Subject: {word}\r\n\r\nhello\r\n")
}

/// Runs all of `attempts` in the lan namespace, as [`run_all_at`] does.
pub fn run_all(rig: &Rig, attempts: &[Attempt], limit: Duration) -> Result<Vec<Got>> {
    let namespace = &rig.lan;
    run_all_at(&Inside { namespace, rig }, attempts, limit)
}

/// Runs all of `attempts` at `site`, each for at most `limit`; gives what they got, in their order. All run at once, but for those
/// that fill the line, which cost the others frames: they run when the others have ended.
pub fn run_all_at(site: &dyn Site, attempts: &[Attempt], limit: Duration) -> Result<Vec<Got>> {
    let mut all: Vec<Option<Got>> = attempts.iter().map(|_| None).collect();
    for fill_the_line in [false, true] {
        let those = attempts.iter().zip(&mut all);
        let those = those.filter(|(one, _)| matches!(one.proof, Proof::Rate) == fill_the_line);
        std::thread::scope(|scope| {
            let running: Vec<_> = those
                .map(|(one, got)| (scope.spawn(move || one.run_at(site, limit)), got))
                .collect();
            for (thread, got) in running {
                let ended = thread.join();
                *got = Some(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok::<_, crate::Error>(())
        })?;
    }
    Ok(all.into_iter().flatten().collect())
}

/// Where the proof of one run lies.
struct Evidence<'a> {
    site: &'a dyn Site,
    dir: &'a Path,
    word: &'a str,
}

impl Evidence<'_> {
    /// The proof in a few words, where it is there.
    fn of(&self, proof: Proof, output: Option<&Output>) -> Option<String> {
        match proof {
            Proof::Says(text) => {
                let output = output.filter(|o| o.success())?;
                let line = output.stdout.lines().find(|line| line.contains(text))?;
                Some(brief(line))
            }
            Proof::Payload => {
                let got = self.site.read(&self.dir.join("got"))?;
                (got == payload().as_bytes()).then(|| format!("{} bytes, the same", got.len()))
            }
            Proof::Mail => self
                .site
                .delivered(self.word)
                .then(|| "delivered".to_owned()),
            Proof::Appears(file, text) => {
                let log = self.site.read(&self.dir.join(file))?;
                String::from_utf8_lossy(&log)
                    .contains(text)
                    .then(|| format!("answered by {text}"))
            }
            Proof::Rate => {
                let report: serde_json::Value = serde_json::from_str(&output?.stdout).ok()?;
                let rate = report["end"]["sum_received"]["bits_per_second"].as_f64()?;
                (rate > 0.0).then(|| format!("{:.0} Mbit/s", rate / 1e6))
            }
        }
    }
}

/// Why there is no proof, in a few words.
fn failure(output: &Output) -> String {
    if output.timed_out {
        return format!("no answer in {:.1} s", output.took.as_secs_f32());
    }
    let said = if output.stderr.trim().is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    brief(&tail(said, 1))
}

/// The first two parts of a line: of ping's last, how many were sent and how many came back.
fn brief(line: &str) -> String {
    line.trim()
        .split(", ")
        .take(2)
        .collect::<Vec<_>>()
        .join(", ")
}

//! The two protocols by which a virtual machine is asked, both JSON lines on a Unix socket: that of qemu itself (QMP), and that of the agent inside.
//!
//! Commands: <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html>, <https://www.qemu.org/docs/master/interop/qemu-ga-ref.html>.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rig::{Error, Result};
use serde_json::{Value, json};

/// How long a read waits before it looks whether somebody wants an end.
const LOOK: Duration = Duration::from_millis(100);

/// How long qemu, or an agent that is up, may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Debug)]
struct Lines {
    /// Whose it is, for errors.
    name: String,
    reader: BufReader<UnixStream>,
    /// The part of a line that has come.
    line: Vec<u8>,
}

impl Lines {
    fn connect(name: &str, socket: &Path) -> Result<Lines> {
        let failed = || format!("connecting to {name}");
        let stream = UnixStream::connect(socket).map_err(Error::io(failed()))?;
        stream
            .set_read_timeout(Some(LOOK))
            .map_err(Error::io(failed()))?;
        Ok(Lines {
            name: name.to_owned(),
            reader: BufReader::new(stream),
            line: Vec::new(),
        })
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        let mut text = message.to_string();
        text.push('\n');
        let sent = self.reader.get_mut().write_all(text.as_bytes());
        sent.map_err(Error::io(format!("speaking to {}", self.name)))
    }

    /// The next message, before `deadline`.
    fn receive(&mut self, deadline: Instant, limit: Duration) -> Result<Value> {
        loop {
            rig::check_interrupt()?;
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => {
                    return Err(Error::Ended {
                        name: self.name.clone(),
                        said: "it closed its socket".to_owned(),
                    });
                }
                Ok(_) if self.line.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.line);
                    // The agent precedes an answer by this byte where it is asked to (guest-sync-delimited).
                    let text = line.rsplit(|byte| *byte == 0xff).next().unwrap_or(&line);
                    return serde_json::from_slice(text).map_err(|e| self.bad(&e.to_string()));
                }
                Ok(_) => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(e) => return Err(Error::io(format!("listening to {}", self.name))(e)),
            }
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    what: format!("an answer of {}", self.name),
                    limit,
                });
            }
        }
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.send(&json!({ "execute": command, "arguments": arguments }))?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let mut answer = self.receive(deadline, ANSWER)?;
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(self.bad(&format!("{command}: {}", error["desc"])));
            }
            // Anything else is an event.
        }
    }

    fn bad(&self, said: &str) -> Error {
        Error::Answer {
            what: self.name.clone(),
            said: said.to_owned(),
        }
    }
}

/// The monitor of a qemu.
#[derive(Debug)]
pub struct Monitor(Lines);

impl Monitor {
    /// Connects, and leaves the mode in which only capabilities are negotiated.
    ///
    /// # Errors
    /// That nobody listens at `socket`, or what it answers.
    pub fn connect(name: &str, socket: &Path) -> Result<Monitor> {
        let mut lines = Lines::connect(&format!("qemu of {name}"), socket)?;
        lines.receive(Instant::now() + ANSWER, ANSWER)?;
        lines.execute("qmp_capabilities", json!({}))?;
        Ok(Monitor(lines))
    }

    /// Plugs the cable of a NIC in, or pulls it.
    ///
    /// # Errors
    /// What qemu says.
    pub fn set_link(&mut self, nic: &str, up: bool) -> Result<()> {
        self.tell("set_link", json!({ "name": nic, "up": up }))
    }

    /// Stops all processors.
    ///
    /// # Errors
    /// What qemu says.
    pub fn stop(&mut self) -> Result<()> {
        self.tell("stop", json!({}))
    }

    /// Goes on after [`Monitor::stop`].
    ///
    /// # Errors
    /// What qemu says.
    pub fn cont(&mut self) -> Result<()> {
        self.tell("cont", json!({}))
    }

    fn tell(&mut self, command: &str, arguments: Value) -> Result<()> {
        self.0.execute(command, arguments).map(drop)
    }
}

/// The guest agent of a machine.
#[derive(Debug)]
pub struct Agent(Lines);

/// How a program inside ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// Its exit status; none where a signal ended it.
    pub code: Option<i32>,
    /// That signal.
    pub signal: Option<i32>,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
}

impl Agent {
    /// Connects, and waits at most `limit` until the agent is up.
    ///
    /// # Errors
    /// That it does not come up.
    pub fn connect(name: &str, socket: &Path, limit: Duration) -> Result<Agent> {
        let mut lines = Lines::connect(&format!("the agent in {name}"), socket)?;
        // Told once: what is written before there is an agent waits for it in the channel.
        let id = std::process::id();
        lines.send(&json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } }))?;
        let deadline = Instant::now() + limit;
        while lines.receive(deadline, limit)?["return"] != id {}
        Ok(Agent(lines))
    }

    /// Starts a program; its number there.
    ///
    /// # Errors
    /// That there is no such program.
    pub fn start(&mut self, program: &str, words: &[String], input: &str) -> Result<u64> {
        let answer = self.0.execute(
            "guest-exec",
            json!({ "path": program, "arg": words, "input-data": base64(input.as_bytes()), "capture-output": true }),
        )?;
        answer["pid"]
            .as_u64()
            .ok_or_else(|| self.0.bad("guest-exec gave no pid"))
    }

    /// How it ended; none while it runs. Asked once after its end.
    ///
    /// # Errors
    /// That there is no such process.
    pub fn ended(&mut self, pid: u64) -> Result<Option<Ended>> {
        let answer = self.0.execute("guest-exec-status", json!({ "pid": pid }))?;
        if answer["exited"] != true {
            return Ok(None);
        }
        let number = |name: &str| answer[name].as_i64().and_then(|n| i32::try_from(n).ok());
        let bytes = |name: &str| plain(answer[name].as_str().unwrap_or_default());
        Ok(Some(Ended {
            code: number("exitcode"),
            signal: number("signal"),
            stdout: bytes("out-data").ok_or_else(|| self.0.bad("output that is not base64"))?,
            stderr: bytes("err-data").ok_or_else(|| self.0.bad("output that is not base64"))?,
        }))
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn plain(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    /// Answers each line with the next of `says`; gives what it was told.
    fn peer(
        greeting: &'static str,
        says: &'static [&'static str],
    ) -> (tempfile::TempDir, JoinHandle<Vec<Value>>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(greeting.as_bytes()).unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut told = Vec::new();
            for say in says {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                told.push(serde_json::from_str(&line).unwrap());
                stream.write_all(say.as_bytes()).unwrap();
            }
            told
        });
        (dir, thread)
    }

    #[test]
    fn events_between_a_command_and_its_answer_are_passed_over() {
        let (dir, thread) = peer(
            "{\"QMP\": {}}\r\n",
            &[
                "{\"return\": {}}\r\n",
                "{\"event\": \"STOP\"}\r\n{\"return\": {}}\r\n",
            ],
        );
        let mut monitor = Monitor::connect("gate", &dir.path().join("s")).unwrap();
        monitor.set_link("lan", false).unwrap();
        let told = thread.join().unwrap();
        assert_eq!(told[1]["execute"], "set_link");
        assert_eq!(told[1]["arguments"], json!({ "name": "lan", "up": false }));
    }

    #[test]
    fn an_error_of_qemu_is_told_with_its_command() {
        let (dir, thread) = peer(
            "{\"QMP\": {}}\n",
            &[
                "{\"return\": {}}\n",
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such device\"}}\n",
            ],
        );
        let mut monitor = Monitor::connect("gate", &dir.path().join("s")).unwrap();
        let error = monitor.stop().unwrap_err().to_string();
        assert!(
            error.contains("gate") && error.contains("stop") && error.contains("no such device"),
            "{error}"
        );
        thread.join().unwrap();
    }

    #[test]
    fn a_program_of_the_agent_is_started_and_asked_for_until_it_has_ended() {
        let sync: &str =
            Box::leak(format!("{{\"return\": {}}}\n", std::process::id()).into_boxed_str());
        let says: &[&str] = Box::leak(Box::new([
            sync,
            "{\"return\": {\"pid\": 7}}\n",
            "{\"return\": {\"exited\": false}}\n",
            "{\"return\": {\"exited\": true, \"exitcode\": 3, \"out-data\": \"aGk=\"}}\n",
        ]));
        let (dir, thread) = peer("", says);
        let mut agent = Agent::connect("lan", &dir.path().join("s"), ANSWER).unwrap();
        let pid = agent.start("/bin/cat", &["-".to_owned()], "hi").unwrap();
        assert!(agent.ended(pid).unwrap().is_none());
        let ended = agent.ended(pid).unwrap().unwrap();
        assert_eq!((ended.code, &ended.stdout[..]), (Some(3), &b"hi"[..]));
        assert_eq!(thread.join().unwrap()[1]["arguments"]["input-data"], "aGk=");
    }
}

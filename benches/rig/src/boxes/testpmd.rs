//! DPDK's testpmd: its one forwarding thread spins on the box's core, its main thread waits for commands on the other.

use super::Middle;
use crate::contender::Driver;
use crate::netns::Lab;
use crate::{Failure, pause};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(2);
const STOP: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(5);
const COUNT: &str = "/proc/sys/vm/nr_hugepages";
/// Huge pages of 2 MiB that its packet memory needs.
const PAGES: usize = 256;

/// A running testpmd; dropped, it is asked to quit, and its huge pages are given back.
pub struct Testpmd {
    child: Child,
    commands: ChildStdin,
    said: Arc<Mutex<String>>,
    worker: i32,
    _pages: HugePages,
}

impl Testpmd {
    /// Starts it in the middle of the lab, forwarding as it is, or only receiving if it `swallows`.
    pub fn start(
        lab: &Lab,
        driver: Driver,
        swallows: bool,
        [box_core, other_core]: [usize; 2],
    ) -> Result<Testpmd, Failure> {
        let pages = HugePages::reserve()?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", lab.mid))
            // Into a pipe it would say nothing before a whole page is full.
            .args([
                "stdbuf",
                "-oL",
                "dpdk-testpmd",
                "--in-memory",
                "--no-pci",
                "--no-telemetry",
            ])
            .arg(format!("--file-prefix={}", lab.mid))
            .args(["--lcores", &format!("0@{other_core},1@{box_core}")])
            // Else libxdp chains its program with others, by way of one more.
            .env("LIBXDP_SKIP_DISPATCHER", "1");
        for (at, port) in [&lab.lan_port, &lab.uplink_port].into_iter().enumerate() {
            command.arg(format!("--vdev={}", device(driver, at, port)));
        }
        let mode = if swallows { "rxonly" } else { "io" };
        command.args(["--", "-i", "--auto-start", "--total-num-mbufs=32768"]);
        command.arg(format!("--forward-mode={mode}"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(commands), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("testpmd has no pipes".into());
        };
        let mut testpmd = Testpmd {
            child,
            commands,
            said: listen(output),
            worker: 0,
            _pages: pages,
        };
        testpmd.ready()?;
        // EAL names its threads after their lcores.
        testpmd.worker = super::thread_of(testpmd.child.id(), "worker-1")?;
        Ok(testpmd)
    }

    fn ready(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let said = self.said();
            // What `--auto-start` says when the thread forwards.
            if said.contains("packet forwarding - ports=2") {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || begun.elapsed() > START {
                let last: Vec<&str> = said.lines().rev().take(3).collect();
                return Err(format!("testpmd did not start: {}", last.join("; ")).into());
            }
            pause(LOOK)?;
        }
    }

    fn said(&self) -> String {
        self.said.lock().map_or(String::new(), |said| said.clone())
    }
}

impl Middle for Testpmd {
    fn threads(&self) -> Vec<i32> {
        vec![self.worker]
    }

    fn received(&mut self) -> Result<u64, Failure> {
        if let Ok(mut said) = self.said.lock() {
            said.clear();
        }
        writeln!(self.commands, "show port stats 0")?;
        let asked = Instant::now();
        while asked.elapsed() < ANSWER {
            if let Some(received) = received(&self.said()) {
                return Ok(received);
            }
            std::thread::sleep(LOOK);
        }
        Err("testpmd does not say what it received".into())
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = writeln!(self.commands, "quit");
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > STOP {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// A virtual device over a port, as `--vdev` wants it (doc.dpdk.org/guides/nics/af_xdp.html and af_packet.html).
fn device(driver: Driver, at: usize, port: &str) -> String {
    match driver {
        Driver::AfXdp => format!("net_af_xdp{at},iface={port}"),
        Driver::AfPacket => format!(
            "net_af_packet{at},iface={port},blocksz=65536,framesz=2048,framecnt=2048,qdisc_bypass=1"
        ),
    }
}

/// What the answer to `show port stats` says was received, if its line is complete.
fn received(said: &str) -> Option<u64> {
    let (_, after) = said.split_once("RX-packets:")?;
    let (line, _) = after.split_once('\n')?;
    line.split_whitespace().next()?.parse().ok()
}

/// Keeps what it prints, from a thread that ends with it.
fn listen(output: ChildStdout) -> Arc<Mutex<String>> {
    let said = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&said);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Ok(mut kept) = kept.lock() {
                kept.push_str(&line);
                kept.push('\n');
            }
        }
    });
    said
}

/// Huge pages reserved beside those that there are; as many are given back when this is dropped.
struct HugePages;

impl HugePages {
    fn reserve() -> Result<HugePages, Failure> {
        let wanted = HugePages::count()? + PAGES;
        std::fs::write(COUNT, wanted.to_string())?;
        let reserved = HugePages;
        if HugePages::count()? < wanted {
            return Err(format!(
                "testpmd needs {PAGES} huge pages of 2 MiB, and there is no memory in such pieces"
            )
            .into());
        }
        Ok(reserved)
    }

    fn count() -> Result<usize, Failure> {
        Ok(std::fs::read_to_string(COUNT)?.trim().parse()?)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Ok(count) = HugePages::count() {
            let _ = std::fs::write(COUNT, count.saturating_sub(PAGES).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_an_answer_is_read_once_its_line_is_complete() {
        let answer = "  ####\n  RX-packets: 12345      RX-missed: 0          RX-bytes:  740700\n";
        assert_eq!(received(answer), Some(12_345));
        assert_eq!(received("  ####\n  RX-packets: 123"), None);
        assert_eq!(received(""), None);
    }
}

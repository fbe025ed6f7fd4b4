//! The real rsyslogd, over each transport.

use super::daemon::{Daemon, free_port, installed};
use super::*;
use std::process::Command;

/// What rsyslogd takes apart, and the message as it came.
const TEMPLATE: &str = r#"template(name="parts" type="string" string="%syslogfacility-text%.%syslogseverity-text% %app-name% %msgid% %timereported:::date-rfc3339% %structured-data%|%msg%\n")"#;

/// rsyslogd with one input, which writes into `got` of its directory.
fn rsyslogd(dir: &Path, global: &str, input: &str) -> Option<Daemon> {
    let path = installed("/usr/sbin/rsyslogd", "syslog")?;
    let there = dir.display();
    let text = format!(
        "global(workDirectory=\"{there}\" maxMessageSize=\"64k\" {global})\n{input}\n{TEMPLATE}\naction(type=\"omfile\" file=\"{there}/got\" template=\"parts\" flushOnTXEnd=\"on\")\n"
    );
    let config = dir.join("rsyslog.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(path);
    command.arg("-n").arg("-f").arg(&config);
    command.arg("-i").arg(dir.join("pid"));
    Some(Daemon::start(&mut command, &dir.join("said")))
}

fn got(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("got")).unwrap_or_default()
}

/// Waits for the lines of so many hosts; their heads, and the hosts in the order of arrival.
async fn received(dir: &Path, n: usize) -> (Vec<String>, Vec<String>) {
    let text = until("every message", || {
        Some(got(dir)).filter(|text| text.lines().count() >= n)
    })
    .await;
    let both = text.lines().map(|line| line.split_once('|').unwrap());
    let (heads, messages): (Vec<_>, Vec<_>) = both.unzip();
    let heads = heads.into_iter().map(str::to_owned).collect();
    (heads, hosts(&messages.join("\n")))
}

const HEAD: &str = r#"local0.crit portcullis alert 2026-01-01T00:00:00.000000Z [portcullis@32473 rule="tftp" level="high" host="10.77.0.1" direction="out" action="blocked" packets="1"]"#;

fn sink(port: u16, more: &str) -> String {
    format!(
        "[[sink]]\nkind = \"syslog\"\naddress = \"127.0.0.1:{port}\"\nfacility = \"local0\"\n{more}\n"
    )
}

#[test]
fn rsyslogd_takes_messages_over_udp_apart() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port(true);
    let input = format!(
        "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")"
    );
    let Some(_daemon) = rsyslogd(dir.path(), "", &input) else {
        return;
    };
    on_one_thread(async {
        let (sinks, delivery) = start(dir.path(), &sink(port, ""));
        let mut lines = Lines::new();
        // Until it listens, a refusal comes back for the datagram before.
        let mut next = 1;
        while got(dir.path()).is_empty() {
            assert!(next < 200, "{:?}", status(&sinks, "syslog"));
            sinks.write(lines.of(next));
            next += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let before = got(dir.path()).lines().count();
        lines.send(&sinks, 1000..=1199);
        let (heads, hosts) = received(dir.path(), before + 200).await;
        assert!(hosts.ends_with(&numbered(1000..=1199)), "{hosts:?}");
        let head = heads.last().unwrap();
        assert_eq!(head.replace("10.77.4.175", "10.77.0.1"), HEAD);
        assert!(delivery.finish(LIMIT).await.is_empty());
    });
}

#[test]
fn rsyslogd_over_tcp_gets_every_line_though_it_is_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port(false);
    let input = format!(
        "module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"
    );
    on_one_thread(async {
        let mut lines = Lines::new();
        let (sinks, delivery) = start(dir.path(), &sink(port, "transport = \"tcp\""));
        // Nobody is there yet.
        lines.send(&sinks, 1..=100);
        let Some(mut daemon) = rsyslogd(dir.path(), "", &input) else {
            return;
        };
        let (heads, hosts) = received(dir.path(), 100).await;
        assert_eq!(hosts, numbered(1..=100));
        assert_eq!(heads[0], HEAD);
        daemon.end();
        lines.send(&sinks, 101..=200);
        until("a failed attempt", || {
            (status(&sinks, "syslog").state == "failing").then_some(())
        })
        .await;
        let mut daemon = rsyslogd(dir.path(), "", &input).unwrap();
        let (_, hosts) = received(dir.path(), 200).await;
        assert_eq!(hosts, numbered(1..=200));
        assert!(delivery.finish(LIMIT).await.is_empty());
        daemon.end();
    });
}

#[test]
fn rsyslogd_over_tls_is_spoken_to_if_the_authority_of_the_config_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port(false);
    let there = dir.path();
    rig::tls_files(there).unwrap();
    let global = format!(
        "defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{0}/ca.pem\" defaultNetstreamDriverCertFile=\"{0}/server.pem\" defaultNetstreamDriverKeyFile=\"{0}/server.key\"",
        there.display()
    );
    let input = format!(
        "module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"
    );
    let Some(mut daemon) = rsyslogd(there, &global, &input) else {
        return;
    };
    on_one_thread(async {
        let tls = |name: &str, ca: &str| {
            sink(
                port,
                &format!("transport = \"tls\"\nname = \"{name}\"\nca = \"{ca}\""),
            )
        };
        let both = tls("right", "ca.pem") + &tls("wrong", "other.pem");
        let (sinks, delivery) = start(there, &both);
        Lines::new().send(&sinks, 1..=100);
        let (heads, hosts) = received(there, 100).await;
        assert_eq!(hosts, numbered(1..=100));
        assert_eq!(heads[0], HEAD);
        let wrong = until("what is wrong", || {
            let wrong = status(&sinks, "wrong");
            let said = wrong.last_error.clone().unwrap_or_default();
            said.contains("certificate").then_some(wrong)
        })
        .await;
        assert_eq!((wrong.sent, wrong.waiting), (0, 100));
        let left = delivery.finish(Duration::from_millis(300)).await;
        assert_eq!(left, [("wrong".to_owned(), 100)]);
    });
    daemon.end();
}

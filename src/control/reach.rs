//! The files and ports that a running gate has to reach, by its config: all others are given up.

use crate::config::Config;
use crate::config::sinks::{Http, Kind, Transport};
use crate::os::sandbox::Reach;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where names of hosts are looked up: what resolv.conf(5), nsswitch.conf(5) and hosts(5) are and lead to, and the modules that glibc loads for them.
const NAMES: [&str; 8] = [
    "/etc",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/nscd",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];
/// How many processors there may be, which whoever reads a per-CPU map has to know.
const PROCESSORS: &str = "/sys/devices/system/cpu/possible";
/// Of DNS, for answers that do not fit a datagram (RFC 7766).
const DNS: u16 = 53;

/// What the config, which was read from `file`, asks for. Folders that are written to are made where there are none.
///
/// # Errors
/// That a folder cannot be made.
pub fn reach(config: &Config, file: &Path) -> io::Result<Reach> {
    let mut reach = Reach::default();
    reach.read.push(PathBuf::from(PROCESSORS));
    let mut near = |path: &Path| {
        // Its folder: an editor puts another file in its place. Where it is a link, that of what it leads to as well.
        let ends = [Some(path.to_owned()), path.canonicalize().ok()];
        for path in ends.into_iter().flatten() {
            reach.read.push(folder(&path));
        }
    };
    near(file);
    let sets = config.policy.sets.iter();
    sets.filter_map(|set| set.file.as_deref())
        .for_each(&mut near);
    for tests in &config.test_files {
        near(Path::new(tests.source.name()));
    }
    let mut names = config.alerts.reverse_dns;
    for sink in &config.sinks {
        match &sink.kind {
            Kind::Journald(_) => {}
            Kind::Syslog(syslog) => {
                names |= syslog.host.parse::<std::net::IpAddr>().is_err();
                if !matches!(syslog.transport, Transport::Udp) {
                    reach.connect.push(syslog.port);
                }
            }
            Kind::Webhook(http) | Kind::Alertmanager(http) => {
                names = true;
                reach.connect.push(port(http));
                reach.read.extend(http.token_file.as_deref().map(folder));
            }
        }
    }
    if names {
        reach.read.extend(NAMES.map(PathBuf::from));
        reach.connect.push(DNS);
    }
    made(&config.control.state)?;
    reach.write.push(config.control.state.clone());
    reach.write.push(folder(&config.control.socket));
    if let Some(alerts) = &config.alerts.file {
        reach.write.push(folder(alerts));
    }
    if let Some(evidence) = &config.evidence {
        made(&evidence.dir)?;
        reach.write.push(evidence.dir.clone());
    }
    Ok(reach)
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn port(http: &Http) -> u16 {
    let default = if http.url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    http.url.port_u16().unwrap_or(default)
}

fn made(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_config_names_is_within_reach_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("lists")).unwrap();
        std::fs::write(at("lists/partners.txt"), "10.0.0.1\n").unwrap();
        let text = format!(
            "[sets]\npartners = {{ file = \"lists/partners.txt\" }}\n[alerts]\nfile = \"log/alerts.jsonl\"\n[control]\nsocket = \"run/c.sock\"\nstate = \"state\"\n\
             [[sink]]\nkind = \"syslog\"\naddress = \"192.0.2.1:6514\"\ntransport = \"tcp\"\n{}",
            ""
        );
        let config = crate::config::parse(&text, "p.toml", dir.path()).unwrap();
        let found = reach(&config, &at("p.toml")).unwrap();
        let real = dir.path().canonicalize().unwrap();
        assert!(found.read.contains(&at("")) || found.read.contains(&dir.path().to_owned()));
        assert!(found.read.contains(&at("lists")) && found.read.contains(&real.join("lists")));
        assert_eq!(found.write, [at("state"), at("run"), at("log")]);
        assert_eq!(found.connect, [6514], "an address needs no DNS");
        assert!(!found.read.contains(&PathBuf::from("/etc")));
        let text = "[alerts]\nreverse_dns = true\n[control]\nstate = \"state\"\n[[sink]]\nkind = \"webhook\"\nurl = \"https://hooks.example.org/\"\n";
        let config = crate::config::parse(text, "p.toml", dir.path()).unwrap();
        let found = reach(&config, &at("p.toml")).unwrap();
        assert_eq!(found.connect, [443, 53]);
        assert!(found.read.contains(&PathBuf::from("/etc")));
    }
}

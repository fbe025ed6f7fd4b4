//! Which application a capture is of, by `portcullis replay` with a rule for each: how often it is found, and how often it is taken for another.
//!
//! The captures are made of what real clients have said (tests/data/app). With `PORTCULLIS_PCAPS=FOLDER` the same table is printed for a folder of one's own, whose
//! captures are labelled by the name of their folder or of the file: `irc/a.pcap`, `tls-chrome.pcapng`, `none-game.pcap`.

use etherparse::PacketBuilder;
use portcullis::app::App;
use portcullis::port::capture::CaptureWriter;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const START: u64 = 1_700_000_000_000_000_000;

/// A rule for each application, both ways, and the prefixes that a network at home or at work has.
fn config() -> String {
    let rule = |app: &App| {
        let name = app.name();
        format!(
            "[[rule]]\nname = \"{name}\"\napp = \"{name}\"\ndirection = \"both\"\naction = \"allow\"\nalert = \"low\"\n"
        )
    };
    let rules: String = App::ALL.iter().map(rule).collect();
    format!(
        "[policy]\nprofile = \"none\"\n[flows]\nsize = 1024\n[lan]\nprefixes = [\"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"fc00::/7\", \"fe80::/10\"]\n{rules}"
    )
}

/// The applications that were found in a capture.
fn found(config: &Path, capture: &Path) -> Vec<String> {
    let mut replay = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    replay.arg("replay").arg("-c").arg(config).arg("--json");
    let out = replay.arg(capture).output().unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&out.stderr);
        panic!("{}: {error}: {said}", capture.display())
    });
    let alerts = report["alerts"].as_array().unwrap();
    let mut all: Vec<String> = alerts
        .iter()
        .map(|alert| alert["alert"]["signature"].as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all.dedup();
    all
}

#[derive(Default)]
struct Row {
    captures: u32,
    /// Of these, in which it was found.
    hits: u32,
    /// Others in which it was.
    wrong: u32,
}

/// By application, and `none`. Names are looked up before much else is done, so DNS beside another application is not wrong.
fn table(captures: &[(String, PathBuf)]) -> BTreeMap<String, Row> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("apps.toml");
    std::fs::write(&path, config()).unwrap();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (label, capture) in captures {
        let all = found(&path, capture);
        let row = rows.entry(label.clone()).or_default();
        row.captures += 1;
        let hit = all.contains(label) || (label == "none" && all.is_empty());
        row.hits += u32::from(hit);
        for other in all.iter().filter(|app| *app != label && *app != "dns") {
            rows.entry(other.clone()).or_default().wrong += 1;
            println!("{other} in {}", capture.display());
        }
        if !hit {
            println!("no {label} in {}", capture.display());
        }
    }
    println!(
        "{:<12}{:>9}{:>8}{:>11}",
        "application", "captures", "recall", "precision"
    );
    let share = |part: u32, all: u32| match all {
        0 => "-".to_owned(),
        _ => format!("{:.3}", f64::from(part) / f64::from(all)),
    };
    for (app, row) in &rows {
        let recall = share(row.hits, row.captures);
        let precision = share(row.hits, row.hits + row.wrong);
        println!("{app:<12}{:>9}{recall:>8}{precision:>11}", row.captures);
    }
    rows
}

/// The label of a file: the name of its folder, or what stands before the first `-` of its own.
fn label(path: &Path) -> Option<String> {
    let known = |name: &str| App::of_name(name).is_some() || name == "none";
    let folder = path.parent()?.file_name()?.to_str()?;
    let file = path.file_stem()?.to_str()?;
    let first = file.split('-').next()?;
    let found = [folder, first].into_iter().find(|name| known(name))?;
    Some(found.to_owned())
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
    into.sort();
}

/// A recorded payload as a capture: a connection opened, and what the client says in segments of an ordinary size; or a datagram.
fn capture(payload: &[u8], tcp: bool, path: &Path) {
    let mut writer = CaptureWriter::create(path).unwrap();
    let (host, server) = ([10, 77, 0, 9], [93, 184, 216, 34]);
    let mut time = START;
    let mut write = |step: etherparse::PacketBuilderStep<etherparse::TcpHeader>, payload: &[u8]| {
        let mut frame = Vec::new();
        step.write(&mut frame, payload).unwrap();
        time += 1_000_000;
        writer.write(time, &frame).unwrap();
    };
    let link = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
    if !tcp {
        let mut frame = Vec::new();
        let step = link().ipv4(host, server, 64).udp(40_000, 5_555);
        step.write(&mut frame, payload).unwrap();
        writer.write(START, &frame).unwrap();
        return writer.finish().unwrap();
    }
    let out = |seq| {
        link()
            .ipv4(host, server, 64)
            .tcp(40_000, 5_555, seq, 64_000)
    };
    write(out(100).syn(), b"");
    let back = link()
        .ipv4(server, host, 64)
        .tcp(5_555, 40_000, 500, 64_000);
    write(back.syn().ack(101), b"");
    write(out(101).ack(501), b"");
    for (at, segment) in payload.chunks(1_000).enumerate() {
        write(out(101 + 1_000 * at as u32).ack(501), segment);
    }
    writer.finish().unwrap();
}

#[test]
fn what_real_clients_say_first_is_found_on_any_port_and_taken_for_nothing_else() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/app");
    let dir = tempfile::tempdir().unwrap();
    let mut captures = Vec::new();
    for (folder, tcp) in [("tcp", true), ("udp", false)] {
        let mut all = Vec::new();
        files(&recorded.join(folder), &mut all);
        for path in all {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let to = dir.path().join(format!("{name}-{folder}.pcapng"));
            capture(&std::fs::read(&path).unwrap(), tcp, &to);
            captures.push((label(&to).unwrap(), to));
        }
    }
    let rows = table(&captures);
    assert_eq!(
        rows.len(),
        App::COUNT + 1,
        "each application has a recording"
    );
    for (app, row) in rows {
        assert!(
            row.captures > 0 && row.hits == row.captures,
            "{app} is missed"
        );
        assert_eq!(row.wrong, 0, "{app} is found where it is not");
    }
}

#[test]
fn an_ordinary_day_is_taken_for_what_it_is_and_the_baseline_has_nothing_to_say_of_it() {
    // Names, pages, a download, pings, recorded between namespaces: tests/data/detect has the list.
    let day = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/detect/ordinary.pcap");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("apps.toml");
    std::fs::write(&path, config()).unwrap();
    let all = found(&path, &day);
    let ordinary = ["dns", "http", "tls"];
    assert!(all.contains(&"http".to_owned()), "{all:?}");
    assert!(
        all.iter().all(|app| ordinary.contains(&app.as_str())),
        "{all:?}"
    );
    std::fs::write(
        &path,
        "[lan]\nprefixes = [\"10.77.0.0/24\", \"fd77::/64\"]\n",
    )
    .unwrap();
    assert_eq!(found(&path, &day), Vec::<String>::new());
}

#[test]
fn a_folder_of_labelled_captures_gets_the_same_table() {
    let Some(dir) = std::env::var_os("PORTCULLIS_PCAPS") else {
        println!("not run: PORTCULLIS_PCAPS names no folder of captures");
        return;
    };
    let mut all = Vec::new();
    files(Path::new(&dir), &mut all);
    let captures: Vec<_> = all
        .into_iter()
        .filter(|path| {
            let end = path.extension().and_then(|end| end.to_str());
            matches!(end, Some("pcap" | "pcapng" | "cap"))
        })
        .filter_map(|path| Some((label(&path)?, path)))
        .collect();
    assert!(
        !captures.is_empty(),
        "no capture with a label in PORTCULLIS_PCAPS"
    );
    table(&captures);
}

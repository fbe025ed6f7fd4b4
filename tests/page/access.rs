//! Who is answered, and what.

use crate::common::gate::config;
use crate::common::{Gate, Lab, SOON, until};
use crate::{METRICS, PAGE, Running, ask, decoy_config, hold_worker, page_config, say_markup};
use serde_json::Value;
use std::net::TcpStream;
use std::process::Stdio;

#[test]
fn without_a_token_only_who_names_the_address_is_answered_and_nothing_can_be_changed() {
    let Some(lab) = Lab::addressed() else { return };
    let gate = Gate::with(&lab, &page_config(&lab));
    for (path, kind) in [
        ("", "<!doctype html>"),
        ("app.js", "EventSource"),
        ("app.css", ":root"),
        ("favicon.svg", "<svg"),
        ("metrics", "# HELP"),
        ("api/status", "\"workers\""),
        ("api/incidents?most=3", "{\"incidents\":[]}"),
    ] {
        let (code, body) = ask(&lab, &[&format!("{PAGE}{path}")]);
        assert_eq!(code, 200, "{path}");
        assert!(body.contains(kind), "{path}: {body}");
    }
    let (url, events) = (format!("{PAGE}api/status"), format!("{PAGE}api/events"));
    let (code, body) = ask(&lab, &["-H", "Host: rebound.example", &url]);
    assert_eq!(code, 421);
    assert!(body.contains("token_file"), "{body}");
    assert_eq!(ask(&lab, &["-H", "Host: localhost:9155", &url]).0, 200);
    assert_eq!(ask(&lab, &["-X", "POST", &url]).0, 405);
    let (_, head) = ask(&lab, &["-I", PAGE]);
    for line in ["frame-ancestors 'none'", "nosniff", "no-referrer"] {
        assert!(head.contains(line), "{head}");
    }
    for path in [
        "..%2fportcullis.toml",
        "%2e%2e",
        "nothing.pcapng",
        "%2fetc%2fpasswd",
    ] {
        let (code, _) = ask(&lab, &["--path-as-is", &format!("{PAGE}evidence/{path}")]);
        assert_eq!(code, 404, "{path}");
    }
    let explain = |query: &str| ask(&lab, &[&format!("{PAGE}api/explain?{query}")]);
    let (code, body) = explain("direction=out&proto=udp&src=10.77.0.9:40000&dst=93.184.216.34:69");
    let said: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (code, &said["rule"], &said["verdict"]),
        (200, &"tftp".into(), &"drop".into())
    );
    let (code, body) = explain("direction=out&proto=udp&src=10.77.0.9&dst=93.184.216.34:69");
    let said: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((code, &said["field"]), (400, &"src".into()), "{body}");
    for query in ["direction=out&vlan=many", "colour=red"] {
        let (code, body) = explain(query);
        assert_eq!(code, 400, "{body}");
        assert!(body.contains("write direction="), "{body}");
    }
    for path in ["healthz", "readyz"] {
        assert_eq!(
            ask(&lab, &[&format!("{PAGE}{path}")]),
            (200, "ok\n".to_owned())
        );
    }
    let held = hold_worker(&gate);
    let unwell = until("a worker that stands still", SOON, || {
        let (code, body) = ask(&lab, &[&format!("{PAGE}healthz")]);
        (code == 503).then_some(body)
    });
    assert!(unwell.starts_with("worker 0 (core "), "{unwell}");
    assert_eq!(ask(&lab, &[&format!("{PAGE}readyz")]).0, 200);
    drop(held);
    until("a worker that turns again", SOON, || {
        (ask(&lab, &[&format!("{PAGE}healthz")]).0 == 200).then_some(())
    });
    // Of seventeen who listen one is told to come again.
    let listen = |_| {
        let mut curl = lab.command("gate", "curl");
        let quiet = curl.args(["-sN", &events]).stdout(Stdio::null());
        Running(quiet.spawn().expect("curl"))
    };
    let mut listening: Vec<_> = (0..17).map(listen).collect();
    until("a full house", SOON, || {
        let ended = |one: &mut Running| one.0.try_wait().expect("a child").is_some();
        let ended = listening.iter_mut().map(ended).filter(|ended| *ended);
        (ended.count() == 1).then_some(())
    });
    let (code, head) = ask(&lab, &["-i", &events]);
    assert_eq!(code, 503);
    assert!(head.to_lowercase().contains("retry-after: 5"), "{head}");
    drop(listening);
    until("room again", SOON, || {
        let code = ask(&lab, &["-m", "2", &events]).0;
        (code == 200).then_some(())
    });
}

#[test]
fn a_transcript_is_a_text_to_be_saved_and_no_browser_looks_for_more_in_it() {
    let Some(lab) = Lab::addressed() else { return };
    let _gate = Gate::with(&lab, &decoy_config(&lab));
    say_markup(&lab);
    let path = until("the conversation", SOON, || {
        let (_, body) = ask(&lab, &[&format!("{PAGE}api/incidents")]);
        let said: Value = serde_json::from_str(&body).expect("JSON");
        let told = said["incidents"].as_array()?.iter();
        let mut paths = told.filter_map(|line| line["decoy"]["evidence"].as_str());
        paths.next().map(str::to_owned)
    });
    let name = path.rsplit('/').next().expect("a name");
    assert!(name.ends_with("_web.decoy.txt"), "{name}");
    let url = format!("{PAGE}evidence/{name}");
    let text = until("the file", SOON, || {
        let (code, text) = ask(&lab, &["-i", &url]);
        (code == 200).then_some(text)
    });
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    for line in [
        "content-type: text/plain; charset=utf-8",
        "x-content-type-options: nosniff",
        &format!("content-disposition: attachment; filename=\"{name}\""),
        "default-src 'none'",
    ] {
        assert!(head.contains(line), "no {line} in {head}");
    }
    assert!(
        body.starts_with("What 10.77.0.9 said to a decoy in place of 93.184.216.34:8080"),
        "{body}"
    );
    assert!(
        body.contains("\nC: <script>window.caught=1</script>\n"),
        "{body}"
    );
}

#[test]
fn connections_that_say_nothing_keep_neither_the_control_socket_nor_for_long_the_page() {
    let Some(lab) = Lab::addressed() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", METRICS));
    let silent: Vec<_> = lab.within("gate", || {
        let connect = |_| TcpStream::connect("127.0.0.1:9155").expect("a connection");
        (0..200).map(connect).collect()
    });
    // The places are all taken, and the gate goes on.
    assert_eq!(ask(&lab, &["-m", "1", &format!("{PAGE}healthz")]).0, 0);
    assert_eq!(gate.status()["healthy"], true);
    until("a place", SOON * 4, || {
        let code = ask(&lab, &["-m", "1", &format!("{PAGE}healthz")]).0;
        (code == 200).then_some(())
    });
    drop(silent);
}

#[test]
fn with_a_token_nothing_but_health_is_answered_without_it() {
    let Some(lab) = Lab::addressed() else { return };
    let token = lab.dir().join("page.token");
    std::fs::write(&token, "open-sesame\n").expect("a file");
    lab.ip("gate", "address add 192.0.2.7/32 dev lo");
    let more = format!(
        "[metrics]\nlisten = \"192.0.2.7:9155\"\ntoken_file = \"{}\"\n",
        token.display()
    );
    let _gate = Gate::with(&lab, &config(&lab, "", &more));
    let at = |path: &str| format!("http://192.0.2.7:9155/{path}");
    for path in ["", "metrics", "api/status", "api/events", "evidence/a"] {
        let (code, head) = ask(&lab, &["-i", &at(path)]);
        assert_eq!(code, 401, "{path}");
        assert!(head.contains("Basic realm=\"portcullis\""), "{head}");
    }
    for path in ["healthz", "readyz"] {
        assert_eq!(ask(&lab, &[&at(path)]).0, 200);
    }
    let status = at("api/status");
    assert_eq!(
        ask(&lab, &["-H", "Authorization: Bearer open-sesame", &status]).0,
        200
    );
    assert_eq!(
        ask(&lab, &["-H", "Authorization: Bearer open-sesam", &status]).0,
        401
    );
    assert_eq!(ask(&lab, &["-u", "anybody:open-sesame", &status]).0, 200);
    let by_name = ["-u", "x:open-sesame", "-H", "Host: gate.example", &status];
    assert_eq!(ask(&lab, &by_name).0, 200);
}

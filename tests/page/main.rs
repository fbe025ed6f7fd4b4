//! The page, looked at by a real browser, while real clients make traffic. And who may ask for it.
//!
//! Pictures of it are written to `target/screenshots`.

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod checks;

use browser::{Browser, Driver, in_gate, wait_for_driver};
use common::gate::config;
use common::{Gate, Lab};
use serde_json::Value;
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
    Running(shell.args(["-c", again]).spawn().expect("sh"))
}

/// Asks for a file whose name is markup.
fn get_tftp(lab: &Lab) {
    client(lab, &["tftp://93.184.216.34/%3Cb%3Etool%3C%2Fb%3E"]);
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

fn page_config(lab: &Lab) -> String {
    let evidence = lab.dir().join("evidence");
    let more = format!(
        "{METRICS}\n[evidence]\ndir = \"{}\"\n\n[hosts]\ndesk-9 = {{ ip = \"10.77.0.9\" }}\n",
        evidence.display()
    );
    config(lab, "", &more)
}

#[test]
fn the_page_shows_what_passes_and_what_does_not_as_it_happens() {
    let Some(lab) = Lab::addressed() else { return };
    let lab = &lab;
    let _driver = Driver::start(lab);
    let gate = Gate::with(lab, &page_config(lab));
    let _web = web(lab);
    wait_for_driver(lab);
    in_gate(lab, async || {
        let browser = Browser::open(lab).await;
        // Its own first tab asks for this and that.
        browser.goto("about:blank").await;
        browser.log("browser").await;
        browser.log("performance").await;
        browser.goto(PAGE).await;
        browser
            .until(
                "the first beat",
                "return document.getElementById('state').textContent === 'Filtering'",
            )
            .await;
        assert_eq!(
            browser.text("incidents-none").await,
            "None since the start."
        );
        browser.run("window.sameAsBefore = true").await;

        // The page counts on by itself.
        let _reader = reader(lab);
        let passed = "const n = Number(document.getElementById('passed-total').textContent.replaceAll(',', '')); return n > 5 && n";
        browser.until("what passed", passed).await;
        get_tftp(lab);
        let row = "return document.querySelector('#incidents-table tbody tr')?.innerText";
        let row = browser.until("the incident", row).await;
        let row = row.as_str().expect("text");
        for word in [
            "tftp",
            "desk-9",
            "10.77.0.9",
            "high",
            "dropped",
            "93.184.216.34:69",
            "<b>tool</b>",
        ] {
            assert!(row.contains(word), "no {word} in {row}");
        }
        let by = "return document.querySelector('#by-rule tbody tr')?.innerText.includes('tftp')";
        browser.until("the rule that blocked", by).await;
        let now = "return document.getElementById('blocked-rate').textContent !== '0' && document.getElementById('blocked-rate').textContent";
        browser.until("a rate", now).await;
        let kept = browser.run("return window.sameAsBefore").await;
        assert_eq!(kept, Value::Bool(true), "the page was loaded anew");

        assert_eq!(
            browser.run("return document.querySelector('main b')").await,
            Value::Null
        );

        // The link leads to the capture.
        let link = browser
            .run("return document.querySelector('#incidents-table a')?.href")
            .await;
        let url = link.as_str().expect("a link to the capture");
        assert!(url.starts_with("http://127.0.0.1:9155/evidence/"), "{url}");
        let file = lab.dir().join("got.pcapng");
        let (code, _) = ask(lab, &["-o", file.to_str().expect("UTF-8"), url]);
        assert_eq!(code, 200);
        let read = lab.must("gate", "tshark", &format!("-r {}", file.display()));
        assert!(read.contains("TFTP"), "{read}");

        for (client_of, name) in [
            ("smtp://93.184.216.34/", "smtp"),
            ("telnet://93.184.216.34:445", "smb"),
            ("telnet://93.184.216.34:6667", "irc"),
        ] {
            client(lab, &[client_of]);
            let there = format!(
                "return document.getElementById('incidents-table').innerText.includes('{name}')"
            );
            browser.until(name, &there).await;
        }
        by_keyboard(&browser).await;
        for (width, scheme, name) in [
            (1440, "light", "page-1440.png"),
            (1440, "dark", "page-1440-dark.png"),
            (375, "light", "page-375.png"),
            (375, "dark", "page-375-dark.png"),
            (800, "light", "page-800.png"),
        ] {
            get_tftp(lab);
            stands_up(&browser, width, scheme).await;
            browser.picture(name).await;
        }
        said_nothing_elsewhere(&browser).await;

        let says = |text: &str| {
            format!("return document.getElementById('state').textContent === '{text}'")
        };
        drop(gate);
        browser
            .until("the loss", &says("Connection lost, trying again"))
            .await;
        let _gate = Gate::with(lab, &page_config(lab));
        browser.until("another gate", &says("Filtering")).await;
        browser.close().await;
    });
}

/// The form, without a mouse.
async fn by_keyboard(browser: &Browser) {
    const TAB: &str = "\u{E004}";
    const ENTER: &str = "\u{E007}";
    browser
        .run("document.activeElement.blur(); window.scrollTo(0, 0)")
        .await;
    let stops = browser.run(checks::STOPS).await.as_u64().expect("a number");
    let mut seen = std::collections::BTreeSet::new();
    let mut form = false;
    for _ in 0..stops + 2 {
        browser.press(TAB).await;
        let focus = browser.run(checks::FOCUS).await;
        if focus["tag"] == "BODY" {
            break;
        }
        assert_eq!(focus["ring"], true, "the focus cannot be seen: {focus}");
        seen.insert(focus["at"].as_i64());
        match focus["name"].as_str() {
            Some("proto") => browser.press("udp").await,
            Some("src") => browser.press("10.77.0.9:40000").await,
            Some("dst") => {
                browser.press("93.184.216.34:69").await;
                form = true;
            }
            _ => {}
        }
    }
    assert!(form, "the form was not come by");
    assert!(
        seen.len() as u64 >= stops,
        "Tab comes by {} of {stops}",
        seen.len()
    );
    browser
        .run("document.querySelector('[name=dst]').focus()")
        .await;
    browser.press(ENTER).await;
    let answer = "return document.getElementById('explain-answer').innerText";
    let told = browser.until("an answer", &format!("{answer}.includes('by rule') && document.getElementById('explain-answer').innerText")).await;
    let told = told.as_str().expect("text");
    assert!(told.contains("drop by rule tftp"), "{told}");
    assert!(told.contains("Why: "), "{told}");
    // What is wrong is said, and where.
    browser
        .run("document.querySelector('[name=dst]').value = ''")
        .await;
    browser.press("x").await;
    browser.press(ENTER).await;
    let wrong = format!(
        "{answer}.includes('is not an address and a port') && document.activeElement.getAttribute('aria-invalid')"
    );
    assert_eq!(browser.until("the fault", &wrong).await, "true");
    stands_up(browser, 375, "light").await;
    browser
        .run("document.querySelector('[name=dst]').value = ''")
        .await;
    browser.press("93.184.216.34:69").await;
    browser.press(ENTER).await;
    browser
        .until("the answer", &format!("{answer}.includes('by rule')"))
        .await;
}

/// At this width, in these colours: nothing scrolls sideways as a whole, everything can be read and has a name.
async fn stands_up(browser: &Browser, width: u32, scheme: &str) {
    browser.look(width, scheme).await;
    let open = "return innerWidth === ".to_owned() + &width.to_string();
    browser.until("the width", &open).await;
    let wide = browser.run(checks::WIDE).await;
    assert_eq!(wide, Value::Array(Vec::new()), "{width} {scheme}");
    let read = browser.run(checks::FAINT).await;
    assert_eq!(read["faint"], Value::Array(Vec::new()), "{width} {scheme}");
    assert!(read["seen"].as_u64() > Some(100), "{read}");
    let nameless = browser.run(checks::NAMELESS).await;
    assert_eq!(nameless, Value::Array(Vec::new()), "{width} {scheme}");
}

/// The console holds no error but of what the test itself asked wrongly, and every request went to the gate.
async fn said_nothing_elsewhere(browser: &Browser) {
    for entry in browser.log("browser").await {
        let text = entry["message"].as_str().unwrap_or_default();
        let asked_wrongly = text.contains("/api/explain") && text.contains("400");
        assert!(asked_wrongly, "the console: {entry}");
    }
    let mut requests = 0;
    for entry in browser.log("performance").await {
        let text = entry["message"].as_str().unwrap_or_default();
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        let event = &event["message"];
        if event["method"] == "Network.requestWillBeSent" {
            let url = event["params"]["request"]["url"]
                .as_str()
                .unwrap_or_default();
            assert!(url.starts_with(PAGE), "a request to {url}");
            requests += 1;
        }
    }
    assert!(requests >= 4, "{requests} requests were noted");
}

#[test]
fn without_a_token_only_who_names_the_address_is_answered_and_nothing_can_be_changed() {
    let Some(lab) = Lab::addressed() else { return };
    let _gate = Gate::with(&lab, &page_config(&lab));
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
    // Of seventeen who listen one is told to come again.
    let listen = |_| {
        let mut curl = lab.command("gate", "curl");
        let quiet = curl.args(["-sN", &events]).stdout(Stdio::null());
        Running(quiet.spawn().expect("curl"))
    };
    let mut listening: Vec<_> = (0..17).map(listen).collect();
    common::until("a full house", common::SOON, || {
        let ended = |one: &mut Running| one.0.try_wait().expect("a child").is_some();
        let ended = listening.iter_mut().map(ended).filter(|ended| *ended);
        (ended.count() == 1).then_some(())
    });
    let (code, head) = ask(&lab, &["-i", &events]);
    assert_eq!(code, 503);
    assert!(head.to_lowercase().contains("retry-after: 5"), "{head}");
    drop(listening);
    common::until("room again", common::SOON, || {
        let code = ask(&lab, &["-m", "2", &events]).0;
        (code == 200).then_some(())
    });
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

#[test]
fn a_browser_that_has_the_token_shows_shadow_and_hundreds_of_rules_in_their_order() {
    let Some(lab) = Lab::addressed() else { return };
    let lab = &lab;
    let _driver = Driver::start(lab);
    std::fs::write(lab.dir().join("page.token"), "open-sesame\n").expect("a file");
    lab.ip("gate", "address add 192.0.2.7/32 dev lo");
    // Names that an object of JavaScript would put into an order of its own.
    let rule = |n: u32| {
        format!("[[rule]]\nname = \"{n}\"\naction = \"reject\"\nproto = \"tcp\"\ndport = {n}\n")
    };
    let rules: String = (10_000..10_600).rev().map(rule).collect();
    let more = format!(
        "[policy]\nshadow = true\n{rules}[metrics]\nlisten = \"192.0.2.7:9155\"\ntoken_file = \"page.token\"\n"
    );
    let _gate = Gate::with(lab, &config(lab, "", &more));
    wait_for_driver(lab);
    in_gate(lab, async || {
        let browser = Browser::open(lab).await;
        browser
            .goto("http://anybody:open-sesame@192.0.2.7:9155/")
            .await;
        let says =
            "return document.getElementById('state').textContent === 'Shadow: nothing is enforced'";
        browser.until("the first beat", says).await;
        get_tftp(lab);
        client(lab, &["http://93.184.216.34:10007/"]);
        let row = |rule: &str| {
            format!(
                "return [...document.querySelectorAll('#incidents-table tbody tr')].find((row) => row.innerText.includes('{rule}'))?.innerText"
            )
        };
        let told = browser.until("the incident", &row("tftp")).await;
        assert!(
            told.as_str().expect("text").contains("would be dropped"),
            "{told}"
        );
        assert!(browser.text("banner").await.starts_with("Shadow: "));
        let by =
            "return document.getElementById('by-reason').innerText.includes('in shadow, passed')";
        browser.until("the reason", by).await;

        let names = "return [...document.querySelectorAll('#rules-table tbody th')].map((name) => name.textContent)";
        let names = browser.run(names).await;
        let names = names.as_array().expect("names");
        assert_eq!(names.len(), 500);
        let at = |name: &str| names.iter().position(|other| other == name);
        assert!(
            at("10599").is_some() && at("10599") < at("10598"),
            "{names:?}"
        );
        assert!(browser.text("rules-rest").await.contains("more"));
        browser
            .run("document.getElementById('rules-find').focus()")
            .await;
        browser.press("10007").await;
        let one = "return document.querySelectorAll('#rules-table tbody tr').length === 1 && document.querySelector('#rules-table tbody tr').innerText";
        let one = browser.until("the rule that is looked for", one).await;
        assert!(one.as_str().expect("text").contains("reject"), "{one}");

        browser.run("document.querySelector('[name=proto]').value = 'tcp'; document.querySelector('[name=src]').value = '10.77.0.9:1'; document.querySelector('[name=dst]').focus()").await;
        browser.press("93.184.216.34:10007\u{E007}").await;
        let told = "const text = document.getElementById('explain-answer').innerText; return text.includes('by rule 10007') && text";
        browser.until("an answer", told).await;
        for (width, scheme, name) in [
            (375, "dark", "shadow-375-dark.png"),
            (1440, "light", "shadow-1440.png"),
        ] {
            stands_up(&browser, width, scheme).await;
            browser.picture(name).await;
        }
        browser.close().await;
    });
}

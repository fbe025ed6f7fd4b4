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

fn get_web(lab: &Lab) {
    client(lab, &["http://93.184.216.34/"]);
}

fn get_tftp(lab: &Lab) {
    client(lab, &["tftp://93.184.216.34/tool"]);
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
    let _gate = Gate::with(lab, &page_config(lab));
    let _web = web(lab);
    wait_for_driver(lab);
    in_gate(lab, async || {
        let browser = Browser::open(lab).await;
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
        get_web(lab);
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
            "tool",
        ] {
            assert!(row.contains(word), "no {word} in {row}");
        }
        let by = "return document.querySelector('#by-rule tbody tr')?.innerText.includes('tftp')";
        browser.until("the rule that blocked", by).await;
        let now = "return document.getElementById('blocked-rate').textContent !== '0' && document.getElementById('blocked-rate').textContent";
        browser.until("a rate", now).await;
        let kept = browser.run("return window.sameAsBefore").await;
        assert_eq!(kept, Value::Bool(true), "the page was loaded anew");

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
            get_web(lab);
            get_tftp(lab);
            stands_up(&browser, width, scheme).await;
            browser.picture(name).await;
        }
        said_nothing_elsewhere(&browser).await;
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

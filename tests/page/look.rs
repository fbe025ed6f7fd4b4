//! The page in a browser.

use crate::browser::{Browser, Driver, inside, wait_for_driver};
use crate::common::gate::config;
use crate::common::{Gate, Lab};
use crate::{
    PAGE, ask, checks, client, decoy_config, get_tftp, hold_worker, page_config, reader,
    say_hello_on_irc, say_markup, web,
};
use serde_json::Value;

#[test]
fn the_page_shows_what_passes_and_what_does_not_as_it_happens() {
    let Some(lab) = Lab::addressed() else { return };
    let lab = &lab;
    let _driver = Driver::start(lab, "gate");
    let gate = Gate::with(lab, &page_config(lab));
    let _web = web(lab);
    wait_for_driver(lab, "gate");
    inside(lab, "gate", async || {
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
        let hide = |hidden: bool| {
            format!(
                "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); document.dispatchEvent(new Event('visibilitychange'))"
            )
        };
        let held = hold_worker(&gate);
        browser
            .until("the worker", &says("A worker stands still"))
            .await;
        drop(held);
        browser.until("its turn", &says("Filtering")).await;
        browser.run(&hide(true)).await;
        browser
            .until("the pause", &says("Paused while hidden"))
            .await;
        browser.run(&hide(false)).await;
        browser
            .until("the end of the pause", &says("Filtering"))
            .await;
        drop(gate);
        browser
            .until("the loss", &says("Connection lost, trying again"))
            .await;
        let _gate = Gate::with(lab, &page_config(lab));
        browser.until("another gate", &says("Filtering")).await;
        browser.close().await;
    });
}

#[test]
fn a_browser_that_has_the_token_shows_shadow_and_hundreds_of_rules_in_their_order() {
    let Some(lab) = Lab::addressed() else { return };
    let lab = &lab;
    let _driver = Driver::start(lab, "gate");
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
    wait_for_driver(lab, "gate");
    inside(lab, "gate", async || {
        let browser = Browser::open(lab).await;
        browser
            .goto("http://anybody:open-sesame@192.0.2.7:9155/")
            .await;
        let says =
            "return document.getElementById('state').textContent === 'Shadow: nothing is enforced'";
        browser.until("the first beat", says).await;
        get_tftp(lab);
        client(lab, &["http://93.184.216.34:10007/"]);
        let told = browser.until("the incident", &row_of("tftp")).await;
        assert!(
            told.as_str().expect("text").contains("would be dropped"),
            "{told}"
        );
        assert!(browser.text("banner").await.starts_with("Shadow: "));
        assert_eq!(
            browser.text("by-rule-title").await,
            "Would be blocked, by rule"
        );
        let by =
            "return document.getElementById('by-reason').innerText.includes('rule, in shadow')";
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

/// What the table says of the incident of this rule.
fn row_of(rule: &str) -> String {
    format!(
        "return [...document.querySelectorAll('#incidents-table tbody tr')].find((row) => row.innerText.includes('{rule}'))?.innerText"
    )
}

#[test]
fn what_was_said_to_a_decoy_is_text_and_nothing_else() {
    let Some(lab) = Lab::addressed() else { return };
    let lab = &lab;
    let _driver = Driver::start(lab, "gate");
    let _gate = Gate::with(lab, &decoy_config(lab));
    wait_for_driver(lab, "gate");
    inside(lab, "gate", async || {
        let browser = Browser::open(lab).await;
        browser.goto("about:blank").await;
        browser.log("browser").await;
        browser.log("performance").await;
        browser.goto(PAGE).await;
        say_markup(lab);
        say_hello_on_irc(lab);
        let has = "const row = [...document.querySelectorAll('#incidents-table tbody tr')].find((row) => row.innerText.includes('web')); return row?.querySelector('details pre')?.textContent";
        let said = browser.until("the conversation", has).await;
        let said = said.as_str().expect("text");
        for line in [
            "C: POST /<b>bold</b> HTTP/1.1",
            "C: User-Agent: <img src=x onerror=\"window.caught=1\">",
            "C: <script>window.caught=1</script>",
            "S: HTTP/1.1 503 Service Unavailable",
        ] {
            assert!(
                said.lines().any(|there| there == line),
                "no {line} in {said}"
            );
        }
        let row = browser.until("the row", &row_of("web")).await;
        let row = row.as_str().expect("text");
        for words in [
            "answered by a decoy",
            "Spoke http with a decoy",
            "Transcript",
        ] {
            assert!(row.contains(words), "no {words} in {row}");
        }
        browser.until("the other", &row_of("irc")).await;
        let made = "return document.querySelectorAll('main b, main script, #incidents-table img').length + (window.caught ?? 0)";
        assert_eq!(browser.run(made).await, 0, "markup of a client");
        let by = "return document.getElementById('by-reason').innerText.includes('answered by decoys') && document.getElementById('by-rule').innerText.includes('decoy')";
        browser.until("what the decoys took", by).await;
        assert_ne!(browser.text("blocked-total").await, "0");
        let facts = browser.text("facts").await;
        assert!(facts.contains("Conversations of decoys"), "{facts}");
        let given = "const at = [...document.querySelectorAll('#ports thead th')].findIndex((name) => name.textContent === 'To the gate'); return Number(document.querySelector('#ports tbody tr').cells[at].textContent) > 8";
        browser.until("frames to the gate", given).await;

        // The file is for a disk: neither drawn nor run, whatever is in it.
        let link = "return [...document.querySelectorAll('#incidents-table a')].find((door) => door.textContent === 'Transcript' && door.href.includes('_web'))?.href";
        let link = browser.run(link).await;
        let link = link.as_str().expect("a link");
        browser
            .run(&format!("fetch('{link}').then(async (got) => {{ window.file = [got.headers.get('content-type'), got.headers.get('content-disposition'), await got.text()] }})"))
            .await;
        let file = browser.until("the file", "return window.file").await;
        assert_eq!(file[0], "text/plain; charset=utf-8");
        assert!(file[1].as_str().expect("text").starts_with("attachment; "));
        assert!(
            file[2]
                .as_str()
                .expect("text")
                .contains("C: <script>window.caught=1</script>")
        );
        browser.goto(link).await;
        let here = browser.run("return location.href").await;
        assert_eq!(here, PAGE, "the transcript was opened");

        browser
            .run("document.querySelectorAll('#incidents-table details').forEach((all) => { all.open = true })")
            .await;
        for (width, scheme, name) in [
            (1440, "light", "decoy-1440.png"),
            (1440, "dark", "decoy-1440-dark.png"),
            (375, "light", "decoy-375.png"),
            (375, "dark", "decoy-375-dark.png"),
            (800, "light", "decoy-800.png"),
        ] {
            stands_up(&browser, width, scheme).await;
            browser.picture(name).await;
        }
        // A beat changes counts and leaves what is open open.
        let open = "return document.querySelectorAll('#incidents-table details[open]').length";
        assert_eq!(browser.run(open).await, 2);
        said_nothing_elsewhere(&browser).await;
        browser.close().await;
    });
}

#[test]
fn from_the_lan_the_page_at_the_address_of_the_box_counts_on() {
    let Some(lab) = Lab::addressed() else { return };
    let lab = &lab;
    let _driver = Driver::start(lab, "lan");
    let inband = "[inband]\naddress = \"10.77.0.2/24\"\nallow = [\"10.77.0.9\"]\n";
    let gate = Gate::with(lab, &config(lab, "", inband));
    let _web = web(lab);
    wait_for_driver(lab, "lan");
    inside(lab, "lan", async || {
        let browser = Browser::open(lab).await;
        browser.goto("http://10.77.0.2:9155/").await;
        let says = "return document.getElementById('state').textContent === 'Filtering'";
        browser.until("the first beat", says).await;
        browser.run("window.sameAsBefore = true").await;
        let _reader = reader(lab);
        let passed = |more: u64| {
            format!(
                "const n = Number(document.getElementById('passed-total').textContent.replaceAll(',', '')); return n > {more} && n"
            )
        };
        let mut last = 0;
        for _ in 0..5 {
            let now = browser.until("more of what passed", &passed(last)).await;
            last = now.as_u64().expect("a number");
        }
        get_tftp(lab);
        browser.until("the incident", &row_of("tftp")).await;
        let facts = "const text = document.getElementById('facts').innerText; return text.includes('10.77.0.2 port 9155') && text";
        browser.until("its own address", facts).await;
        assert_eq!(browser.run("return window.sameAsBefore").await, true);
        assert_eq!(browser.run(says.trim_end()).await, true);
        stands_up(&browser, 1440, "light").await;
        browser.picture("inband-1440.png").await;
        browser.close().await;
    });
    gate.assert_balanced();
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

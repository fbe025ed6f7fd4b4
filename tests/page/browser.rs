//! Headless Chromium in a namespace of the lab, driven over WebDriver.

use crate::common::{Lab, SOON, until};
use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use url::{ParseError, Url};

const INSTALL: &str = "install it with `deploy/setup.sh test`";
const PORT: u16 = 9515;

/// chromedriver, in a process namespace of its own: what it starts ends with it.
pub struct Driver(Child);

impl Driver {
    /// In the namespace of `role`.
    pub fn start(lab: &Lab, role: &str) -> Driver {
        for program in ["chromium", "chromedriver"] {
            let found = Command::new(program).arg("--version").output();
            assert!(found.is_ok(), "{program} is not there; {INSTALL}");
        }
        let mut command = lab.command(role, "unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["chromedriver", &format!("--port={PORT}")]);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        Driver(quiet.stderr(Stdio::null()).spawn().expect("unshare"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A window of the browser.
pub struct Browser {
    client: Client,
}

/// A command that WebDriver's own are without: those of chromedriver.
#[derive(Debug)]
struct Special {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Special {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// A browser with nothing remembered, that asks nobody but who it is told to. For a thread in the driver's namespace.
    pub async fn open(lab: &Lab) -> Browser {
        let profile = lab.dir().join("chromium");
        let data = format!("--user-data-dir={}", profile.display());
        let options = json!({
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": { "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-device-scale-factor=1", data,
            ] },
        });
        let Value::Object(capabilities) = options else {
            unreachable!("an object")
        };
        let deadline = Instant::now() + SOON * 3;
        loop {
            let mut builder =
                ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            builder.capabilities(capabilities.clone());
            match builder.connect(&format!("http://127.0.0.1:{PORT}")).await {
                Ok(client) => return Browser { client },
                Err(e) if Instant::now() > deadline => panic!("no browser: {e}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    pub async fn close(self) {
        self.client.close().await.expect("an end");
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("the page");
    }

    /// What a script returns.
    pub async fn run(&self, script: &str) -> Value {
        let ran = self.client.execute(script, Vec::new()).await;
        ran.unwrap_or_else(|e| panic!("{e}: {script}"))
    }

    /// The text of the element with this id; empty where there is none.
    pub async fn text(&self, id: &str) -> String {
        let script = format!("return document.getElementById('{id}')?.innerText ?? ''");
        self.run(&script)
            .await
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Asks a script until what it returns is neither null nor false.
    pub async fn until(&self, what: &str, script: &str) -> Value {
        let deadline = Instant::now() + SOON * 2;
        loop {
            let got = self.run(script).await;
            if !matches!(got, Value::Null | Value::Bool(false)) {
                return got;
            }
            if Instant::now() > deadline {
                let text = self.run("return document.body.innerText").await;
                panic!("not in time: {what}; the page: {text}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Presses keys where the focus is.
    pub async fn press(&self, keys: &str) {
        let focused: Element = self.client.active_element().await.expect("a focus");
        focused.send_keys(keys).await.expect("keys");
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, cmd: &str, params: Value) -> Value {
        let body = json!({ "cmd": cmd, "params": params });
        self.special("goog/cdp/execute", body).await
    }

    /// What was noted since it was asked for last: of `browser` the console, of `performance` what the network did.
    pub async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.special("se/log", json!({ "type": kind })).await;
        entries.as_array().cloned().unwrap_or_default()
    }

    async fn special(&self, path: &'static str, body: Value) -> Value {
        let command = Special { path, body };
        self.client.issue_cmd(command).await.expect(path)
    }

    /// The window as wide as this, in this colour scheme.
    pub async fn look(&self, width: u32, scheme: &str) {
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// The whole page as a picture, kept among the build's artefacts.
    pub async fn picture(&self, name: &str) {
        let params = json!({ "captureBeyondViewport": true });
        let shot = self.devtools("Page.captureScreenshot", params).await;
        let text = shot["data"].as_str().expect("a picture");
        let png = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text);
        let folder = pictures();
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(name), png.expect("base64")).expect("a file");
    }
}

/// Where pictures are kept.
fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"));
    target.join("screenshots")
}

/// Does `work` on a thread in the namespace of `role`.
pub fn inside<T: Send>(lab: &Lab, role: &str, work: impl AsyncFnOnce() -> T + Send) -> T {
    lab.within(role, || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(work())
    })
}

/// Waits for chromedriver's port.
pub fn wait_for_driver(lab: &Lab, role: &str) {
    lab.within(role, || {
        until("chromedriver", SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", PORT)).ok()
        });
    });
}

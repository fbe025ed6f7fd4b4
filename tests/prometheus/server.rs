//! A Prometheus in a namespace of the lab, asked by its HTTP API.

use super::common::{Lab, SOON, until};
use super::{of_debian, rules};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

/// Scrapes the gate of a lab every second; ended when it is dropped.
pub struct Prometheus<'lab> {
    lab: &'lab Lab,
    role: &'static str,
    child: Child,
}

impl<'lab> Prometheus<'lab> {
    /// Beside the gate, with the shipped scrape config and rules, in a hurry; see [`rules::write_short`]. Waits until it answers.
    pub fn start(lab: &'lab Lab) -> Prometheus<'lab> {
        Prometheus::scraping(lab, "gate", &super::read("deploy/prometheus/scrape.yml"))
    }

    /// The same in the namespace of `role`, with a scrape config of one's own.
    pub fn scraping(lab: &'lab Lab, role: &'static str, scrape: &str) -> Prometheus<'lab> {
        let dir = lab.dir().join("prometheus");
        std::fs::create_dir(&dir).expect("a folder");
        rules::write_short(&dir);
        let hurry = "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n\
                     rule_files: [\"prometheus/*.yml\"]\n";
        let config = lab.dir().join("prometheus.yml");
        std::fs::write(&config, hurry.to_owned() + scrape).expect("a config");
        let log = std::fs::File::create(lab.dir().join("prometheus.log")).expect("a log");
        let program = of_debian("prometheus");
        let child = lab
            .command(role, program.to_str().expect("UTF-8"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("data").display()
            ))
            .args(["--web.listen-address=127.0.0.1:9090", "--log.level=warn"])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        let server = Prometheus { lab, role, child };
        until("Prometheus", SOON, || {
            server.get("/-/ready").filter(|(ok, _)| *ok)
        });
        server
    }

    /// Whether the answer to a GET is 200, and its body; `None` while nobody listens.
    fn get(&self, path: &str) -> Option<(bool, String)> {
        self.lab.within(self.role, || {
            let mut stream = TcpStream::connect("127.0.0.1:9090").ok()?;
            stream.set_read_timeout(Some(SOON)).expect("a timeout");
            // HTTP/1.0: the body ends with the connection.
            let ask = format!("GET {path} HTTP/1.0\r\nHost: gate\r\n\r\n");
            stream.write_all(ask.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            Some((head.contains(" 200 "), body.to_owned()))
        })
    }

    fn api(&self, path: &str) -> Result<Value, String> {
        let (_, body) = self.get(path).ok_or("no answer")?;
        let mut answer: Value = serde_json::from_str(&body).map_err(|e| format!("{e}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// The values that an expression has now, one for each series.
    ///
    /// # Errors
    /// What Prometheus has against the expression.
    pub fn query(&self, expr: &str) -> Result<Vec<f64>, String> {
        let data = self.api(&format!("/api/v1/query?query={}", escaped(expr)))?;
        let value = |series: &Value| series["value"][1].as_str()?.parse().ok();
        let result = data["result"].as_array().ok_or("no vector")?;
        Ok(result.iter().filter_map(value).collect())
    }

    /// The alerts of this name that fire.
    pub fn firing(&self, name: &str) -> Vec<Value> {
        let all = self.api("/api/v1/alerts").expect("alerts");
        let all = all["alerts"].as_array().expect("a list").iter();
        let fires =
            |alert: &&Value| alert["state"] == "firing" && alert["labels"]["alertname"] == name;
        all.filter(fires).cloned().collect()
    }

    /// The names of the rules that could not be evaluated, and why.
    pub fn broken_rules(&self) -> Vec<String> {
        let all = self.api("/api/v1/rules").expect("rules");
        let groups = all["groups"].as_array().expect("groups").iter();
        groups
            .flat_map(|group| group["rules"].as_array().expect("rules"))
            .filter(|rule| rule["health"] == "err")
            .map(|rule| format!("{}: {}", rule["name"], rule["lastError"]))
            .collect()
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.lab.dir().join("prometheus.log"));
            eprintln!("Prometheus said:\n{}", log.unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// RFC 3986 section 2.1
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => (byte as char).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

//! A real Prometheus on the management side, with the scrape config that the package ships.

use std::time::Duration;

use rig::{Daemon, Error, Result, poll_until, spawn};
use serde::Serialize;
use serde_json::Value;

use crate::archive::write;
use crate::gate::{curl, token};
use crate::lab::Lab;

/// What it serves, in the namespace of the lab.
const LISTENS: &str = "127.0.0.1:9090";

/// How long it may take to start, and to have scraped twice.
const SCRAPED: Duration = Duration::from_secs(60);

/// What it was asked, and answered.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// In PromQL.
    pub query: &'static str,
    /// The value of the first series.
    pub value: f64,
}

/// Prometheus, ended when dropped.
#[derive(Debug)]
pub struct Prometheus {
    _daemon: Daemon,
}

impl Prometheus {
    /// Starts it.
    ///
    /// # Errors
    /// That it does not start.
    pub fn start(lab: &Lab) -> Result<Prometheus> {
        let dir = lab.dir().join("prometheus");
        crate::archive::make(&dir)?;
        let shipped = lab
            .dir()
            .join("package/usr/share/portcullis/prometheus/scrape.yml");
        let shipped = std::fs::read_to_string(&shipped)
            .map_err(Error::io(format!("reading {}", shipped.display())))?;
        token(&dir.join("token"))?;
        let config = dir.join("prometheus.yml");
        write(
            &config,
            &with_token(&shipped, &dir.join("token").display().to_string()),
        )?;
        let mut command = lab.namespace.command("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("data").display()
            ))
            .arg(format!("--web.listen-address={LISTENS}"));
        let daemon = spawn("prometheus", &mut command, &dir.join("log"))?;
        let mut prometheus = Prometheus { _daemon: daemon };
        prometheus.await_up(lab)?;
        Ok(prometheus)
    }

    fn await_up(&mut self, lab: &Lab) -> Result<()> {
        poll_until("Prometheus", SCRAPED, || {
            self._daemon.check()?;
            let url = format!("http://{LISTENS}/-/ready");
            let ready = rig::run(&mut curl(lab, &[&url]), "", SCRAPED)?;
            Ok(ready.success().then_some(()))
        })
    }

    /// Asks until the answer is there and more than zero.
    ///
    /// # Errors
    /// That it never is.
    pub fn ask(&self, lab: &Lab, query: &'static str) -> Result<Answer> {
        let url = format!("http://{LISTENS}/api/v1/query");
        let data = format!("query={query}");
        poll_until(&format!("Prometheus to know {query}"), SCRAPED, || {
            let said = rig::run(
                &mut curl(lab, &["--get", "--data-urlencode", &data, &url]),
                "",
                SCRAPED,
            )?;
            let value = value(&said.stdout).filter(|value| *value > 0.0);
            Ok(value.map(|value| Answer { query, value }))
        })
    }
}

/// The shipped scrape config with its comment about the token made true, and a second between scrapes.
fn with_token(shipped: &str, file: &str) -> String {
    let config: String = shipped
        .replace("# authorization:", "authorization:")
        .replace(
            "#   credentials_file: /etc/prometheus/portcullis.token",
            &format!("  credentials_file: {file}"),
        );
    format!("global:\n  scrape_interval: 1s\n{config}")
}

/// The value of the first series of an answer.
fn value(answer: &str) -> Option<f64> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    answer["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_config_takes_the_token_where_its_comment_says() {
        let shipped = include_str!("../../deploy/prometheus/scrape.yml");
        let config = with_token(shipped, "/t");
        assert!(
            config.contains("\n    authorization:\n      credentials_file: /t\n"),
            "{config}"
        );
    }

    #[test]
    fn an_answer_is_the_first_value_and_an_empty_one_is_none() {
        let answer = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1.5,"42"]}]}}"#;
        assert_eq!(value(answer), Some(42.0));
        assert_eq!(value(r#"{"data":{"result":[]}}"#), None);
    }
}

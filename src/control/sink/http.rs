//! POST of JSON, for the sinks that are web servers.

use super::{Failure, tls, within};
use crate::config::sinks;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How long a server may take for one request, its connection included.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer, what is read.
const ANSWER: usize = 64 * 1024;
/// Of an answer, what stands in an error.
const QUOTED: usize = 200;

/// A server that is posted to. Its connection is kept.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    token_file: Option<PathBuf>,
}

impl Http {
    /// Posts to `path` behind the URL of the config, or to the URL itself.
    pub fn new(to: &sinks::Http, path: &str) -> Result<Http, String> {
        // Whoever never speaks TLS needs nobody to trust.
        let tls = match to.url.scheme_str() {
            Some("http") => tls::nobody(),
            _ => tls::client(&to.roots),
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls?)
            .https_or_http()
            .enable_http1();
        let url = joined(&to.url, path)?;
        Ok(Http {
            client: Client::builder(TokioExecutor::new()).build(builder.wrap_connector(connector)),
            url,
            token_file: to.token_file.clone(),
        })
    }

    /// Posts; fails for all or for none.
    pub async fn post(&self, body: Vec<u8>) -> Result<(), Failure> {
        let answered = within(PATIENCE, self.exchange(body)).await;
        let (status, text) = answered.map_err(|e| Failure::again(0, e))?;
        if status.is_success() {
            return Ok(());
        }
        let said: String = text.chars().take(QUOTED).collect();
        // The path may be a secret: those of many chat services are.
        let server = self.url.authority().map_or("", |server| server.as_str());
        let why = format!("{server} answers {status} {said}");
        // The rest may be put right on the other side: a path, a token, a server behind a proxy.
        let refused = [
            StatusCode::BAD_REQUEST,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        Err(if refused.contains(&status) {
            Failure::refused(0, why)
        } else {
            Failure::again(0, why)
        })
    }

    async fn exchange(&self, body: Vec<u8>) -> io::Result<(StatusCode, String)> {
        let mut request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(
                USER_AGENT,
                concat!("portcullis/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(path) = self.token_file.clone() {
            let read = tokio::task::spawn_blocking(move || sinks::token(&path));
            let token = read
                .await
                .map_err(io::Error::other)?
                .map_err(|e| io::Error::new(e.kind(), format!("token_file: {e}")))?;
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let answer = self.client.request(request).await.map_err(chain)?;
        let status = answer.status();
        // A body that is read to its end leaves the connection for the next request.
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Ok((status, text.unwrap_or_default()))
    }
}

/// An error with what caused it: hyper's own words are only that it could not connect.
fn chain(error: hyper_util::client::legacy::Error) -> io::Error {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !words.ends_with(&next) {
            words = format!("{words}: {next}");
        }
        cause = error.source();
    }
    io::Error::other(words)
}

fn joined(url: &Uri, path: &str) -> Result<Uri, String> {
    if path.is_empty() {
        return Ok(url.clone());
    }
    let before = url.path().trim_end_matches('/');
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(
        format!("{before}{path}")
            .parse()
            .map_err(|e| format!("{e}"))?,
    );
    Uri::from_parts(parts).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_behind_the_prefix_that_a_proxy_wants() {
        for (url, whole) in [
            ("http://a:9093", "http://a:9093/api/v2/alerts"),
            ("http://a:9093/", "http://a:9093/api/v2/alerts"),
            ("https://a/am/?x=1", "https://a/am/api/v2/alerts"),
        ] {
            let joined = joined(&url.parse().unwrap(), "/api/v2/alerts").unwrap();
            assert_eq!(joined.to_string(), whole);
        }
    }
}

//! Web servers of the test's own, that fail as such servers do.

use super::*;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// When each request came, and the hosts of the lines that were taken.
#[derive(Clone, Default)]
pub struct Got(Arc<Mutex<(Vec<Instant>, Vec<String>)>>);

impl Got {
    pub fn hosts(&self) -> Vec<String> {
        self.0.lock().unwrap().1.clone()
    }

    fn times(&self) -> Vec<Instant> {
        self.0.lock().unwrap().0.clone()
    }
}

/// The hosts in a body.
fn in_body(body: &Bytes) -> Vec<String> {
    let all: Vec<Value> = serde_json::from_slice(body).unwrap();
    let host = |line: &Value| line["src_ip"].as_str().unwrap().to_owned();
    all.iter().map(host).collect()
}

/// A server that answers what `answer` says to the headers, the hosts, and the number of the request, from 0.
pub fn router(
    got: &Got,
    answer: impl Fn(&HeaderMap, &[String], usize) -> StatusCode + Clone + Send + Sync + 'static,
) -> Router {
    let got = got.clone();
    let handle = move |headers: HeaderMap, body: Bytes| async move {
        let hosts = in_body(&body);
        let mut got = got.0.lock().unwrap();
        got.0.push(Instant::now());
        let status = answer(&headers, &hosts, got.0.len() - 1);
        if status.is_success() {
            got.1.extend(hosts);
        }
        (status, "said \u{1b}[2J")
    };
    Router::new().route("/alerts", post(handle))
}

/// Serves on a port of loopback.
pub async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

pub fn sink(port: u16, more: &str) -> String {
    format!("[[sink]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/alerts\"\n{more}\n")
}

#[test]
fn a_server_that_fails_first_gets_every_line_once_and_in_order_after_growing_waits() {
    let dir = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let got = Got::default();
        let port = serve(router(&got, |headers, _, n| {
            assert_eq!(headers["content-type"], "application/json");
            match n {
                0 => StatusCode::SERVICE_UNAVAILABLE,
                1 => StatusCode::NOT_FOUND,
                2 => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::NO_CONTENT,
            }
        }))
        .await;
        let (sinks, delivery) = start(dir.path(), &sink(port, ""));
        let mut lines = Lines::new();
        lines.send(&sinks, 1..=300);
        until("three failed attempts", || {
            (got.times().len() >= 3).then_some(())
        })
        .await;
        let failing = status(&sinks, "webhook");
        assert_eq!((failing.state, failing.waiting), ("failing", 300));
        let said = failing.last_error.unwrap();
        assert!(
            said.contains("answers 404") || said.contains("answers 500"),
            "{said}"
        );
        assert!(said.ends_with("said ?[2J"), "{said}");
        lines.send(&sinks, 301..=1000);
        sent(&sinks, "webhook", 1000).await;
        assert_eq!(got.hosts(), numbered(1..=1000));
        let times = got.times();
        let waits: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
        // Each is doubled at most by jitter, and the next one twice as long.
        for (wait, least) in waits.iter().zip([250, 500, 1000]) {
            assert!(*wait >= Duration::from_millis(least), "{waits:?}");
        }
        let well = status(&sinks, "webhook");
        assert_eq!((well.state, well.errors, well.lost), ("ok", 3, 0));
        assert!(delivery.finish(LIMIT).await.is_empty());
    });
}

#[test]
fn a_line_that_a_server_refuses_is_given_up_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let got = Got::default();
        let port = serve(router(&got, |_, hosts, _| {
            if hosts.contains(&host(77)) {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::OK
            }
        }))
        .await;
        let (sinks, delivery) = start(dir.path(), &sink(port, ""));
        Lines::new().send(&sinks, 1..=600);
        sent(&sinks, "webhook", 599).await;
        let mut all = numbered(1..=600);
        all.remove(76);
        assert_eq!(got.hosts(), all);
        assert_eq!(status(&sinks, "webhook").lost, 1);
        assert!(delivery.finish(LIMIT).await.is_empty());
    });
}

/// TLS under axum.
struct Tls(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

fn acceptor(dir: &Path) -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(dir.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config).into()
}

#[test]
fn over_https_the_authority_must_be_the_one_of_the_config_and_a_token_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path();
    rig::tls_files(there).unwrap();
    std::fs::write(there.join("token"), "yesterday\n").unwrap();
    on_one_thread(async {
        let got = Got::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = router(&got, |headers, _, _| {
            if headers["authorization"] == "Bearer today" {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            }
        });
        let tls = Tls(listener, acceptor(there));
        tokio::spawn(async move { axum::serve(tls, router).await });
        let sink = |name: &str, ca: &str| {
            format!(
                "[[sink]]\nkind = \"webhook\"\nname = \"{name}\"\nurl = \"https://127.0.0.1:{port}/alerts\"\nca = \"{ca}\"\ntoken_file = \"token\"\n"
            )
        };
        let both = sink("right", "ca.pem") + &sink("wrong", "other.pem");
        let (sinks, delivery) = start(there, &both);
        Lines::new().send(&sinks, 1..=3);
        let refusal = |name, word: &'static str| {
            let said = status(&sinks, name).last_error.unwrap_or_default();
            said.contains(word).then_some(())
        };
        until("a refused token", || refusal("right", "401")).await;
        until("a refused certificate", || refusal("wrong", "certificate")).await;
        std::fs::write(there.join("token"), "today\n").unwrap();
        sent(&sinks, "right", 3).await;
        assert_eq!(got.hosts(), numbered(1..=3));
        let left = delivery.finish(Duration::from_millis(300)).await;
        assert_eq!(left, [("wrong".to_owned(), 3)]);
    });
}

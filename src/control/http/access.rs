//! Who may ask: with a token, whoever has it; without one, whoever reaches the address and means to.

use super::json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json as value;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Who may ask.
pub enum Access {
    /// Whoever reaches the address. A web page of elsewhere reaches it too, from the browser of somebody who does, by a name of its own that
    /// leads here (DNS rebinding): requests must name the gate by its address, or as `localhost`.
    Open,
    /// Whoever sends this token.
    Token(String),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Method,
    Host,
    Elsewhere,
    Token,
}

impl Access {
    /// `None` where the request may go on.
    fn refusal(&self, request: &Request) -> Option<Refusal> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Some(Refusal::Method);
        }
        let headers = request.headers();
        match self {
            Access::Open if !names_the_box(headers) => Some(Refusal::Host),
            Access::Open if comes_from_elsewhere(headers) => Some(Refusal::Elsewhere),
            Access::Open => None,
            // What watches over the gate need not be trusted with a token: it learns that it is well or not.
            Access::Token(_) if ["/healthz", "/readyz"].contains(&request.uri().path()) => None,
            Access::Token(token) if !sends(headers, token) => Some(Refusal::Token),
            Access::Token(_) => None,
        }
    }
}

/// Lets a request on, or refuses it and says why.
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match access.refusal(&request) {
        None => next.run(request).await,
        Some(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Response {
    let (status, error, name, text) = match refusal {
        Refusal::Method => (
            StatusCode::METHOD_NOT_ALLOWED,
            "nothing can be changed here; use GET",
            header::ALLOW,
            "GET, HEAD",
        ),
        Refusal::Host => (
            StatusCode::MISDIRECTED_REQUEST,
            "without a token the gate is asked by its IP address, or as localhost: another name may be a trick of a web page. Use the address, or set [metrics] token_file",
            header::VARY,
            "Host",
        ),
        Refusal::Elsewhere => (
            StatusCode::FORBIDDEN,
            "a page of another site may not ask the gate; open its address by itself",
            header::VARY,
            "Sec-Fetch-Site",
        ),
        Refusal::Token => (
            StatusCode::UNAUTHORIZED,
            "send the token of [metrics] token_file: Authorization: Bearer TOKEN, or any user with the token as password",
            header::WWW_AUTHENTICATE,
            "Basic realm=\"portcullis\", charset=\"UTF-8\"",
        ),
    };
    let mut response = json(status, &value!({ "error": error }));
    let headers = response.headers_mut();
    headers.insert(name, HeaderValue::from_static(text));
    response
}

/// True if a browser says that a page of another site asks (W3C Fetch Metadata Request Headers, section 2.2), and not a person who follows a link.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let says = |name, value: &str| headers.get_all(name).iter().any(|said| said == value);
    says("sec-fetch-site", "cross-site") && !says("sec-fetch-mode", "navigate")
}

/// True if `Host` is an IP address, or `localhost`, which no browser asks a name server for.
fn names_the_box(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = host.to_str() else {
        return false;
    };
    if host.parse::<SocketAddr>().is_ok() || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => host,
    };
    name.eq_ignore_ascii_case("localhost")
}

/// True if the token is sent, as a bearer's (RFC 6750 section 2.1) or as a password (RFC 7617 section 2).
fn sends(headers: &HeaderMap, token: &str) -> bool {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(sent), None) = (all.next(), all.next()) else {
        return false;
    };
    let Some((scheme, rest)) = sent.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return false;
    };
    let rest = rest.trim_matches(' ');
    let sent = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => rest.as_bytes().to_vec(),
        "basic" => {
            let decoded = STANDARD.decode(rest).unwrap_or_default();
            let Some(colon) = decoded.iter().position(|byte| *byte == b':') else {
                return false;
            };
            decoded[colon + 1..].to_vec()
        }
        _ => return false,
    };
    // How long it takes tells how long the token is, and nothing of what is in it.
    sent.ct_eq(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(path: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn without_a_token_the_gate_is_named_by_its_address_or_as_localhost() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9155",
            "[::1]",
            "[::1]:9155",
            "localhost",
            "LocalHost:9155",
            "192.0.2.7:80",
        ] {
            let asked = request("/", &[("host", host)]);
            assert_eq!(Access::Open.refusal(&asked), None, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9155",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9155",
            "127.0.0.1:evil",
            "[evil]",
            "localhost:",
            "localhost:99999",
            "user@localhost",
        ] {
            let asked = request("/metrics", &[("host", host)]);
            assert_eq!(
                Access::Open.refusal(&asked),
                Some(Refusal::Host),
                "{host:?}"
            );
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        for headers in [&[][..], &two] {
            let asked = request("/healthz", headers);
            assert_eq!(Access::Open.refusal(&asked), Some(Refusal::Host));
        }
    }

    #[test]
    fn a_page_of_another_site_is_refused_and_a_link_from_one_is_not() {
        let sent = |site, mode| {
            let headers = [
                ("host", "127.0.0.1:9155"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
            ];
            Access::Open.refusal(&request("/api/events", &headers))
        };
        assert_eq!(sent("cross-site", "cors"), Some(Refusal::Elsewhere));
        assert_eq!(sent("cross-site", "no-cors"), Some(Refusal::Elsewhere));
        assert_eq!(sent("cross-site", "navigate"), None);
        assert_eq!(sent("same-origin", "cors"), None);
        assert_eq!(sent("none", "navigate"), None);
    }

    #[test]
    fn with_a_token_everything_but_health_asks_for_it() {
        let access = Access::Token("s3cret:word".into());
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for sent in [
            "Bearer s3cret:word".to_owned(),
            "bearer  s3cret:word".to_owned(),
            basic("anybody:s3cret:word"),
            basic(":s3cret:word"),
        ] {
            let headers = [("authorization", &*sent), ("host", "gate.example")];
            let asked = request("/api/status", &headers);
            assert_eq!(access.refusal(&asked), None, "{sent}");
        }
        for sent in [
            "Bearer s3cret:wor".to_owned(),
            "Bearer s3cret:word1".to_owned(),
            "Bearer ".to_owned(),
            "Bearer".to_owned(),
            "s3cret:word".to_owned(),
            "Digest s3cret:word".to_owned(),
            "Basic !!!".to_owned(),
            basic("s3cret:word"),
            basic("anybody:"),
        ] {
            let asked = request("/api/status", &[("authorization", &sent)]);
            assert_eq!(access.refusal(&asked), Some(Refusal::Token), "{sent}");
        }
        let right = ("authorization", "Bearer s3cret:word");
        let asked = request("/", &[right, right]);
        assert_eq!(access.refusal(&asked), Some(Refusal::Token));
        for path in ["/", "/metrics", "/evidence/a", "/healthz/", "//healthz"] {
            let asked = request(path, &[]);
            assert_eq!(access.refusal(&asked), Some(Refusal::Token), "{path}");
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(access.refusal(&request(path, &[])), None);
        }
    }

    #[test]
    fn nothing_is_taken_but_reading() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
            let mut asked = request("/healthz", &[("host", "localhost")]);
            *asked.method_mut() = method.parse().unwrap();
            assert_eq!(
                Access::Open.refusal(&asked),
                Some(Refusal::Method),
                "{method}"
            );
        }
        let mut asked = request("/", &[("host", "localhost")]);
        *asked.method_mut() = Method::HEAD;
        assert_eq!(Access::Open.refusal(&asked), None);
    }
}

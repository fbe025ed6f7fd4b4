//! The other side of a sink: where it is, who vouches for it, and the token that it asks for.

use super::raw::{Reader, Value};
use super::sinks::Roots;
use hyper::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::PathBuf;

/// A name or an address, and a port.
pub(super) fn address(reader: &mut Reader, value: &Value<'_>) -> Option<(String, u16)> {
    let text = reader.string(value, "address")?;
    let read = || {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6
                .strip_suffix(']')
                .filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
            None => Some(host).filter(|name| is_host(name))?,
        };
        Some((host.to_owned(), port))
    };
    let read = read();
    if read.is_none() {
        let help = "write a name or an address, and a port: \"192.0.2.10:514\", \"[2001:db8::10]:514\" or \"logs.example.org:6514\"";
        reader.error(
            value.span(),
            format!("\"{text}\" is not a host and a port"),
            "here",
            help,
        );
    }
    read
}

/// A host name or an IPv4 address, as far as its letters go.
fn is_host(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !name.is_empty() && name.len() < 254 && name.chars().all(letter)
}

pub(super) fn url_of(reader: &mut Reader, value: &Value<'_>) -> Option<Uri> {
    let text = reader.string(value, "url")?;
    let uri = text
        .parse::<Uri>()
        .ok()
        .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && has_host_and_port(uri));
    let Some(uri) = uri else {
        let help =
            "write http:// or https://, a host, and a path: \"https://hooks.example.org/alerts\"";
        let message = format!("\"{text}\" is not a URL that can be posted to");
        reader.error(value.span(), message, "here", help);
        return None;
    };
    if uri
        .authority()
        .is_some_and(|all| all.as_str().contains('@'))
    {
        let help = "put a token into a file that only this program may read, and name it with `token_file`";
        let message = "`url` has a user or a password in it";
        reader.error(value.span(), message, "here", help);
        return None;
    }
    Some(uri)
}

/// `Uri` takes `a:99999` for a host without a port, and would then speak to that of the scheme.
fn has_host_and_port(uri: &Uri) -> bool {
    let (Some(all), Some(host)) = (uri.authority(), uri.host()) else {
        return false;
    };
    let behind = all.as_str().rsplit('@').next().unwrap_or("");
    match behind.strip_prefix(host) {
        _ if host.is_empty() => false,
        Some("") => true,
        Some(port) => port
            .strip_prefix(':')
            .and_then(|port| port.parse::<u16>().ok())
            .is_some_and(|port| port > 0),
        None => false,
    }
}

pub(super) fn roots(reader: &mut Reader, value: &Value<'_>) -> Option<Roots> {
    let path = reader.path(value, "ca")?;
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            let help = "name a PEM file with the certificate of the authority, or leave `ca` out for the authorities of the system";
            reader.error(value.span(), message, "here", help);
            return None;
        }
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let usable = |all: &Vec<CertificateDer<'static>>| {
        let mut store = rustls::RootCertStore::empty();
        !all.is_empty() && all.iter().all(|one| store.add(one.clone()).is_ok())
    };
    match read.ok().filter(usable) {
        Some(all) => Some(Roots::Given(all)),
        None => {
            let message = format!("{} has no certificate that can be used", path.display());
            let help = "it must be PEM: one or more blocks from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----";
            reader.error(value.span(), message, "here", help);
            None
        }
    }
}

pub(super) fn token_file(reader: &mut Reader, value: &Value<'_>) -> Option<PathBuf> {
    let path = reader.path(value, "token_file")?;
    let help = "name a file that this user may read, with the token on its only line";
    match token(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            let message = format!("no token in {}: {error}", path.display());
            reader.error(value.span(), message, "here", help);
            None
        }
    }
}

/// The token in a file.
///
/// # Errors
/// That it cannot be read, or that what is in it cannot stand in a header.
pub fn token(path: &std::path::Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "it must be one word of printable ASCII";
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            message,
        ));
    }
    Ok(token.to_owned())
}

//! TLS for those sinks that speak it: rustls, and whom it trusts.

use crate::config::sinks::Roots;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// A client that trusts `roots`.
///
/// # Errors
/// That there is nobody to trust, in words that end with what would be right.
pub(super) fn client(roots: &Roots) -> Result<ClientConfig, String> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Given(all) => {
            for one in all {
                store.add(one.clone()).map_err(|e| e.to_string())?;
            }
        }
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
        }
    }
    if store.is_empty() {
        let why = "this system has no certificate authorities to trust; install ca-certificates, or name a file with `ca`";
        return Err(why.to_owned());
    }
    trusting(store)
}

/// A client that trusts nobody, for where no TLS is spoken.
pub(super) fn nobody() -> Result<ClientConfig, String> {
    trusting(RootCertStore::empty())
}

fn trusting(store: RootCertStore) -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(config)
}

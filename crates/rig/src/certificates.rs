//! Certificates for servers of a test.

use crate::{Error, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::Path;

/// Writes `ca.pem`, and `server.pem` and `server.key` of a server on 127.0.0.1 that it vouches for, into a folder; `other.pem` is an authority that
/// has nothing to do with it.
///
/// # Errors
/// That a file cannot be written, or that no key can be made.
pub fn tls_files(dir: &Path) -> Result<()> {
    let failed = |e: rcgen::Error| Error::Answer {
        what: "making certificates".into(),
        said: e.to_string(),
    };
    let authority = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate()?)
    };
    let ca = authority("ca").map_err(failed)?;
    let other = authority("other").map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&key, &ca))
        .map_err(failed)?;
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("other.pem", other.pem()),
        ("server.pem", server.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
    }
    Ok(())
}

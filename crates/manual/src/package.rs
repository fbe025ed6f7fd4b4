//! The Debian package of a binary that is there already, for tests: by the metadata that `make deb` uses, packed quickly.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the package of `binary` at `version`, with what else belongs in it, in `dir`; its path. Needs cargo-deb.
///
/// # Errors
/// That a file cannot be written, or what cargo-deb says.
pub fn package(binary: &Path, dir: &Path, version: &str) -> Result<PathBuf> {
    let file = dir.join(format!("portcullis_{version}.deb"));
    let release = dir.join("release");
    if !release.exists() {
        std::fs::create_dir(&release)?;
        std::fs::copy(binary, release.join("portcullis"))?;
        crate::write(&release.join("manual"))?;
        let pages = format!("gzip -9n {}/manual/man/*", release.display());
        must(Command::new("sh").args(["-c", &pages]))?;
    }
    must(
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["deb", "--offline", "--no-build", "--strip", "--fast"])
            .args(["--deb-version", version, "--output"])
            .arg(&file)
            .env("CARGO_TARGET_DIR", dir)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")),
    )?;
    Ok(file)
}

fn must(command: &mut Command) -> Result<()> {
    let out = command.output()?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(Error::other(format!(
        "{command:?} (cargo-deb: `cargo install --locked cargo-deb`): {said}"
    )))
}

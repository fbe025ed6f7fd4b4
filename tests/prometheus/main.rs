//! What is shipped for Prometheus and Grafana, held to what a live gate says.
//!
//! `deploy/setup.sh test` installs promtool and Prometheus. The tests with a live gate need root; else each says that it was not run.

mod causes;
#[path = "../common/mod.rs"]
mod common;
mod dashboard;
mod docs;
mod expressions;
mod held;
mod rules;
mod server;

use std::path::{Path, PathBuf};

/// A file or folder of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    let path = project(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A program of Debian's prometheus package.
fn of_debian(program: &str) -> PathBuf {
    let path = Path::new("/usr/bin").join(program);
    let hint = "`deploy/setup.sh test` installs it";
    assert!(path.exists(), "there is no {}: {hint}", path.display());
    path
}

//! `manual FOLDER`: see the library.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("manual: name the folder to write into: manual FOLDER");
        return ExitCode::from(2);
    };
    match manual::write(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("manual: {}: {e}", dir.display());
            ExitCode::from(2)
        }
    }
}

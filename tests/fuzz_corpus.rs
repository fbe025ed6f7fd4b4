//! What fuzzing has found stays found: the inputs under `tests/data/fuzz`, a folder a target, are replayed through the same checks.

#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz/stack.rs"]
mod stack;

use std::path::Path;

/// Runs a check over every file of its folder; how many there were.
fn replay(target: &str, check: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/fuzz")
        .join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut count = 0;
    for file in files {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        check(&bytes);
        count += 1;
    }
    count
}

#[test]
fn everything_that_fuzzing_has_kept_passes_its_checks() {
    let counts = [
        replay("flow", checks::flow),
        replay("fragment", checks::fragment),
        replay("reply", checks::reply),
        replay("config", checks::config),
        replay("app", checks::app),
        replay("decoy", stack::decoy),
        replay("inband", stack::inband),
        replay("persona", stack::persona),
    ];
    assert!(counts.iter().all(|count| *count >= 20), "{counts:?}");
}

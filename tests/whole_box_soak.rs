//! Half a minute of what `make soak` does for half an hour.

use rig::soak::soak;
use std::path::Path;
use std::time::Duration;

#[test]
fn troubles_of_every_kind_leave_memory_flat_and_every_frame_in_the_account() {
    if !rig::root_or_say("the soak") {
        return;
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_portcullis"));
    let soaked = soak(binary, Duration::from_secs(30), 7, |line| {
        println!("{line}")
    })
    .expect("a run");
    println!("{soaked:#?}");
    assert_eq!(soaked.faults, [""; 0]);
    assert!(soaked.troubles.len() >= 6, "{:?}", soaked.troubles);
    assert!(
        soaked.received > 1000 && soaked.allowed > 1000,
        "{soaked:?}"
    );
}

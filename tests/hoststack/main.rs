//! The box's own stack against clients that mean harm, and clients that do not, over memory.

mod client;
mod counting;
mod dialogue;
mod hostile;
#[path = "../../fuzz/stack.rs"]
mod stack;
mod turn;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// What holds is written where it is asserted, in `fuzz/stack.rs`; a script of at most 300 steps.
    #[test]
    fn any_frames_at_decoys_are_counted_and_their_answers_are_few_and_go_back_to_who_asked(script in prop::collection::vec(any::<u8>(), 0..3000)) {
        stack::decoy(&script);
    }

    #[test]
    fn any_frames_at_the_own_address_are_answered_by_it_alone_and_hold_no_place(script in prop::collection::vec(any::<u8>(), 0..3000)) {
        stack::inband(&script);
    }

    #[test]
    fn any_bytes_at_a_persona_are_answered_the_same_however_they_come(bytes in prop::collection::vec(any::<u8>(), 0..1000)) {
        stack::persona(&bytes);
    }
}

/// What a fuzz target does with an input.
type Target = fn(&[u8]);

/// Not a test: mutants of what fuzzing has kept, for `SECONDS` each, where no fuzzer can be built.
#[test]
#[ignore = "takes its time"]
fn mutants_of_what_fuzzing_has_kept_pass_too() {
    let seconds = std::env::var("SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(60);
    let targets: [(&str, Target); 3] = [
        ("inband", stack::inband),
        ("decoy", stack::decoy),
        ("persona", stack::persona),
    ];
    for (target, check) in targets {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/fuzz/").to_owned() + target;
        let files = std::fs::read_dir(folder).expect("a folder");
        let kept: Vec<Vec<u8>> = files
            .map(|file| std::fs::read(file.expect("a file").path()).expect("bytes"))
            .collect();
        let start = std::time::Instant::now();
        let mut chance = client::Chance(start.elapsed().as_nanos() as u64 ^ 0x9e37_79b9);
        let mut count = 0u64;
        while start.elapsed().as_secs() < seconds {
            let one = &kept[chance.below(kept.len() as u64) as usize];
            let two = &kept[chance.below(kept.len() as u64) as usize];
            let cut = chance.below(one.len() as u64 + 1) as usize / 10 * 10;
            let mut bytes = [&one[..cut.min(one.len())], two].concat();
            for _ in 0..chance.below(12) {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] = chance.next() as u8;
            }
            if std::panic::catch_unwind(|| check(&bytes)).is_err() {
                panic!("{target}: {bytes:02x?}");
            }
            count += 1;
        }
        println!("{target}: {count} mutants in {seconds} s");
    }
}

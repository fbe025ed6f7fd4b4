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

//! Frames that fuzzing found worth keeping, replayed.

use portcullis::frame::{Meta, parse};

/// One frame a line, in hex; `#` starts a comment.
const CORPUS: &str = include_str!("data/parse/corpus.hex");

fn frames() -> Vec<Vec<u8>> {
    CORPUS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let digits: Vec<u8> = line
                .chars()
                .map(|c| c.to_digit(16).expect("a line of hex digits") as u8)
                .collect();
            digits
                .chunks(2)
                .map(|pair| pair[0] << 4 | pair[1])
                .collect()
        })
        .collect()
}

fn assert_offsets_in_order(frame: &[u8], meta: Meta) {
    assert!(meta.l3 <= meta.l4, "{frame:02x?}");
    assert!(meta.l4 <= meta.payload, "{frame:02x?}");
    assert!(meta.payload <= meta.end, "{frame:02x?}");
    assert!(usize::from(meta.end) <= frame.len(), "{frame:02x?}");
}

#[test]
fn frames_that_fuzzing_found_parse_without_a_panic_and_with_offsets_in_order() {
    let frames = frames();
    assert!(!frames.is_empty());
    for frame in frames {
        if let Ok(meta) = parse(&frame) {
            assert_offsets_in_order(&frame, meta);
        }
    }
}

#[test]
fn every_beginning_of_a_kept_frame_is_judged_too() {
    for frame in frames() {
        for len in 0..frame.len() {
            if let Ok(meta) = parse(&frame[..len]) {
                assert_offsets_in_order(&frame[..len], meta);
            }
        }
    }
}

//! The box's own stack against clients that mean harm, and clients that do not, over memory.

mod client;
mod dialogue;
mod hostile;
#[path = "../../fuzz/stack.rs"]
mod stack;

use proptest::prelude::*;
#[test]
fn quick() {
    let n: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut s = 0x9e3779b97f4a7c15u64;
    let mut next = move || { s ^= s << 13; s ^= s >> 7; s ^= s << 17; s };
    for i in 0..n {
        let len = (next() % 1500) as usize;
        let bytes: Vec<u8> = (0..len).map(|_| next() as u8).collect();
        if let Err(_) = std::panic::catch_unwind(|| { stack::decoy(&bytes); stack::inband(&bytes); stack::persona(&bytes); }) { panic!("at {i}") }
    }
}

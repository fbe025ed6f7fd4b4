#![no_main]

#[path = "../stack.rs"]
#[allow(dead_code)]
mod stack;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stack::inband(data));

#[path = "../../fuzz/stack.rs"]
mod stack;
#[test]
fn x() { stack::decoy(&[0;100]); stack::inband(&[0;100]); stack::persona(&[0;100]); }

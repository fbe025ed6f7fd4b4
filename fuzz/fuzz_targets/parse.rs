//! Any bytes as a frame: no panic, and what an `Ok` promises holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::frame::{Frag, Net, parse};

fuzz_target!(|frame: &[u8]| {
    let Ok(meta) = parse(frame) else { return };
    assert!(meta.l3 <= meta.l4);
    assert!(meta.l4 <= meta.payload);
    assert!(meta.payload <= meta.end);
    assert!(usize::from(meta.end) <= frame.len());
    assert!(meta.vlan_depth <= 2);
    assert!(meta.l3 >= 14 + 4 * u16::from(meta.vlan_depth));
    assert_eq!(
        meta.src_ip().is_some(),
        matches!(meta.net, Net::V4 | Net::V6)
    );
    if meta.src_ip().is_none() {
        assert_eq!((meta.proto, meta.frag, meta.l4), (0, Frag::Whole, meta.end));
    }
    if meta.frag == Frag::Later {
        assert_eq!((meta.sport, meta.dport, meta.tcp_flags), (0, 0, 0));
        assert!(meta.frag_offset > 0 && meta.frag_offset % 8 == 0);
    } else {
        assert_eq!(meta.frag_offset, 0);
    }
    // What lies past `end` is padding: whatever stands there, the frame means the same.
    let mut other = frame.to_vec();
    other[usize::from(meta.end)..].fill(0xa5);
    assert_eq!(parse(&other), Ok(meta));
});

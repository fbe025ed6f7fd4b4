//! What the tests of several recognisers share.

use super::Looks;

/// Asserts that a recogniser answers the same to every payload.
pub fn all(recogniser: fn(&[u8]) -> Looks, expected: Looks, payloads: &[&str]) {
    for payload in payloads {
        assert_eq!(recogniser(payload.as_bytes()), expected, "{payload:?}");
    }
}

//! VLAN tags (IEEE 802.1Q-2022 section 9), and the 0x9100 that came before 802.1ad.

use super::{Meta, chunk};
use crate::telemetry::Reason;

/// Tag control and the type that follows it, bytes.
const TAG_LEN: u16 = 4;

/// True for the tag protocol identifiers that are looked through.
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// Moves `l3` and `ethertype` past up to two tags, whatever their VLAN id: a host strips a priority tag (id 0) and
/// reads on, and so must a filter.
///
/// # Errors
/// `VlanDepth` for a third tag, `Malformed` for one that is cut short.
pub(super) fn look_through(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    for depth in 0..2 {
        if !is_tag(meta.ethertype) {
            return Ok(());
        }
        let [tci @ .., t0, t1]: [u8; 4] =
            *chunk(frame, usize::from(meta.l3)).ok_or(Reason::Malformed)?;
        if let Some(slot) = meta.vlan.get_mut(depth) {
            *slot = u16::from_be_bytes(tci);
        }
        meta.vlan_depth += 1;
        meta.ethertype = u16::from_be_bytes([t0, t1]);
        meta.l3 += TAG_LEN;
    }
    if is_tag(meta.ethertype) {
        Err(Reason::VlanDepth)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::{ethernet, tagged, udp4};
    use crate::frame::{Net, parse};
    use crate::telemetry::Reason;

    #[test]
    fn one_and_two_tags_are_looked_through_with_any_id() {
        for tags in [
            vec![(0x8100, 0)],
            vec![(0x88a8, 0xe064), (0x8100, 0)],
            vec![(0x9100, 7), (0x8100, 8)],
        ] {
            let meta = parse(&tagged(&tags, 0x0800, &udp4(69, b"x"))).unwrap();
            assert_eq!((meta.net, meta.proto, meta.dport), (Net::V4, 17, 69));
            assert_eq!(usize::from(meta.vlan_depth), tags.len());
            assert_eq!(usize::from(meta.l3), 14 + 4 * tags.len());
            for (slot, (_, tci)) in meta.vlan.iter().zip(&tags) {
                assert_eq!(slot, tci);
            }
        }
    }

    #[test]
    fn a_third_tag_is_too_deep_even_when_it_is_a_priority_tag() {
        let tags = [(0x88a8, 1), (0x8100, 2), (0x8100, 0)];
        assert_eq!(
            parse(&tagged(&tags, 0x0800, &udp4(69, b"x"))),
            Err(Reason::VlanDepth)
        );
    }

    #[test]
    fn a_tag_that_is_cut_short_is_malformed() {
        for len in 0..4 {
            assert_eq!(
                parse(&ethernet(0x8100, &vec![0; len])),
                Err(Reason::Malformed)
            );
        }
    }

    #[test]
    fn llc_inside_a_tag_is_llc() {
        let mut body = vec![0x42, 0x42, 3];
        body.resize(42, 0);
        let meta = parse(&tagged(&[(0x8100, 5)], 38, &body)).unwrap();
        assert_eq!(
            (meta.net, meta.ethertype, meta.vlan),
            (Net::Llc, 0x4242, [5, 0])
        );
    }
}

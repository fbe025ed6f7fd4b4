//! What a flow is known by, and the hash of that.

use super::slots::{KeyWords, V4_WORD};
use crate::frame::{Meta, Net, tunnel};
use crate::policy::Side;
use std::hash::{BuildHasher, RandomState};

/// The five-tuple of a flow with the VLAN that it is in, the same for the frames of both directions: the end on the LAN side comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// The address on the LAN side, as in [`Meta::src`].
    pub inside: u128,
    /// The address on the uplink side.
    pub outside: u128,
    /// The port on the LAN side; the identifier of an ICMP query; 0 of a protocol without ports.
    pub inside_port: u16,
    /// The port on the uplink side; the type of an ICMP query's request; 0 of a protocol without ports.
    pub outside_port: u16,
    /// Transport protocol.
    pub proto: u8,
    /// VLAN ids, outer first; 0 for none. An id of 0 is a priority tag and no VLAN (IEEE 802.1Q), so it is the same as none.
    pub vlan: [u16; 2],
    /// Whether the addresses are those of IPv6.
    pub v6: bool,
    /// The kind of tunnel that it is inside of, from 1; 0 on the wire. Inside of one there are no VLANs.
    pub tunnel: u8,
}

/// The first byte of a multicast group (RFC 4291 section 2.7), which is the address of neither end of a flow.
const GROUP: u64 = 0xff << 56;
/// Set in the first word of flows of IPv4, so that none of IPv6 has the words of one of IPv4. In the outside's first word the same says that the flow is inside of a
/// tunnel; the byte that it takes the place of stands among the bits of the VLANs.
const V4: u64 = V4_WORD;
const _: () = assert!(V4 == GROUP);

impl FlowKey {
    /// The key of a frame received on `side` whose two ports are these.
    #[inline]
    pub fn new(meta: &Meta, side: Side, sport: u16, dport: u16) -> FlowKey {
        let ends = match side {
            Side::Lan => (meta.src, meta.dst, sport, dport),
            Side::Uplink => (meta.dst, meta.src, dport, sport),
        };
        FlowKey {
            inside: ends.0,
            outside: ends.1,
            inside_port: ends.2,
            outside_port: ends.3,
            proto: meta.proto,
            vlan: match tunnel::number(meta) {
                0 => [meta.vlan[0] & 0xfff, meta.vlan[1] & 0xfff],
                _ => [0; 2],
            },
            v6: meta.net == Net::V6,
            tunnel: tunnel::number(meta),
        }
    }

    /// [`FlowKey::words`] of [`FlowKey::new`] with the frame's own ports, the short way: where there are no VLANs and no tunnel.
    #[inline(always)]
    pub fn plain_words(meta: &Meta, side: Side, words: &mut KeyWords) {
        let (inside, outside, here, there) = match side {
            Side::Lan => (meta.src, meta.dst, meta.sport, meta.dport),
            Side::Uplink => (meta.dst, meta.src, meta.dport, meta.sport),
        };
        let family = if meta.net == Net::V6 { 0 } else { V4 };
        words[0] = (inside >> 64) as u64 | family;
        words[1] = inside as u64;
        words[2] = (outside >> 64) as u64;
        words[3] = outside as u64;
        words[4] = u64::from(here) << 48 | u64::from(there) << 32 | u64::from(meta.proto) << 24;
    }

    /// As the table stores it.
    #[inline]
    pub fn words(&self) -> KeyWords {
        let family = if self.v6 { 0 } else { V4 };
        let mut outside = (self.outside >> 64) as u64;
        let mut vlan = u64::from(self.vlan[0]) << 12 | u64::from(self.vlan[1]);
        if self.tunnel != 0 {
            vlan = u64::from(self.tunnel) << 8 | outside >> 56;
            outside |= GROUP;
        }
        let rest = u64::from(self.inside_port) << 48
            | u64::from(self.outside_port) << 32
            | u64::from(self.proto) << 24
            | vlan;
        [
            (self.inside >> 64) as u64 | family,
            self.inside as u64,
            outside,
            self.outside as u64,
            rest,
        ]
    }

    /// From what the table stores.
    pub fn from_words(words: &KeyWords) -> FlowKey {
        let [high, low, mut outside_high, outside_low, rest] = *words;
        let v6 = high & GROUP != V4;
        let high = if v6 { high } else { high & !GROUP };
        let mut vlan = [(rest >> 12) as u16 & 0xfff, rest as u16 & 0xfff];
        let mut tunnel = 0;
        if outside_high & GROUP == GROUP {
            tunnel = (rest >> 8) as u8;
            outside_high = outside_high & !GROUP | (rest & 0xff) << 56;
            vlan = [0; 2];
        }
        FlowKey {
            inside: u128::from(high) << 64 | u128::from(low),
            outside: u128::from(outside_high) << 64 | u128::from(outside_low),
            inside_port: (rest >> 48) as u16,
            outside_port: (rest >> 32) as u16,
            proto: (rest >> 24) as u8,
            vlan,
            v6,
            tunnel,
        }
    }
}

/// An odd number whose bits are as those of chance: 2^64 divided by the golden ratio.
const LAST: u64 = 0x9e37_79b9_7f4a_7c15;

/// A keyed hash, so that nobody who does not know the key can choose flows that fall on one bucket.
///
/// Words are added to secrets and multiplied in pairs to 128 bits whose halves are folded: for two different keys the results are
/// the same only by chance, over secrets of 64 bits each that the operating system gives.
#[derive(Clone, Debug)]
pub struct Hasher {
    secret: [u64; 6],
}

impl Hasher {
    /// With secrets of its own.
    pub fn random() -> Hasher {
        // The keys of the standard library's hasher come from the operating system, and SipHash spreads them.
        let random = RandomState::new();
        Hasher {
            secret: std::array::from_fn(|at| random.hash_one(at)),
        }
    }

    /// Of the words of a key.
    #[inline]
    pub fn hash(&self, key: &KeyWords) -> u64 {
        let [a, b, c, d, e, f] = self.secret;
        if key[0] == V4 && key[2] == 0 {
            return self.hash_v4(key[1] << 32 | key[3], key[4]);
        }
        let inside = fold(key[0] ^ a, key[1] ^ b);
        let outside = fold(key[2] ^ c, key[3] ^ d);
        // The ports stand high in their word: without the last step some hosts in a hundred thousand would have all of theirs in a few buckets.
        let all = fold(inside ^ outside.rotate_left(32) ^ e, key[4] ^ f);
        fold(all ^ c, LAST)
    }

    /// The same of IPv4 on the wire, where both addresses are one word: the inside's above.
    #[inline]
    pub fn hash_v4(&self, ends: u64, rest: u64) -> u64 {
        let [a, b, c, ..] = self.secret;
        fold(fold(ends ^ a, rest ^ b) ^ c, LAST)
    }

    /// Of one address.
    #[inline]
    pub fn host(&self, address: u128) -> u64 {
        let [a, b, ..] = self.secret;
        fold((address >> 64) as u64 ^ b, address as u64 ^ a)
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(src: u128, dst: u128, net: Net) -> Meta {
        Meta {
            src,
            dst,
            net,
            proto: 6,
            vlan: [0x6005, 0],
            vlan_depth: 1,
            ..Meta::default()
        }
    }

    #[test]
    fn both_directions_have_one_key_and_another_vlan_family_or_protocol_has_another() {
        let out = FlowKey::new(&meta(1, 2, Net::V4), Side::Lan, 40_000, 80);
        let back = FlowKey::new(&meta(2, 1, Net::V4), Side::Uplink, 80, 40_000);
        assert_eq!(out, back);
        assert_eq!(out.vlan, [5, 0], "the priority is no part of it");
        let others = [
            FlowKey { proto: 17, ..out },
            FlowKey {
                vlan: [6, 0],
                ..out
            },
            FlowKey {
                vlan: [0, 5],
                ..out
            },
            FlowKey { v6: true, ..out },
            FlowKey {
                tunnel: 1,
                vlan: [0; 2],
                ..out
            },
            FlowKey {
                inside: 2,
                outside: 1,
                ..out
            },
        ];
        for other in others {
            assert_ne!(other.words(), out.words());
        }
    }

    #[test]
    fn words_are_read_back_as_they_were_written() {
        let v6 = 0xfd77_0000_0000_0000_0000_0000_0000_0009;
        for net in [Net::V4, Net::V6] {
            let (src, dst) = match net {
                Net::V4 => (0x0a4d_0009, 0xffff_ffff),
                _ => (v6, v6 + 1),
            };
            for side in Side::BOTH {
                let plain = Meta {
                    vlan: [0, 0],
                    sport: 65_535,
                    dport: 1,
                    ..meta(src, dst, net)
                };
                let mut words = [1; 5];
                FlowKey::plain_words(&plain, side, &mut words);
                assert_eq!(words, FlowKey::new(&plain, side, 65_535, 1).words());
            }
            let key = FlowKey {
                vlan: [4095, 4094],
                ..FlowKey::new(&meta(src, dst, net), Side::Lan, 65_535, 1)
            };
            assert_eq!(FlowKey::from_words(&key.words()), key);
            let inside = FlowKey {
                tunnel: 4,
                vlan: [0; 2],
                ..key
            };
            assert_eq!(FlowKey::from_words(&inside.words()), inside);
        }
    }

    #[test]
    fn the_hash_spreads_flows_that_differ_in_one_port_or_address_and_no_two_tables_agree() {
        for _ in 0..40 {
            spreads(&Hasher::random(), &Hasher::random(), false);
            spreads(&Hasher::random(), &Hasher::random(), true);
        }
    }

    fn spreads(one: &Hasher, other: &Hasher, v6: bool) {
        let mut buckets = vec![0u32; 256];
        let mut agree = 0;
        for n in 0..65_536u32 {
            let key = FlowKey {
                inside: 0x0a4d_0000 + u128::from(n >> 8),
                inside_port: n as u16 & 0xff,
                outside: 0x5db8_d822,
                outside_port: 443,
                proto: 6,
                v6,
                ..FlowKey::default()
            };
            let hash = one.hash(&key.words());
            buckets[(hash >> 56) as usize] += 1;
            buckets[(hash & 0xff) as usize] += 1;
            agree += u32::from(hash >> 48 == other.hash(&key.words()) >> 48);
        }
        // 512 expected of each; more than six standard deviations.
        assert!(
            buckets.iter().all(|n| (360..=670).contains(n)),
            "{buckets:?}"
        );
        assert!(agree < 40, "{agree}");
    }
}

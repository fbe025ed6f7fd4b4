//! What the designs do in wide registers, so that they are not measured against the rule table's AVX-512 kernel with what
//! the compiler finds by itself. All `unsafe` of this program is here.

use crate::design::{BURST, Design, NONE, Packet};
use crate::hashed::Slots;
use crate::rows::Rows;
use crate::tree::{Node, SEPARATORS};

/// The steps that wide registers make shorter. All ways to do them give the same answers.
pub trait Lanes: Copy {
    /// The first of the eight rules that matches, or [`NONE`].
    fn first(self, rows: &Rows, packet: &Packet) -> u32;
    /// How many of the separators of a node are not above a value.
    fn child(self, node: &Node, value: u32) -> u32;
    /// How many of sixteen sorted numbers are not above a value.
    fn begun(self, starts: &[u32; 16], value: u32) -> u32;
    /// The list of a tag, or 0.
    fn list(self, slots: &Slots, tag: u32) -> u32;
}

/// Whatever the target always has.
#[derive(Clone, Copy)]
pub struct Plain;

impl Lanes for Plain {
    #[inline(always)]
    fn first(self, rows: &Rows, packet: &Packet) -> u32 {
        let mut best = NONE;
        for i in 0..8 {
            let shift = |value: u32, by: u8| value.checked_shr(by.into()).unwrap_or(0);
            let src = shift(rows.src[i] ^ packet.src, rows.src_shift[i]);
            let dst = shift(rows.dst[i] ^ packet.dst, rows.dst_shift[i]);
            let proto = u32::from((rows.proto[i] ^ packet.proto) & rows.mask[i]);
            let sport = packet.sport.wrapping_sub(rows.sport[i]);
            let dport = packet.dport.wrapping_sub(rows.dport[i]);
            let matches = ((src | dst | proto) == 0)
                & (sport <= rows.sport_more[i])
                & (dport <= rows.dport_more[i]);
            best = best.min(if matches { rows.rule[i] } else { NONE });
        }
        best
    }

    #[inline(always)]
    fn child(self, node: &Node, value: u32) -> u32 {
        let begun = node.separators.iter().filter(|start| **start <= value);
        begun.count() as u32
    }

    #[inline(always)]
    fn begun(self, starts: &[u32; 16], value: u32) -> u32 {
        starts.iter().filter(|start| **start <= value).count() as u32
    }

    #[inline(always)]
    fn list(self, slots: &Slots, tag: u32) -> u32 {
        let mut list = 0;
        for (of, at) in slots.tags.iter().zip(slots.lists) {
            list |= if *of == tag { at } else { 0 };
        }
        list
    }
}

/// A burst after the other through a design, with the widest registers of this processor.
pub fn bursts<D: Design>(design: &D, bursts: &[[Packet; BURST]], each: impl FnMut(&[u32; BURST])) {
    #[cfg(target_arch = "x86_64")]
    if portcullis::policy::table::Kernel::best() == portcullis::policy::table::Kernel::Avx512 {
        // SAFETY: that kernel is the best one only where the processor has these features.
        return unsafe { wide::bursts(design, bursts, each) };
    }
    all(Plain, design, bursts, each);
}

/// A burst after the other through a design.
#[inline(always)]
pub fn all<D: Design>(
    lanes: impl Lanes,
    design: &D,
    bursts: &[[Packet; BURST]],
    mut each: impl FnMut(&[u32; BURST]),
) {
    let mut out = [NONE; BURST];
    for packets in bursts {
        design.classify(lanes, packets, &mut out);
        each(&out);
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::*;
    use std::arch::x86_64::*;

    /// AVX-512 F, BW, VL, DQ. Exists only inside [`bursts`].
    #[derive(Clone, Copy)]
    struct Avx512(());

    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512vl,avx512dq")]
    pub fn bursts<D: Design>(
        design: &D,
        bursts: &[[Packet; BURST]],
        each: impl FnMut(&[u32; BURST]),
    ) {
        all(Avx512(()), design, bursts, each);
    }

    impl Lanes for Avx512 {
        #[inline(always)]
        fn first(self, rows: &Rows, packet: &Packet) -> u32 {
            // SAFETY: whoever has an `Avx512` is in `bursts`.
            unsafe { first(rows, packet) }
        }

        #[inline(always)]
        fn child(self, node: &Node, value: u32) -> u32 {
            // SAFETY: as above.
            unsafe { child(node, value) }
        }

        #[inline(always)]
        fn begun(self, starts: &[u32; 16], value: u32) -> u32 {
            // SAFETY: as above.
            unsafe { begun(starts, value) }
        }

        #[inline(always)]
        fn list(self, slots: &Slots, tag: u32) -> u32 {
            // SAFETY: as above.
            unsafe { list(slots, tag) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
    fn first(rows: &Rows, packet: &Packet) -> u32 {
        let (src, dst, rule) = (load256(&rows.src), load256(&rows.dst), load256(&rows.rule));
        let (sport, sport_more) = (load128(&rows.sport), load128(&rows.sport_more));
        let (dport, dport_more) = (load128(&rows.dport), load128(&rows.dport_more));
        let (src_shift, dst_shift) = (load64(&rows.src_shift), load64(&rows.dst_shift));
        let (proto, mask) = (load64(&rows.proto), load64(&rows.mask));
        let src = _mm256_xor_si256(src, _mm256_set1_epi32(packet.src as i32));
        let src = _mm256_srlv_epi32(src, _mm256_cvtepu8_epi32(src_shift));
        let dst = _mm256_xor_si256(dst, _mm256_set1_epi32(packet.dst as i32));
        let dst = _mm256_srlv_epi32(dst, _mm256_cvtepu8_epi32(dst_shift));
        let addrs = _mm256_or_si256(src, dst);
        let proto = _mm_xor_si128(proto, _mm_set1_epi8(packet.proto as i8));
        let sport = _mm_sub_epi16(_mm_set1_epi16(packet.sport as i16), sport);
        let dport = _mm_sub_epi16(_mm_set1_epi16(packet.dport as i16), dport);
        let matches = _mm256_testn_epi32_mask(addrs, addrs)
            & _mm_testn_epi8_mask(proto, mask) as u8
            & _mm_cmple_epu16_mask(sport, sport_more)
            & _mm_cmple_epu16_mask(dport, dport_more);
        // Rules stand in order: the first lane that matches has the first rule.
        let none = _mm256_set1_epi32(-1);
        let first = _mm256_mask_compress_epi32(none, matches, rule);
        _mm256_cvtsi256_si32(first) as u32
    }

    #[inline]
    #[target_feature(enable = "avx512f,popcnt")]
    fn child(node: &Node, value: u32) -> u32 {
        const { assert!(SEPARATORS == 12) };
        let begun = _mm512_cmple_epu32_mask(load512(node), _mm512_set1_epi32(value as i32));
        // The four numbers before the separators do not count.
        (begun >> 4).count_ones()
    }

    #[inline]
    #[target_feature(enable = "avx512f,popcnt")]
    fn begun(starts: &[u32; 16], value: u32) -> u32 {
        _mm512_cmple_epu32_mask(load512(starts), _mm512_set1_epi32(value as i32)).count_ones()
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn list(slots: &Slots, tag: u32) -> u32 {
        let (tags, lists) = (load256(&slots.tags), load256(&slots.lists));
        let matches = _mm256_cmpeq_epi32_mask(tags, _mm256_set1_epi32(tag as i32));
        let list = _mm256_maskz_compress_epi32(matches, lists);
        _mm256_cvtsi256_si32(list) as u32
    }

    /// All of something of 64 bytes without padding.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load512<T>(place: &T) -> __m512i {
        const { assert!(size_of::<T>() == 64) };
        // SAFETY: it is as long as what is read, and aligned as it likes.
        unsafe { _mm512_loadu_si512(std::ptr::from_ref(place).cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx")]
    fn load256<T>(place: &T) -> __m256i {
        const { assert!(size_of::<T>() == 32) };
        // SAFETY: as above.
        unsafe { _mm256_loadu_si256(std::ptr::from_ref(place).cast()) }
    }

    #[inline]
    fn load128<T>(place: &T) -> __m128i {
        const { assert!(size_of::<T>() == 16) };
        // SAFETY: as above.
        unsafe { _mm_loadu_si128(std::ptr::from_ref(place).cast()) }
    }

    #[inline]
    fn load64<T>(place: &T) -> __m128i {
        const { assert!(size_of::<T>() == 8) };
        // SAFETY: as above.
        unsafe { _mm_loadl_epi64(std::ptr::from_ref(place).cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Lists;
    use classbench::{Kind, generate, trace};

    /// Compares rows, for what goes through them in both ways.
    struct Both(Lists);

    #[test]
    fn wide_registers_find_what_plain_ones_find() {
        let rules = generate(Kind::Fw.v4(), 8, 1);
        let lines = crate::design::lines(&rules).unwrap();
        let mut both = Both(Lists::default());
        both.0.push(&lines, &[0, 1, 2, 3, 4, 5, 6]);
        let packets: Vec<Packet> = trace(&rules, 32, 1)
            .iter()
            .filter_map(crate::design::packet)
            .collect();
        let bursts_of: Vec<[Packet; BURST]> = packets.as_chunks().0.to_vec();
        let plain: Vec<u32> = packets
            .iter()
            .map(|packet| Plain.first(both.0.rows(0), packet))
            .collect();
        bursts(&both, &bursts_of, |found| assert_eq!(found[..], plain[..]));
    }

    impl Design for Both {
        fn build(
            _: &[crate::design::Line],
            _: &crate::design::Budget,
        ) -> Result<Both, crate::design::Stopped> {
            Ok(Both(Lists::default()))
        }

        fn memory(&self) -> usize {
            0
        }

        fn classify(&self, lanes: impl Lanes, packets: &[Packet; BURST], out: &mut [u32; BURST]) {
            for (packet, out) in packets.iter().zip(out) {
                *out = lanes.first(self.0.rows(0), packet);
            }
        }

        fn shape(&self) -> String {
            String::new()
        }
    }
}

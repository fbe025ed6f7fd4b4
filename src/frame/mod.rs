//! Bytes to [`Meta`], or a [`Reason`]: one protocol a file, nothing copied, never a panic.
//!
//! The way of a frame through the files:
//!
//! ```text
//! ethernet ── type < 0x600 ──────────────────────────► Net::Llc
//!    │  └──── vlan (up to two tags) ── pppoe ──┐
//!    │                                         │
//!    ├─ 0x0800 ◄───────────────────────────────┤
//!    │     ipv4 (options, fragment) ── ah ───┐
//!    ├─ 0x86dd ◄───────────────────────────────┘
//!    │     ipv6 ── ipv6_ext (fragment, ah) ──┤
//!    │                                       └─ transport ── tcp, udp, icmp, ports of the others
//!    ├─ 0x0806 ── arp (a length check)
//!    └─ any other ──────────────────────────────────► Net::Other
//! ```
//!
//! Each protocol file has a view that is checked once, in `new_checked`, and whose accessors cannot fail: it borrows
//! the fixed part of the header as an array, so every index into it is proved when the code is compiled. The ordinary
//! frame (Ethernet, IPv4 without options, TCP or UDP) takes no loop and no call; tags, options, fragments and extension
//! headers are out of line.
//!
//! A slice `bytes` always starts where the frame starts and ends where its datagram ends, so that offsets are those of
//! [`Meta`], and padding can never be read for payload.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod ah;
mod arp;
pub mod checksum;
mod ethernet;
mod fragment;
mod icmp;
mod ipv4;
mod ipv6;
mod ipv6_ext;
pub mod meta;
mod ordinary;
mod pppoe;
pub mod quote;
mod tcp;
#[cfg(test)]
mod testing;
mod transport;
pub mod tunnel;
mod udp;
mod vlan;

pub use meta::{Frag, Meta, Net};
pub use ordinary::{Glance, Words, all_bits};

use crate::telemetry::Reason;

/// Parses one frame as it came from the wire: from the destination MAC on, without the FCS.
///
/// `Ok` does not say that the frame may pass, only that every field a rule looks at is known. Checksums are not looked
/// at. On `Ok`, `l3 <= l4 <= payload <= end <= frame.len()`.
///
/// # Errors
/// The [`Reason`] for which the frame cannot be judged and so is dropped: [`Reason::Malformed`],
/// [`Reason::Ethertype`] (a PPP protocol that is not known; other ethertypes are for the policy to judge),
/// [`Reason::VlanDepth`], [`Reason::ExtHeader`], [`Reason::SourceRoute`], [`Reason::FragmentTiny`], and
/// [`Reason::Oversize`] for more than 65,535 bytes, which no offset of [`Meta`] could name.
pub fn parse(frame: &[u8]) -> Result<Meta, Reason> {
    let mut meta = Meta::NONE;
    parse_into(frame, &mut meta)?;
    Ok(meta)
}

/// [`parse`] into a record that is there already: a worker has one for each frame of a burst, and moving records about
/// costs more than filling them.
///
/// # Errors
/// As [`parse`]; `meta` then holds what was read so far, the MAC addresses where there are any.
#[inline(always)]
pub fn parse_into(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    match parse_ordinary(frame, meta) {
        true => Ok(()),
        false => parse_rest(frame, meta),
    }
}

/// [`parse_into`] of the most frequent form alone: Ethernet II, IPv4 without options and not a fragment, TCP or UDP. False where the frame is of another form, or something is wrong
/// with it; `meta` is then as it was.
#[inline(always)]
pub fn parse_ordinary(frame: &[u8], meta: &mut Meta) -> bool {
    ordinary::parse(frame, meta)
}

/// The same of every form, for a frame that [`parse_ordinary`] does not know.
///
/// # Errors
/// As [`parse_into`].
#[inline(never)]
pub fn parse_rest(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    ethernet::parse(frame, meta)?;
    match meta.net {
        Net::V4 => ipv4::parse(frame, meta),
        Net::V6 => ipv6::parse(frame, meta),
        Net::Other | Net::Llc => Ok(()),
    }
}

/// The `N` bytes at `pos`; `None` where fewer are left.
#[inline(always)]
fn chunk<const N: usize>(bytes: &[u8], pos: usize) -> Option<&[u8; N]> {
    bytes.get(pos..)?.first_chunk()
}

//! The tricks, each with the right behaviour and where it is written.

use super::recipe::{Cut, Recipe};

/// What the gate does with a packet to an allowed port that is dressed up so. One to a forbidden port never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// It passes, byte for byte.
    Passes,
    /// It is dropped, for this reason.
    Drops(&'static str),
}

/// What a trick can be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Any,
    V4,
    V6,
    Udp,
    Tcp,
    Udp4,
}

/// Tricks of one group exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Link,
    Network,
    Cut,
    Transport,
    Padding,
}

pub struct Trick {
    pub group: Group,
    pub name: &'static str,
    pub on: On,
    pub right: Right,
    /// Where the right behaviour is written.
    pub source: &'static str,
    pub apply: fn(&mut Recipe),
}

impl Trick {
    pub fn fits(&self, v6: bool, tcp: bool) -> bool {
        match self.on {
            On::Any => true,
            On::V4 => !v6,
            On::V6 => v6,
            On::Udp => !tcp,
            On::Tcp => tcp,
            On::Udp4 => !v6 && !tcp,
        }
    }
}

/// Pad1 and PadN for a header of 8 bytes (RFC 8200 section 4.2).
const PAD: [u8; 6] = [1, 4, 0, 0, 0, 0];

fn ext(recipe: &mut Recipe, kinds: &[u8]) {
    recipe.ext = kinds.iter().map(|kind| (*kind, PAD.to_vec())).collect();
}

/// A header of 22 bytes after next header and length.
fn long() -> Vec<u8> {
    let mut rest = vec![1, 20];
    rest.extend([0; 20]);
    rest
}

macro_rules! tricks {
    ($($group:ident $name:literal, $on:ident, $right:expr, $source:literal, $apply:expr;)+) => {
        vec![$(Trick {
            group: Group::$group,
            name: $name,
            on: On::$on,
            right: $right,
            source: $source,
            apply: $apply,
        },)+]
    };
}

pub fn tricks() -> Vec<Trick> {
    use Right::{Drops, Passes};
    const Q: u16 = 0x8100;
    const AD: u16 = 0x88a8;
    tricks! {
        Link "priority tag", Any, Passes, "IEEE 802.1Q-2022 section 6.9.1", |r| r.tags = vec![[Q, 0]];
        Link "priority tag, PCP 7", Any, Passes, "IEEE 802.1Q-2022 section 6.9.1", |r| r.tags = vec![[Q, 0xe000]];
        Link "priority tag, DEI", Any, Passes, "IEEE 802.1Q-2022 section 9.6", |r| r.tags = vec![[Q, 0x1000]];
        Link "priority S-tag", Any, Passes, "IEEE 802.1Q-2022 section 9.5", |r| r.tags = vec![[AD, 0]];
        Link "two priority tags", Any, Passes, "IEEE 802.1Q-2022 section 9.5", |r| r.tags = vec![[Q, 0], [Q, 0]];
        Link "priority S-tag and C-tag", Any, Passes, "IEEE 802.1Q-2022 section 9.5", |r| r.tags = vec![[AD, 0], [Q, 0x2000]];
        Link "three priority tags", Any, Drops("vlan-depth"), "SPEC: no standard has three", |r| r.tags = vec![[Q, 0]; 3];
        Link "four priority tags", Any, Drops("vlan-depth"), "SPEC: no standard has four", |r| r.tags = vec![[AD, 0], [Q, 0], [AD, 0], [Q, 0]];

        Network "one word of no-operations", V4, Passes, "RFC 791 section 3.1", |r| r.options = vec![1; 4];
        Network "ten words of no-operations", V4, Passes, "RFC 791 section 3.1", |r| r.options = vec![1; 40];
        Network "end of options, then bytes", V4, Passes, "RFC 791 section 3.1", |r| r.options = vec![0, 0, 0, 0];
        Network "record route", V4, Passes, "RFC 791 section 3.1", |r| r.options = vec![7, 39, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Network "timestamp", V4, Passes, "RFC 791 section 3.1", |r| r.options = vec![68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Network "router alert", V4, Passes, "RFC 2113 section 2.1", |r| r.options = vec![148, 4, 0, 0];
        Network "stream identifier", V4, Passes, "RFC 6814 section 2.1", |r| r.options = vec![136, 4, 0, 1];
        Network "an unknown option", V4, Passes, "RFC 1122 section 3.2.1.8", |r| r.options = vec![94, 8, 1, 2, 3, 4, 5, 6];
        Network "security", V4, Passes, "RFC 1108 section 2.2", |r| r.options = vec![130, 4, 0xab, 0];
        Network "loose source route", V4, Drops("source-route"), "RFC 7126 section 4.3", |r| r.options = vec![131, 7, 8, 10, 77, 0, 9, 0];
        Network "strict source route", V4, Drops("source-route"), "RFC 7126 section 4.4", |r| r.options = vec![137, 7, 8, 10, 77, 0, 9, 0];
        Network "source route behind no-operations", V4, Drops("source-route"), "RFC 7126 section 4.3", |r| r.options = vec![1, 131, 7, 8, 10, 77, 0, 9];
        Network "an option of length 1", V4, Drops("malformed"), "RFC 791 section 3.1", |r| r.options = vec![68, 1, 0, 0];
        Network "an option past the header", V4, Drops("malformed"), "RFC 791 section 3.1", |r| r.options = vec![7, 40, 4, 0];
        Network "the reserved bit", V4, Passes, "RFC 791 section 3.1", |r| r.evil = true;
        Network "time to live 1", Any, Passes, "RFC 791 section 3.2: a bridge does not count", |r| r.ttl = Some(1);
        Network "time to live 255", Any, Passes, "RFC 791 section 3.1", |r| r.ttl = Some(255);
        Network "type of service", Any, Passes, "RFC 2474 section 3", |r| r.tos = 0xb8;
        Network "congestion experienced", Any, Passes, "RFC 3168 section 5", |r| r.tos = 0x03;
        Network "don't fragment", V4, Passes, "RFC 791 section 3.1", |r| r.dont_fragment = true;

        Network "hop-by-hop options", V6, Passes, "RFC 8200 section 4.3", |r| ext(r, &[0]);
        Network "destination options", V6, Passes, "RFC 8200 section 4.6", |r| ext(r, &[60]);
        Network "hop-by-hop and destination options", V6, Passes, "RFC 8200 section 4.1", |r| ext(r, &[0, 60]);
        Network "destination options twice", V6, Passes, "RFC 8200 section 4.1", |r| ext(r, &[60, 60]);
        Network "destination options three times", V6, Passes, "RFC 8200 section 4.1", |r| ext(r, &[60, 60, 60]);
        Network "eight extension headers", V6, Passes, "RFC 7045 section 2.1", |r| ext(r, &[0, 60, 60, 60, 60, 60, 60, 60]);
        Network "nine extension headers", V6, Drops("ext-header"), "SPEC: eight are walked", |r| ext(r, &[60; 9]);
        Network "long destination options", V6, Passes, "RFC 8200 section 4.6", |r| r.ext = vec![(60, long())];
        Network "long hop-by-hop options", V6, Passes, "RFC 8200 section 4.3", |r| r.ext = vec![(0, long())];
        Network "router alert", V6, Passes, "RFC 2711 section 2.1", |r| r.ext = vec![(0, vec![5, 2, 0, 0, 1, 0])];
        Network "an option to be skipped", V6, Passes, "RFC 8200 section 4.2", |r| r.ext = vec![(60, vec![0x1e, 4, 1, 2, 3, 4])];
        Network "routing header, nothing left", V6, Passes, "RFC 8200 section 4.4", |r| r.ext = vec![(43, vec![4, 0, 0, 0, 0, 0])];
        Network "routing header of type 0", V6, Drops("source-route"), "RFC 5095 section 3", |r| r.ext = vec![(43, vec![0, 0, 0, 0, 0, 0])];
        Network "routing type 0 behind options", V6, Drops("source-route"), "RFC 5095 section 3", |r| r.ext = vec![(60, PAD.to_vec()), (43, vec![0, 0, 0, 0, 0, 0])];
        Network "hop-by-hop options not first", V6, Drops("ext-header"), "RFC 8200 section 4.1", |r| ext(r, &[60, 0]);
        Network "an unknown header", V6, Drops("ext-header"), "RFC 7045 section 2.1", |r| ext(r, &[253]);
        Network "a flow label", V6, Passes, "RFC 6437 section 2", |r| r.flow_label = 0xabcde;

        Cut "pieces of 8", Any, Passes, "RFC 1858 section 3.2.2: not of TCP, whose header is longer", |r| r.cut = Some(Cut::Pieces(8));
        Cut "pieces of 24", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::Pieces(24));
        Cut "pieces of 32", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::Pieces(32));
        Cut "pieces of 40", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::Pieces(40));
        Cut "pieces of 64", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::Pieces(64));
        Cut "pieces of 32, backwards", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::Backwards(32));
        Cut "pieces of 64, backwards", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::Backwards(64));
        Cut "pieces of 24, interleaved", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::Interleaved(24));
        Cut "pieces of 40, interleaved", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::Interleaved(40));
        Cut "pieces of 32, each twice", Any, Passes, "RFC 5722 section 3: an exact duplicate may be ignored", |r| r.cut = Some(Cut::Twice(32));
        Cut "a first piece of 16", Tcp, Drops("fragment-tiny"), "RFC 1858 section 3.1", |r| r.cut = Some(Cut::First(16));
        Cut "a first piece of 48", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::First(48));
        Cut "a first piece of 72", Any, Passes, "RFC 791 section 3.2", |r| r.cut = Some(Cut::First(72));
        Cut "an overlap of 8 bytes", Any, Drops("fragment-overlap"), "RFC 5722 section 3", |r| r.cut = Some(Cut::Overlap(48));
        Cut "ports written over", Any, Passes, "RFC 1858 section 3.1: the first stays what it was", |r| r.cut = Some(Cut::Rewrite);
        Cut "an atomic fragment", V6, Passes, "RFC 6946 section 4", |r| r.cut = Some(Cut::Atomic);

        Transport "source port 53", Any, Passes, "RFC 6335 section 8", |r| r.sport = Some(53);
        Transport "source port 25", Any, Passes, "RFC 6335 section 8", |r| r.sport = Some(25);
        Transport "source port 443", Any, Passes, "RFC 6335 section 8", |r| r.sport = Some(443);
        Transport "source port 20", Any, Passes, "RFC 959 section 5.2", |r| r.sport = Some(20);
        Transport "source port 67", Udp, Passes, "RFC 2131 section 4.1", |r| r.sport = Some(67);
        Transport "source port 69", Udp, Passes, "RFC 1350 section 4", |r| r.sport = Some(69);
        Transport "no checksum", Udp4, Passes, "RFC 768", |r| r.no_checksum = true;
        Transport "slack behind the datagram", Udp, Passes, "RFC 9868 section 5", |r| r.slack = 16;
        Transport "congestion notification asked for", Tcp, Passes, "RFC 3168 section 6.1.1", |r| r.flags = 0xc0;
        Transport "data on the SYN", Tcp, Passes, "RFC 7413 section 4.2.1", |r| r.body = 100;
        Transport "urgent pointer", Tcp, Passes, "RFC 9293 section 3.1", |r| r.urgent = 7;
        Transport "no window", Tcp, Passes, "RFC 9293 section 3.1", |r| r.window = Some(0);
        Transport "reserved bits", Tcp, Passes, "RFC 9293 section 3.1: must be ignored", |r| r.reserved = 7;
        Transport "options of no-operations", Tcp, Passes, "RFC 9293 section 3.2", |r| r.tcp_options = vec![1; 40];
        Transport "an unknown TCP option", Tcp, Passes, "RFC 9293 section 3.2", |r| r.tcp_options = vec![253, 8, 1, 2, 3, 4, 5, 6];
        Transport "SYN and PSH", Tcp, Drops("tcp-flags"), "SPEC: PSH without ACK", |r| r.flags = 0x08;
        Transport "SYN and URG", Tcp, Drops("tcp-flags"), "SPEC: URG without ACK", |r| r.flags = 0x20;
        Transport "SYN and FIN", Tcp, Drops("tcp-flags"), "RFC 9293 section 3.10.7.2", |r| r.flags = 0x01;
        Transport "SYN and RST", Tcp, Drops("tcp-flags"), "RFC 9293 section 3.10.7.2", |r| r.flags = 0x04;

        Padding "40 bytes of padding", Any, Passes, "RFC 894: padding is no part of the packet", |r| r.padding = 40;
        Padding "600 bytes of padding", Any, Passes, "RFC 894: padding is no part of the packet", |r| r.padding = 600;
    }
}

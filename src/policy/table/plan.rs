//! What a compiled policy is made of: arrays, and nothing that the kernels would have to decide about.
//!
//! ```text
//! address --search--> interval --> { class of the bitsets, list of its home, lane } --.
//! port -----------------------> { class of the bitsets, cell of its home, the port } --+--> AND of bitsets --> first row --.
//! side, protocol -------------> { class of the bitsets, bit among the heads } --------'                                    +--> lowest row --> rule
//!                                                           up to four lists of rows, eight compared at a time -----------'
//! ```
//!
//! Each row (one clause of one rule) stands in one of two places. *Bitsets*: each field's value names the set of rows
//! that it satisfies, and the sets are ANDed (Lakshman and Stiliadis, SIGCOMM 1998). *Homes*: a row whose match in
//! some field is narrow stands in the short list of rows of that field's values, ordered, and is compared in its other
//! fields. Few rows are all in bitsets; of many, most are at home somewhere and the wide rest stays in bitsets.

use super::search::{Search32, Search128};

/// One cache line of bits.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Line(pub [u64; 8]);

/// Rows of one list, compared at once.
pub const LANES: usize = 8;
/// Numbers that a chunk has in [`Plan::rule_of_lane`].
pub const RULES: usize = LANES + 1;

/// Up to eight rows of one list, in the three fields that the list does not decide: two cache lines.
///
/// The numbers are lanes: for addresses ranks among the ends of all ranges that some chunk compares, which fit 16 bits.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Chunk {
    /// The first field (see [`Home`]): the lowest value, and how much higher the highest is.
    pub a: [[u16; LANES]; 2],
    /// Of the second.
    pub b: [[u16; LANES]; 2],
    /// Of the third.
    pub c: [[u16; LANES]; 2],
    /// The heads (side and protocol) that match, a bit each. 0 where there is no row.
    pub heads: [u16; LANES],
    /// 1 where the list goes on in the next chunk.
    pub more: u32,
}

impl Chunk {
    /// No row.
    pub const EMPTY: Chunk = Chunk {
        a: [[0; LANES]; 2],
        b: [[0; LANES]; 2],
        c: [[0; LANES]; 2],
        heads: [0; LANES],
        more: 0,
    };
}

/// The field whose values name the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Source address; the chunks compare destination, source port, destination port.
    Src = 0,
    /// Destination address; source, source port, destination port.
    Dst = 1,
    /// Source port, with the head; source, destination, destination port.
    Sport = 2,
    /// Destination port, with the head; source, destination, source port.
    Dport = 3,
}

/// What an interval of addresses stands for in the homes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct AddrRecord {
    /// The chunk where the list of this home starts; 0, an empty one, where there is none.
    pub list: u32,
    /// The lane.
    pub lane: u32,
}

/// An address field. The intervals of IPv4 come first, then those of IPv6, then one for frames without addresses.
#[derive(Clone, Debug)]
pub struct AddrField {
    /// Over the starts of the IPv4 intervals but the first, which is 0.
    pub v4: Search32,
    /// Over those of IPv6.
    pub v6: Search128,
    /// Index of the first IPv6 interval.
    pub v6_base: u32,
    /// By interval: index of the first word of its class's bits.
    pub bits: Vec<u32>,
    /// By interval; empty where no row has a home.
    pub records: Vec<AddrRecord>,
}

/// By every 16-bit number: a class, or a cell.
pub type Direct = Vec<u16>;

/// A port field.
#[derive(Clone, Debug)]
pub struct PortField {
    /// By `port & mask`: its class among the bitsets.
    pub class: Direct,
    /// Where the bits of class 0 start, in words.
    pub base: u32,
    /// All ones; 0 where no row in a bitset asks for the port, and there is one class.
    pub mask: u16,
    /// By port: its cell among the lists of its home; empty where it is no home.
    pub cell: Direct,
    /// By `cell * heads + head`: the chunk where the list starts.
    pub lists: Vec<u32>,
}

/// What a side and a protocol stand for.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct HeadRecord {
    /// Index of the first word of the class's bits.
    pub bits: u32,
    /// The head's number.
    pub head: u16,
    /// Its bit.
    pub mask: u16,
}

/// Indices into [`Plan::heads`]: `side << 8 | protocol`.
pub const HEADS: usize = 512;
/// The lane of a frame without addresses, which no row of a list reaches.
pub const NO_LANE: u32 = 65_535;

/// A field that few policies ask for.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Which.
    pub field: ExtraField,
    /// The class of each value: of a `u16` field 65,536 numbers, of the others as many as there are values.
    pub class: Vec<u16>,
    /// Sorted MAC addresses that have classes of their own: the class of `macs[i]` is `class[i + 1]`, of any other
    /// `class[0]`.
    pub macs: Vec<[u8; 6]>,
    /// Where its bits start.
    pub bits: BitField,
}

/// Fields that only rows in bitsets ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ExtraField {
    Ethertype,
    Vlan,
    SrcMac,
    TcpFlags,
    Fragment,
}

/// The bits of each class of a field, `words` long, one after the other.
#[derive(Clone, Debug, Default)]
pub struct BitField {
    /// Dense: where the field's bits start in [`Plan::lines`], in words.
    pub base: u32,
    /// The lines before they are put there.
    pub lines: Vec<Line>,
    /// The sparse form: see [`Sparse`].
    pub sparse: Sparse,
}

/// Bitsets of which only the words that have a bit are kept, with a bit for each such word.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    /// By class, `summary` words long: which words have a bit.
    pub summary: Vec<u64>,
    /// By class and word of the summary: where its first word is.
    pub starts: Vec<u32>,
    /// The words.
    pub words: Vec<u64>,
}

/// How the bitsets are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Whole: every word of every class.
    Dense,
    /// Aggregated: a bit for each word that has one, and those words.
    Aggregated,
}

/// A compiled policy.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Source address.
    pub src: AddrField,
    /// Destination address.
    pub dst: AddrField,
    /// Source port.
    pub sport: PortField,
    /// Destination port.
    pub dport: PortField,
    /// Side and protocol.
    pub heads: Vec<HeadRecord>,
    /// How many heads there are among the lists.
    pub head_count: u32,
    /// The fields that few policies ask for.
    pub extras: Vec<Extra>,
    /// How the bitsets are kept.
    pub form: Form,
    /// Words of one bitset: 1, 2, 4 or a multiple of 8.
    pub words: usize,
    /// What the number of a class is multiplied by: `words`, or the words of a summary.
    pub unit: usize,
    /// The bits of all fields: one array, so that the lookup has one address to keep at hand.
    pub lines: Vec<Line>,
    /// Bits of source, destination, source port, destination port, head.
    pub bits: [BitField; 5],
    /// The rule of a key that no row holds for.
    pub last_rule: u32,
    /// How many rows are in bitsets.
    pub wide_rows: usize,
    /// Bit to rule, and past the rows the last rule, for as far as a kernel may point where there is no bit.
    pub rule_of_bit: Vec<u32>,
    /// Whether the lists are too large for the caches next to the core, so that it pays to ask for them ahead.
    pub far: bool,
    /// Which homes have lists.
    pub homes: [bool; 4],
    /// The lists; the first is empty.
    pub chunks: Vec<Chunk>,
    /// By `chunk * RULES + lane`: the rule; behind the lanes `u32::MAX`, for none.
    pub rule_of_lane: Vec<u32>,
    /// By home: whether some list has more than one chunk.
    pub long: [bool; 4],
}

/// The position of each field in [`Plan::bits`].
pub mod field {
    #![allow(missing_docs)]
    pub const SRC: usize = 0;
    pub const DST: usize = 1;
    pub const SPORT: usize = 2;
    pub const HEAD: usize = 4;
}

impl Plan {
    /// Bytes that the lookup structures take.
    pub fn memory(&self) -> usize {
        let addr = |field: &AddrField| {
            field.v4.memory()
                + field.v6.memory()
                + size_of_val(&field.bits[..])
                + size_of_val(&field.records[..])
        };
        let port = |field: &PortField| {
            size_of_val(&field.class[..])
                + size_of_val(&field.cell[..])
                + size_of_val(&field.lists[..])
        };
        let extra = |extra: &Extra| size_of_val(&extra.class[..]) + extra.bits.memory();
        [&self.src, &self.dst].map(addr).iter().sum::<usize>()
            + [&self.sport, &self.dport].map(port).iter().sum::<usize>()
            + self.bits.iter().map(BitField::memory).sum::<usize>()
            + self.extras.iter().map(extra).sum::<usize>()
            + size_of_val(&self.lines[..])
            + size_of_val(&self.heads[..])
            + size_of_val(&self.rule_of_bit[..])
            + size_of_val(&self.chunks[..])
            + size_of_val(&self.rule_of_lane[..])
    }
}

impl BitField {
    fn memory(&self) -> usize {
        size_of_val(&self.lines[..])
            + size_of_val(&self.sparse.summary[..])
            + size_of_val(&self.sparse.starts[..])
            + size_of_val(&self.sparse.words[..])
    }
}

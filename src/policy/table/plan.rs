//! What a compiled policy is made of: arrays, and nothing that the kernels would have to decide about.
//!
//! ```text
//! address --search--> interval --> { class of the bitsets, list of its home, lane, place among wide ranges } --.
//! port -----------------------> { class of the bitsets, cell of its home, class among wide rows, the port } --+--> AND of bitsets --> first row --.
//! side, protocol -------------> { class of the bitsets, head } -----------------------------------------------'--> answers ahead --> first row --+--> lowest row --> rule
//!                                                               up to four lists of rows, or that of a pair, sixteen rows compared at a time --'
//! ```
//!
//! Each row (one clause of one rule) stands in one of three places. *Bitsets*: each field's value names the set of rows
//! that it satisfies, and the sets are ANDed (Lakshman and Stiliadis, SIGCOMM 1998). *Answers ahead*: of rows whose
//! addresses are both wide the first one is written down for every class of the other fields ([`Crossed`]). *Homes*: the
//! other rows stand in short lists by what is narrow in them, ordered, and are compared in their other fields. Few rows
//! are all in bitsets.

use super::search::{Pivots, Search32, Search128};
use af_xdp::{Array, Block};

/// One cache line of bits.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Line(pub [u64; 8]);

/// Rows of one list, compared at once.
pub const LANES: usize = 16;
/// The same of a [`Sieve`].
pub const SIEVE_LANES: usize = 12;

/// Numbers that a chunk has in [`Plan::rule_of_lane`]: one for each lane, one for none, and one so that the place is found in
/// two instructions.
pub const RULES: usize = LANES + 2;

/// Up to sixteen rows of one list, in the three fields that the list does not decide: four cache lines, of which lists by
/// pairs need three.
///
/// The numbers are lanes: for addresses ranks among the ends of all ranges that some chunk compares, which fit 16 bits.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Chunk {
    /// The second field (see [`Home`]): the lowest value, and how much higher the highest is.
    pub b: [[u16; LANES]; 2],
    /// Of the third.
    pub c: [[u16; LANES]; 2],
    /// The heads (side and protocol) that do not match, a bit each. All ones where there is no row.
    pub not_heads: [u16; LANES],
    /// 1 where the list goes on in the next chunk.
    pub more: u32,
    /// Of the first field.
    pub a: AlignedLanes,
}

/// Up to twelve rows of one list, as far as a byte of three fields tells: one cache line, for tables that are too large for
/// the caches, where each line counts. Which rows may hold is seen here; only these are looked at as a whole.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Sieve {
    /// The first of the fields that [`Home::sifts`] names: the lowest byte, and how much higher the highest is.
    pub a: [[u8; SIEVE_LANES]; 2],
    /// Of the second.
    pub b: [[u8; SIEVE_LANES]; 2],
    /// The heads that do not match, as [`Sieve::heads`] has them. All ones where there is no row.
    pub not_heads: [u8; SIEVE_LANES],
    /// Where the rows are in [`Plan::rows`].
    pub rows: u32,
}

impl Sieve {
    /// No row.
    pub const EMPTY: Sieve = Sieve {
        a: [[0; SIEVE_LANES]; 2],
        b: [[0; SIEVE_LANES]; 2],
        not_heads: [u8::MAX; SIEVE_LANES],
        rows: 0,
    };
    /// In the number of a list, above so many bits that say which line is its first, how many more it has.
    pub const FURTHER: u32 = 24;

    /// The heads that do not match, two in each bit, which is set where neither does.
    pub const fn heads(not: u16) -> u8 {
        not as u8 & (not >> 8) as u8
    }
}

/// One row of a list, half a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub struct Row {
    /// Source lane, destination lane, source port, destination port: the lowest.
    pub lowest: [u16; 4],
    /// The heads that do not match, a bit each.
    pub not_heads: u16,
    /// So that the rule is aligned.
    pub unused: u16,
    /// The rule.
    pub rule: u32,
    /// How much higher the highest is; of what is no field as much as there is.
    pub span: [u16; 8],
}

/// On a cache line of its own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct AlignedLanes(pub [[u16; LANES]; 2]);

impl Chunk {
    /// No row.
    pub const EMPTY: Chunk = Chunk {
        b: [[0; LANES]; 2],
        c: [[0; LANES]; 2],
        not_heads: [u16::MAX; LANES],
        more: 0,
        a: AlignedLanes([[0; LANES]; 2]),
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
    /// Both addresses; source port, destination port.
    Pair = 4,
}

impl Home {
    /// All of them, by number.
    pub const ALL: [Home; HOMES] = [Home::Src, Home::Dst, Home::Sport, Home::Dport, Home::Pair];

    /// The fields that the chunks compare, by their place among a key's values; of a pair the second and third alone.
    pub const fn compares(self) -> [usize; 3] {
        match self {
            Home::Src => [1, 2, 3],
            Home::Dst => [0, 2, 3],
            Home::Sport => [0, 1, 3],
            Home::Dport => [0, 1, 2],
            Home::Pair => [2, 2, 3],
        }
    }

    /// The fields that the sieves compare.
    pub const fn sifts(self) -> [usize; 2] {
        match self {
            Home::Src => [1, 3],
            Home::Dst => [0, 3],
            Home::Sport | Home::Dport => [0, 1],
            Home::Pair => [2, 3],
        }
    }
}

/// How many homes there are.
pub const HOMES: usize = 5;

/// What an interval of addresses stands for in the homes, and among the rows that are answered ahead.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub struct AddrRecord {
    /// Below, where pairs are a home, what to add up for the place in [`Plan::pairs`], and for lists with sieves what
    /// [`AddrField::bits`] says; above, from bit 32 on, what to add up
    /// for the place in [`Crossed::first`].
    pub places: u64,
    /// Of this home the chunk where the list starts (0, an empty one, where there is none), or its [`Entry`]. Of a sifted list
    /// see [`Sieve::FURTHER`].
    pub list: u32,
    /// The lane.
    pub lane: u16,
    /// The lane as a [`Sieve`] compares it.
    pub byte: u8,
}

/// Children of a node.
pub const FANOUT: usize = 33;

/// Separators of 16 bits, ascending, filled up with the highest: one cache line. The child is as many as are below the
/// value.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Node16(pub [u16; FANOUT - 1]);

impl Node16 {
    /// No separator.
    pub const NONE: Node16 = Node16([u16::MAX; FANOUT - 1]);
}

/// A list that may be taken apart.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Entry {
    /// `node << 2 | field`, the field by its place among a key's values.
    pub node: u32,
    /// Where its children are in [`Plan::children`].
    pub children: u32,
}

/// No row, among the rows that are answered ahead.
pub const NO_ROW: u16 = u16::MAX;

/// Rows whose addresses are both wide, answered ahead. A number is looked up for the source port, for the destination
/// port with the head, for both of these, and with the addresses' [`AddrRecord::places`] for the first row.
#[derive(Clone, Debug, Default)]
pub struct Crossed {
    /// By port: the class of a source port; empty where no such row asks for it.
    pub sport: Direct,
    /// By `port & mask`: the class of a destination port, times the number of heads.
    pub dport: Direct,
    /// All ones, or 0.
    pub dport_mask: u16,
    /// By `class of the destination port * heads + head`.
    pub services: Array<u16>,
    /// How many numbers there are in `services`.
    pub width: u32,
    /// By `class of the source port * width + number in services`; empty where no row asks for the source port, and `services`
    /// says what would stand here.
    pub port_pairs: Array<u16>,
    /// By the sum of both addresses' places and the number in `port_pairs`: the first row.
    pub first: Array<u16>,
    /// By row: its rule; behind the rows `u32::MAX`.
    pub rule_of_first: Array<u32>,
    /// How many rows of the policy these are: one that was taken apart counts once.
    pub rows: usize,
}

/// An address field. The intervals of IPv4 come first, then those of IPv6, then one for frames without addresses.
#[derive(Clone, Debug)]
pub struct AddrField {
    /// Over the ends of the IPv4 intervals but the last.
    pub v4: Search32,
    /// Its root, for processors with AVX-512.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub pivots: Pivots,
    /// Over those of IPv6.
    pub v6: Search128,
    /// Index of the first IPv6 interval.
    pub v6_base: u32,
    /// By interval: index of the first word of its class's bits.
    pub bits: Array<u32>,
    /// By interval; empty where no row has a home.
    pub records: Array<AddrRecord>,
}

impl AddrField {
    /// Looks the IPv4 intervals up with a root of another size.
    pub fn with_root(&mut self, root: impl FnOnce(usize) -> usize) {
        let ends = self.v4.ends();
        self.v4 = Search32::new(&ends, root(ends.len()));
        self.pivots = Pivots::new(&self.v4.root);
    }
}

/// By every 16-bit number: a class, or a cell.
pub type Direct = Array<u16>;

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
    pub lists: Array<u32>,
    /// By port, for lists with sieves: all that is to know of it. What stands here is not kept elsewhere.
    pub records: Array<PortRecord>,
}

/// What a port stands for.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub struct PortRecord {
    /// Its class among the bitsets.
    pub class: u16,
    /// Its cell among the lists of its home.
    pub cell: u16,
    /// What [`Crossed::sport`] or [`Crossed::dport`] would say.
    pub crossed: u16,
    /// The port as a [`Sieve`] compares it.
    pub byte: u8,
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
pub const NO_LANE: u16 = 65_535;

/// A field that few policies ask for.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Which.
    pub field: ExtraField,
    /// The class of each value: of a `u16` field 65,536 numbers, of the others as many as there are values. There may be more
    /// MAC addresses than 16 bits number.
    pub class: Vec<u32>,
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
    App,
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
    pub heads: Array<HeadRecord>,
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
    /// Whether some row in the bitsets asks for the source port: else every class of it has every row.
    pub asks_sport: bool,
    /// The bits of all fields: one array, so that the lookup has one address to keep at hand.
    pub lines: Array<Line>,
    /// Bits of source, destination, source port, destination port, head.
    pub bits: [BitField; 5],
    /// The rule of a key that no row holds for.
    pub last_rule: u32,
    /// How many rows are in bitsets.
    pub wide_rows: usize,
    /// Bit to rule, and past the rows the last rule, for as far as a kernel may point where there is no bit.
    pub rule_of_bit: Array<u32>,
    /// Whether the lists are too large for the caches next to the core, so that it pays to ask for them ahead.
    pub far: bool,
    /// What there is outside the bitsets: see [`mode`].
    pub mode: u32,
    /// Which homes have lists.
    pub homes: [bool; HOMES],
    /// Rows that are answered ahead.
    pub crossed: Crossed,
    /// By the sum of both addresses' places: the chunk where the list of the pair starts.
    pub pairs: Array<u32>,
    /// The lists that may be taken apart; the first is empty.
    pub entries: Array<Entry>,
    /// Their separators; the first has none.
    pub nodes: Array<Node16>,
    /// The chunks where the children's lists start.
    pub children: Array<u32>,
    /// The lists; the first is empty.
    pub chunks: Array<Chunk>,
    /// By `chunk * RULES + lane`: the rule; behind the lanes `u32::MAX`, for none.
    pub rule_of_lane: Array<u32>,
    /// Instead of the chunks, where there are many: see [`mode::SIFTED`]. The first is empty, as its row is.
    pub sieves: Array<Sieve>,
    /// Their rows.
    pub rows: Array<Row>,
}

/// What a plan has outside the bitsets, a bit each.
pub mod mode {
    /// Rows that are answered ahead.
    pub const CROSSED: u32 = 1 << 16;
    /// Lists that are taken apart, of any home.
    pub const SPLIT: u32 = 0xf << 8;
    /// Rows that are answered ahead, or rows in lists, ask for the source port.
    pub const SPORT: u32 = 1 << 17;
    /// Lists of any home by one field.
    pub const BY_FIELD: u32 = 0xf;
    /// Lists are looked at through sieves.
    pub const SIFTED: u32 = 1 << 18;
    /// No mode that a kernel is compiled for: it asks the plan.
    pub const OTHER: u32 = 1 << 31;

    /// Lists of one home.
    pub const fn home(home: usize) -> u32 {
        1 << home
    }

    /// Lists of one home, which are taken apart.
    pub const fn split(home: usize) -> u32 {
        1 << (home + 8)
    }

    /// Lists by source and destination address.
    pub const ADDRESSES: u32 = home(0) | home(1) | CROSSED;
    /// The same, with the source port.
    pub const ADDRESSES_SPORT: u32 = ADDRESSES | SPORT;
    /// The lists by destination are taken apart.
    pub const ADDRESSES_DST: u32 = ADDRESSES | split(1);
    /// The same, with the source port.
    pub const ADDRESSES_DST_SPORT: u32 = ADDRESSES_DST | SPORT;
    /// Those by source too.
    pub const ADDRESSES_BOTH: u32 = ADDRESSES_DST | split(0);
    /// The same, with the source port.
    pub const ADDRESSES_BOTH_SPORT: u32 = ADDRESSES_BOTH | SPORT;
    /// Lists by source and destination address, sifted.
    pub const SIFTED_ADDRESSES: u32 = ADDRESSES | SIFTED;
    /// The same, with the source port.
    pub const SIFTED_ADDRESSES_SPORT: u32 = ADDRESSES | SIFTED | SPORT;
    /// By destination port too.
    pub const SIFTED_SERVICES: u32 = SIFTED_ADDRESSES | home(3);
    /// The same, with the source port.
    pub const SIFTED_SERVICES_SPORT: u32 = SIFTED_SERVICES | SPORT;
    /// Lists by pairs of addresses.
    pub const PAIRS: u32 = home(4) | CROSSED;
    /// The same, with the source port.
    pub const PAIRS_SPORT: u32 = PAIRS | SPORT;
}

/// The position of each field in [`Plan::bits`].
pub mod field {
    #![allow(missing_docs)]
    pub const SRC: usize = 0;
    pub const DST: usize = 1;
    pub const SPORT: usize = 2;
    pub const HEAD: usize = 4;
}

/// From so many bytes on a plan lies behind huge pages. The last one is seldom full, and what a smaller plan would gain is
/// little: its pages are known to the processor.
const HUGE: usize = 1 << 20;

/// An array of whatever type, to be moved.
trait Movable {
    fn room(&self) -> usize;
    fn move_to(&mut self, block: &mut Block);
}

impl<T: Copy> Movable for Array<T> {
    fn room(&self) -> usize {
        Block::room(self)
    }

    fn move_to(&mut self, block: &mut Block) {
        block.take(self);
    }
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
                + size_of_val(&field.records[..])
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
            + size_of_val(&self.sieves[..])
            + size_of_val(&self.rows[..])
            + size_of_val(&self.pairs[..])
            + size_of_val(&self.entries[..])
            + size_of_val(&self.nodes[..])
            + size_of_val(&self.children[..])
            + self.crossed.memory()
    }

    /// Moves the arrays of a large plan into one block of memory behind huge pages. Those that each packet reads come
    /// first.
    pub fn settle(&mut self) {
        let (src, dst, crossed) = (&mut self.src, &mut self.dst, &mut self.crossed);
        let arrays: [&mut dyn Movable; 33] = [
            &mut src.v4.nodes,
            &mut dst.v4.nodes,
            &mut src.records,
            &mut dst.records,
            &mut src.bits,
            &mut dst.bits,
            &mut self.heads,
            &mut self.dport.class,
            &mut self.dport.cell,
            &mut crossed.dport,
            &mut self.dport.records,
            &mut self.sport.records,
            &mut self.sport.class,
            &mut self.sport.cell,
            &mut crossed.sport,
            &mut crossed.services,
            &mut crossed.port_pairs,
            &mut crossed.rule_of_first,
            &mut crossed.first,
            &mut self.dport.lists,
            &mut self.sport.lists,
            &mut self.lines,
            &mut self.rule_of_bit,
            &mut self.pairs,
            &mut self.entries,
            &mut self.nodes,
            &mut self.children,
            &mut self.chunks,
            &mut self.rule_of_lane,
            &mut self.sieves,
            &mut self.rows,
            &mut src.v6.nodes,
            &mut dst.v6.nodes,
        ];
        let bytes = arrays.iter().map(|array| array.room()).sum();
        if bytes < HUGE {
            return;
        }
        let mut block = Block::new(bytes);
        for array in arrays {
            array.move_to(&mut block);
        }
    }
}

impl Crossed {
    /// Bytes taken.
    pub fn memory(&self) -> usize {
        size_of_val(&self.sport[..])
            + size_of_val(&self.dport[..])
            + size_of_val(&self.services[..])
            + size_of_val(&self.port_pairs[..])
            + size_of_val(&self.first[..])
            + size_of_val(&self.rule_of_first[..])
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

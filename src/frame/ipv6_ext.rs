//! IPv6 extension headers (RFC 8200 section 4), the fragment header among them.

use super::fragment::Fragment;
use super::{Frag, Meta, ah, chunk, ipv6, transport};
use crate::telemetry::Reason;

/// How many extension headers are walked, of all kinds together.
pub(super) const LONGEST_CHAIN: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;
/// RFC 6275 section 6.1.
const MOBILITY: u8 = 135;
/// RFC 7401 section 5.1.
const HIP: u8 = 139;
/// RFC 5533 section 5.1.
const SHIM6: u8 = 140;

/// A checked extension header of the common form: next header, length in words of 8 less 1, then its own.
struct Header<'a>(&'a [u8; 8]);

impl<'a> Header<'a> {
    /// `None` where it is not whole in `bytes` at `pos`.
    fn new_checked(bytes: &'a [u8], pos: usize) -> Option<Self> {
        let header = Header(chunk(bytes, pos)?);
        (pos + header.len() <= bytes.len()).then_some(header)
    }

    fn next(&self) -> u8 {
        self.0[0]
    }

    /// Bytes.
    fn len(&self) -> usize {
        (usize::from(self.0[1]) + 1) * 8
    }

    /// Of a routing header.
    fn routing_type(&self) -> u8 {
        self.0[2]
    }
}

/// A checked fragment header (RFC 8200 section 4.5): 8 bytes, with no length field.
struct FragmentHeader<'a>(&'a [u8; 8]);

impl<'a> FragmentHeader<'a> {
    const LEN: usize = 8;

    /// `None` where it is not whole in `bytes` at `pos`.
    fn new_checked(bytes: &'a [u8], pos: usize) -> Option<Self> {
        chunk(bytes, pos).map(FragmentHeader)
    }

    fn next(&self) -> u8 {
        self.0[0]
    }

    /// Bytes; the field counts words of 8 and stands above the flags, so that masking them leaves bytes.
    fn offset(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]]) & 0xfff8
    }

    fn more(&self) -> bool {
        self.0[3] & 1 != 0
    }

    fn ident(&self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }
}

/// Walks from the header at `pos`, whose number is in `meta.proto`, to the transport header.
///
/// # Errors
/// `ExtHeader` for a chain of more than [`LONGEST_CHAIN`], an unknown number, hop-by-hop options that are not first, a
/// second fragment header, or a chain that leaves the first fragment (RFC 7112 section 5). `SourceRoute` for a routing
/// header of type 0 (RFC 5095). `FragmentTiny` and `Malformed` as for IPv4; `Malformed` too where the chain of an
/// unfragmented packet runs past its end.
#[inline(never)]
pub(super) fn walk(bytes: &[u8], first: usize, meta: &mut Meta) -> Result<(), Reason> {
    let mut pos = first;
    let mut next = meta.proto;
    let mut fragment = None;
    for count in 0.. {
        if is_end_of_chain(next) {
            break;
        }
        let misplaced =
            (next == HOP_BY_HOP && pos != first) || (next == FRAGMENT && fragment.is_some());
        if misplaced || !is_extension(next) || count == LONGEST_CHAIN {
            return Err(Reason::ExtHeader);
        }
        match next {
            ah::PROTO => {
                let header = ah::Header::new_checked(bytes, pos).ok_or_else(|| cut_short(meta))?;
                (next, pos) = (header.next(), pos + header.len());
            }
            FRAGMENT => {
                let header =
                    FragmentHeader::new_checked(bytes, pos).ok_or_else(|| cut_short(meta))?;
                let data = pos + FragmentHeader::LEN;
                let found = Fragment {
                    offset: usize::from(header.offset()),
                    more: header.more(),
                    len: bytes.len() - data,
                    before: pos.saturating_sub(usize::from(meta.l3) + ipv6::HEADER_LEN),
                };
                if header.offset() > 0 {
                    return parse_later(&header, &found, data, meta);
                }
                if header.more() {
                    meta.frag = Frag::First;
                    meta.frag_id = header.ident();
                    meta.frag_more = true;
                    meta.frag_proto = header.next();
                    meta.frag_data = data as u16;
                }
                fragment = Some(found);
                (next, pos) = (header.next(), data);
            }
            _ => {
                let header = Header::new_checked(bytes, pos).ok_or_else(|| cut_short(meta))?;
                if next == ROUTING && header.routing_type() == 0 {
                    return Err(Reason::SourceRoute);
                }
                (next, pos) = (header.next(), pos + header.len());
            }
        }
    }
    meta.proto = next;
    transport::parse(bytes, pos, meta)?;
    fragment.map_or(Ok(()), |fragment| fragment.check_multiple())
}

/// A fragment that is not the first: what its data is cannot be seen, so `proto` is what the fragment header says, which
/// is an extension header where one was fragmented with the transport.
fn parse_later(
    header: &FragmentHeader<'_>,
    fragment: &Fragment,
    data: usize,
    meta: &mut Meta,
) -> Result<(), Reason> {
    let next = header.next();
    if next == HOP_BY_HOP || next == FRAGMENT || !(is_extension(next) || is_end_of_chain(next)) {
        return Err(Reason::ExtHeader);
    }
    meta.frag = Frag::Later;
    meta.frag_id = header.ident();
    meta.frag_offset = header.offset();
    meta.frag_more = header.more();
    meta.frag_proto = next;
    meta.frag_data = data as u16;
    meta.proto = next;
    meta.l4 = data as u16;
    fragment.check_later(next)
}

/// Walks the headers of a packet that an ICMP error quotes: the transport's number and where its header starts. `None` where the quote ends before,
/// in a later fragment, and for a chain that [`walk`] would not follow.
pub(super) fn walk_quoted(bytes: &[u8], first: usize, number: u8) -> Option<(u8, usize)> {
    let (mut next, mut pos) = (number, first);
    for _ in 0..=LONGEST_CHAIN {
        if is_end_of_chain(next) {
            return Some((next, pos));
        }
        (next, pos) = match next {
            ah::PROTO => {
                let header = ah::Header::new_checked(bytes, pos)?;
                (header.next(), pos + header.len())
            }
            FRAGMENT => {
                let header = FragmentHeader::new_checked(bytes, pos)?;
                if header.offset() > 0 {
                    return None;
                }
                (header.next(), pos + FragmentHeader::LEN)
            }
            _ if is_extension(next) => {
                let header = Header::new_checked(bytes, pos)?;
                (header.next(), pos + header.len())
            }
            _ => return None,
        };
    }
    None
}

/// The reason for an extension header that is not whole.
fn cut_short(meta: &Meta) -> Reason {
    if meta.frag == Frag::First {
        Reason::ExtHeader
    } else {
        Reason::Malformed
    }
}

/// The numbers whose header is walked.
fn is_extension(number: u8) -> bool {
    matches!(
        number,
        HOP_BY_HOP | ROUTING | FRAGMENT | ah::PROTO | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6
    )
}

/// The numbers at which the walk ends: a known transport or tunnel, or nothing.
fn is_end_of_chain(number: u8) -> bool {
    number == NO_NEXT_HEADER || transport::is_known(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::parse;
    use crate::frame::testing::{Ip6, TCP_SYN, ethernet, udp};

    fn judge(first: u8, payload: &[u8]) -> Result<Meta, Reason> {
        parse(&ethernet(0x86dd, &Ip6::new(first).build(payload)))
    }

    /// A header of the common form, 8 bytes, before `rest`.
    fn ext(next: u8, rest: &[u8]) -> Vec<u8> {
        [&[next, 0, 1, 4, 0, 0, 0, 0], rest].concat()
    }

    fn fragment(next: u8, offset: u16, more: bool, rest: &[u8]) -> Vec<u8> {
        let [hi, lo] = (offset | u16::from(more)).to_be_bytes();
        [&[next, 0, hi, lo, 0xde, 0xad, 0xbe, 0xef], rest].concat()
    }

    #[test]
    fn every_extension_header_is_walked_to_the_ports() {
        for number in [HOP_BY_HOP, DESTINATION_OPTIONS, MOBILITY, HIP, SHIM6] {
            let meta = judge(number, &ext(17, &udp(1, 69, b"x"))).unwrap();
            assert_eq!((meta.proto, meta.dport, meta.l4), (17, 69, 62), "{number}");
        }
        let routing = [&[17, 0, 2, 1, 0, 0, 0, 0][..], &udp(1, 69, b"x")].concat();
        assert_eq!(judge(ROUTING, &routing).unwrap().dport, 69);
        let ah = [
            &[17, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0][..],
            &udp(1, 69, b"x"),
        ]
        .concat();
        assert_eq!(judge(ah::PROTO, &ah).unwrap().dport, 69);
    }

    #[test]
    fn eight_headers_are_walked_and_nine_are_not() {
        let mut chain = udp(1, 69, b"x");
        let mut next = 17;
        for depth in 1..=9 {
            chain = ext(next, &chain);
            next = DESTINATION_OPTIONS;
            let verdict = judge(next, &chain);
            if depth <= 8 {
                assert_eq!(verdict.map(|meta| meta.dport), Ok(69));
            } else {
                assert_eq!(verdict, Err(Reason::ExtHeader));
            }
        }
    }

    #[test]
    fn hop_by_hop_options_are_legal_only_first() {
        let payload = ext(HOP_BY_HOP, &ext(17, &udp(1, 69, b"x")));
        assert_eq!(judge(DESTINATION_OPTIONS, &payload), Err(Reason::ExtHeader));
        assert_eq!(judge(HOP_BY_HOP, &payload), Err(Reason::ExtHeader));
    }

    #[test]
    fn a_routing_header_of_type_0_is_a_source_route_even_when_it_is_used_up() {
        for segments_left in [0, 1] {
            let payload = [
                &[17, 0, 0, segments_left, 0, 0, 0, 0][..],
                &udp(1, 69, b"x"),
            ]
            .concat();
            assert_eq!(judge(ROUTING, &payload), Err(Reason::SourceRoute));
        }
    }

    #[test]
    fn an_unknown_number_is_not_taken_for_a_transport() {
        for number in [3, 61, 99, 150, 200, 253, 254, 255] {
            assert_eq!(
                judge(number, &udp(1, 69, b"x")),
                Err(Reason::ExtHeader),
                "{number}"
            );
            let after = ext(number, &udp(1, 69, b"x"));
            assert_eq!(
                judge(DESTINATION_OPTIONS, &after),
                Err(Reason::ExtHeader),
                "{number}"
            );
        }
    }

    #[test]
    fn no_next_header_ends_the_packet_whatever_follows() {
        let meta = judge(NO_NEXT_HEADER, &[1, 2, 3]).unwrap();
        assert_eq!(
            (meta.proto, meta.l4, meta.payload, meta.end),
            (59, 54, 57, 57)
        );
        assert!(judge(NO_NEXT_HEADER, &[]).is_ok());
    }

    #[test]
    fn a_chain_past_the_end_is_malformed_in_a_whole_packet_and_ext_header_in_a_first_fragment() {
        let cut = [17, 3, 1, 4, 0, 0, 0, 0];
        assert_eq!(judge(DESTINATION_OPTIONS, &cut), Err(Reason::Malformed));
        assert_eq!(judge(DESTINATION_OPTIONS, &[17]), Err(Reason::Malformed));
        assert_eq!(judge(FRAGMENT, &[17, 0, 0, 0]), Err(Reason::Malformed));
        assert_eq!(
            judge(FRAGMENT, &fragment(60, 0, false, &cut)),
            Err(Reason::Malformed)
        );
        assert_eq!(
            judge(FRAGMENT, &fragment(60, 0, true, &cut)),
            Err(Reason::ExtHeader)
        );
        assert_eq!(
            judge(FRAGMENT, &fragment(51, 0, true, &cut)),
            Err(Reason::ExtHeader)
        );
    }

    #[test]
    fn an_atomic_fragment_is_a_whole_packet() {
        let meta = judge(FRAGMENT, &fragment(17, 0, false, &udp(1, 69, b"odd"))).unwrap();
        assert_eq!((meta.frag, meta.frag_id, meta.dport), (Frag::Whole, 0, 69));
    }

    #[test]
    fn a_first_fragment_needs_the_whole_transport_header() {
        let data = [&TCP_SYN[..], &[0; 4]].concat();
        let meta = judge(FRAGMENT, &fragment(6, 0, true, &data)).unwrap();
        assert_eq!(
            (meta.frag, meta.frag_id, meta.dport),
            (Frag::First, 0xdead_beef, 80)
        );
        for cut in [0, 8, 16] {
            let payload = fragment(6, 0, true, &data[..cut]);
            assert_eq!(
                judge(FRAGMENT, &payload),
                Err(Reason::FragmentTiny),
                "{cut}"
            );
        }
        let odd = fragment(6, 0, true, &data[..23]);
        assert_eq!(judge(FRAGMENT, &odd), Err(Reason::Malformed));
    }

    #[test]
    fn a_later_fragment_has_the_number_of_its_fragment_header_and_no_ports() {
        for next in [6, 17, 50, 58, 59, 60, 43, 51] {
            let meta = judge(FRAGMENT, &fragment(next, 1448, false, &[7; 9])).unwrap();
            assert_eq!((meta.frag, meta.frag_id), (Frag::Later, 0xdead_beef));
            assert_eq!((meta.frag_offset, meta.proto), (1448, next));
            assert_eq!((meta.sport, meta.dport, meta.tcp_flags), (0, 0, 0));
            assert_eq!((meta.l4, meta.payload, meta.end), (62, 71, 71));
        }
        for next in [0, 44, 61, 255] {
            let payload = fragment(next, 1448, false, &[7; 9]);
            assert_eq!(judge(FRAGMENT, &payload), Err(Reason::ExtHeader), "{next}");
        }
    }

    #[test]
    fn fragments_that_cannot_be_put_together_are_named() {
        assert_eq!(
            judge(FRAGMENT, &fragment(6, 8, false, &[7; 8])),
            Err(Reason::FragmentTiny)
        );
        assert_eq!(
            judge(FRAGMENT, &fragment(17, 65528, false, &[7; 8])),
            Err(Reason::Malformed)
        );
        assert!(judge(FRAGMENT, &fragment(17, 65528, false, &[7; 7])).is_ok());
        let behind_options = ext(FRAGMENT, &fragment(17, 65528, false, &[7; 7]));
        assert_eq!(judge(HOP_BY_HOP, &behind_options), Err(Reason::Malformed));
        assert_eq!(
            judge(FRAGMENT, &fragment(17, 1448, true, &[7; 9])),
            Err(Reason::Malformed)
        );
        assert_eq!(
            judge(FRAGMENT, &fragment(17, 1448, false, &[])),
            Err(Reason::Malformed)
        );
    }

    #[test]
    fn a_second_fragment_header_is_refused_even_when_both_are_atomic() {
        let inner = fragment(17, 0, false, &udp(1, 69, b"x"));
        assert_eq!(
            judge(FRAGMENT, &fragment(44, 0, false, &inner)),
            Err(Reason::ExtHeader)
        );
        assert_eq!(
            judge(FRAGMENT, &fragment(44, 0, true, &inner)),
            Err(Reason::ExtHeader)
        );
    }
}

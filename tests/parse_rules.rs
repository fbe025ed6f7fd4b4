//! The parser's rules, a row each, with where each is written.

use std::collections::BTreeSet;

use portcullis::frame::{Frag, Net, parse};
use portcullis::telemetry::Reason;

/// What the rule table sees of a frame: family, place in the datagram, protocol or ethertype, destination port.
type Seen = (Net, Frag, u16, u16);

/// The rule, where it is written, a frame, and what is to come of it.
type Row = (&'static str, &'static str, Vec<u8>, Result<Seen, Reason>);

const TFTP4: Result<Seen, Reason> = Ok((Net::V4, Frag::Whole, 17, 69));
const TFTP6: Result<Seen, Reason> = Ok((Net::V6, Frag::Whole, 17, 69));

fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn ether(kind: u16, body: &[u8]) -> Vec<u8> {
    cat(&[
        &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1],
        &kind.to_be_bytes(),
        body,
    ])
}

/// A tag's control field and what it holds, for use as the body behind its TPID.
fn tag(id: u16, kind: u16, body: &[u8]) -> Vec<u8> {
    cat(&[&id.to_be_bytes(), &kind.to_be_bytes(), body])
}

fn pppoe(protocol: u16, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u16 + 2;
    cat(&[
        &[0x11, 0, 0, 1],
        &len.to_be_bytes(),
        &protocol.to_be_bytes(),
        body,
    ])
}

/// An IPv4 datagram; `flags` is the whole field of flags and offset.
fn v4_with(options: &[u8], flags: u16, proto: u8, body: &[u8]) -> Vec<u8> {
    let words = 5 + options.len() as u8 / 4;
    let total = u16::from(words) * 4 + body.len() as u16;
    let [f0, f1] = flags.to_be_bytes();
    let head = [0x40 | words, 0];
    let rest = [0, 7, f0, f1, 64, proto, 0, 0, 10, 77, 0, 9, 8, 8, 8, 8];
    cat(&[&head, &total.to_be_bytes(), &rest, options, body])
}

fn v4(proto: u8, body: &[u8]) -> Vec<u8> {
    ether(0x0800, &v4_with(&[], 0, proto, body))
}

fn v4_options(options: &[u8]) -> Vec<u8> {
    ether(0x0800, &v4_with(options, 0, 17, &udp()))
}

fn v4_fragment(flags: u16, proto: u8, body: &[u8]) -> Vec<u8> {
    ether(0x0800, &v4_with(&[], flags, proto, body))
}

fn v6_packet(next: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    cat(&[
        &[0x60, 0, 0, 0],
        &len,
        &[next, 64],
        &[0xfd; 16],
        &[0x26; 16],
        body,
    ])
}

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    ether(0x86dd, &v6_packet(next, body))
}

/// An IPv6 extension header of 8 bytes before `body`.
fn ext(next: u8, body: &[u8]) -> Vec<u8> {
    cat(&[&[next, 0, 1, 4, 0, 0, 0, 0], body])
}

fn exts(count: usize, body: &[u8]) -> Vec<u8> {
    (1..count).fold(ext(17, body), |inner, _| ext(60, &inner))
}

/// An IPv6 fragment header; `flags` is the whole field of offset and flags.
fn frag6(next: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    cat(&[&[next, 0], &flags.to_be_bytes(), &[0, 0, 0, 7], body])
}

fn udp() -> Vec<u8> {
    vec![
        0x9c, 0x40, 0, 69, 0, 16, 0, 0, 0, 1, b'a', 0, b'o', b'c', b't', 0,
    ]
}

fn tcp() -> Vec<u8> {
    let fixed = [
        0x9c, 0x40, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0,
    ];
    cat(&[&fixed, &[2, 4, 5, 0xb4]])
}

fn set(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[at] = value;
    frame
}

fn cut(frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame[..len].to_vec()
}

fn other(ethertype: u16) -> Result<Seen, Reason> {
    Ok((Net::Other, Frag::Whole, ethertype, 0))
}

#[rustfmt::skip]
fn link() -> Vec<Row> {
    use Reason::{Ethertype, Malformed, Oversize, VlanDepth};
    let four = v4_with(&[], 0, 17, &udp());
    let six = v6_packet(17, &udp());
    let llc = |kind| ether(kind, &[0x42; 46]);
    vec![
        ("a frame under 14 bytes", "IEEE 802.3 3.1", cut(v4(17, &udp()), 13), Err(Malformed)),
        ("a frame that 16 bits cannot measure", "-", ether(0x88cc, &[0; 65536]), Err(Oversize)),
        ("a type of 1536 is an ethertype", "IEEE 802.3 3.2.6", llc(0x600), other(0x600)),
        ("a type of up to 1500 is a length", "IEEE 802.3 3.2.6", llc(46), Ok((Net::Llc, Frag::Whole, 0x4242, 0))),
        ("a length beyond the frame", "IEEE 802.3 3.2.6", llc(47), Err(Malformed)),
        ("a length that holds no LLC", "IEEE 802.2 3.2", llc(2), Err(Malformed)),
        ("1501 is neither", "IEEE 802.3 3.2.6", llc(1501), Err(Malformed)),
        ("1535 is neither", "IEEE 802.3 3.2.6", llc(1535), Err(Malformed)),
        ("an 802.1Q tag", "IEEE 802.1Q 9", ether(0x8100, &tag(5, 0x0800, &four)), TFTP4),
        ("a priority tag", "IEEE 802.1Q 9.6", ether(0x8100, &tag(0, 0x0800, &four)), TFTP4),
        ("an 802.1ad tag", "IEEE 802.1Q 9", ether(0x88a8, &tag(5, 0x0800, &four)), TFTP4),
        ("a legacy QinQ tag", "-", ether(0x9100, &tag(5, 0x86dd, &six)), TFTP6),
        ("two priority tags", "IEEE 802.1Q 9.6", ether(0x8100, &tag(0, 0x8100, &tag(0, 0x0800, &four))), TFTP4),
        ("three tags", "-", ether(0x88a8, &tag(1, 0x8100, &tag(2, 0x8100, &tag(0, 0x0800, &four)))), Err(VlanDepth)),
        ("a tag that is cut", "IEEE 802.1Q 9", ether(0x8100, &[0, 5, 8]), Err(Malformed)),
        ("LLC in a tag", "IEEE 802.1Q 9", ether(0x8100, &tag(5, 38, &[0x42; 42])), Ok((Net::Llc, Frag::Whole, 0x4242, 0))),
        ("ARP", "RFC 826", ether(0x0806, &[0; 28]), other(0x0806)),
        ("ARP that is cut", "RFC 826", ether(0x0806, &[0; 27]), Err(Malformed)),
        ("ARP that is cut, in a tag", "RFC 826", ether(0x8100, &tag(5, 0x0806, &[0; 27])), Err(Malformed)),
        ("ARP in a tag", "RFC 826", ether(0x8100, &tag(5, 0x0806, &[0; 28])), other(0x0806)),
        ("another ethertype is for the policy", "-", ether(0x8847, &four), other(0x8847)),
        ("IPv4 in a PPPoE session", "RFC 2516 6", ether(0x8864, &pppoe(0x0021, &four)), TFTP4),
        ("IPv6 in a PPPoE session", "RFC 2516 6", ether(0x8864, &pppoe(0x0057, &six)), TFTP6),
        ("LCP", "RFC 1661 5", ether(0x8864, &pppoe(0xc021, &[9, 0, 0, 8])), other(0x8864)),
        ("PPPoE discovery", "RFC 2516 5", ether(0x8863, &[0x11, 9, 0, 0, 0, 0]), other(0x8863)),
        ("an unknown PPP protocol", "RFC 1661 2", ether(0x8864, &pppoe(0x00fd, &four)), Err(Ethertype)),
        ("a compressed PPP protocol field", "RFC 2516 7", ether(0x8864, &pppoe(0x2145, &four[1..])), Err(Ethertype)),
        ("a PPPoE version that is not 1", "RFC 2516 4", set(ether(0x8864, &pppoe(0x0021, &four)), 14, 0x21), Err(Malformed)),
        ("a PPPoE code in the session stage", "RFC 2516 6", set(ether(0x8864, &pppoe(0x0021, &four)), 15, 9), Err(Malformed)),
        ("a PPPoE length beyond the frame", "RFC 2516 4", set(ether(0x8864, &pppoe(0x0021, &four)), 19, 99), Err(Malformed)),
    ]
}

#[rustfmt::skip]
fn ipv4() -> Vec<Row> {
    use Reason::{ExtHeader, FragmentTiny, Malformed, SourceRoute};
    let whole = || v4(17, &udp());
    let ah = |next: u8, body: &[u8]| cat(&[&[next, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], body]);
    let nine = (0..8).fold(ah(17, &udp()), |inner, _| ah(51, &inner));
    vec![
        ("a UDP datagram", "RFC 791 3.1", whole(), TFTP4),
        ("a version that is not 4", "RFC 791 3.1", set(whole(), 14, 0x65), Err(Malformed)),
        ("a header under 5 words", "RFC 791 3.1", set(whole(), 14, 0x44), Err(Malformed)),
        ("a header beyond the datagram", "RFC 791 3.1", set(whole(), 14, 0x4f), Err(Malformed)),
        ("a total length under the header", "RFC 791 3.1", set(whole(), 17, 19), Err(Malformed)),
        ("the same where no transport is looked into", "RFC 791 3.1", set(v4(47, &udp()), 17, 19), Err(Malformed)),
        ("a total length beyond the frame", "RFC 791 3.1", set(whole(), 17, 37), Err(Malformed)),
        ("a wrong header checksum", "SPEC 5", set(whole(), 24, 0xff), TFTP4),
        ("padding", "RFC 894", cat(&[&whole(), &[0xff; 20]]), TFTP4),
        ("the reserved flag", "RFC 3514", set(whole(), 20, 0x80), TFTP4),
        ("don't fragment", "RFC 791 3.1", v4_fragment(0x4000, 17, &udp()), TFTP4),
        ("router alert", "RFC 2113", v4_options(&[148, 4, 0, 0]), TFTP4),
        ("the longest options", "RFC 791 3.1", v4_options(&[1; 40]), TFTP4),
        ("a loose source route", "RFC 7126 4.3", v4_options(&[1, 131, 3, 4]), Err(SourceRoute)),
        ("a strict source route", "RFC 7126 4.4", v4_options(&[137, 3, 4, 0]), Err(SourceRoute)),
        ("an option of length 0", "RFC 791 3.1", v4_options(&[7, 0, 0, 0]), Err(Malformed)),
        ("an option past the header", "RFC 791 3.1", v4_options(&[7, 5, 0, 0]), Err(Malformed)),
        ("an option without its length", "RFC 791 3.1", v4_options(&[1, 1, 1, 7]), Err(Malformed)),
        ("a first fragment", "RFC 791 3.2", v4_fragment(0x2000, 6, &tcp()), Ok((Net::V4, Frag::First, 6, 25))),
        ("a first fragment without the flags", "RFC 1858 3", v4_fragment(0x2000, 6, &tcp()[..8]), Err(FragmentTiny)),
        ("a first fragment without the options", "RFC 1858 3", v4_fragment(0x2000, 6, &tcp()[..20]), Err(FragmentTiny)),
        ("a first fragment without UDP's header", "RFC 1858 3", v4_fragment(0x2000, 17, &[]), Err(FragmentTiny)),
        ("a later fragment", "RFC 791 3.2", v4_fragment(185, 17, &[9; 5]), Ok((Net::V4, Frag::Later, 17, 0))),
        ("TCP at offset 1", "RFC 1858 3.2.2, RFC 3128", v4_fragment(1, 6, &tcp()), Err(FragmentTiny)),
        ("UDP at offset 1", "RFC 791 3.2", v4_fragment(1, 17, &udp()), Ok((Net::V4, Frag::Later, 17, 0))),
        ("the ping of death", "RFC 791 3.1", v4_fragment(8189, 1, &[9; 64]), Err(Malformed)),
        ("a middle fragment of odd length", "RFC 791 3.2", v4_fragment(0x2010, 17, &[9; 9]), Err(Malformed)),
        ("a first fragment of odd length", "RFC 791 3.2", v4_fragment(0x2000, 17, &udp()[..9]), Err(Malformed)),
        ("a later fragment with nothing in it", "RFC 791 3.2", v4_fragment(16, 17, &[]), Err(Malformed)),
        ("an authentication header", "RFC 4302 3.1", v4(51, &ah(17, &udp())), TFTP4),
        ("an authentication header that is cut", "RFC 4302 2", v4(51, &ah(17, &[])[..11]), Err(Malformed)),
        ("nine authentication headers", "-", v4(51, &nine), Err(ExtHeader)),
        ("a protocol that is not looked into", "-", v4(47, &udp()), Ok((Net::V4, Frag::Whole, 47, 0))),
        ("hop-by-hop in IPv4 means nothing", "-", v4(0, &udp()), Ok((Net::V4, Frag::Whole, 0, 0))),
    ]
}

#[rustfmt::skip]
fn ipv6() -> Vec<Row> {
    use Reason::{ExtHeader, FragmentTiny, Malformed, SourceRoute};
    let whole = || v6(17, &udp());
    let routing = |kind: u8| cat(&[&[17, 0, kind, 1, 0, 0, 0, 0], &udp()]);
    let ah = cat(&[&[17, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0], &udp()]);
    let long = [17, 4, 1, 4, 0, 0, 0, 0];
    let jumbo = v6(0, &cat(&[&[17, 0, 0xc2, 4, 0, 1, 0, 0], &udp()]));
    vec![
        ("a UDP packet", "RFC 8200 3", whole(), TFTP6),
        ("a version that is not 6", "RFC 8200 3", set(whole(), 14, 0x45), Err(Malformed)),
        ("a payload length beyond the frame", "RFC 8200 3", set(whole(), 19, 17), Err(Malformed)),
        ("padding", "RFC 8200 3", cat(&[&whole(), &[0xff; 20]]), TFTP6),
        ("a jumbogram", "RFC 2675 3", set(jumbo, 19, 0), Err(Malformed)),
        ("hop-by-hop options", "RFC 8200 4.3", v6(0, &ext(17, &udp())), TFTP6),
        ("hop-by-hop options that are not first", "RFC 8200 4.1", v6(60, &ext(0, &ext(17, &udp()))), Err(ExtHeader)),
        ("destination options", "RFC 8200 4.6", v6(60, &ext(17, &udp())), TFTP6),
        ("a routing header of type 2", "RFC 6275 6.4", v6(43, &routing(2)), TFTP6),
        ("a routing header of type 0", "RFC 5095 3", v6(43, &routing(0)), Err(SourceRoute)),
        ("an authentication header", "RFC 4302 3.1", v6(51, &ah), TFTP6),
        ("mobility", "RFC 6275 6.1", v6(135, &ext(17, &udp())), TFTP6),
        ("HIP", "RFC 7401 5.1", v6(139, &ext(17, &udp())), TFTP6),
        ("shim6", "RFC 5533 5.1", v6(140, &ext(17, &udp())), TFTP6),
        ("no next header", "RFC 8200 4.7", v6(59, &[1, 2]), Ok((Net::V6, Frag::Whole, 59, 0))),
        ("eight headers", "-", v6(60, &exts(8, &udp())), TFTP6),
        ("nine headers", "-", v6(60, &exts(9, &udp())), Err(ExtHeader)),
        ("an unknown next header", "RFC 7045 2.1", v6(200, &udp()), Err(ExtHeader)),
        ("a number for experiments", "RFC 4727 3.4", v6(253, &udp()), Err(ExtHeader)),
        ("a tunnel", "RFC 2473", v6(4, &udp()), Ok((Net::V6, Frag::Whole, 4, 0))),
        ("a chain past the packet", "RFC 8200 4", v6(60, &long), Err(Malformed)),
        ("a chain that leaves the first fragment", "RFC 7112 5", v6(44, &frag6(60, 1, &long)), Err(ExtHeader)),
        ("an atomic fragment", "RFC 6946 4", v6(44, &frag6(17, 0, &udp())), TFTP6),
        ("a first fragment", "RFC 8200 4.5", v6(44, &frag6(6, 1, &tcp())), Ok((Net::V6, Frag::First, 6, 25))),
        ("a first fragment without the flags", "RFC 7112 5", v6(44, &frag6(6, 1, &tcp()[..8])), Err(FragmentTiny)),
        ("a later fragment", "RFC 8200 4.5", v6(44, &frag6(17, 1448, &[9; 5])), Ok((Net::V6, Frag::Later, 17, 0))),
        ("a later fragment of options", "RFC 8200 4.5", v6(44, &frag6(60, 1448, &[9; 5])), Ok((Net::V6, Frag::Later, 60, 0))),
        ("a later fragment of what is not known", "RFC 7045 2.1", v6(44, &frag6(200, 1448, &[9; 5])), Err(ExtHeader)),
        ("TCP at 8 bytes", "RFC 1858 3.2.2, RFC 3128", v6(44, &frag6(6, 8, &tcp())), Err(FragmentTiny)),
        ("a second fragment header", "RFC 8200 4.1", v6(44, &frag6(44, 0, &frag6(17, 0, &udp()))), Err(ExtHeader)),
        ("a packet of more than 65535", "RFC 8200 4.5", v6(44, &frag6(17, 65528, &[9; 8])), Err(Malformed)),
        ("a middle fragment of odd length", "RFC 8200 4.5", v6(44, &frag6(17, 1449, &[9; 9])), Err(Malformed)),
    ]
}

#[rustfmt::skip]
fn transport() -> Vec<Row> {
    use Reason::{FragmentTiny, Malformed};
    let port = |proto| Ok((Net::V4, Frag::Whole, proto, 69));
    vec![
        ("a TCP segment", "RFC 9293 3.1", v6(6, &tcp()), Ok((Net::V6, Frag::Whole, 6, 25))),
        ("TCP that is cut", "RFC 9293 3.1", v4(6, &tcp()[..19]), Err(Malformed)),
        ("TCP in IPv4 that only padding completes", "RFC 9293 3.1", set(v4(6, &tcp()), 17, 43), Err(Malformed)),
        ("TCP in IPv6 that only padding completes", "RFC 9293 3.1", set(v6(6, &tcp()), 19, 23), Err(Malformed)),
        ("TCP's data offset beyond the packet", "RFC 9293 3.1", v4(6, &tcp()[..20]), Err(Malformed)),
        ("TCP's data offset under 5", "RFC 9293 3.1", v4(6, &set(tcp(), 12, 0x40)), Err(Malformed)),
        ("the same in a first fragment", "RFC 9293 3.1", v4_fragment(0x2000, 6, &set(tcp(), 12, 0x40)), Err(FragmentTiny)),
        ("UDP that is cut", "RFC 768", v6(17, &udp()[..7]), Err(Malformed)),
        ("a UDP length of 0", "RFC 2675 4", v6(17, &set(udp(), 5, 0)), Err(Malformed)),
        ("a UDP length under 8", "RFC 768", v4(17, &set(udp(), 5, 7)), Err(Malformed)),
        ("a UDP length beyond the datagram", "RFC 768", v4(17, &set(udp(), 5, 17)), Err(Malformed)),
        ("a UDP length that only padding completes", "RFC 768", cat(&[&v4(17, &set(udp(), 5, 17)), &[0; 9]]), Err(Malformed)),
        ("a UDP length beyond the first fragment", "RFC 768", v4_fragment(0x2000, 17, &set(udp(), 5, 99)), Ok((Net::V4, Frag::First, 17, 69))),
        ("an ICMP message, code in place of the port", "RFC 792", v4(1, &[3, 4, 0, 0]), Ok((Net::V4, Frag::Whole, 1, 4))),
        ("ICMP that is cut", "RFC 792", v4(1, &[8, 0, 0]), Err(Malformed)),
        ("an ICMPv6 message", "RFC 4443 2.1", v6(58, &[1, 4, 0, 0]), Ok((Net::V6, Frag::Whole, 58, 4))),
        ("ICMPv6 that is cut", "RFC 4443 2.1", v6(58, &[128, 0, 0]), Err(Malformed)),
        ("SCTP", "RFC 9260 3.1", v4(132, &udp()), port(132)),
        ("DCCP", "RFC 4340 5.1", v4(33, &udp()), port(33)),
        ("UDP-Lite", "RFC 3828 3.1", v4(136, &udp()), port(136)),
        ("SCTP without its ports", "RFC 9260 3.1", v4(132, &udp()[..3]), Err(Malformed)),
    ]
}

#[test]
fn each_rule_gives_what_is_written() {
    for (rule, source, frame, expected) in [link(), ipv4(), ipv6(), transport()].concat() {
        let seen = parse(&frame).map(|meta| {
            let kind = match meta.net {
                Net::V4 | Net::V6 => u16::from(meta.proto),
                Net::Other | Net::Llc => meta.ethertype,
            };
            (meta.net, meta.frag, kind, meta.dport)
        });
        assert_eq!(seen, expected, "{rule} ({source}): {frame:02x?}");
    }
}

#[test]
fn every_reason_that_the_parser_can_give_has_a_row() {
    let rows = [link(), ipv4(), ipv6(), transport()].concat();
    let given: BTreeSet<Reason> = rows.iter().filter_map(|row| parse(&row.2).err()).collect();
    let documented = BTreeSet::from([
        Reason::Malformed,
        Reason::Ethertype,
        Reason::VlanDepth,
        Reason::ExtHeader,
        Reason::SourceRoute,
        Reason::FragmentTiny,
        Reason::Oversize,
    ]);
    assert_eq!(given, documented);
}

//! Packets for keys.

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader,
};
use portcullis::frame::Net;
use portcullis::policy::{Key, Side, UNTAGGED};

/// Before the number at the end of every packet.
const MAGIC: [u8; 4] = *b"nftp";
/// Of local experiments (IEEE 802): for the frames behind each window.
pub const SENTINEL: u16 = 0x88b6;
const OTHER: u16 = 0x88b5;
/// A host that no port of the bridge knows.
const TO: [u8; 6] = [2, 0, 0, 0, 0xff, 1];
/// OSPF (RFC 2328): an IP protocol whose header nobody on the way looks into.
const OSPF: u8 = 89;

/// The frame that is nearest to the key and can be on a wire, with this number in it, and the side that it comes from.
pub fn packet(key: &Key, number: u32) -> (Side, Vec<u8>) {
    let mut frame = TO.to_vec();
    let mut from = key.src_mac;
    // A bridge takes no frame from a group or from nobody (IEEE 802.1D section 7.12.6).
    from[0] &= !1;
    from[5] = from[5].max(u8::from(from == [0; 6]));
    frame.extend(from);
    if key.vlan < UNTAGGED {
        frame.extend([0x81, 0x00]);
        frame.extend(key.vlan.to_be_bytes());
    }
    match key.net {
        Net::V4 => ipv4(key, number, &mut frame),
        Net::V6 => ipv6(key, number, &mut frame),
        Net::Other | Net::Llc => {
            // Not one that would be parsed further, nor the length of an 802.3 frame.
            let known = [0x88cc, OTHER];
            let ethertype = known
                .into_iter()
                .find(|known| *known == key.ethertype)
                .unwrap_or(OTHER);
            frame.extend(ethertype.to_be_bytes());
            frame.extend([0; 38]);
            end(number, &mut frame);
        }
    }
    (key.side, frame)
}

/// A frame that every rule set lets pass.
pub fn sentinel(number: u32) -> Vec<u8> {
    let mut frame = [TO, [2, 0, 0, 0, 0, 9]].concat();
    frame.extend(SENTINEL.to_be_bytes());
    frame.extend([0; 38]);
    end(number, &mut frame);
    frame
}

/// The number at the end of a frame; `None` of a frame that is not ours.
pub fn number_of(frame: &[u8]) -> Option<u32> {
    let (rest, number) = frame.split_last_chunk()?;
    rest.ends_with(&MAGIC).then(|| u32::from_be_bytes(*number))
}

fn end(number: u32, out: &mut Vec<u8>) {
    out.extend(MAGIC);
    out.extend(number.to_be_bytes());
}

fn ipv4(key: &Key, number: u32, out: &mut Vec<u8>) {
    let (proto, body) = transport(key, 1, number);
    let (src, dst) = (
        (key.src as u32).to_be_bytes(),
        (key.dst as u32).to_be_bytes(),
    );
    let mut header =
        Ipv4Header::new(body.len() as u16, 64, IpNumber(proto), src, dst).expect("it fits");
    header.more_fragments = key.fragment;
    header.dont_fragment = !key.fragment;
    header.header_checksum = header.calc_header_checksum();
    out.extend([0x08, 0x00]);
    header.write(out).expect("written to memory");
    out.extend(body);
}

fn ipv6(key: &Key, number: u32, out: &mut Vec<u8>) {
    let (proto, mut body) = transport(key, 58, number);
    let mut next_header = IpNumber(proto);
    if key.fragment {
        let header = Ipv6FragmentHeader::new(next_header, IpFragOffset::ZERO, true, number);
        body.splice(0..0, header.to_bytes());
        next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
    }
    let header = Ipv6Header {
        payload_length: body.len() as u16,
        next_header,
        hop_limit: 64,
        source: key.src.to_be_bytes(),
        destination: key.dst.to_be_bytes(),
        ..Ipv6Header::default()
    };
    out.extend([0x86, 0xdd]);
    header.write(out).expect("written to memory");
    out.extend(body);
}

/// Protocol, and header with data: a multiple of 8 bytes, as a first fragment has to be.
fn transport(key: &Key, icmp: u8, number: u32) -> (u8, Vec<u8>) {
    let mut body = Vec::with_capacity(48);
    let proto = match key.proto {
        6 => {
            let mut tcp = TcpHeader::new(key.sport, key.dport, 1, 64_240).to_bytes();
            // Byte 13 (RFC 9293 section 3.1).
            tcp[13] = key.tcp_flags;
            body.extend(tcp);
            body.extend([0; 4]);
            6
        }
        17 => {
            // In a first fragment the length is that of the whole datagram.
            let length = if key.fragment { 1032 } else { 32 };
            let (source_port, destination_port) = (key.sport, key.dport);
            let udp = UdpHeader {
                source_port,
                destination_port,
                length,
                checksum: 0,
            };
            body.extend(udp.to_bytes());
            17
        }
        1 | 58 => {
            body.extend([key.sport as u8, key.dport as u8, 0, 0, 0, 0, 0, 0]);
            icmp
        }
        _ => OSPF,
    };
    let room = 40 - MAGIC.len() - 4;
    body.resize(room.max(body.len().next_multiple_of(8)), 0);
    if proto == 17 {
        body.truncate(24);
    }
    end(number, &mut body);
    (proto, body)
}

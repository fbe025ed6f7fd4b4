//! The frames of a load, built once: each needs only its mark when it is sent.

use crate::flow::Flow;
use crate::mark::{self, Mark};
use crate::size::{FCS, LONGEST};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, IpRepr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};
use std::net::SocketAddr;

/// Room for the longest frame, without its FCS.
pub const ROOM: usize = LONGEST - FCS;
/// The shortest frame of Ethernet without its FCS (IEEE 802.3 section 3.2.8).
const SHORTEST: usize = 60;
const ETHERNET: usize = 14;
const HOPS: u8 = 64;
/// First sequence numbers of both ends of a connection. What follows repeats one number: the other end never asks for the next.
const FIRST: [i32; 2] = [0x1000_0000, 0x2000_0000];
const WINDOW: u16 = 0xffff;
/// A TCP header without options.
const BARE: usize = 20;
/// An option for experiments, whose first four bytes name the experiment: those of a mark do (RFC 6994 section 3). Kind and length come before them.
const EXPERIMENT: u8 = 254;
const OPTION_HEAD: usize = 2;

/// MAC addresses of the LAN port and of the uplink port.
pub type Ends = [[u8; 6]; 2];

/// What a frame does for its flow. Of UDP, where nothing opens, all are datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The LAN host opens: SYN.
    Open,
    /// The uplink host answers: SYN and ACK.
    Answer,
    /// The LAN host has heard it: ACK.
    Confirm,
    /// The LAN host sends.
    Out,
    /// The uplink host sends.
    Back,
}

/// A frame of this size cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {size} bytes has no room for its headers and the {mark} bytes that mark it; the shortest of this kind has {least}", mark = mark::LEN)]
pub struct TooShort {
    /// What was asked for, with FCS.
    pub size: usize,
    /// What there could be, with FCS.
    pub least: usize,
}

/// Many frames in one piece of memory.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    each: Vec<Slot>,
}

/// One of them. What is not in `bytes` up to its length is zero.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: usize,
    head: u16,
    len: u16,
    /// Where the mark begins.
    mark: u16,
    checksum: Option<Checksum>,
}

/// A checksum that covers the mark.
#[derive(Clone, Copy, Debug)]
struct Checksum {
    at: u16,
    /// The mark begins at an odd byte of what it covers.
    odd: bool,
}

impl Frames {
    /// A frame for each flow; `size` is with FCS, and stretched where there is no room for headers and mark.
    ///
    /// The mark of a datagram is the end of its payload, that of a segment an option: what is sent again and again with one sequence number has to be the same bytes
    /// each time, or a firewall takes it for what it is not.
    pub fn build(flows: &[Flow], ends: &Ends, step: Step, size: usize) -> Frames {
        let mut frames = Frames::default();
        let mut room = [0; ROOM];
        for flow in flows {
            let len = size.saturating_sub(FCS).clamp(least(flow), ROOM);
            let payload = match (flow.tcp, step) {
                (false, _) | (true, Step::Out | Step::Back) => len - headers(flow),
                (true, _) => 0,
            };
            let checksum = emit(flow, ends, step, payload, &mut room);
            let mark = if flow.tcp {
                transport(flow) + BARE + OPTION_HEAD
            } else {
                len - mark::LEN
            };
            let odd = (mark - transport(flow)) % 2 == 1;
            frames.push(
                &room[..headers(flow)],
                len,
                mark,
                checksum.map(|at| Checksum { at, odd }),
            );
        }
        frames
    }

    /// Whether frames of these flows can have this size, with FCS.
    ///
    /// # Errors
    /// [`TooShort`].
    pub fn fit(flows: &[Flow], size: usize) -> Result<(), TooShort> {
        let longest = flows.iter().map(least).max().unwrap_or(SHORTEST);
        match longest + FCS {
            least if least > size => Err(TooShort { size, least }),
            _ => Ok(()),
        }
    }

    /// Frames of a capture, sent from the LAN port to the uplink port: their own MAC addresses are replaced, and the mark comes behind them, where it is no part of
    /// what they carry. Those that are too long for that are left out. Says how many.
    pub fn captured<'a>(all: impl IntoIterator<Item = &'a [u8]>, ends: &Ends) -> (Frames, usize) {
        let (mut frames, mut left_out) = (Frames::default(), 0);
        for bytes in all {
            let len = (bytes.len() + mark::LEN).max(SHORTEST);
            if len > ROOM || bytes.len() < ETHERNET {
                left_out += 1;
                continue;
            }
            let mut bytes = bytes.to_vec();
            bytes[..6].copy_from_slice(&ends[1]);
            bytes[6..12].copy_from_slice(&ends[0]);
            frames.push(&bytes, len, len - mark::LEN, None);
        }
        (frames, left_out)
    }

    fn push(&mut self, head: &[u8], len: usize, mark: usize, checksum: Option<Checksum>) {
        self.each.push(Slot {
            start: self.bytes.len(),
            head: head.len() as u16,
            len: len as u16,
            mark: mark as u16,
            checksum,
        });
        self.bytes.extend_from_slice(head);
    }

    /// Takes those of `other` too.
    pub fn append(&mut self, other: &Frames) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.each.extend(other.each.iter().map(|slot| Slot {
            start: slot.start + before,
            ..*slot
        }));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Writes frame number `at` with its mark; its length, or 0 if there is no such frame.
    #[inline]
    pub fn write(&self, at: usize, mark: &Mark, room: &mut [u8; ROOM]) -> usize {
        let Some(slot) = self.each.get(at) else {
            return 0;
        };
        let (head, len) = (usize::from(slot.head), usize::from(slot.len));
        room[..head].copy_from_slice(&self.bytes[slot.start..slot.start + head]);
        room[head..len].fill(0);
        let (at, mark) = (usize::from(slot.mark), mark.bytes());
        room[at..at + mark::LEN].copy_from_slice(&mark);
        if let Some(checksum) = slot.checksum {
            let at = usize::from(checksum.at);
            let old = u16::from_be_bytes([room[at], room[at + 1]]);
            // Of UDP 0 would say that there is none (RFC 768); of TCP it is as good as the other zero.
            let new = match mark::checksum(old, &mark, checksum.odd) {
                0 => 0xffff,
                new => new,
            };
            room[at..at + 2].copy_from_slice(&new.to_be_bytes());
        }
        len
    }
}

/// The shortest frame of a flow, without FCS.
fn least(flow: &Flow) -> usize {
    let payload = if flow.tcp { 0 } else { mark::LEN };
    (headers(flow) + payload).max(SHORTEST)
}

/// Bytes before the payload.
fn headers(flow: &Flow) -> usize {
    transport(flow) + transport_header(flow)
}

/// Bytes before the transport header.
fn transport(flow: &Flow) -> usize {
    ETHERNET + if flow.src.is_ipv4() { 20 } else { 40 }
}

fn transport_header(flow: &Flow) -> usize {
    if flow.tcp {
        BARE + OPTION_HEAD + mark::LEN
    } else {
        8
    }
}

/// Writes a frame whose payload is zero; where its checksum is.
fn emit(
    flow: &Flow,
    ends: &Ends,
    step: Step,
    payload: usize,
    room: &mut [u8; ROOM],
) -> Option<u16> {
    room.fill(0);
    let out = matches!(step, Step::Open | Step::Confirm | Step::Out);
    let (from, to) = if out {
        (flow.src, flow.dst)
    } else {
        (flow.dst, flow.src)
    };
    let mut frame = EthernetFrame::new_unchecked(&mut room[..]);
    EthernetRepr {
        src_addr: EthernetAddress(ends[usize::from(!out)]),
        dst_addr: EthernetAddress(ends[usize::from(out)]),
        ethertype: if flow.src.is_ipv4() {
            EthernetProtocol::Ipv4
        } else {
            EthernetProtocol::Ipv6
        },
    }
    .emit(&mut frame);
    let (next, within) = if flow.tcp {
        (IpProtocol::Tcp, 16)
    } else {
        (IpProtocol::Udp, 6)
    };
    let len = transport_header(flow) + payload;
    let ip = IpRepr::new(from.ip().into(), to.ip().into(), next, len, HOPS);
    let sums = ChecksumCapabilities::default();
    ip.emit(&mut room[ETHERNET..], &sums);
    let at = transport(flow);
    let body = room.get_mut(at..at + len)?;
    if flow.tcp {
        segment(from, to, step, payload, body);
    } else {
        datagram(from, to, payload, body, &sums);
    }
    Some((at + within) as u16)
}

fn datagram(
    from: SocketAddr,
    to: SocketAddr,
    payload: usize,
    body: &mut [u8],
    sums: &ChecksumCapabilities,
) {
    let header = UdpRepr {
        src_port: from.port(),
        dst_port: to.port(),
    };
    let mut packet = UdpPacket::new_unchecked(body);
    let (from, to) = (from.ip().into(), to.ip().into());
    header.emit(&mut packet, &from, &to, payload, |_| {}, sums);
}

fn segment(from: SocketAddr, to: SocketAddr, step: Step, payload: usize, body: &mut [u8]) {
    let [ours, theirs] = match step {
        Step::Open | Step::Confirm | Step::Out => FIRST,
        Step::Answer | Step::Back => [FIRST[1], FIRST[0]],
    };
    let after = |number: i32| TcpSeqNumber(number) + 1;
    let (control, seq_number, ack_number) = match step {
        Step::Open => (TcpControl::Syn, TcpSeqNumber(ours), None),
        Step::Answer => (TcpControl::Syn, TcpSeqNumber(ours), Some(after(theirs))),
        Step::Confirm | Step::Out => (TcpControl::None, after(ours), Some(after(theirs))),
        // What the LAN host sends is as long.
        Step::Back => (TcpControl::None, after(ours), Some(after(theirs) + payload)),
    };
    let header = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control,
        seq_number,
        ack_number,
        window_len: WINDOW,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (from, to) = (from.ip().into(), to.ip().into());
    let mut packet = TcpPacket::new_unchecked(body);
    header.emit(&mut packet, &from, &to, &ChecksumCapabilities::ignored());
    packet.set_header_len((BARE + OPTION_HEAD + mark::LEN) as u8);
    let option = [EXPERIMENT, (OPTION_HEAD + mark::LEN) as u8];
    packet.options_mut()[..OPTION_HEAD].copy_from_slice(&option);
    packet.fill_checksum(&from, &to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::Kind;
    use etherparse::{SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    const ENDS: Ends = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
    const MARK: Mark = Mark {
        kind: Kind::Opening,
        trial: 1,
        sequence: 2,
        time: 3,
    };
    const STEPS: [Step; 5] = [
        Step::Open,
        Step::Answer,
        Step::Confirm,
        Step::Out,
        Step::Back,
    ];

    fn flow(v6: bool, tcp: bool) -> Flow {
        let (src, dst) = if v6 {
            ("[fd77::9]:40000", "[2606:2800::1]:443")
        } else {
            ("10.77.0.9:40000", "93.184.216.34:443")
        };
        Flow {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            tcp,
        }
    }

    /// Everything that etherparse can find fault with, and the checksums.
    fn assert_valid(frame: &[u8]) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let (v4, v6) = match packet.net.as_ref().unwrap() {
            etherparse::NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                (Some(header), None)
            }
            etherparse::NetSlice::Ipv6(ip) => (None, Some(ip.header().to_header())),
            other => panic!("{other:?}"),
        };
        let (said, right) = match packet.transport.as_ref().unwrap() {
            TransportSlice::Udp(udp) => {
                let (header, payload) = (udp.to_header(), udp.payload());
                let right = match (&v4, &v6) {
                    (Some(ip), _) => header.calc_checksum_ipv4(ip, payload),
                    (_, Some(ip)) => header.calc_checksum_ipv6(ip, payload),
                    _ => panic!("no IP"),
                };
                (header.checksum, right.unwrap())
            }
            TransportSlice::Tcp(tcp) => {
                let (header, payload) = (tcp.to_header(), tcp.payload());
                let right = match (&v4, &v6) {
                    (Some(ip), _) => header.calc_checksum_ipv4(ip, payload),
                    (_, Some(ip)) => header.calc_checksum_ipv6(ip, payload),
                    _ => panic!("no IP"),
                };
                (header.checksum, right.unwrap())
            }
            other => panic!("{other:?}"),
        };
        // The two zeroes of one's complement.
        let same = |sum: u16| if sum == 0xffff { 0 } else { sum };
        assert_eq!(same(said), same(right));
        assert!(said != 0);
    }

    proptest! {
        #[test]
        fn every_frame_is_valid_whatever_its_mark_and_gives_the_mark_back(
            (v6, tcp) in any::<(bool, bool)>(),
            step in prop::sample::select(&STEPS[..]),
            size in 100..=LONGEST,
            (trial, sequence, time) in (0..crate::mark::TRIALS, 0..1u64 << 48, 0..1u64 << 48),
        ) {
            let mark = Mark { kind: Kind::Counted, trial, sequence, time };
            let frames = Frames::build(&[flow(v6, tcp)], &ENDS, step, size);
            let mut room = [0xaa; ROOM];
            let len = frames.write(0, &mark, &mut room);
            prop_assert_eq!(len, size - FCS);
            assert_valid(&room[..len]);
            prop_assert_eq!(Mark::of(&room[..len]), Some(mark));
        }
    }

    #[test]
    fn the_shortest_frame_of_all_holds_a_datagram_and_its_mark() {
        let fit = |v6, tcp, size| Frames::fit(&[flow(v6, tcp)], size);
        assert!(fit(false, false, 64).is_ok());
        let least = |v6, tcp| fit(v6, tcp, 64).unwrap_err().least;
        assert_eq!(
            [least(false, true), least(true, false), least(true, true)],
            [78, 84, 98]
        );
        for (v6, tcp, size) in [(false, true, 78), (true, false, 84), (true, true, 98)] {
            assert!(fit(v6, tcp, size).is_ok());
            let frames = Frames::build(&[flow(v6, tcp)], &ENDS, Step::Out, 64);
            let len = frames.write(0, &MARK, &mut [0; ROOM]);
            assert_eq!(len + FCS, size, "stretched");
        }
    }

    #[test]
    fn the_opening_of_a_connection_is_one_and_its_answers_go_the_other_way() {
        let segment = |step| {
            let frames = Frames::build(&[flow(false, true)], &ENDS, step, 100);
            let mut room = [0; ROOM];
            let len = frames.write(0, &MARK, &mut room);
            let packet = SlicedPacket::from_ethernet(&room[..len]).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
                panic!("not TCP")
            };
            (tcp.to_header(), tcp.payload().len(), room[6..12].to_vec())
        };
        let [
            (syn, none, lan),
            (both, _, uplink),
            (ack, ..),
            (data, some, _),
            (back, ..),
        ] = STEPS.map(segment);
        assert!(syn.syn && !syn.ack && none == 0);
        assert!(both.syn && both.ack && both.acknowledgment_number == syn.sequence_number + 1);
        assert!(!ack.syn && ack.ack && ack.acknowledgment_number == both.sequence_number + 1);
        assert!(data.sequence_number == syn.sequence_number + 1 && some == 22);
        assert!(back.sequence_number == both.sequence_number + 1 && back.source_port == 443);
        assert_eq!(back.acknowledgment_number, data.sequence_number + 22);
        assert_eq!((lan, uplink), (ENDS[0].to_vec(), ENDS[1].to_vec()));
    }

    #[test]
    fn the_payload_of_a_segment_is_the_same_whatever_its_mark() {
        let frames = Frames::build(&[flow(false, true)], &ENDS, Step::Out, 128);
        let written = |mark: &Mark| {
            let mut room = [0; ROOM];
            let len = frames.write(0, mark, &mut room);
            room[..len].to_vec()
        };
        let (one, other) = (
            written(&MARK),
            written(&Mark {
                sequence: 77,
                ..MARK
            }),
        );
        assert_eq!(one[74..], other[74..]);
        assert_ne!(one, other);
        assert_valid(&other);
    }

    #[test]
    fn a_captured_frame_stays_as_it_was_but_for_its_addresses_and_what_comes_behind() {
        let arp = [[0xff; 12].as_slice(), &[8, 6], &[7; 28]].concat();
        let long = vec![1; ROOM - mark::LEN + 1];
        let (frames, left_out) = Frames::captured([&arp[..], &long, &[1, 2]], &ENDS);
        assert_eq!((frames.len(), left_out), (1, 2));
        let mut room = [0xaa; ROOM];
        let mark = Mark {
            kind: Kind::Counted,
            trial: 1,
            sequence: 2,
            time: 3,
        };
        let len = frames.write(0, &mark, &mut room);
        assert_eq!(len, 60);
        assert_eq!(room[12..42], arp[12..]);
        assert_eq!(Mark::of(&room[..len]), Some(mark));
        assert_eq!(frames.write(1, &mark, &mut room), 0);
    }
}

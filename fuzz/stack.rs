//! What the targets of the box's own stack assert, as `checks.rs` does for the others. The bytes are a script: a client that says what a client may say, and what none would.

use etherparse::{PacketBuilder, SlicedPacket, TcpHeader};
use portcullis::frame::{Meta, parse};
use portcullis::hoststack::decoy::persona::{Kind, Limits, Next, Persona};
use portcullis::hoststack::decoy::{self, Hall};
use portcullis::hoststack::inband::{self, Inband};
use portcullis::policy::{Manners, RuleSlot, Side, Verdict};
use portcullis::worker::Own;
use smoltcp::time::Instant;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Frames that one frame is answered with at most: one by the stack itself, four that were due, and a last one.
pub const ANSWERS: usize = 6;
/// Frames that a look at one conversation sends at most.
pub const LOOK: usize = 5;
/// Bytes of the longest frame out: Ethernet, two tags, PPPoE, a packet.
pub const LONGEST: usize = 30 + 1500;

const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const OURS: [u8; 4] = [10, 77, 0, 2];
/// fd77::/64 with this as its last byte.
const OURS6: u8 = 2;

/// Milliseconds.
const STEPS: [i64; 8] = [0, 1, 20, 150, 700, 1100, 3100, 6000];
/// From what would be next.
const OFFSETS: [u32; 16] = [
    0,
    0,
    0,
    0,
    1,
    u32::MAX,
    536,
    1460,
    2920,
    4095,
    4096,
    4097,
    0u32.wrapping_sub(1460),
    1 << 31,
    1 << 30,
    500_000,
];
const WINDOWS: [u16; 8] = [0, 1, 2, 48, 536, 4096, 32_768, 65_535];
const LENGTHS: [usize; 8] = [0, 0, 1, 7, 48, 536, 1400, 1460];
const OPTIONS: [&[u8]; 16] = [
    &[],
    &[2, 4, 5, 0xb4],
    &[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7],
    &[2, 4, 0, 0],
    &[2, 4, 0, 1],
    &[2, 4, 0xff, 0xff],
    &[3, 3, 14],
    &[3, 3, 255, 4, 2],
    &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
    &[8, 10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[5, 10, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    &[5, 0],
    &[254, 2, 253, 1],
    &[1; 40],
    &[0; 40],
    &[2, 4, 5, 0xb4, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 3, 3, 2],
];
const WORDS: [&[u8]; 8] = [
    b"NICK a\r\nUSER a 0 * :a\r\n",
    b"EHLO x\r\nMAIL FROM:<a@b>\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\0\x01file\0octet\0",
    b"\0\x02file\0octet\0",
    b"\0\x03\0\x01abc",
    b"JOIN #c\r\nPRIVMSG #c :x\r\nQUIT\r\n",
    b"QUIT\r\n",
];
const PORTS: [u16; 8] = [25, 80, 6667, 69, 4444, 9155, 1, 0];

fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    front
}

/// One step of a script: so many bytes, and a payload where it has one of its own.
const STEP: usize = 10;

/// Where a client is in a conversation.
#[derive(Clone, Copy, Default)]
struct End {
    ours: u32,
    theirs: u32,
}

/// Clients that know what they were told.
#[derive(Default)]
struct Clients {
    ends: HashMap<(IpAddr, u16, IpAddr, u16), End>,
}

fn v6(last: u8) -> [u8; 16] {
    let mut octets = [0; 16];
    (octets[0], octets[1], octets[15]) = (0xfd, 0x77, last);
    octets
}

/// A frame around a packet: plain, tagged, twice tagged, or in a PPPoE session.
fn framed(way: u8, (src, dst): ([u8; 6], [u8; 6]), packet: &[u8], six: bool) -> Vec<u8> {
    let ethertype: [u8; 2] = if six { [0x86, 0xdd] } else { [8, 0] };
    let mut frame = [dst, src].concat();
    match way & 3 {
        0 => frame.extend(ethertype),
        1 => {
            frame.extend([0x81, 0, way & 0xe0, 10]);
            frame.extend(ethertype);
        }
        2 => {
            frame.extend([0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]);
            frame.extend(ethertype);
        }
        _ => {
            frame.extend([0x88, 0x64, 0x11, 0, 0, 5]);
            frame.extend((packet.len() as u16 + 2).to_be_bytes());
            frame.extend(if six { [0, 0x57] } else { [0, 0x21] });
        }
    }
    frame.extend(packet);
    frame
}

impl Clients {
    /// The frame that a step asks for, to a server at this last byte of an address, by this MAC address.
    fn frame(&mut self, step: &[u8; STEP], data: &mut &[u8], to: (u8, [u8; 6])) -> Vec<u8> {
        let &[who, flags, seq, ack, shape, body, port, twist, ..] = step;
        let six = who & 4 != 0;
        let host = 8 + (who & 3);
        let (mut client, mut server) = (host, to.0);
        let mut mac = [2, 0, 0, 0, 0, host];
        match twist & 31 {
            // Its own address, another's, nobody's.
            1 => server = client,
            2 => client = 255,
            3 => mac[0] |= 1,
            4 => mac = [0xff; 6],
            5 => mac[5] = 77,
            6 => client = server,
            _ => {}
        }
        let (sport, dport) = (
            40_000 + u16::from(who >> 3 & 1) - u16::from(twist & 31 == 7) * 40_000,
            PORTS[usize::from(port & 7)],
        );
        let length = LENGTHS[usize::from(body & 7)];
        let payload = match body >> 3 & 3 {
            0 => take(data, length).to_vec(),
            _ => {
                let word = WORDS[usize::from(body >> 5)];
                let many = word.iter().copied().cycle();
                many.take(length.max(word.len().min(length * 64))).collect()
            }
        };
        let (from, to_ip): (IpAddr, IpAddr) = match six {
            true => (v6(client).into(), v6(server).into()),
            false => (
                if client == 255 {
                    [0; 4].into()
                } else {
                    [10, 77, 0, client].into()
                },
                [10, 77, 0, server].into(),
            ),
        };
        let mut packet = Vec::new();
        if who & 16 != 0 {
            let built = match (from, to_ip) {
                (IpAddr::V4(a), IpAddr::V4(b)) => PacketBuilder::ipv4(a.octets(), b.octets(), 64)
                    .udp(sport, dport)
                    .write(&mut packet, &payload),
                (IpAddr::V6(a), IpAddr::V6(b)) => PacketBuilder::ipv6(a.octets(), b.octets(), 64)
                    .udp(sport, dport)
                    .write(&mut packet, &payload),
                _ => return Vec::new(),
            };
            built.expect("a short packet");
        } else {
            let end = self.ends.entry((from, sport, to_ip, dport)).or_default();
            let mut tcp = TcpHeader::new(sport, dport, 0, WINDOWS[usize::from(shape & 7)]);
            tcp.sequence_number = end.ours.wrapping_add(OFFSETS[usize::from(seq & 15)]);
            tcp.acknowledgment_number = end.theirs.wrapping_add(OFFSETS[usize::from(ack & 15)]);
            // Mostly what a client would say next.
            let flags = match seq >> 4 & 3 {
                0 => flags,
                _ if end.theirs == 0 => 2,
                1 => 0x10 | flags & 1,
                _ => 0x18,
            };
            (tcp.fin, tcp.syn, tcp.rst) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            (tcp.psh, tcp.ack, tcp.urg) = (flags & 8 != 0, flags & 16 != 0, flags & 32 != 0);
            let options = OPTIONS[usize::from(shape >> 4)];
            tcp.set_options_raw(options).expect("at most 40 bytes");
            // It goes on as if all that is in order were heard.
            if seq & 15 < 4 {
                let len = payload.len() as u32 + u32::from(tcp.syn) + u32::from(tcp.fin);
                end.ours = end.ours.wrapping_add(len);
            }
            let built = match (from, to_ip) {
                (IpAddr::V4(a), IpAddr::V4(b)) => PacketBuilder::ipv4(a.octets(), b.octets(), 64)
                    .tcp_header(tcp)
                    .write(&mut packet, &payload),
                (IpAddr::V6(a), IpAddr::V6(b)) => PacketBuilder::ipv6(a.octets(), b.octets(), 64)
                    .tcp_header(tcp)
                    .write(&mut packet, &payload),
                _ => return Vec::new(),
            };
            built.expect("a short packet");
        }
        let mut frame = framed(who >> 5, (mac, to.1), &packet, six);
        if twist & 31 > 24
            && let [at, value, ..] = *take(data, 2)
        {
            // Within the headers, mostly; a checksum that is wrong by it is a case of its own.
            let at = usize::from(at) % frame.len();
            frame[at] = value;
        }
        if twist & 31 == 8 {
            frame.truncate(usize::from(step[8]));
        }
        frame
    }

    /// What a frame to a client tells it.
    fn learn(&mut self, frame: &[u8]) {
        let Ok(meta) = parse(frame) else { return };
        let (Some(server), Some(client)) = (meta.src_ip(), meta.dst_ip()) else {
            return;
        };
        if meta.proto != 6 {
            return;
        }
        let at = usize::from(meta.l4) + 4;
        let Some(seq) = frame.get(at..at + 4).and_then(<[u8]>::first_chunk) else {
            return;
        };
        let len = u32::from(meta.end - meta.payload) + (meta.tcp_flags & 3).count_ones();
        if let Some(end) = self.ends.get_mut(&(client, meta.dport, server, meta.sport)) {
            end.theirs = u32::from_be_bytes(*seq).wrapping_add(len);
        }
    }
}

/// Of any frame that is sent: it is a frame, and for no group.
fn well_made(frame: &[u8]) -> Meta {
    let back = parse(frame).expect("an answer is a good frame");
    assert!(back.src_mac[0] & 1 == 0, "from a group: {frame:02x?}");
    assert!((60..=LONGEST).contains(&frame.len()), "{}", frame.len());
    SlicedPacket::from_ethernet(frame).expect("another parser takes it too");
    back
}

/// Decoys over frames of any kind: nothing ends the thread, every frame is counted, answers go back to whoever asked and are few, and conversations are few and end.
pub fn decoy(mut data: &[u8]) {
    let settings = decoy::Settings {
        at_most: 8,
        for_a_host: 3,
        deadline: Duration::from_secs(5),
        silence: Duration::from_secs(2),
        record: 512,
        name: "x.example".into(),
    };
    let mut hall = Hall::new(settings.clone());
    let tally = hall.tally();
    let (mut now, mut given) = (0, 0);
    let mut clients = Clients::default();
    let mut macs: HashSet<[u8; 6]> = HashSet::new();
    while data.len() >= STEP {
        let step: [u8; STEP] = take(&mut data, STEP).try_into().expect("so many");
        let frame = match step[7] & 31 {
            9 => take(&mut data, usize::from(step[8])).to_vec(),
            _ => clients.frame(&step, &mut data, (200 + (step[6] >> 3 & 1), ROUTER)),
        };
        let manners = Manners::ALL[usize::from(step[6] >> 4) % Manners::ALL.len()].1;
        let mut out: Vec<Vec<u8>> = Vec::new();
        // A ring that is full.
        let room = usize::from(step[9] & 15 != 15) * 64;
        let mut send = |frame: &[u8]| {
            let fits = out.len() < room;
            out.push(frame.to_vec());
            fits
        };
        given += 1;
        hall.take_frame(
            &frame,
            (RuleSlot(u32::from(step[6] & 7)), manners),
            now as u64,
            Instant::from_millis(now),
            &mut send,
        );
        let most = match parse(&frame) {
            Ok(meta) if meta.proto == 17 => 1,
            Ok(_) => ANSWERS,
            Err(_) => 0,
        };
        assert!(out.len() <= most, "{} answers", out.len());
        for answer in &out {
            let (back, meta) = (well_made(answer), parse(&frame).expect("as above"));
            assert_eq!((back.dst_mac, back.src_mac), (meta.src_mac, meta.dst_mac));
            assert_eq!((back.vlan, back.vlan_depth), (meta.vlan, meta.vlan_depth));
            assert_eq!((back.dst, back.src), (meta.src, meta.dst));
            assert_eq!((back.dport, back.sport), (meta.sport, meta.dport));
            assert_eq!((back.proto, back.net), (meta.proto, meta.net));
            assert!(back.src != back.dst && back.dst_mac[0] & 1 == 0);
            macs.insert(back.dst_mac);
            clients.learn(answer);
        }
        now += STEPS[usize::from(step[9] >> 5)];
        if step[9] & 16 != 0 {
            look(&mut hall, now, &mut clients, &macs);
        }
        let mut of_host: HashMap<IpAddr, usize> = HashMap::new();
        hall.clients()
            .for_each(|ip| *of_host.entry(ip).or_default() += 1);
        assert!(hall.clients().count() <= settings.at_most);
        assert!(of_host.values().all(|count| *count <= settings.for_a_host));
        let counted = [&tally.begun, &tally.heard, &tally.strays, &tally.full];
        let counted: u64 = counted.iter().map(|counter| counter.get()).sum();
        assert_eq!(given, counted + tally.host_full.get());
        told(&mut hall, &settings);
    }
    // The longest, and how long its end is waited for, looked at ten times a second.
    for _ in 0..=(5_000 + 2_000) / 100 + 2 {
        now += 100;
        look(&mut hall, now, &mut clients, &macs);
        told(&mut hall, &settings);
    }
    assert!(hall.is_empty(), "{} go on", hall.clients().count());
}

fn look(hall: &mut Hall, now: i64, clients: &mut Clients, macs: &HashSet<[u8; 6]>) {
    let (open, mut out) = (hall.clients().count(), Vec::new());
    hall.tick(Instant::from_millis(now), |frame| {
        out.push(frame.to_vec());
        true
    });
    assert!(out.len() <= LOOK * open, "{} of {open}", out.len());
    for frame in &out {
        let back = well_made(frame);
        assert!(macs.contains(&back.dst_mac), "nobody asked: {frame:02x?}");
        clients.learn(frame);
    }
}

fn told(hall: &mut Hall, settings: &decoy::Settings) {
    for report in hall.reports() {
        let kept: usize = report.transcript.turns().map(|turn| turn.1.len()).sum();
        assert!(kept <= settings.record);
        for line in report.transcript.lines() {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        for (_, value) in &report.learned {
            assert!(!value.chars().any(char::is_control), "{value:?}");
        }
    }
}

/// The box's own address over frames of any kind, those that the workers would give it and, by the first byte, those that they would not.
pub fn inband(mut data: &[u8]) {
    let [mode, rest @ ..] = data else { return };
    data = rest;
    let vlan = (mode & 1 != 0).then_some(10);
    let sides = [true, mode & 2 != 0];
    let addresses: Vec<ipnet::IpNet> = ["10.77.0.2/24", "fd77::2/64"]
        .map(|net| net.parse().expect("a net"))
        .to_vec();
    let gateways: Vec<IpAddr> = ["10.77.0.1", "fe80::1"]
        .map(|ip| ip.parse().expect("an address"))
        .to_vec();
    let own = Own {
        mac: ROUTER,
        sides,
        vlan,
        addresses: [
            IpAddr::from(OURS),
            v6(OURS6).into(),
            inband::link_local(ROUTER).into(),
        ]
        .to_vec(),
        gateways: gateways.clone(),
        allow: ["0.0.0.0/0", "fd77::/112"]
            .map(|net| net.parse().expect("a net"))
            .to_vec(),
        port: 9155,
    };
    let settings = inband::Settings {
        mac: ROUTER,
        addresses,
        gateways,
        vlan,
        sides,
        port: 9155,
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let mut now = 0;
    let mut inband = Inband::new(settings, sender, 7, Instant::ZERO);
    let tally = inband.tally();
    let mut clients = Clients::default();
    let mut served: Vec<DuplexStream> = Vec::new();
    let mut given = 0;
    let check = |frame: &[u8], side: Side, clients: &mut Clients| {
        let back = well_made(frame);
        assert!(sides[side as usize]);
        assert_eq!(back.src_mac, ROUTER);
        assert_eq!(
            (back.vlan_depth, back.vlan[0]),
            (vlan.is_some().into(), vlan.unwrap_or(0))
        );
        if let Some(ip) = back.src_ip() {
            assert!(own.addresses.contains(&ip), "{ip}");
        }
        clients.learn(frame);
    };
    while data.len() >= STEP {
        let mut step: [u8; STEP] = take(&mut data, STEP).try_into().expect("so many");
        let kind = step[7] & 31;
        if mode & 12 != 12 {
            // Mostly to the port, by the way that it has.
            (step[6], step[0]) = (5, step[0] & 31 | u8::from(vlan.is_some()) << 5);
        }
        let frame = match kind {
            9 => take(&mut data, usize::from(step[8])).to_vec(),
            10..=13 => neighbour(&step, vlan.is_some()),
            _ => clients.frame(&step, &mut data, (OURS[3], ROUTER)),
        };
        let side = Side::BOTH[usize::from(step[9] >> 4 & 1)];
        let admitted = parse(&frame)
            .ok()
            .and_then(|meta| own.verdict(&meta, &frame, side))
            .is_some_and(|verdict| verdict == Verdict::Own);
        if admitted || mode & 4 != 0 {
            let room = usize::from(step[9] & 15 != 15) * 256;
            let mut sent = 0;
            given += 1;
            inband.take(
                &frame,
                side,
                (Instant::from_millis(now), room),
                |frame, side| {
                    sent += 1;
                    check(frame, side, &mut clients);
                    true
                },
            );
            // One answer, in three pieces where its path is narrow, by both ways where it is not known which.
            assert!(sent <= 6, "{sent} answers");
        }
        now += STEPS[usize::from(step[9] >> 5)];
        if step[8] & 1 == 0 {
            turn(&mut inband, now, &mut clients, &check);
            served.extend(receiver.try_recv());
            serve(&mut served, step[8]);
        }
        assert!(served.len() <= 16 + 4);
        assert_eq!(tally.received.get(), given);
    }
    drop(served);
    // Who serves is gone, and nobody says anything any more.
    for _ in 0..70 {
        now += 1_000;
        turn(&mut inband, now, &mut clients, &check);
        while receiver.try_recv().is_ok() {}
    }
    assert!(!inband.is_busy());
}

fn turn(
    inband: &mut Inband,
    now: i64,
    clients: &mut Clients,
    check: &impl Fn(&[u8], Side, &mut Clients),
) {
    let mut sent = 0;
    inband.turn((Instant::from_millis(now), 256), |frame, side| {
        sent += 1;
        check(frame, side, clients);
        true
    });
    assert!(sent <= (16 + 8) * 6, "{sent} frames");
}

/// Whoever serves: reads, says a lot, or goes away.
fn serve(served: &mut Vec<DuplexStream>, how: u8) {
    let mut context = Context::from_waker(Waker::noop());
    for stream in served.iter_mut() {
        let mut bytes = [0; 512];
        let mut buffer = ReadBuf::new(&mut bytes);
        if how & 2 != 0 {
            let _ = Pin::new(&mut *stream).poll_read(&mut context, &mut buffer);
        }
        if how & 4 != 0 {
            let _ = Pin::new(&mut *stream).poll_write(&mut context, &[b'x'; 9000]);
        }
    }
    if how & 0x18 == 0x18 && !served.is_empty() {
        served.remove(0);
    }
}

/// ARP, neighbour discovery, ping, and what routers say of packets that are too big.
fn neighbour(step: &[u8; STEP], tagged: bool) -> Vec<u8> {
    let host = 8 + (step[0] & 3);
    let mac = [2, 0, 0, 0, 0, host];
    let way = u8::from(tagged);
    match step[7] & 31 {
        10 => {
            let mut arp = vec![0, 1, 8, 0, 6, 4, 0, step[1] & 3];
            arp.extend(mac);
            arp.extend([10, 77, 0, if step[2] == 0 { 255 } else { host }]);
            arp.extend([0; 6]);
            arp.extend(OURS);
            let mut frame = framed(way, (mac, [0xff; 6]), &arp, false);
            let at = frame.len() - arp.len() - 1;
            frame[at] = 6;
            frame
        }
        11 => {
            let target = v6(if step[2] == 0 { 3 } else { OURS6 });
            let mut body = target.to_vec();
            match step[3] & 7 {
                0 => body.extend([1, 0]),
                1 => body.extend([step[4], step[5], 0, 0, 0, 0, 0, 0]),
                _ => {
                    body.extend([1 + (step[1] & 1), 1]);
                    body.extend(mac);
                }
            }
            let kind = 135 + (step[1] & 1);
            let to = if step[1] & 2 == 0 {
                v6(OURS6)
            } else {
                "ff02::1:ff00:2"
                    .parse::<Ipv6Addr>()
                    .expect("an address")
                    .octets()
            };
            let mut packet = Vec::new();
            PacketBuilder::ipv6(v6(host), to, 255)
                .icmpv6_raw(kind, 0, [step[4], 0, 0, 0])
                .write(&mut packet, &body)
                .expect("a short packet");
            framed(way, (mac, ROUTER), &packet, true)
        }
        12 => {
            let mut packet = Vec::new();
            let body = vec![7; LENGTHS[usize::from(step[5] & 7)]];
            let ping = PacketBuilder::ipv4([10, 77, 0, host], OURS, 64);
            ping.icmpv4_raw(step[1] & 15, 0, [0; 4])
                .write(&mut packet, &body)
                .expect("a short packet");
            framed(way, (mac, ROUTER), &packet, false)
        }
        _ => {
            let mut quoted = Vec::new();
            PacketBuilder::ipv4(OURS, [10, 77, 0, host], 64)
                .tcp(9155, 40_000 + u16::from(step[0] >> 3 & 1), 1, 1)
                .write(&mut quoted, &[])
                .expect("a short packet");
            let mut packet = Vec::new();
            PacketBuilder::ipv4([192, 0, 2, 1], OURS, 64)
                .icmpv4_raw(3, 4, [0, 0, step[2], step[3]])
                .write(&mut packet, &quoted)
                .expect("a short packet");
            framed(way, (mac, ROUTER), &packet, false)
        }
    }
}

/// Any bytes at any persona: it says a bounded number of bytes, the same however they come, and what an alert shows of it is safe.
pub fn persona(data: &[u8]) {
    let [kind, at, said, rest @ ..] = data else {
        return;
    };
    let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    let limits = Limits {
        said: usize::from(*said) * 64,
        content: usize::from(*said) * 16,
    };
    let hear = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut persona = Persona::new(kind, "x.example", limits);
        let mut out = Vec::new();
        persona.greet(&mut out);
        let mut next = Next::More;
        for piece in pieces {
            next = persona.hear(piece, &mut out);
        }
        let len = out.len();
        if next == Next::Close {
            persona.hear(rest, &mut out);
            assert_eq!(out.len(), len, "it has hung up");
        }
        assert!(len <= persona.most_said(), "{len} bytes");
        (out, next, safe(&persona))
    };
    let whole = hear(&mut [rest].into_iter());
    let cut = rest.split_at(usize::from(*at).min(rest.len()));
    assert_eq!(whole, hear(&mut [cut.0, cut.1].into_iter()));
    assert_eq!(whole, hear(&mut rest.chunks(1)));
    // As time goes by, and as datagrams.
    let mut timed = Persona::new(kind, "x.example", limits);
    let mut datagrams = Persona::new(kind, "x.example", limits);
    let (mut out, mut heard, mut answered) = (Vec::new(), 0, 0);
    timed.greet(&mut out);
    for (at, piece) in rest.chunks(usize::from(*at).max(1)).enumerate() {
        timed.hear(piece, &mut out);
        timed.tick(Duration::from_secs(at as u64 * 7), &mut out);
        let mut answer = Vec::new();
        datagrams.hear_datagram(piece, &mut answer);
        assert!(answer.len() <= 32);
        (heard, answered) = (heard + piece.len(), answered + answer.len());
        assert!(answered <= heard + 32);
    }
    assert!(out.len() <= timed.most_said(), "{} bytes", out.len());
    safe(&timed);
    safe(&datagrams);
}

fn safe(persona: &Persona) -> Vec<(&'static str, String)> {
    let learned = persona.learned();
    for (_, value) in &learned {
        assert!(!value.is_empty() && !value.chars().any(char::is_control));
        assert!(value.chars().count() <= 1024);
    }
    learned
}

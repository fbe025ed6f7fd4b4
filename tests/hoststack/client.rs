//! A client that behaves, smoltcp's own, on a line that loses, doubles and reorders what it carries.

use portcullis::hoststack::decoy::persona::{Kind, Limits, Next, Persona};
use portcullis::hoststack::decoy::{Hall, Report, Settings};
use portcullis::policy::{Manners, RuleSlot};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address};
use std::collections::VecDeque;
use std::time::Duration;

pub const NAME: &str = "x.example";
const CLIENT: Ipv4Address = Ipv4Address::new(10, 77, 0, 9);
const SERVER: Ipv4Address = Ipv4Address::new(192, 0, 2, 1);
const HEADER: [u8; 14] = [2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 9, 8, 0];

/// What a line does to frames, in a hundred, and how late one may come, milliseconds.
#[derive(Clone, Copy)]
pub struct Line {
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
}

pub const GOOD: Line = Line {
    lost: 0,
    doubled: 0,
    late: 0,
};

pub fn settings() -> Settings {
    Settings {
        at_most: 16,
        for_a_host: 16,
        deadline: Duration::from_secs(3600),
        silence: Duration::from_secs(3600),
        record: 1 << 20,
        name: NAME.into(),
    }
}

/// A small generator of numbers (xorshift, Marsaglia 2003).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// Frames on their way.
#[derive(Default)]
struct Way(Vec<(i64, Vec<u8>)>);

impl Way {
    fn put(&mut self, line: Line, chance: &mut Chance, now: i64, frame: &[u8]) {
        let copies = 1 + u64::from(chance.below(100) < line.doubled);
        for _ in 0..copies {
            if chance.below(100) >= line.lost {
                let at = now + chance.below(line.late + 1) as i64;
                self.0.push((at, frame.to_vec()));
            }
        }
    }

    fn due(&mut self, now: i64) -> Vec<Vec<u8>> {
        self.0.sort_by_key(|frame| frame.0);
        let due = self.0.iter().take_while(|frame| frame.0 <= now).count();
        self.0.drain(..due).map(|frame| frame.1).collect()
    }
}

#[derive(Default)]
struct Card {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

pub struct In(Vec<u8>);
pub struct Out<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let done = f(&mut packet);
        self.0.push(packet);
        done
    }
}

impl Device for Card {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: Instant) -> Option<(In, Out<'_>)> {
        let packet = self.received.pop_front()?;
        Some((In(packet), Out(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(Out(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

/// What a persona says to each of these, asked directly; whether it hangs up at the end.
pub fn directly(kind: Kind, turns: &[&[u8]]) -> (Vec<Vec<u8>>, Next) {
    let mut persona = Persona::new(kind, NAME, Limits::default());
    let mut greeting = Vec::new();
    persona.greet(&mut greeting);
    let mut said = vec![greeting];
    let mut next = Next::More;
    for turn in turns {
        let mut answer = Vec::new();
        next = persona.hear(turn, &mut answer);
        said.push(answer);
    }
    (said, next)
}

/// Without the questions of a chat server whether one is there, which come by the clock.
pub fn without_pings(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.starts_with(b"PING :"))
        .flatten()
        .copied()
        .collect()
}

/// Says these, each when the answer to the one before is there. What was heard, and the report of the conversation.
pub fn converse(
    manners: Manners,
    kind: Kind,
    turns: &[&[u8]],
    line: Line,
    seed: u64,
) -> (Vec<u8>, Report) {
    let (answers, _) = directly(kind, turns);
    let mut chance = Chance(seed | 1);
    let mut hall = Hall::new(settings());
    let (mut up, mut down) = (Way::default(), Way::default());
    let mut card = Card::default();
    let config = Config::new(HardwareAddress::Ip);
    let mut iface = Interface::new(config, &mut card, Instant::ZERO);
    iface.update_ip_addrs(|ips| {
        let _ = ips.push(IpCidr::new(CLIENT.into(), 24));
    });
    iface
        .routes_mut()
        .add_default_ipv4_route(CLIENT)
        .expect("room");
    let mut sockets = SocketSet::new(Vec::new());
    let buffer = || tcp::SocketBuffer::new(vec![0; 16 * 1024]);
    let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
    let (mut heard, mut said, mut port, mut began) = (Vec::new(), 0, 40_000, 0);
    let mut begin = true;
    for now in (0..1_800_000).step_by(5) {
        let at = Instant::from_millis(now);
        card.received.extend(down.due(now));
        iface.poll(at, &mut card, &mut sockets);
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        if begin {
            // Its first try, or the one before came to nothing.
            socket.abort();
            (heard, said, port, began) = (Vec::new(), 0, port + 1, now);
            socket
                .connect(iface.context(), (SERVER, 7777), port)
                .expect("a free port");
        }
        while let Ok(got) = socket.recv(|bytes| (bytes.len(), bytes.to_vec())) {
            if got.is_empty() {
                break;
            }
            heard.extend(got);
        }
        let expected = without_pings(&answers[..=said].concat()).len();
        let through = without_pings(&heard).len() >= expected;
        if through && said < turns.len() && socket.may_send() {
            assert_eq!(socket.send_slice(turns[said]), Ok(turns[said].len()));
            said += 1;
        } else if through && said == turns.len() {
            socket.close();
        }
        if !socket.may_recv() && socket.state() == tcp::State::CloseWait {
            socket.close();
        }
        iface.poll(at, &mut card, &mut sockets);
        for packet in card.sent.drain(..) {
            let mut frame = HEADER.to_vec();
            frame.extend(packet);
            up.put(line, &mut chance, now, &frame);
        }
        let mut back = Vec::new();
        for frame in up.due(now) {
            hall.take_frame(&frame, (RuleSlot(0), manners), 0, at, |frame| {
                back.push(frame.to_vec());
                true
            });
        }
        hall.tick(at, |frame| {
            back.push(frame.to_vec());
            true
        });
        for frame in back {
            // The client's card gives on what is in the Ethernet frame.
            down.put(line, &mut chance, now, &frame[14..]);
        }
        if let Some(report) = hall.reports().next() {
            if said == turns.len() {
                return (heard, report);
            }
            panic!("it ended after {said} of {} turns: {report:?}", turns.len());
        }
        // Its handshake did not get through in three seconds, and it is not known to the hall any more.
        begin = hall.is_empty() && now > began + 4_000;
    }
    panic!(
        "{kind:?} goes on after half an hour: {said} said, {} heard, {} open",
        heard.len(),
        hall.clients().count()
    );
}

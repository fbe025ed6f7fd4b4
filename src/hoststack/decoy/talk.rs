//! One conversation: a stack of its own, under the address and the port that the client wants to reach, and a persona behind it.

use super::persona::{Kind, Limits, Next, Persona};
use super::transcript::Transcript;
use crate::frame::{Frag, Meta, Net};
use crate::hoststack::link::Link;
use crate::hoststack::wire::{MTU, Wire};
use crate::policy::{Manners, RuleSlot};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::Medium;
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};
use std::net::IpAddr;
use std::time::Duration;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// TCP flags.
const SYN: u8 = 0x02;
const FIN_SYN_RST_ACK: u8 = 0x17;
/// Of a MAC address's first byte: that of a group (IEEE 802.3).
const GROUP: u8 = 0x01;
/// Of a VLAN tag: the id, without the priority.
const VLAN_ID: u16 = 0x0fff;
/// A client that does not finish its handshake in this time is not one.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long an ended conversation still answers what is sent again.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that wait to be read, and to be sent.
const BUFFER: usize = 4096;
/// Datagrams that wait.
const DATAGRAMS: usize = 4;
/// Bytes that a persona hears at once.
const MOUTHFUL: usize = 512;
/// What one poll may do at most: packets that it sends.
const SENDS: usize = 4;
/// Of a host some hops away.
const HOP_LIMIT: u8 = 52;

/// The two ends. The client's machine is part of it: another that forges the client's address gets none of the client's answers, and says nothing in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Who {
    mac: [u8; 6],
    vlan: [u16; 2],
    pub client: IpAddr,
    client_port: u16,
    server: IpAddr,
    server_port: u16,
    proto: u8,
}

impl Who {
    /// Those of the packet in a frame; `None` where nobody could be answered, or smoltcp would answer by an ICMP error.
    pub fn of(frame: &[u8], meta: &Meta) -> Option<Who> {
        let (client, server) = (meta.src_ip()?, meta.dst_ip()?);
        let usable = |ip: IpAddr| IpAddress::from(ip).is_unicast() && !ip.is_loopback();
        let carried = matches!(meta.proto, TCP | UDP) && meta.sport != 0 && meta.dport != 0;
        let group = (meta.src_mac[0] | meta.dst_mac[0]) & GROUP != 0;
        // Nothing stands between the IP header and the transport header: no extension, no AH.
        let next = match meta.net {
            Net::V4 => 9,
            _ => 6,
        };
        let plain = frame.get(usize::from(meta.l3) + next) == Some(&meta.proto);
        let one = carried && plain && !group && meta.frag == Frag::Whole;
        (one && usable(client) && usable(server) && client != server).then_some(Who {
            mac: meta.src_mac,
            vlan: meta.vlan.map(|tag| tag & VLAN_ID),
            client,
            client_port: meta.sport,
            server,
            server_port: meta.dport,
            proto: meta.proto,
        })
    }
}

/// Whether a packet may begin a conversation.
pub(super) fn begins(meta: &Meta) -> bool {
    meta.proto == UDP || (meta.proto == TCP && meta.tcp_flags & FIN_SYN_RST_ACK == SYN)
}

/// What ended a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client did.
    Client,
    /// The decoy had said its last.
    Decoy,
    /// The client said nothing any more.
    Silence,
    /// It had lasted long enough.
    Deadline,
    /// The gate ends.
    Shutdown,
}

impl Ended {
    /// In words.
    pub const fn describe(self) -> &'static str {
        match self {
            Ended::Client => "the client closed it",
            Ended::Decoy => "the decoy closed it",
            Ended::Silence => "the client fell silent",
            Ended::Deadline => "it had lasted long enough",
            Ended::Shutdown => "the gate ended",
        }
    }
}

/// What a conversation has shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// The rule that has it answered.
    pub rule: RuleSlot,
    /// Its first packet.
    pub meta: Meta,
    /// The length of that, bytes.
    pub len: u32,
    /// When that came, nanoseconds since the Unix epoch.
    pub began: u64,
    /// How long it lasted.
    pub lasted: Duration,
    /// What the decoy spoke.
    pub kind: Kind,
    /// What ended it.
    pub ended: Ended,
    /// Fields of an alert, safe to show.
    pub learned: Vec<(&'static str, String)>,
    /// Who said what.
    pub transcript: Transcript,
}

/// How conversations go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At once.
    pub at_most: usize,
    /// Of them with one inside host.
    pub for_a_host: usize,
    /// The longest.
    pub deadline: Duration,
    /// The longest silence of a client.
    pub silence: Duration,
    /// Bytes that a transcript keeps.
    pub record: usize,
    /// What decoys call themselves.
    pub name: String,
}

/// A conversation.
pub(super) struct Talk {
    rule: RuleSlot,
    meta: Meta,
    len: u32,
    began: u64,
    pub link: Link,
    pub wire: Wire,
    iface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    persona: Persona,
    transcript: Transcript,
    /// What is still to be sent.
    saying: Vec<u8>,
    start: Instant,
    heard: Instant,
    due: Option<Instant>,
    /// The connection is open, or was.
    open: bool,
    ended: Option<(Ended, Instant)>,
    over: bool,
}

impl Talk {
    /// One that this packet begins; `None` where it does not, or its server is no address that anybody could have.
    pub fn begin(
        frame: &[u8],
        meta: &Meta,
        (rule, manners): (RuleSlot, Manners),
        settings: &Settings,
        (seed, began): (u64, u64),
        now: Instant,
    ) -> Option<Talk> {
        let who = Who::of(frame, meta).filter(|_| begins(meta))?;
        let mut wire = Wire::new(Medium::Ip);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut wire, now);
        let server = IpAddress::from(who.server);
        iface.update_ip_addrs(|addresses| {
            let whole = if who.server.is_ipv4() { 32 } else { 128 };
            // There is room for more than one.
            let _ = addresses.push(IpCidr::new(server, whole));
        });
        match who.server {
            IpAddr::V4(ip) => iface.routes_mut().add_default_ipv4_route(ip).ok()?,
            IpAddr::V6(ip) => iface.routes_mut().add_default_ipv6_route(ip).ok()?,
        };
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let at = IpListenEndpoint {
            addr: Some(server),
            port: who.server_port,
        };
        let socket = match who.proto {
            TCP => {
                let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
                let mut socket = tcp::Socket::new(buffer(), buffer());
                socket.listen(at).ok()?;
                socket.set_hop_limit(Some(HOP_LIMIT));
                socket.set_nagle_enabled(false);
                sockets.add(socket)
            }
            _ => {
                let buffer = || {
                    let slots = vec![udp::PacketMetadata::EMPTY; DATAGRAMS];
                    udp::PacketBuffer::new(slots, vec![0; DATAGRAMS * MTU])
                };
                let mut socket = udp::Socket::new(buffer(), buffer());
                socket.bind(at).ok()?;
                socket.set_hop_limit(Some(HOP_LIMIT));
                sockets.add(socket)
            }
        };
        let kind = Kind::of(manners, who.proto == UDP, who.server_port);
        Some(Talk {
            rule,
            meta: *meta,
            len: frame.len() as u32,
            began,
            link: Link::back(frame, meta)?,
            wire,
            iface,
            sockets,
            socket,
            persona: Persona::new(kind, &settings.name, Limits::default()),
            transcript: Transcript::new(settings.record),
            saying: Vec::new(),
            start: now,
            heard: now,
            due: Some(now),
            open: who.proto == UDP,
            ended: None,
            over: false,
        })
    }

    /// Takes a packet of the client.
    pub fn take(&mut self, frame: &[u8], meta: &Meta, settings: &Settings, now: Instant) {
        let Some(packet) = frame.get(usize::from(meta.l3)..usize::from(meta.end)) else {
            return;
        };
        if let Some(link) = Link::back(frame, meta) {
            // Of the last frame: the client may have come to another router. Its own machine and VLAN are those of the beginning.
            self.link = link;
        }
        self.wire.incoming = Some(packet.to_owned());
        self.turn(settings, now);
    }

    /// Whether there is something to do.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Moves everything on, a bounded piece. What is to be sent is in `wire.outgoing`.
    pub fn turn(&mut self, settings: &Settings, now: Instant) {
        let (iface, wire, sockets) = (&mut self.iface, &mut self.wire, &mut self.sockets);
        iface.poll_ingress_single(now, wire, sockets);
        // One that found no room is not kept for later: its sender repeats it.
        wire.incoming = None;
        match self.meta.proto {
            TCP => self.converse(now),
            _ => self.correspond(now),
        }
        for _ in 0..SENDS {
            let before = self.wire.outgoing.len();
            self.iface
                .poll_egress(now, &mut self.wire, &mut self.sockets);
            if self.wire.outgoing.len() == before {
                break;
            }
        }
        self.time_out(settings, now);
        // Looked at again in time for whatever comes first.
        let stack = self.iface.poll_at(now, &self.sockets);
        let look = now + smoltcp::time::Duration::from_millis(100);
        self.due = Some(stack.map_or(look, |at| at.max(now).min(look)));
    }

    /// A connection: what came is heard, and what the persona says is sent.
    fn converse(&mut self, now: Instant) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.socket);
        let mut next = Next::More;
        if !self.open && socket.may_send() {
            self.open = true;
            self.persona.greet(&mut self.saying);
        }
        if self.open && self.ended.is_none() {
            next = self.persona.tick(since(self.start, now), &mut self.saying);
        }
        say(socket, &mut self.saying, &mut self.transcript);
        let mut bytes = [0; MOUTHFUL];
        // All that can be waiting is heard, as long as the client takes what is said to it.
        while self.saying.is_empty() && next == Next::More && self.ended.is_none() {
            let Ok(len @ 1..) = socket.recv_slice(&mut bytes) else {
                break;
            };
            self.heard = now;
            self.transcript.client(&bytes[..len]);
            next = self.persona.hear(&bytes[..len], &mut self.saying);
            say(socket, &mut self.saying, &mut self.transcript);
        }
        if next == Next::Close && self.ended.is_none() {
            self.ended = Some((Ended::Decoy, now));
        }
        let left = self.open && !socket.may_recv() && !socket.can_recv();
        if left && self.ended.is_none() {
            self.ended = Some((Ended::Client, now));
        }
        if self.ended.is_some() && self.saying.is_empty() {
            socket.close();
        }
        self.over = match socket.state() {
            tcp::State::Closed | tcp::State::TimeWait => true,
            // What began it was no good, or was taken back. Another first packet begins another one: smoltcp would go on with the windows of the one before.
            tcp::State::Listen => true,
            _ => false,
        };
    }

    /// Datagrams: each is answered by one, if at all.
    fn correspond(&mut self, now: Instant) {
        let socket = self.sockets.get_mut::<udp::Socket>(self.socket);
        let mut answer = Vec::new();
        for _ in 0..DATAGRAMS {
            let mut bytes = [0; MTU];
            let Ok((len, from)) = socket.recv_slice(&mut bytes) else {
                break;
            };
            answer.clear();
            self.heard = now;
            self.transcript.client(&bytes[..len]);
            let next = self.persona.hear_datagram(&bytes[..len], &mut answer);
            if !answer.is_empty() && socket.send_slice(&answer, from.endpoint).is_ok() {
                self.transcript.server(&answer);
            }
            if next == Next::Close && self.ended.is_none() {
                self.ended = Some((Ended::Decoy, now));
            }
        }
    }

    fn time_out(&mut self, settings: &Settings, now: Instant) {
        let late = if !self.open {
            (since(self.start, now) > HANDSHAKE).then_some(Ended::Silence)
        } else if since(self.start, now) > settings.deadline {
            Some(Ended::Deadline)
        } else {
            (since(self.heard, now) > settings.silence).then_some(Ended::Silence)
        };
        match (self.ended, late) {
            (None, Some(late)) => self.end(late, now),
            (Some((_, at)), _) if since(at, now) > LINGER => {
                if self.meta.proto == TCP && !self.over {
                    // Whoever does not take what is said is cut off.
                    self.sockets.get_mut::<tcp::Socket>(self.socket).abort();
                    self.iface
                        .poll_egress(now, &mut self.wire, &mut self.sockets);
                }
                self.over = true;
            }
            _ => {}
        }
    }

    fn end(&mut self, why: Ended, now: Instant) {
        self.ended = Some((why, now));
        if self.meta.proto == TCP {
            self.sockets.get_mut::<tcp::Socket>(self.socket).close();
        }
        self.over |= !self.open;
    }

    /// It is over, and may be forgotten.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What it has shown; `None` where nobody was there.
    pub fn report(self, now: Instant) -> Option<Report> {
        self.open.then(|| Report {
            rule: self.rule,
            meta: self.meta,
            len: self.len,
            began: self.began,
            // Not the time in which it still answered what was sent again.
            lasted: since(self.start, self.ended.map_or(now, |(_, at)| at)),
            kind: self.persona.kind(),
            ended: match (self.ended, self.over) {
                (Some((ended, _)), _) => ended,
                (None, true) => Ended::Client,
                (None, false) => Ended::Shutdown,
            },
            learned: self.persona.learned(),
            transcript: self.transcript,
        })
    }
}

/// Sends as much as there is room for.
fn say(socket: &mut tcp::Socket<'_>, saying: &mut Vec<u8>, transcript: &mut Transcript) {
    if let Ok(sent @ 1..) = socket.send_slice(saying) {
        transcript.server(&saying[..sent]);
        saying.drain(..sent);
    }
}

fn since(then: Instant, now: Instant) -> Duration {
    Duration::from_micros((now.total_micros() - then.total_micros()).max(0) as u64)
}

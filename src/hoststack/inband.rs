//! The box's own address: ARP, neighbour discovery and ping by smoltcp, and connections to one port, handed to whoever serves them.

use super::link::pad;
use super::paths::Paths;
use super::wire::Wire;
use crate::frame::{self, Meta};
use crate::policy::Side;
use crate::telemetry::Counter;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Medium;
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv6Address, Ipv6Cidr};
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc::Sender;

/// Connections at once.
const CONNECTIONS: usize = 16;
/// Bytes of a request that wait.
const RECEIVES: usize = 4096;
/// Bytes of an answer that wait: what a peer some milliseconds away has not acknowledged yet.
const SENDS: usize = 64 * 1024;
/// Bytes between the stack and who serves.
const PIPE: usize = 64 * 1024;
/// A peer that acknowledges nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(20);
/// One that is asked nothing and says nothing is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Nothing that is to be sent gets through for so long, or the peer does not close its end: it is cut off. It may acknowledge probes for ever.
const STUCK: Duration = Duration::from_secs(30);
/// A client that does not finish its handshake in this time is not one, and takes no place.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long an end that has said its last acknowledges what comes again.
const LINGER: Duration = Duration::from_secs(1);
/// TCP flags.
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Packets that one poll sends at most.
const BURST: usize = 16;
/// Machines whose side is remembered.
const MACHINES: usize = 256;
const BROADCAST: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// What the address counts. One writer, any reader.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frames that it was given.
    pub received: Counter,
    /// Frames that it sent.
    pub sent: Counter,
    /// Frames that found no room on their way out, and frames that were left because their answer would have had none.
    pub unsent: Counter,
    /// Connections now.
    pub open: AtomicU64,
    /// Connections since the start.
    pub opened: Counter,
    /// Connections that nobody served: there were too many.
    pub refused: Counter,
    /// Messages of routers that were heeded.
    pub narrowed: Counter,
}

/// Where the box is on the wire.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its addresses, each with the length of its network's prefix.
    pub addresses: Vec<ipnet::IpNet>,
    /// At most one of a family.
    pub gateways: Vec<IpAddr>,
    /// The VLAN; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// By side: whether it is there.
    pub sides: [bool; 2],
    /// The TCP port.
    pub port: u16,
}

/// The stack of the address.
pub struct Inband {
    settings: Settings,
    wire: Wire,
    iface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    paths: Paths,
    /// On which side each machine was heard last.
    sides: HashMap<[u8; 6], Side>,
    serve: Sender<DuplexStream>,
    tally: Arc<Tally>,
    frame: Vec<u8>,
}

struct Connection {
    socket: SocketHandle,
    /// To whoever serves; `None` where nobody is connected.
    pipe: Option<DuplexStream>,
    /// The peer has said all, and it was passed on.
    read: bool,
    /// When something moved last, and what was to be sent then.
    moved: (Instant, usize),
}

/// The interface identifier that a MAC address makes (RFC 4291 appendix A), in the link-local prefix.
pub fn link_local(mac: [u8; 6]) -> Ipv6Address {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    let parts = [(a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f];
    Ipv6Address::new(0xfe80, 0, 0, 0, parts[0], parts[1], parts[2], parts[3])
}

impl Inband {
    /// Connections are handed over as the other end of a pipe.
    pub fn new(settings: Settings, serve: Sender<DuplexStream>, seed: u64, now: Instant) -> Inband {
        let mut wire = Wire::new(Medium::Ethernet);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(settings.mac)));
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut wire, now);
        let v6 = settings.addresses.iter().any(|net| net.addr().is_ipv6());
        iface.update_ip_addrs(|addresses| {
            let own = settings.addresses.iter();
            let own = own.map(|net| IpCidr::new(net.addr().into(), net.prefix_len()));
            let local = IpCidr::Ipv6(Ipv6Cidr::new(link_local(settings.mac), 64));
            for cidr in own.chain(v6.then_some(local)) {
                // There is room for as many as the config allows.
                let _ = addresses.push(cidr);
            }
        });
        for gateway in &settings.gateways {
            // As above.
            let _ = match gateway {
                IpAddr::V4(ip) => iface.routes_mut().add_default_ipv4_route(*ip),
                IpAddr::V6(ip) => iface.routes_mut().add_default_ipv6_route(*ip),
            };
        }
        let mut sockets = SocketSet::new(Vec::with_capacity(CONNECTIONS));
        let connection = |_| Connection {
            socket: sockets.add(socket(settings.port)),
            pipe: None,
            read: false,
            moved: (now, 0),
        };
        let connections = (0..CONNECTIONS).map(connection).collect();
        Inband {
            settings,
            wire,
            iface,
            sockets,
            connections,
            paths: Paths::default(),
            sides: HashMap::new(),
            serve,
            tally: Arc::default(),
            frame: Vec::new(),
        }
    }

    /// What it counts.
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Whether somebody is connected.
    pub fn is_busy(&self) -> bool {
        self.connections.iter().any(|one| one.pipe.is_some())
    }

    /// Takes a frame that came in by `side`; what answers it is handed to `send`, which has room for `room` frames.
    pub fn take(
        &mut self,
        bytes: &[u8],
        side: Side,
        (now, room): (Instant, usize),
        send: impl FnMut(&[u8], Side) -> bool,
    ) {
        self.tally.received.add(1);
        let Ok(meta) = frame::parse(bytes) else {
            return;
        };
        let group = meta.src_mac[0] & BROADCAST != 0;
        if group || meta.src_ip().is_some_and(|ip| ip.is_unspecified()) || !self.is_ours(&meta) {
            // Nobody that could be answered; smoltcp asserts that such do not come to its list of neighbours.
            return;
        }
        if self.sides.len() < MACHINES || self.sides.contains_key(&meta.src_mac) {
            self.sides.insert(meta.src_mac, side);
        }
        if self.hear_of_paths(bytes, &meta, now) {
            return;
        }
        if meta.proto == TCP && meta.tcp_flags & (SYN | ACK) == SYN {
            self.make_room();
        }
        self.wire.incoming = Some(untagged(bytes, &meta));
        self.wire.room = room.min(super::wire::OUTGOING);
        self.iface
            .poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        if self.wire.incoming.take().is_some() {
            // It was left there, since what answers it would have found no room.
            self.tally.unsent.add(1);
        }
        if meta.proto == TCP && meta.tcp_flags & RST != 0 {
            self.listen_anew();
        }
        self.flush(now, send);
    }

    /// Whether a packet is to an address of ours, or to a group of neighbour discovery. smoltcp takes for such a group whatever ends with the same two bytes as an address of its own, and
    /// would answer in its name.
    fn is_ours(&self, meta: &Meta) -> bool {
        let ours = |ip: IpAddr| {
            let mut own = self.iface.ip_addrs().iter();
            own.any(|net| IpAddr::from(net.address()) == ip)
        };
        meta.dst_ip().is_none_or(|ip| match ip.is_multicast() {
            true => meta.proto == ICMPV6,
            false => ours(ip),
        })
    }

    /// A handshake that is taken back leaves smoltcp's socket listening with the window of that, by which it would take what there is no room for of the next.
    fn listen_anew(&mut self) {
        for one in &self.connections {
            let socket = self.sockets.get_mut::<tcp::Socket>(one.socket);
            if socket.state() == tcp::State::Listen {
                listen(socket, self.settings.port);
            }
        }
    }

    /// A client begins: where no place is free, the handshake that has waited longest gives way, so that many that are never finished keep nobody out.
    fn make_room(&mut self) {
        let state = |one: &Connection| self.sockets.get::<tcp::Socket>(one.socket).state();
        if self
            .connections
            .iter()
            .any(|one| state(one) == tcp::State::Listen)
        {
            return;
        }
        let half = self.connections.iter_mut().filter(|one| {
            self.sockets.get::<tcp::Socket>(one.socket).state() == tcp::State::SynReceived
        });
        if let Some(oldest) = half.min_by_key(|one| one.moved.0) {
            let socket = self.sockets.get_mut::<tcp::Socket>(oldest.socket);
            listen(socket, self.settings.port);
        }
    }

    /// Moves connections on: what they say and are told, what has to be sent again. A bounded piece.
    pub fn turn(
        &mut self,
        (now, room): (Instant, usize),
        mut send: impl FnMut(&[u8], Side) -> bool,
    ) {
        let mut left = room.min(BURST);
        for at in 0..self.connections.len() {
            self.serve(at, now);
        }
        while left > 0 {
            self.wire.room = left.min(super::wire::OUTGOING);
            let moved = self
                .iface
                .poll_egress(now, &mut self.wire, &mut self.sockets);
            let sent = self.wire.outgoing.len();
            self.flush(now, &mut send);
            if sent == 0 && moved == PollResult::None {
                break;
            }
            left = left.saturating_sub(sent.max(1));
        }
        let open = self.connections.iter().filter(|one| one.pipe.is_some());
        self.tally.open.store(open.count() as u64, Relaxed);
    }

    fn hear_of_paths(&mut self, bytes: &[u8], meta: &Meta, now: Instant) -> bool {
        let error = matches!((meta.proto, meta.sport), (1, 3) | (58, 2));
        if !error {
            return false;
        }
        let (sockets, connections) = (&self.sockets, &self.connections);
        let talks = |ip: IpAddr, port: u16| {
            let mut remotes = connections
                .iter()
                .filter_map(|one| sockets.get::<tcp::Socket>(one.socket).remote_endpoint());
            remotes.any(|end| IpAddr::from(end.addr) == ip && end.port == port)
        };
        let heeded = self.paths.hear(bytes, meta, now, talks);
        self.tally.narrowed.add(heeded.into());
        true
    }

    /// Moves bytes between one socket and its pipe.
    fn serve(&mut self, at: usize, now: Instant) {
        let Connection {
            socket,
            pipe,
            read,
            moved,
        } = &mut self.connections[at];
        let socket = self.sockets.get_mut::<tcp::Socket>(*socket);
        let mut context = Context::from_waker(Waker::noop());
        if pipe.is_none() {
            match socket.state() {
                tcp::State::Listen => {
                    *moved = (now, 0);
                    return;
                }
                tcp::State::SynReceived => {
                    if now > moved.0 + HANDSHAKE {
                        socket.abort();
                    }
                    return;
                }
                tcp::State::TimeWait => {
                    // Its last segment may have to be acknowledged again, but not for so long as to keep others out.
                    if now > moved.0 + LINGER {
                        listen(socket, self.settings.port);
                    }
                    return;
                }
                tcp::State::Closed => {
                    // In a moment somebody else may come.
                    *moved = (now, 0);
                    listen(socket, self.settings.port);
                    return;
                }
                _ => {}
            }
            if !socket.may_send() {
                return;
            }
            let (ours, theirs) = tokio::io::duplex(PIPE);
            // Before anybody can ask how many there are.
            self.tally.open.fetch_add(1, Relaxed);
            if self.serve.try_send(theirs).is_err() {
                self.tally.open.fetch_sub(1, Relaxed);
                self.tally.refused.add(1);
                socket.abort();
                return;
            }
            self.tally.opened.add(1);
            (*pipe, *read, *moved) = (Some(ours), false, (now, 0));
        }
        let Some(stream) = pipe else { return };
        while socket.can_recv() {
            let passed = socket.recv(|bytes| {
                match Pin::new(&mut *stream).poll_write(&mut context, bytes) {
                    Poll::Ready(Ok(len)) => (len, len),
                    // It is closed: what comes is of no interest to anybody.
                    Poll::Ready(Err(_)) => (bytes.len(), bytes.len()),
                    Poll::Pending => (0, 0),
                }
            });
            if !matches!(passed, Ok(1..)) {
                break;
            }
        }
        if !*read && !socket.may_recv() && socket.recv_queue() == 0 {
            *read = Pin::new(&mut *stream)
                .poll_shutdown(&mut context)
                .is_ready();
        }
        let (mut over, mut went_on) = (false, false);
        while socket.can_send() && !over {
            let sent = socket.send(|room| {
                let mut buf = ReadBuf::new(room);
                match Pin::new(&mut *stream).poll_read(&mut context, &mut buf) {
                    Poll::Ready(Ok(())) => (buf.filled().len(), Some(buf.filled().len())),
                    Poll::Ready(Err(_)) => (0, Some(0)),
                    Poll::Pending => (0, None),
                }
            });
            match sent {
                Ok(Some(0)) => over = true,
                Ok(Some(_)) => went_on = true,
                Ok(None) | Err(_) => break,
            }
        }
        if over {
            // All is said. The pipe stays until the peer has it, so that the place is not given away.
            socket.close();
        }
        let queued = socket.send_queue();
        // There was room for more: the peer has taken something. Where there is nothing to be sent it is the other's turn to speak, as long as the connection is open.
        if went_on || queued != moved.1 || (queued == 0 && socket.may_send()) {
            *moved = (now, queued);
        } else if now > moved.0 + STUCK {
            socket.abort();
        }
        if matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait) {
            (*pipe, *moved) = (None, (now, 0));
        }
    }

    fn flush(&mut self, now: Instant, mut send: impl FnMut(&[u8], Side) -> bool) {
        let outgoing = std::mem::take(&mut self.wire.outgoing);
        for whole in &outgoing {
            let (vlan, frame, tally) = (self.settings.vlan, &mut self.frame, &self.tally);
            let (sides, heard) = (self.settings.sides, &self.sides);
            self.paths.cut(whole, now, |piece| {
                tag(piece, vlan, frame);
                for side in ways(piece, sides, heard) {
                    match send(frame, side) {
                        true => tally.sent.add(1),
                        false => tally.unsent.add(1),
                    }
                }
            });
        }
        self.wire.outgoing = outgoing;
        self.wire.outgoing.clear();
    }
}

/// Has a socket wait for the next client, whatever it was at: nothing more is said to the one before.
fn listen(socket: &mut tcp::Socket<'_>, port: u16) {
    socket.abort();
    // A port that is not 0, on a socket that is closed.
    let _ = socket.listen(port);
}

fn socket(port: u16) -> tcp::Socket<'static> {
    let mut socket = tcp::Socket::new(
        tcp::SocketBuffer::new(vec![0; RECEIVES]),
        tcp::SocketBuffer::new(vec![0; SENDS]),
    );
    socket.set_timeout(Some(SILENT));
    socket.set_keep_alive(Some(KEEP_ALIVE));
    socket.set_nagle_enabled(false);
    listen(&mut socket, port);
    socket
}

/// Where a frame goes: to the side where its machine was heard, and to all where that is not known.
fn ways(
    frame: &[u8],
    sides: [bool; 2],
    heard: &HashMap<[u8; 6], Side>,
) -> impl Iterator<Item = Side> {
    let to: [u8; 6] = frame.first_chunk().copied().unwrap_or([0xff; 6]);
    let known = heard.get(&to).copied().filter(|_| to[0] & BROADCAST == 0);
    Side::BOTH
        .into_iter()
        .filter(move |side| sides[*side as usize] && known.is_none_or(|known| known == *side))
}

/// The frame without its VLAN tags.
fn untagged(bytes: &[u8], meta: &Meta) -> Vec<u8> {
    let tags = 4 * usize::from(meta.vlan_depth);
    let mut frame = Vec::with_capacity(bytes.len());
    frame.extend(bytes.get(..12).unwrap_or_default());
    frame.extend(bytes.get(12 + tags..).unwrap_or_default());
    frame
}

/// The frame with a VLAN tag, where it is to have one, and as long as Ethernet asks for (IEEE 802.3), into `out`.
fn tag(frame: &[u8], vlan: Option<u16>, out: &mut Vec<u8>) {
    out.clear();
    match (vlan, frame.split_at_checked(12)) {
        (Some(vlan), Some((addresses, rest))) => {
            out.extend(addresses);
            out.extend([0x81, 0x00]);
            out.extend(vlan.to_be_bytes());
            out.extend(rest);
        }
        _ => out.extend(frame),
    }
    pad(out);
}

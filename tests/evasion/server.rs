//! The server at the uplink, the sender on the LAN, and a bridge that filters nothing.

use super::common::{Lab, SOON, Wire};
use super::recipe::Recipe;
use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Forbidden by the baseline.
const UDP: [u16; 7] = [69, 135, 137, 138, 160, 161, 162];
const TCP: [u16; 16] = [
    25, 135, 139, 161, 162, 445, 6660, 6661, 6662, 6663, 6664, 6665, 6666, 6667, 6668, 6669,
];
/// Allowed.
const DNS: u16 = 53;
const WEB: u16 = 80;
/// Variants under way at once.
const AT_ONCE: usize = 30;
/// Numbers above are of packets that only show that all before them have arrived.
const SENTINELS: u32 = 1 << 31;
/// How often what should have arrived is sent again.
const AGAIN: usize = 3;

/// A bridge in the gate's place, that filters nothing.
pub fn bridge(lab: &Lab) {
    lab.bridge();
    lab.ip("gate", "link set br0 up");
}

/// And away with it.
pub fn unbridge(lab: &Lab) {
    lab.ip("gate", "link del br0");
}

/// What arrived, by variant.
pub struct Seen {
    allowed: HashSet<usize>,
    forbidden: HashSet<usize>,
}

impl Seen {
    pub fn allowed(&self, at: usize) -> bool {
        self.allowed.contains(&at)
    }

    pub fn forbidden(&self, at: usize) -> bool {
        self.forbidden.contains(&at)
    }

    pub fn both(&self, at: usize) -> bool {
        self.allowed(at) && self.forbidden(at)
    }
}

/// Real sockets on every port, and the LAN's end of the cable.
pub struct Target {
    lan: Wire,
    macs: ([u8; 6], [u8; 6]),
    arrived: Arc<Mutex<HashSet<u32>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _listeners: Vec<TcpListener>,
}

fn mac(lab: &Lab, role: &str, interface: &str) -> [u8; 6] {
    let text = lab.ip(role, &format!("-j link show {interface}"));
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON from ip");
    let mac = value[0]["address"].as_str().expect("an address");
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hex"))
        .collect();
    bytes.try_into().expect("six bytes")
}

impl Target {
    pub fn new(lab: &Lab) -> Target {
        let arrived: Arc<Mutex<HashSet<u32>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (mut threads, mut listeners) = (Vec::new(), Vec::new());
        for role in ["lan", "uplink"] {
            // Whoever is asked first learns the other's MAC address, before any odd frame is sent.
            lab.must(role, "sh", "-c echo\t1\t>/proc/sys/net/ipv4/tcp_syncookies");
        }
        lab.must("lan", "ping", "-c 1 -W 5 93.184.216.34");
        lab.must("lan", "ping", "-c 1 -W 5 2606:2800:220:1::34");
        lab.within("uplink", || {
            for port in UDP.into_iter().chain([DNS]) {
                let any: SocketAddr = ([0u16; 8], port).into();
                let socket = UdpSocket::bind(any).expect("a UDP port");
                socket
                    .set_read_timeout(Some(Duration::from_millis(50)))
                    .expect("a time-out");
                let (arrived, stop) = (Arc::clone(&arrived), Arc::clone(&stop));
                threads.push(std::thread::spawn(move || {
                    collect(&socket, port, &arrived, &stop)
                }));
            }
            for port in TCP.into_iter().chain([WEB]) {
                let any: SocketAddr = ([0u16; 8], port).into();
                listeners.push(TcpListener::bind(any).expect("a TCP port"));
            }
        });
        Target {
            lan: Wire::open(lab, "lan", "lan0"),
            macs: (mac(lab, "lan", "lan0"), mac(lab, "uplink", "up0")),
            arrived,
            stop,
            threads,
            _listeners: listeners,
        }
    }

    /// Sends every recipe to an allowed and to a forbidden port. What `wanted` says of a variant and whether it is the forbidden one is sent again when it
    /// does not arrive. `round` tells numbers of one run from those of another.
    pub fn run(
        &mut self,
        recipes: &[&Recipe],
        round: u32,
        wanted: impl Fn(usize, bool) -> bool,
    ) -> Seen {
        // Odd: of an allowed port.
        let first = 1 + round * 30_000;
        let number = |at: usize, forbidden: bool| first + at as u32 * 2 + u32::from(forbidden);
        let mut todo: Vec<(usize, bool)> = (0..recipes.len())
            .flat_map(|at| [(at, false), (at, true)])
            .collect();
        assert!(
            number(recipes.len(), true) < first + 30_000,
            "numbers are of 16 bits"
        );
        let mut sentinel = u32::MAX;
        for attempt in 0..AGAIN {
            // Again one by one: packets of one source port may have been in each other's way at the server.
            for chunk in todo.chunks(if attempt == 0 { AT_ONCE } else { 1 }) {
                for (at, forbidden) in chunk {
                    let recipe = recipes[*at];
                    let port = match (recipe.tcp, forbidden) {
                        (false, false) => DNS,
                        (true, false) => WEB,
                        (false, true) => UDP[at % UDP.len()],
                        (true, true) => TCP[at % TCP.len()],
                    };
                    let number = number(*at, *forbidden);
                    let sport = 1024 + ((number as usize * 7 + attempt * 20_011) % 60_000) as u16;
                    for frame in recipe.frames((self.macs.0, self.macs.1), sport, port, number) {
                        self.lan.send(&frame);
                    }
                }
                sentinel -= 1;
                self.wait_for(sentinel);
            }
            self.settle();
            let arrived = self.arrived.lock().expect("no panic");
            todo.retain(|(at, forbidden)| {
                wanted(*at, *forbidden) && !arrived.contains(&number(*at, *forbidden))
            });
        }
        let arrived = self.arrived.lock().expect("no panic");
        let of = |forbidden: bool| {
            (0..recipes.len())
                .filter(|at| arrived.contains(&number(*at, forbidden)))
                .collect()
        };
        Seen {
            allowed: of(false),
            forbidden: of(true),
        }
    }

    /// Behind the others, a plain packet that arrives in any case: then they have too, if ever.
    fn wait_for(&mut self, number: u32) {
        let plain = Recipe::default();
        let deadline = Instant::now() + SOON;
        while !self.arrived.lock().expect("no panic").contains(&number) {
            assert!(Instant::now() < deadline, "a plain packet does not arrive");
            for frame in plain.frames(self.macs, 999, DNS, number) {
                self.lan.send(&frame);
            }
            let again = Instant::now() + Duration::from_millis(200);
            while Instant::now() < again
                && !self.arrived.lock().expect("no panic").contains(&number)
            {
                self.answers(Duration::from_millis(1));
            }
        }
        self.answers(Duration::from_millis(2));
    }

    fn settle(&mut self) {
        self.answers(Duration::from_millis(400));
    }

    /// Takes in what comes back to the LAN: a SYN and ACK is the server's kernel taking a SYN.
    fn answers(&mut self, quiet: Duration) {
        while let Some(frame) = self.lan.next(quiet) {
            let Ok(headers) = etherparse::PacketHeaders::from_ethernet_slice(&frame) else {
                continue;
            };
            if let Some(tcp) = headers.transport.and_then(|transport| transport.tcp())
                && tcp.syn
                && tcp.ack
            {
                let number = tcp.acknowledgment_number.wrapping_sub(1);
                self.arrived.lock().expect("no panic").insert(number);
            }
        }
    }
}

fn collect(socket: &UdpSocket, port: u16, arrived: &Mutex<HashSet<u32>>, stop: &AtomicBool) {
    let mut bytes = [0; 2048];
    while !stop.load(Relaxed) {
        let Ok((len, _)) = socket.recv_from(&mut bytes) else {
            continue;
        };
        let number = bytes[..len]
            .strip_prefix(b"evade")
            .and_then(<[u8]>::first_chunk);
        let Some(number) = number.map(|number| u32::from_be_bytes(*number)) else {
            continue;
        };
        // What was meant for a forbidden port and came to the allowed one has not got where it should.
        if port != DNS || number % 2 == 1 || number > SENTINELS {
            arrived.lock().expect("no panic").insert(number);
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

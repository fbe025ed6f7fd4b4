//! What application a flow is of, from the first bytes of its client, whatever its ports.
//!
//! One protocol a file, each a pure function over a slice: no allocation, no state, no clock. The byte that comes first says which few
//! of them are asked.
//!
//! What a recogniser says is final as the stream grows: `Match` and `No` stay, only `More` changes. The one exception is `irc`, which
//! looks at every line that is there and so may find IRC behind lines that are not; it stands last for that reason. So what
//! [`identify_tcp`] knows stays known, whatever follows.
//!
//! What this cannot see: anything inside encryption, but that it is TLS, QUIC or SSH; a protocol whose first lines were made up to look like
//! another's; IRC behind a line that is none of its own, where that line comes alone in the first segment.

mod bittorrent;
mod cursor;
pub mod details;
mod dns;
mod ftp;
mod http;
mod irc;
mod msrpc;
mod quic;
mod rdp;
mod smb;
mod smtp;
mod snmp;
mod socks;
mod ssh;
mod telnet;
#[cfg(test)]
mod testing;
pub(crate) mod text;
mod tftp;
mod tls;
mod vnc;

pub use details::{Details, details, safe_text};

/// An application protocol. Its number is below 32, so that a set of them is a `u32`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The names are the protocols'.
pub enum App {
    Irc = 1,
    Smtp,
    Tftp,
    Snmp,
    Smb,
    Msrpc,
    Dns,
    Http,
    Tls,
    Quic,
    Ssh,
    Ftp,
    Telnet,
    Rdp,
    Vnc,
    Bittorrent,
    Socks,
}

impl App {
    /// In the order of their numbers.
    pub const ALL: &[App] = &[
        App::Irc,
        App::Smtp,
        App::Tftp,
        App::Snmp,
        App::Smb,
        App::Msrpc,
        App::Dns,
        App::Http,
        App::Tls,
        App::Quic,
        App::Ssh,
        App::Ftp,
        App::Telnet,
        App::Rdp,
        App::Vnc,
        App::Bittorrent,
        App::Socks,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// As it is written in a rule and in an alert.
    pub const fn name(self) -> &'static str {
        match self {
            App::Irc => "irc",
            App::Smtp => "smtp",
            App::Tftp => "tftp",
            App::Snmp => "snmp",
            App::Smb => "smb",
            App::Msrpc => "msrpc",
            App::Dns => "dns",
            App::Http => "http",
            App::Tls => "tls",
            App::Quic => "quic",
            App::Ssh => "ssh",
            App::Ftp => "ftp",
            App::Telnet => "telnet",
            App::Rdp => "rdp",
            App::Vnc => "vnc",
            App::Bittorrent => "bittorrent",
            App::Socks => "socks",
        }
    }

    /// The one of this name, in lower case.
    pub fn of_name(name: &str) -> Option<App> {
        Self::ALL.iter().copied().find(|app| app.name() == name)
    }

    /// The one of this number.
    pub const fn from_number(number: u8) -> Option<App> {
        let mut at = 0;
        while at < Self::COUNT {
            if Self::ALL[at] as u8 == number {
                return Some(Self::ALL[at]);
            }
            at += 1;
        }
        None
    }
}

/// What one recogniser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// It is this protocol.
    Match,
    /// It is not, and what follows cannot make it so.
    No,
    /// It may be: what is there is not enough to say.
    More,
}

/// What all of them together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It is this one.
    Known(App),
    /// It is none of them.
    Unknown,
    /// What is there is not enough to say.
    More,
}

/// The most that is ever looked at of a TCP stream: bytes.
pub const MOST: usize = 2048;

/// A recogniser, and the bytes that what it recognises can begin with, as ranges.
type Recogniser = (App, fn(&[u8]) -> Looks, &'static [(u8, u8)]);

/// In the order in which they are asked. Their answers exclude each other but for IRC, which can stand behind lines of SMTP or FTP: what comes first counts.
const OVER_TCP: &[Recogniser] = &[
    (App::Http, http::tcp, http::STARTS),
    (App::Tls, tls::tcp, tls::STARTS),
    (App::Ssh, ssh::tcp, ssh::STARTS),
    (App::Smtp, smtp::tcp, smtp::STARTS),
    (App::Smb, smb::tcp, smb::STARTS),
    (App::Msrpc, msrpc::tcp, msrpc::STARTS_TCP),
    (App::Socks, socks::tcp, socks::STARTS),
    (App::Rdp, rdp::tcp, rdp::STARTS),
    (App::Vnc, vnc::tcp, vnc::STARTS),
    (App::Bittorrent, bittorrent::tcp, bittorrent::STARTS_TCP),
    (App::Telnet, telnet::tcp, telnet::STARTS),
    (App::Snmp, snmp::tcp, snmp::STARTS),
    (App::Dns, dns::tcp, dns::STARTS),
    (App::Ftp, ftp::tcp, ftp::STARTS),
    (App::Irc, irc::tcp, irc::STARTS),
];

/// The same for UDP.
const OVER_UDP: &[Recogniser] = &[
    (App::Quic, quic::udp, quic::STARTS),
    (App::Tls, tls::udp, tls::STARTS_UDP),
    (App::Tftp, tftp::udp, tftp::STARTS),
    (App::Snmp, snmp::udp, snmp::STARTS),
    (App::Msrpc, msrpc::udp, msrpc::STARTS_UDP),
    (App::Bittorrent, bittorrent::udp, bittorrent::STARTS_UDP),
    (App::Dns, dns::udp, dns::STARTS),
];

/// By the first byte: whom to ask, a bit each, the lowest first.
const fn table(recognisers: &[Recogniser]) -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < recognisers.len() {
        let starts = recognisers[at].2;
        let mut range = 0;
        while range < starts.len() {
            let mut byte = starts[range].0 as usize;
            while byte <= starts[range].1 as usize {
                table[byte] |= 1 << at;
                byte += 1;
            }
            range += 1;
        }
        at += 1;
    }
    table
}

static TCP_TABLE: [u32; 256] = table(OVER_TCP);
static UDP_TABLE: [u32; 256] = table(OVER_UDP);

/// The first match of those that may be asked counts, once none before it is still undecided.
#[inline(always)]
fn ask(recognisers: &[Recogniser], mut left: u32, bytes: &[u8]) -> Identity {
    let mut undecided = false;
    while left != 0 {
        let Some((app, looks, _)) = recognisers.get(left.trailing_zeros() as usize) else {
            break;
        };
        left &= left - 1;
        match looks(bytes) {
            Looks::Match if !undecided => return Identity::Known(*app),
            Looks::Match | Looks::More => undecided = true,
            Looks::No => {}
        }
    }
    if undecided {
        Identity::More
    } else {
        Identity::Unknown
    }
}

/// What the flow is, of which these are the first bytes that its client sends: in order, and from the first byte on. Only [`MOST`] are looked at.
/// `More` at [`MOST`] is for the caller to judge; what is ordinary and none of these is `Unknown` in its first segment.
pub fn identify_tcp(client: &[u8]) -> Identity {
    let client = client.get(..MOST).unwrap_or(client);
    let Some(first) = client.first() else {
        return Identity::More;
    };
    ask(OVER_TCP, TCP_TABLE[usize::from(*first)], client)
}

/// What this datagram is, or what a datagram is of which this is the first fragment. `More` where it ends before it can be told: the rest of a
/// fragmented one might say; of a whole one nothing more will come, and no server would take it as it is. An empty one is `Unknown`.
pub fn identify_udp(payload: &[u8]) -> Identity {
    let Some(first) = payload.first() else {
        return Identity::Unknown;
    };
    ask(OVER_UDP, UDP_TABLE[usize::from(*first)], payload)
}

/// What the server is by what it says first, where the client of this protocol waits for that. `None` is nothing to go by: the greeting may not be whole yet.
pub fn identify_banner(server: &[u8]) -> Option<App> {
    let server = server.get(..MOST).unwrap_or(server);
    if server.starts_with(b"SSH-") {
        Some(App::Ssh)
    } else if server.starts_with(b"RFB ") {
        Some(App::Vnc)
    } else if smtp::greets(server) {
        Some(App::Smtp)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;

//! placeholder until the recognisers land
#![allow(missing_docs)]
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    pub const fn name(self) -> &'static str {
        [
            "irc",
            "smtp",
            "tftp",
            "snmp",
            "smb",
            "msrpc",
            "dns",
            "http",
            "tls",
            "quic",
            "ssh",
            "ftp",
            "telnet",
            "rdp",
            "vnc",
            "bittorrent",
            "socks",
        ][self as usize - 1]
    }
    pub fn of_name(name: &str) -> Option<App> {
        App::ALL.iter().copied().find(|app| app.name() == name)
    }
    pub fn from_number(number: u8) -> Option<App> {
        App::ALL.iter().copied().find(|app| *app as u8 == number)
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Known(App),
    Unknown,
    More,
}
pub const MOST: usize = 2048;
pub fn identify_tcp(client: &[u8]) -> Identity {
    let text = client.to_ascii_uppercase();
    let text = &text[client.iter().take_while(|b| b"\r\n".contains(b)).count()..];
    for word in [&b"NICK "[..], b"USER "] {
        if text.starts_with(word) {
            return Identity::Known(App::Irc);
        }
        if word.starts_with(text) {
            return Identity::More;
        }
    }
    if text.starts_with(b"GET /") {
        return Identity::Known(App::Http);
    }
    if text.is_empty() {
        return Identity::More;
    }
    Identity::Unknown
}
pub fn identify_udp(payload: &[u8]) -> Identity {
    match payload {
        [0, 1 | 2, rest @ ..] if rest.ends_with(b"octet\0") || rest.ends_with(b"netascii\0") => {
            Identity::Known(App::Tftp)
        }
        [] | [0] => Identity::More,
        _ => Identity::Unknown,
    }
}
pub fn identify_banner(server: &[u8]) -> Option<App> {
    (server.starts_with(b"220 ") && server.windows(4).any(|w| w == b"SMTP")).then_some(App::Smtp)
}

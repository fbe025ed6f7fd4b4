//! IRC as a server speaks it to a client: RFC 1459, RFC 2812, and the capability negotiation of IRCv3, of which it has nothing to offer.
//!
//! It lets everyone in, to see which channel with which key, and what is said there. A client is alone in its channels.

mod channel;
mod message;

use super::line::{Ends, Lines, Voice};
#[cfg(test)]
use super::testing::allocated;
use super::{Learned, Limits, Manners, Next, keep};
use channel::CHANNEL_MARKS;
use message::Message;
use std::time::Duration;

/// Without the line's end (RFC 1459 section 2.3).
const LONGEST_LINE: usize = 510;
/// As the 005 line says.
const LONGEST_NICK: usize = 30;
const LONGEST_USER: usize = 18;
/// Messages that are remembered.
const MOST_MESSAGES: usize = 8;
const PING_EVERY: Duration = Duration::from_secs(90);
const VERSION: &[u8] = b"2.11.2p3";

pub(super) struct Irc {
    name: Vec<u8>,
    lines: Lines,
    voice: Voice,
    nick: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    /// Between CAP LS or CAP REQ and CAP END nobody is welcomed.
    negotiates: bool,
    welcomed: bool,
    channels: Vec<Vec<u8>>,
    next_ping: Duration,
    seen: Seen,
}

/// What is for the alert.
#[derive(Default)]
struct Seen {
    nick: Vec<u8>,
    user: Vec<u8>,
    realname: Vec<u8>,
    password: Vec<u8>,
    channels: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
}

impl Irc {
    pub fn new(name: Vec<u8>, limits: Limits) -> Irc {
        Irc {
            name,
            lines: Lines::new(Ends::CrOrLf, LONGEST_LINE),
            voice: Voice::new(limits.said),
            nick: None,
            user: None,
            negotiates: false,
            welcomed: false,
            channels: Vec::new(),
            next_ping: PING_EVERY,
            seen: Seen::default(),
        }
    }

    fn obey(&mut self, message: &Message, out: &mut Vec<u8>) -> Next {
        let first = message.parameter(0);
        match &message.command[..] {
            b"CAP" => self.capabilities(message, out),
            b"PASS" => {
                if self.seen.password.is_empty() {
                    self.seen.password = keep(first);
                }
            }
            b"NICK" => self.nick(first, out),
            b"USER" => self.user(message, out),
            b"PING" => self.prefixed(out, &[b"PONG ", &self.name.clone(), b" :", first]),
            b"PONG" | b"ERROR" => {}
            b"QUIT" => return self.close(b"Client Quit", out),
            b"JOIN" => self.join(first, message.parameter(1), out),
            b"PRIVMSG" | b"NOTICE" => {
                self.message(first, message.parameter(1));
                self.needs_welcome(out);
            }
            _ if self.needs_welcome(out) => {}
            b"PART" => self.part(first, out),
            b"NAMES" => self.names(first, out),
            b"TOPIC" => self.numeric(out, b"331", &[first, b" :No topic is set"]),
            b"MODE" => self.mode(message, out),
            b"WHO" => self.numeric(out, b"315", &[or_star(first), b" :End of WHO list"]),
            b"WHOIS" => {
                self.numeric(out, b"401", &[first, b" :No such nick/channel"]);
                self.numeric(out, b"318", &[first, b" :End of WHOIS list"]);
            }
            b"USERHOST" => {
                let (nick, address) = (self.shown_nick(), self.address());
                self.numeric(out, b"302", &[b":", &nick, b"=+", &address]);
            }
            b"ISON" => self.numeric(out, b"303", &[b":"]),
            b"LIST" => self.numeric(out, b"323", &[b":End of LIST"]),
            b"LUSERS" => self.users(out),
            b"MOTD" => self.no_motd(out),
            b"VERSION" => {
                let name = self.name.clone();
                self.numeric(out, b"351", &[VERSION, b" ", &name, b" :"]);
            }
            b"AWAY" if first.is_empty() => {
                self.numeric(out, b"305", &[b":You are no longer marked as being away"])
            }
            b"AWAY" => self.numeric(out, b"306", &[b":You have been marked as being away"]),
            other => self.numeric(out, b"421", &[other, b" :Unknown command"]),
        }
        self.welcome(out);
        Next::More
    }

    /// Whether the client has yet to register, which it is told.
    fn needs_welcome(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.welcomed {
            self.numeric(out, b"451", &[b":You have not registered"]);
        }
        !self.welcomed
    }

    fn capabilities(&mut self, message: &Message, out: &mut Vec<u8>) {
        let asked = message.parameter(0).to_ascii_uppercase();
        let nick = self.shown_nick();
        match &asked[..] {
            b"LS" | b"LIST" => {
                self.negotiates |= asked == b"LS";
                self.prefixed(out, &[b"CAP ", &nick, b" ", &asked, b" :"]);
            }
            b"REQ" => {
                self.negotiates = true;
                self.prefixed(out, &[b"CAP ", &nick, b" NAK :", message.parameter(1)]);
            }
            b"END" => self.negotiates = false,
            _ => self.numeric(out, b"410", &[or_star(&asked), b" :Invalid CAP command"]),
        }
    }

    fn nick(&mut self, nick: &[u8], out: &mut Vec<u8>) {
        if nick.is_empty() {
            return self.numeric(out, b"431", &[b":No nickname given"]);
        }
        self.seen.nick = keep(nick);
        let nick = nick.get(..LONGEST_NICK).unwrap_or(nick);
        // More than RFC 2812 lets through: bots have names of any kind.
        let is_bad = |byte: &u8| byte.is_ascii_control() || b" ,*?!@:".contains(byte);
        if nick.iter().any(is_bad)
            || nick
                .first()
                .is_some_and(|byte| CHANNEL_MARKS.contains(byte))
        {
            return self.numeric(out, b"432", &[nick, b" :Erroneous nickname"]);
        }
        if self.welcomed && self.nick.as_deref() != Some(nick) {
            let mask = self.mask();
            self.say(out, &[b":", &mask, b" NICK :", nick]);
        }
        self.nick = Some(nick.to_vec());
    }

    fn user(&mut self, message: &Message, out: &mut Vec<u8>) {
        if self.user.is_some() {
            return self.numeric(out, b"462", &[b":You may not reregister"]);
        }
        if message.parameters.len() < 4 {
            return self.numeric(out, b"461", &[b"USER :Not enough parameters"]);
        }
        self.seen.user = keep(message.parameter(0));
        self.seen.realname = keep(message.parameter(3));
        let fits = |byte: &u8| byte.is_ascii_graphic() && !b"!@:".contains(byte);
        let user = message.parameter(0).iter().copied().filter(fits);
        self.user = Some(user.take(LONGEST_USER).collect());
    }

    /// RFC 2812 section 5.1, once there is all that it needs.
    fn welcome(&mut self, out: &mut Vec<u8>) {
        if self.welcomed || self.negotiates || self.nick.is_none() || self.user.is_none() {
            return;
        }
        self.welcomed = true;
        let (name, mask) = (self.name.clone(), self.mask());
        self.numeric(
            out,
            b"001",
            &[b":Welcome to the Internet Relay Network ", &mask],
        );
        self.numeric(
            out,
            b"002",
            &[b":Your host is ", &name, b", running version ", VERSION],
        );
        self.numeric(
            out,
            b"003",
            &[b":This server was created Tue Mar 4 2025 at 10:21:33 UTC"],
        );
        self.numeric(
            out,
            b"004",
            &[&name, b" ", VERSION, b" aoOirw abeiIklmnoOpqrRstv"],
        );
        self.numeric(
            out,
            b"005",
            &[b"CHANTYPES=#&+! PREFIX=(ov)@+ CHANMODES=b,k,l,imnpst NICKLEN=30 CHANNELLEN=50 CASEMAPPING=ascii :are supported by this server"],
        );
        self.users(out);
        self.no_motd(out);
        let cookie = self.cookie();
        self.say(out, &[b"PING :", cookie.as_bytes()]);
    }

    /// What has to come back in a PONG, the same for the same dialogue: FNV-1a of who they are.
    fn cookie(&self) -> String {
        let nick_and_user = self.nick.iter().chain(&self.user).flatten();
        let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let hash = self
            .name
            .iter()
            .chain(nick_and_user)
            .fold(0x811c_9dc5, fold);
        format!("{hash:08X}")
    }

    fn users(&mut self, out: &mut Vec<u8>) {
        self.numeric(
            out,
            b"251",
            &[b":There are 1 users and 0 services on 1 servers"],
        );
    }

    fn no_motd(&mut self, out: &mut Vec<u8>) {
        self.numeric(out, b"422", &[b":MOTD File is missing"]);
    }

    fn message(&mut self, target: &[u8], text: &[u8]) {
        if self.seen.messages.len() < MOST_MESSAGES {
            let message = [target, b": ", text].concat();
            self.seen.messages.push(keep(&message));
        }
    }

    fn close(&mut self, why: &[u8], out: &mut Vec<u8>) -> Next {
        let host = self.address();
        self.say(out, &[b"ERROR :Closing Link: ", &host, b" (", why, b")"]);
        Next::Close
    }

    fn shown_nick(&self) -> Vec<u8> {
        self.nick.clone().unwrap_or_else(|| b"*".to_vec())
    }

    /// User and host; the host is hidden, as many networks do.
    fn address(&self) -> Vec<u8> {
        let user = self.user.as_deref().unwrap_or(b"unknown");
        [b"~", user, b"@users.", &self.name].concat()
    }

    fn mask(&self) -> Vec<u8> {
        [&self.shown_nick()[..], b"!", &self.address()].concat()
    }

    fn numeric(&mut self, out: &mut Vec<u8>, number: &[u8], parts: &[&[u8]]) {
        let nick = self.shown_nick();
        let head: [&[u8]; 4] = [number, b" ", &nick, b" "];
        self.prefixed(out, &[&head[..], parts].concat());
    }

    fn prefixed(&mut self, out: &mut Vec<u8>, parts: &[&[u8]]) {
        let name = self.name.clone();
        let head: [&[u8]; 3] = [b":", &name, b" "];
        self.say(out, &[&head[..], parts].concat());
    }

    fn say(&mut self, out: &mut Vec<u8>, parts: &[&[u8]]) {
        self.voice.say(out, parts);
    }
}

impl Manners for Irc {
    fn hear(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Next {
        while let Some(line) = self.lines.next(&mut bytes) {
            let Some(message) = Message::read(&line.bytes) else {
                continue;
            };
            if self.obey(&message, out) == Next::Close {
                return Next::Close;
            }
            if self.voice.spent() {
                return self.close(b"Excess Flood", out);
            }
        }
        Next::More
    }

    /// However late it is called, one PING.
    fn tick(&mut self, since_start: Duration, out: &mut Vec<u8>) -> Next {
        if !self.welcomed || since_start < self.next_ping {
            return Next::More;
        }
        self.next_ping = since_start.saturating_add(PING_EVERY);
        let name = self.name.clone();
        self.say(out, &[b"PING :", &name]);
        if self.voice.spent() {
            return self.close(b"Ping timeout: 90 seconds", out);
        }
        Next::More
    }

    fn learned(&self, fields: &mut Learned) {
        let seen = &self.seen;
        fields.add("nick", &seen.nick);
        fields.add("user", &seen.user);
        fields.add("realname", &seen.realname);
        fields.add("password", &seen.password);
        fields.add_list("channels", &seen.channels);
        fields.add_list("keys", &seen.keys);
        for message in &seen.messages {
            fields.add("message", message);
        }
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        let seen = &self.seen;
        let lists = [&self.channels, &seen.channels, &seen.keys, &seen.messages];
        let names = [&seen.nick, &seen.user, &seen.realname, &seen.password];
        let named = self.nick.iter().chain(&self.user).chain(names);
        self.lines.kept() + allocated(lists.into_iter().flatten()) + allocated(named)
    }
}

/// What stands for a parameter that was not given.
fn or_star(parameter: &[u8]) -> &[u8] {
    if parameter.is_empty() {
        b"*"
    } else {
        parameter
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Split, dialogue, hear};
    use super::super::{Kind, Limits, Next, Persona};
    use std::time::Duration;

    const WELCOME: &str = "\
:x.example 001 bot :Welcome to the Internet Relay Network bot!~b@users.x.example\r
:x.example 002 bot :Your host is x.example, running version 2.11.2p3\r
:x.example 003 bot :This server was created Tue Mar 4 2025 at 10:21:33 UTC\r
:x.example 004 bot x.example 2.11.2p3 aoOirw abeiIklmnoOpqrRstv\r
:x.example 005 bot CHANTYPES=#&+! PREFIX=(ov)@+ CHANMODES=b,k,l,imnpst NICKLEN=30 CHANNELLEN=50 CASEMAPPING=ascii :are supported by this server\r
:x.example 251 bot :There are 1 users and 0 services on 1 servers\r
:x.example 422 bot :MOTD File is missing\r
PING :BA9FA27E\r
";

    #[test]
    fn a_bot_registers_joins_and_talks() {
        let learned = dialogue(
            Kind::Irc,
            &[
                ("PASS hunter2\r\n", ""),
                ("NICK bot\r\n", ""),
                ("USER b 0 * :Real \x1b Name\r\n", WELCOME),
                ("PONG :BA9FA27E\r\n", ""),
                (
                    "JOIN #c,&d k1,k2\r\n",
                    "\
:bot!~b@users.x.example JOIN :#c\r
:x.example 331 bot #c :No topic is set\r
:x.example 353 bot = #c :@bot\r
:x.example 366 bot #c :End of NAMES list\r
:bot!~b@users.x.example JOIN :&d\r
:x.example 331 bot &d :No topic is set\r
:x.example 353 bot = &d :@bot\r
:x.example 366 bot &d :End of NAMES list\r
",
                ),
                ("JOIN #C\r\n", ""),
                ("MODE #c\r\n", ":x.example 324 bot #c +nt\r\n"),
                (
                    "MODE #c b\r\n",
                    ":x.example 368 bot #c :End of channel ban list\r\n",
                ),
                (
                    "MODE #c +k  new\r\n",
                    ":bot!~b@users.x.example MODE #c +k new\r\n",
                ),
                ("MODE bot +i\r\n", ":bot MODE bot :+i\r\n"),
                ("WHO #c\r\n", ":x.example 315 bot #c :End of WHO list\r\n"),
                ("PRIVMSG #c :ready: 10.0.0.7\r\nNOTICE boss hi\r\n", ""),
                ("PING :1234 5\r\n", ":x.example PONG x.example :1234 5\r\n"),
                ("PART #c\r\n", ":bot!~b@users.x.example PART #c\r\n"),
                ("NICK bot2\r\n", ":bot!~b@users.x.example NICK :bot2\r\n"),
                (
                    "STEAL all\r\n",
                    ":x.example 421 bot2 STEAL :Unknown command\r\n",
                ),
                (
                    "QUIT :bye\r\n",
                    "ERROR :Closing Link: ~b@users.x.example (Client Quit)\r\n",
                ),
            ],
            Next::Close,
        );
        let expected = [
            ("nick", "bot2"),
            ("user", "b"),
            ("realname", "Real \\x1b Name"),
            ("password", "hunter2"),
            ("channels", "#c, &d, #C"),
            ("keys", "k1, k2"),
            ("message", "#c: ready: 10.0.0.7"),
            ("message", "boss: hi"),
        ];
        assert_eq!(
            learned,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn who_negotiates_capabilities_gets_none_and_is_welcomed_at_the_end() {
        dialogue(
            Kind::Irc,
            &[
                ("CAP LS 302\r\n", ":x.example CAP * LS :\r\n"),
                ("nick bot\nuser b 0 * b\n", ""),
                (
                    "CAP REQ :sasl away-notify\r\n",
                    ":x.example CAP bot NAK :sasl away-notify\r\n",
                ),
                ("cap end\r", WELCOME),
                ("CAP LIST\r\n", ":x.example CAP bot LIST :\r\n"),
                (
                    "CAP DANCE\r\n",
                    ":x.example 410 bot DANCE :Invalid CAP command\r\n",
                ),
            ],
            Next::More,
        );
    }

    #[test]
    fn who_has_not_registered_is_told_and_what_it_wanted_is_known() {
        let learned = dialogue(
            Kind::Irc,
            &[
                (
                    "JOIN #c key\r\n",
                    ":x.example 451 * :You have not registered\r\n",
                ),
                ("STEAL\r\n", ":x.example 451 * :You have not registered\r\n"),
                ("PING x\r\n", ":x.example PONG x.example :x\r\n"),
                ("NICK\r\n", ":x.example 431 * :No nickname given\r\n"),
                (
                    "NICK a!b\r\n",
                    ":x.example 432 * a!b :Erroneous nickname\r\n",
                ),
                (
                    "USER b\r\n",
                    ":x.example 461 * USER :Not enough parameters\r\n",
                ),
                ("USER b 0 * b\r\n", ""),
                (
                    "USER b 0 * b\r\n",
                    ":x.example 462 * :You may not reregister\r\n",
                ),
                ("\r\n \r\n@a=b :c NICK bot\r\n", WELCOME),
            ],
            Next::More,
        );
        assert!(learned.contains(&("channels", "#c".to_owned())));
        assert!(learned.contains(&("keys", "key".to_owned())));
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let long = format!(
            "NICK bot\nUSER b 0 * b\nPING {}\nPING end\n",
            "x".repeat(2000)
        );
        let heard = hear(Kind::Irc, Limits::default(), long.as_bytes(), Split::Whole);
        let out = String::from_utf8(heard.out).unwrap();
        assert!(out.lines().all(|line| line.len() <= 510));
        assert!(out.ends_with("xxx\r\n:x.example PONG x.example :end\r\n"));
    }

    #[test]
    fn a_client_in_many_channels_may_join_no_more() {
        let channels: Vec<String> = (0..20).map(|number| format!("#{number}")).collect();
        let bytes = format!("NICK bot\nUSER b 0 * b\nJOIN {}\n", channels.join(","));
        let heard = hear(Kind::Irc, Limits::default(), bytes.as_bytes(), Split::Whole);
        let out = String::from_utf8(heard.out).unwrap();
        assert_eq!(out.matches(" 366 ").count(), 16);
        assert!(out.ends_with(":x.example 405 bot #19 :You have joined too many channels\r\n"));
    }

    #[test]
    fn a_client_that_is_welcomed_is_asked_every_90_seconds_whether_it_is_there() {
        let mut persona = Persona::new(Kind::Irc, "x.example", Limits::default());
        let mut out = Vec::new();
        persona.tick(Duration::from_secs(500), &mut out);
        persona.hear(b"NICK bot\nUSER b 0 * b\n", &mut out);
        out.clear();
        for (second, expected) in [
            (89, ""),
            (90, "PING :x.example\r\n"),
            (179, ""),
            (400, "PING :x.example\r\n"),
            (401, ""),
        ] {
            assert_eq!(
                persona.tick(Duration::from_secs(second), &mut out),
                Next::More
            );
            assert_eq!(String::from_utf8_lossy(&out), expected);
            out.clear();
        }
    }
}

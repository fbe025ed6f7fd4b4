//! Channels: whoever comes is alone there, and its operator.

use super::message::Message;
use super::{Irc, or_star};

/// As the 005 line says.
const LONGEST_CHANNEL: usize = 50;
const MOST_CHANNELS: usize = 16;
/// What may precede a channel's name (RFC 2812 section 1.3).
pub(super) const CHANNEL_MARKS: &[u8] = b"#&+!";

impl Irc {
    /// RFC 2812 section 3.2.1. What a client wants to join is worth knowing before it may.
    pub(super) fn join(&mut self, channels: &[u8], keys: &[u8], out: &mut Vec<u8>) {
        remember(&mut self.seen.channels, channels);
        remember(&mut self.seen.keys, keys);
        if self.needs_welcome(out) {
            return;
        }
        if channels.is_empty() {
            return self.numeric(out, b"461", &[b"JOIN :Not enough parameters"]);
        }
        if channels == b"0" {
            return self.channels.clear();
        }
        for channel in parts(channels) {
            if self.voice.spent() {
                return;
            }
            if !is_channel(channel) {
                self.numeric(out, b"403", &[channel, b" :No such channel"]);
            } else if self.is_in(channel) {
                // Nothing is said of it.
            } else if self.channels.len() == MOST_CHANNELS {
                self.numeric(
                    out,
                    b"405",
                    &[channel, b" :You have joined too many channels"],
                );
            } else {
                self.channels.push(channel.to_vec());
                let mask = self.mask();
                self.say(out, &[b":", &mask, b" JOIN :", channel]);
                self.numeric(out, b"331", &[channel, b" :No topic is set"]);
                self.names(channel, out);
            }
        }
    }

    pub(super) fn part(&mut self, channels: &[u8], out: &mut Vec<u8>) {
        for channel in parts(channels) {
            if self.voice.spent() {
                return;
            }
            if self.is_in(channel) {
                self.channels
                    .retain(|name| !name.eq_ignore_ascii_case(channel));
                let mask = self.mask();
                self.say(out, &[b":", &mask, b" PART ", channel]);
            } else {
                self.numeric(out, b"442", &[channel, b" :You're not on that channel"]);
            }
        }
    }

    /// Whoever enters an empty channel is its operator.
    pub(super) fn names(&mut self, channel: &[u8], out: &mut Vec<u8>) {
        if self.is_in(channel) {
            let nick = self.shown_nick();
            self.numeric(out, b"353", &[b"= ", channel, b" :@", &nick]);
        }
        self.numeric(out, b"366", &[or_star(channel), b" :End of NAMES list"]);
    }

    /// RFC 2812 sections 3.1.5 and 3.2.3. A change is granted.
    pub(super) fn mode(&mut self, message: &Message, out: &mut Vec<u8>) {
        let (target, change) = (message.parameter(0), message.parameter(1));
        let is_channel = target
            .first()
            .is_some_and(|mark| CHANNEL_MARKS.contains(mark));
        match (is_channel, change) {
            (true, b"") => self.numeric(out, b"324", &[target, b" +nt"]),
            (true, b"b" | b"+b") if message.parameters.len() == 2 => {
                self.numeric(out, b"368", &[target, b" :End of channel ban list"]);
            }
            (false, b"") => self.numeric(out, b"221", &[b"+"]),
            (true, _) => {
                let (mask, rest) = (self.mask(), message.parameters.join(&b' '));
                self.say(out, &[b":", &mask, b" MODE ", &rest]);
            }
            (false, _) => {
                let nick = self.shown_nick();
                self.say(out, &[b":", &nick, b" MODE ", &nick, b" :", change]);
            }
        }
    }

    fn is_in(&self, channel: &[u8]) -> bool {
        self.channels
            .iter()
            .any(|name| name.eq_ignore_ascii_case(channel))
    }
}

/// Of a list with commas.
fn parts(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',')
        .filter(|part| !part.is_empty())
}

/// Those that are new, up to a bound.
fn remember(into: &mut Vec<Vec<u8>>, list: &[u8]) {
    for part in parts(list) {
        if into.len() < MOST_CHANNELS && !into.iter().any(|known| known == part) {
            into.push(part.to_vec());
        }
    }
}

fn is_channel(name: &[u8]) -> bool {
    name.len() <= LONGEST_CHANNEL
        && name
            .first()
            .is_some_and(|mark| CHANNEL_MARKS.contains(mark))
        && !name.iter().any(|byte| matches!(byte, b' ' | 7))
}

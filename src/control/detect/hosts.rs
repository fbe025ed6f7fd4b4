//! Hosts that are remembered: a bounded number, the one that was silent longest gives way. Hosts behind one MAC address have half of the places at most, and give way to each
//! other beyond it, so that a machine that makes addresses up does not push out the others.

use crate::telemetry::observe::Host;
use std::collections::{BTreeMap, HashMap};

/// A host is put at the end of the line at most so often, nanoseconds.
const TOUCH: u64 = 1_000_000_000;

type Key = (bool, u128);

struct Entry<T> {
    /// Whom it counts for: the machine that it was first seen of.
    mac: [u8; 6],
    /// Its place in the line.
    turn: u64,
    touched: u64,
    value: T,
}

pub(super) struct Hosts<T> {
    most: usize,
    known: HashMap<Key, Entry<T>>,
    /// In the order in which they were heard of last.
    line: BTreeMap<u64, Key>,
    lines: HashMap<[u8; 6], BTreeMap<u64, Key>>,
    turn: u64,
}

impl<T: Default> Hosts<T> {
    pub fn new(most: usize) -> Hosts<T> {
        Hosts {
            most: most.max(2),
            known: HashMap::new(),
            line: BTreeMap::new(),
            lines: HashMap::new(),
            turn: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// What is known of a host.
    pub fn find(&mut self, host: &Host) -> Option<&mut T> {
        let entry = self.known.get_mut(&(host.v6, host.address))?;
        Some(&mut entry.value)
    }

    /// The same; it is made where there is nothing.
    pub fn get(&mut self, host: &Host, now: u64) -> &mut T {
        let key = (host.v6, host.address);
        self.turn += 1;
        let turn = self.turn;
        match self.known.get_mut(&key) {
            Some(entry) => {
                if now.saturating_sub(entry.touched) >= TOUCH {
                    let (mac, before) = (entry.mac, std::mem::replace(&mut entry.turn, turn));
                    entry.touched = now;
                    self.leave(mac, before);
                    self.enter((mac, turn, key));
                }
            }
            None => {
                self.make_room(host.mac);
                self.enter((host.mac, turn, key));
            }
        }
        let fresh = || Entry {
            mac: host.mac,
            turn,
            touched: now,
            value: T::default(),
        };
        &mut self.known.entry(key).or_insert_with(fresh).value
    }

    fn make_room(&mut self, mac: [u8; 6]) {
        let own = self.lines.get(&mac);
        let gone = match own {
            Some(own) if own.len() >= self.most / 2 => own.first_key_value(),
            _ if self.known.len() >= self.most => self.line.first_key_value(),
            _ => None,
        };
        let gone = gone.map(|(_, key)| *key);
        if let Some(entry) = gone.and_then(|key| self.known.remove(&key)) {
            self.leave(entry.mac, entry.turn);
        }
    }

    fn enter(&mut self, (mac, turn, key): ([u8; 6], u64, Key)) {
        self.line.insert(turn, key);
        self.lines.entry(mac).or_default().insert(turn, key);
    }

    fn leave(&mut self, mac: [u8; 6], turn: u64) {
        self.line.remove(&turn);
        if let Some(own) = self.lines.get_mut(&mac) {
            own.remove(&turn);
            if own.is_empty() {
                self.lines.remove(&mac);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(mac: u8, address: u128) -> Host {
        Host {
            address,
            v6: false,
            mac: [mac; 6],
            router: [0; 6],
        }
    }

    #[test]
    fn the_one_that_was_silent_longest_gives_way() {
        let mut hosts: Hosts<u32> = Hosts::new(4);
        for n in 0..4 {
            *hosts.get(&host(n, n.into()), 0) = 7;
        }
        hosts.get(&host(0, 0), TOUCH);
        hosts.get(&host(4, 4), TOUCH);
        assert_eq!(hosts.len(), 4);
        assert!(hosts.find(&host(1, 1)).is_none());
        assert_eq!(hosts.find(&host(0, 0)), Some(&mut 7));
    }

    #[test]
    fn a_million_made_up_addresses_of_one_machine_take_half_of_the_places() {
        let mut hosts: Hosts<u32> = Hosts::new(64);
        for n in 0..32 {
            *hosts.get(&host(n, n.into()), 0) = 7;
        }
        for n in 0..1_000_000 {
            hosts.get(&host(99, 1000 + n), n as u64);
        }
        assert_eq!(hosts.len(), 64);
        assert!((0..32).all(|n| hosts.find(&host(n, n.into())) == Some(&mut 7)));
        assert_eq!((hosts.line.len(), hosts.lines.len()), (64, 33));
    }
}

//! BitTorrent: the handshake of peers (BEP 3), the first message to a tracker (BEP 15) and of its DHT (BEP 5).
//!
//! Peers that encrypt their handshake, and streams over uTP (BEP 29) whose first packet has nothing to go by, are not seen.

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;

pub(super) const STARTS_TCP: &[(u8, u8)] = &[(19, 19)];
pub(super) const STARTS_UDP: &[(u8, u8)] = &[(0, 0), (b'd', b'd')];

const HANDSHAKE: &[u8] = b"\x13BitTorrent protocol";
/// Connection ID and action of a first message to a tracker.
const CONNECT: &[u8] = b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0";
/// How a message of the DHT begins, a dictionary with sorted keys: arguments or an answer whose first key is the sender's ID.
const DHT: [&[u8]; 2] = [b"d1:ad2:id20:", b"d1:rd2:id20:"];
/// The same with something before that key: what libtorrent adds to a query, the receiver's address (BEP 42) in an answer.
const DHT_MORE: [&[u8]; 2] = [b"d1:ad2:bs", b"d2:ip6:"];
/// The kind of message, which is the last key: query, answer, error.
const KINDS: [&[u8]; 3] = [b"1:y1:q", b"1:y1:r", b"1:y1:e"];

/// Over TCP.
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(Cursor(bytes).literal(HANDSHAKE))
}

/// Over UDP.
pub fn udp(bytes: &[u8]) -> Looks {
    looks(datagram(bytes))
}

fn datagram(bytes: &[u8]) -> Result<(), Looks> {
    if bytes.first() == Some(&0) {
        return Cursor(bytes).literal(CONNECT);
    }
    if DHT.iter().any(|start| bytes.starts_with(start)) {
        return Ok(());
    }
    if DHT_MORE.iter().any(|start| bytes.starts_with(start)) {
        let kind = bytes.windows(6).any(|part| KINDS.contains(&part));
        return if kind { Ok(()) } else { Err(Looks::More) };
    }
    let mut all = DHT.iter().chain(&DHT_MORE);
    check(all.any(|start| start.starts_with(bytes)))?;
    Err(Looks::More)
}

/// What is shared, by its hash.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    // Behind the eight bytes for extensions; in the DHT behind its key.
    let hash = if payload.starts_with(HANDSHAKE) {
        payload.get(28..48)
    } else {
        let key = b"9:info_hash20:";
        let at = payload.windows(key.len()).position(|part| part == key);
        at.and_then(|at| payload.get(at + key.len()..)?.get(..20))
    };
    if let Some(hash) = hash {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        fields.add("info_hash", hex.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::{tcp, udp};

    #[test]
    fn peers_trackers_and_the_dht_are_known_by_their_first_bytes() {
        assert_eq!(tcp(b"\x13BitTorrent protocol"), Match);
        assert_eq!(tcp(b"\x13BitTorrent proto"), More);
        assert_eq!(tcp(b"\x13BitTorrent-protocol"), No);
        for (expected, payload) in [
            (
                Match,
                &b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\x01\x02\x03\x04"[..],
            ),
            (
                Match,
                b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe",
            ),
            (
                Match,
                b"d2:ip6:abcdef1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t2:aa1:y1:re",
            ),
            (
                Match,
                b"d1:ad2:bsi1e2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe",
            ),
            (More, b"d1:a"),
            (More, b"d2:ip6:abc"),
            (No, b"d3:foo3:bare"),
            (No, b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\x01"),
        ] {
            assert_eq!(udp(payload), expected, "{payload:?}");
        }
    }
}

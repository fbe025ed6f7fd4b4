//! Where frames got to: the counters along the way from lan to uplink.

use rig::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::gate::status;
use crate::lab::Lab;

/// A place, and how many frames it has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The place.
    pub place: &'static str,
    /// Frames, forbidden ones too, and what the machines say by themselves.
    pub frames: u64,
}

/// Counts all of them now.
///
/// # Errors
/// What ip(8) or the gate says.
pub fn count(lab: &Lab) -> Result<Vec<Hop>> {
    let mut ip = std::process::Command::new("ip");
    ip.args(["-n", lab.namespace.name(), "-s", "-j", "link", "show"]);
    let taps: Value =
        serde_json::from_str(&rig::must(&mut ip, "")?).map_err(|e| Error::Answer {
            what: "ip link show".to_owned(),
            said: e.to_string(),
        })?;
    Ok(read(&taps, &status(&lab.gate)?))
}

/// Picks them out of what `ip -s -j link show` and `portcullis status --json` say.
fn read(taps: &Value, status: &Value) -> Vec<Hop> {
    let tap = |name: &str, way: &str, counter: &str| {
        let all = taps.as_array().into_iter().flatten();
        let tap = all.into_iter().find(|tap| tap["ifname"] == name);
        tap.and_then(|tap| tap["stats64"][way][counter].as_u64())
    };
    let port = |side: &str, counter: &str| status["ports"][side][counter].as_u64();
    let kernel = |counter: &str| status["ports"]["lan"]["kernel"][counter].as_u64();
    // What leaves a machine a tap receives.
    let all = [
        ("out of lan", tap("lan", "rx", "packets")),
        ("into the gate's NIC", tap("gate-lan", "tx", "packets")),
        ("not taken by it", tap("gate-lan", "tx", "dropped")),
        ("received by the gate", port("lan", "rx")),
        ("its ring was full", kernel("rx_ring_full")),
        ("dropped by its sockets", kernel("rx_dropped")),
        ("no socket for it", port("lan", "gate_no_socket")),
        ("worker was stuck", port("lan", "gate_stale")),
        // Of what came by this port.
        ("sent by it", port("lan", "tx")),
        ("not sent", port("lan", "tx_failed")),
        ("out of the gate's NIC", tap("gate-uplink", "rx", "packets")),
        ("into uplink", tap("uplink", "tx", "packets")),
        ("not taken by it", tap("uplink", "tx", "dropped")),
    ];
    all.into_iter()
        .filter_map(|(place, frames)| {
            Some(Hop {
                place,
                frames: frames?,
            })
        })
        .collect()
}

/// What each has counted since `before`.
pub fn since(before: &[Hop], after: &[Hop]) -> Vec<Hop> {
    let pairs = before.iter().zip(after);
    pairs
        .map(|(before, after)| Hop {
            place: after.place,
            // A gate that was started anew counts from zero.
            frames: after
                .frames
                .checked_sub(before.frames)
                .unwrap_or(after.frames),
        })
        .collect()
}

/// In one line, without what counted nothing.
pub fn line(hops: &[Hop]) -> String {
    let counted = hops.iter().filter(|hop| hop.frames > 0);
    let words: Vec<_> = counted
        .map(|hop| format!("{} {}", hop.place, hop.frames))
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_that_do_not_count_are_left_out_and_the_rest_is_what_was_counted_meanwhile() {
        let taps = |n: u64| json!([{ "ifname": "lan", "stats64": { "rx": { "packets": n } } }]);
        let status =
            |n: u64| json!({ "ports": { "lan": { "rx": n, "kernel": { "rx_dropped": 0 } } } });
        let before = read(&taps(10), &status(100));
        let after = read(&taps(30), &status(15));
        assert_eq!(
            line(&since(&before, &after)),
            "out of lan 20, received by the gate 15"
        );
    }
}

//! The same rules in nftables and in the rule table, the same packets: what passes a Linux bridge that filters by the
//! one must be what the other forwards.
//!
//! ```text
//!  lan0 ═══ veth ═══ gl0 [bridge, nftables] gu0 ═══ veth ═══ up0
//! ```
//!
//! Random policies of the whole language are put into nft's (nft(8), bridge family), and packets near to what they
//! speak of are sent from both ends. Each packet carries its number, so that it is known which of them passed. One that
//! should have passed and did not is sent again, so that a loss is not taken for a drop.

#[path = "../common/mod.rs"]
mod common;
#[path = "../policy_table/keys.rs"]
mod keys;
mod packets;
mod policies;
mod render;

use common::wire::NOT_COMING;
use common::{Lab, SOON, Wire};
use keys::{Dice, Keys};
use packets::{number_of, packet, sentinel};
use portcullis::frame::parse;
use portcullis::policy::{Key, Policy, RuleId, Side, Table, Verdict, oracle};
use std::collections::HashSet;
use std::time::Instant;

/// Random policies, and packets for each of them.
const POLICIES: u64 = 8;
const PACKETS: usize = 6400;
/// Packets in flight: what fits into the queues between the two ends, by far.
const WINDOW: usize = 400;
/// How often a packet that is missing is sent again.
const AGAIN: usize = 3;

/// One packet, and what the rule table says of it.
struct Sent {
    side: Side,
    frame: Vec<u8>,
    rule: RuleId,
    forward: bool,
}

/// Both ends of the bridge, and the numbers of what came out.
struct Ends {
    wires: [Wire; 2],
    passed: HashSet<u32>,
    sentinels: u32,
}

impl Ends {
    fn wire(&self, side: Side) -> &Wire {
        &self.wires[side as usize]
    }

    /// Sends these from where they come from, and takes in what arrives until all that was before it must have.
    fn send(&mut self, packets: &[(u32, &Sent)]) {
        for (_, sent) in packets {
            self.wire(sent.side).send(&sent.frame);
        }
        // Behind them, from each side, a frame that every rule set lets pass.
        self.sentinels += 1;
        let number = u32::MAX - self.sentinels;
        for side in Side::BOTH {
            self.wire(side).send(&sentinel(number));
        }
        for side in Side::BOTH {
            let deadline = Instant::now() + SOON;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let frame = self.wires[side as usize]
                    .next(left)
                    .expect("the frame behind the others");
                match number_of(&frame) {
                    Some(came) if came == number => break,
                    came => self.passed.extend(came),
                }
            }
        }
    }

    /// What comes late.
    fn settle(&mut self) {
        for wire in &self.wires {
            while let Some(frame) = wire.next(NOT_COMING) {
                self.passed.extend(number_of(&frame));
            }
        }
    }
}

fn load(lab: &Lab, rules: &str) {
    let file = lab.dir().join("rules.nft");
    std::fs::write(&file, rules).expect("a file");
    lab.must("gate", "nft", &format!("-f {}", file.display()));
}

/// Packets near to what the policy speaks of.
fn packets(policy: &Policy, table: &Table, seed: u64) -> Vec<Sent> {
    let (near, mut dice) = (Keys::new(policy), Dice::new(seed));
    let sent = |number| {
        let (side, frame) = packet(&near.key(&mut dice), number as u32);
        let meta = parse(&frame).unwrap_or_else(|reason| panic!("{reason:?}: {frame:02x?}"));
        let rule = table.lookup(&Key::new(&meta, side));
        Sent {
            side,
            frame,
            rule,
            forward: table.verdict(rule) == Verdict::Forward,
        }
    };
    (0..PACKETS).map(sent).collect()
}

#[test]
fn what_passes_nftables_is_what_the_table_forwards() {
    let Some(lab) = Lab::new() else { return };
    lab.bridge();
    let mut ends = Ends {
        wires: [
            Wire::open(&lab, "lan", "lan0"),
            Wire::open(&lab, "uplink", "up0"),
        ],
        passed: HashSet::new(),
        sentinels: 0,
    };
    let (mut total, mut again) = (0, 0);
    for seed in 0..POLICIES {
        let policy = policies::policy(seed);
        let table = Table::compile(&policy).expect("a policy within the limits");
        let rules = render::ruleset(&policy);
        load(&lab, &rules);
        if seed == 0 {
            // Hooks of the bridge family that were set before the first bridge of a namespace see nothing; rules that
            // come after its first frame come too late.
            lab.ip("gate", "link set br0 up");
        }
        let sent = packets(&policy, &table, seed);
        let numbered: Vec<(u32, &Sent)> = (0..).zip(&sent).collect();
        ends.passed.clear();
        for window in numbered.chunks(WINDOW) {
            ends.send(window);
        }
        for _ in 0..AGAIN {
            let missing =
                |(number, sent): &&(u32, &Sent)| sent.forward && !ends.passed.contains(number);
            let missing: Vec<_> = numbered.iter().filter(missing).copied().collect();
            again += missing.len();
            for window in missing.chunks(WINDOW) {
                ends.send(window);
            }
        }
        ends.settle();

        let differs = |(number, sent): &&(u32, &Sent)| sent.forward != ends.passed.contains(number);
        let different: Vec<_> = numbered.iter().filter(differs).collect();
        let told: String = different
            .iter()
            .take(3)
            .map(|(_, sent)| tell(&policy, sent))
            .collect();
        assert!(
            different.is_empty(),
            "policy {seed}: {} of {PACKETS} packets differ:\n{told}{rules}",
            different.len()
        );
        let forwarded = sent.iter().filter(|sent| sent.forward).count();
        let met: HashSet<RuleId> = sent.iter().map(|sent| sent.rule).collect();
        println!(
            "policy {seed}: {PACKETS} packets, {forwarded} passed both, by {} of {} rules",
            met.len(),
            policy.rules.len()
        );
        assert!(
            (PACKETS / 10..PACKETS * 9 / 10).contains(&forwarded),
            "{forwarded}"
        );
        assert!(
            met.len() * 2 > policy.rules.len(),
            "{} of {}",
            met.len(),
            policy.rules.len()
        );
        total += sent.len();
    }
    println!("{total} packets, no difference; {again} were sent again");
    assert!(total >= 50_000);
}

/// For whoever looks for the cause of a difference.
fn tell(policy: &Policy, sent: &Sent) -> String {
    let key = parse(&sent.frame).map(|meta| Key::new(&meta, sent.side));
    let right = key.as_ref().map(|key| oracle::evaluate(policy, key));
    format!(
        "{key:?}\nby the table rule {:?}, forwarded: {}; by the rules read one by one {right:?}\n{:02x?}\n{}\n",
        sent.rule,
        sent.forward,
        sent.frame,
        policy
            .rules
            .get(sent.rule.index())
            .map_or(String::new(), |rule| {
                let clauses = rule
                    .clauses
                    .iter()
                    .map(|clause| clause.describe(&policy.sets));
                format!(
                    "{}: {}",
                    rule.name,
                    clauses.collect::<Vec<_>>().join("; or ")
                )
            }),
    )
}

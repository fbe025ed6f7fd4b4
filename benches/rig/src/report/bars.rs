//! What the gate should reach beside other boxes, in the same run.

use super::Results;
use crate::contender::name;
use serde::Serialize;
use std::fmt;

/// A box, whom it is held against, and how many times the other's rate it should have.
const WANTED: [(&str, &str, f64); 6] = [
    (name::GATE_1000, name::TESTPMD, 1.0),
    // The one of the two where the box's core is the limit.
    (name::GATE_ONE, name::TESTPMD_ONE, 1.0),
    (name::GATE_1000, name::BRIDGE, 1.1),
    (name::GATE_1000, name::CONNTRACK, 3.0),
    (name::GATE_1000, name::NFT_1000, 15.0),
    (name::DROP_GATE, name::DROP_FLOOR, 1.0),
];

/// One of them, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bar {
    /// The box.
    pub of: &'static str,
    /// The other.
    pub beside: &'static str,
    /// Flows that were open, where the load is of open flows.
    pub flows: Option<usize>,
    /// Ratio of the medians; `None` where one of them was not measured.
    pub reached: Option<f64>,
    /// What it should be at least.
    pub wanted: f64,
}

/// All of them.
pub fn bars(results: &Results) -> Vec<Bar> {
    let bar = |&(of, beside, wanted): &(&'static str, &'static str, f64)| Bar {
        of,
        beside,
        flows: [name::GATE_1000, name::GATE_ONE]
            .contains(&of)
            .then_some(results.flows),
        reached: results.ratio(of, beside),
        wanted,
    };
    WANTED.iter().map(bar).collect()
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bar: {}", self.of)?;
        if let Some(flows) = self.flows {
            write!(f, ", {flows} flows")?;
        }
        write!(f, ", beside {}: ", self.beside)?;
        match self.reached {
            // Rounded down: what falls short by little should not look as if it did not.
            Some(reached) => write!(
                f,
                "reached {:.2} (wanted {}): {}",
                (reached * 100.0).floor() / 100.0,
                self.wanted,
                if reached >= self.wanted { "yes" } else { "no" }
            ),
            None => write!(f, "not measured (wanted {})", self.wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;

    fn lines(results: &Results) -> Vec<String> {
        bars(results).iter().map(Bar::to_string).collect()
    }

    #[test]
    fn a_bar_says_what_was_reached_and_whether_that_is_enough() {
        let found = lines(&results(|name| match name {
            name::GATE_1000 => 1.0998e6,
            name::TESTPMD => 0.9e6,
            name::CONNTRACK => 0.3e6,
            name::NFT_1000 => 0.05e6,
            _ => 1e6,
        }));
        assert_eq!(
            found,
            [
                "bar: gate, 1000 rules, 100000 flows, beside testpmd io: reached 1.22 (wanted 1): yes",
                "bar: gate, 1000 rules, one core, 100000 flows, beside testpmd io, one core: reached 1.00 (wanted 1): yes",
                "bar: gate, 1000 rules, 100000 flows, beside bridge: reached 1.09 (wanted 1.1): no",
                "bar: gate, 1000 rules, 100000 flows, beside bridge+conntrack, 1000 rules: reached 3.66 (wanted 3): yes",
                "bar: gate, 1000 rules, 100000 flows, beside bridge+nftables, 1000 rules: reached 21.99 (wanted 15): yes",
                "bar: drop: gate, beside drop: floor: reached 1.00 (wanted 1): yes",
            ]
        );
    }

    #[test]
    fn a_bar_without_its_box_is_not_measured_rather_than_reached() {
        let mut results = results(|_| 1e6);
        results
            .boxes
            .retain(|outcome| outcome.name != name::TESTPMD);
        let found = lines(&results);
        assert!(
            found[0].ends_with("beside testpmd io: not measured (wanted 1)"),
            "{found:?}"
        );
    }
}

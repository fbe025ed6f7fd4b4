//! The same policy for every filter: the baseline's rules about ports, and a thousand rules before them; and frames that each of them forbids.

use crate::frames::{Flow, Random};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Rules before the baseline's.
pub const COUNT: usize = 1_000;

const SEED: u64 = 0x5eed_0f41;

/// A service that is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    destination: Ipv4Addr,
    tcp: bool,
    port: u16,
}

impl Rule {
    fn protocol(self) -> &'static str {
        if self.tcp { "tcp" } else { "udp" }
    }
}

/// The thousand: services of 45.0.0.0/8, to which no flow of the office goes, so that each frame that a list of rules is asked about
/// meets them all.
pub fn thousand() -> Vec<Rule> {
    let mut random = Random(SEED);
    let mut rules: Vec<Rule> = Vec::with_capacity(COUNT);
    while rules.len() < COUNT {
        let mut byte = || random.below(256) as u8;
        let destination = Ipv4Addr::new(45, byte(), byte(), byte());
        let rule = Rule {
            destination,
            tcp: random.below(2) == 0,
            port: 1024 + random.below(60_000) as u16,
        };
        if rules.iter().all(|other| other.destination != destination) {
            rules.push(rule);
        }
    }
    rules
}

/// The thousand as `[[rule]]` of a config of the gate.
pub fn config() -> String {
    let mut out = String::new();
    for (at, rule) in thousand().into_iter().enumerate() {
        let _ = write!(
            out,
            "\n[[rule]]\nname = \"rule-{at}\"\ndst = \"{}\"\nproto = \"{}\"\ndport = {}\naction = \"drop\"\n",
            rule.destination,
            rule.protocol(),
            rule.port
        );
    }
    out
}

/// The baseline's rules that look at ports, for nft(8), without state and without its sets; the designated mail server is the example
/// config's.
const PORTS: &str = "\
		udp dport 69 drop
		ip saddr 10.77.0.25 tcp dport 25 accept
		tcp dport 25 drop
		tcp dport 6660-6669 drop
		udp dport 160-162 drop
		tcp dport 161-162 drop
		tcp dport 135 drop
		udp dport 135 drop
		tcp dport 445 drop
		udp dport 137-138 drop
		tcp dport 139 drop
";

/// How nftables is given the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nft {
    /// The rules about ports alone.
    Ports,
    /// The thousand too, one rule each.
    Linear,
    /// The thousand too, in one set.
    Set,
    /// All of it, after a rule that accepts what belongs to a connection and one that drops what belongs to none.
    Conntrack,
}

/// The ruleset for `nft -f`.
pub fn nft(form: Nft) -> String {
    let linear = || {
        thousand().iter().fold(String::new(), |mut out, rule| {
            let Rule {
                destination, port, ..
            } = rule;
            let protocol = rule.protocol();
            let _ = writeln!(
                out,
                "\t\tip daddr {destination} {protocol} dport {port} drop"
            );
            out
        })
    };
    let (family, set, rules) = match form {
        Nft::Ports => ("bridge", String::new(), String::new()),
        Nft::Linear => ("bridge", String::new(), linear()),
        Nft::Set => (
            "bridge",
            set(),
            "\t\tip daddr . meta l4proto . th dport @services drop\n".to_owned(),
        ),
        // A bridge hands its frames to the rules of the family ip by way of br_netfilter.
        Nft::Conntrack => (
            "ip",
            String::new(),
            "\t\tct state established,related accept\n\t\tct state invalid drop\n".to_owned()
                + &linear(),
        ),
    };
    format!(
        "table {family} bench {{\n{set}\tchain forward {{\n\t\ttype filter hook forward priority 0; policy accept;\n{rules}{PORTS}\t}}\n}}\n"
    )
}

fn set() -> String {
    let element =
        |rule: &Rule| format!("{} . {} . {}", rule.destination, rule.protocol(), rule.port);
    let elements: Vec<String> = thousand().iter().map(element).collect();
    format!(
        "\tset services {{\n\t\ttype ipv4_addr . inet_proto . inet_service\n\t\telements = {{ {} }}\n\t}}\n",
        elements.join(", ")
    )
}

/// Flows whose first frame has to be dropped: one for each service of the baseline, and where the thousand are in force one for each of
/// them.
pub fn forbidden(thousand_too: bool) -> Vec<Flow> {
    const SERVICES: [(bool, u16); 9] = [
        (false, 69),
        (true, 25),
        (true, 6667),
        (false, 161),
        (true, 135),
        (false, 135),
        (true, 445),
        (false, 137),
        (true, 139),
    ];
    let mut random = Random(SEED);
    let elsewhere = Ipv4Addr::new(93, 184, 216, 34);
    let baseline = SERVICES.map(|(tcp, port)| Flow::to(elsewhere, tcp, port, &mut random));
    let mut flows = baseline.to_vec();
    if thousand_too {
        let each = thousand().into_iter();
        flows.extend(each.map(|rule| Flow::to(rule.destination, rule.tcp, rule.port, &mut random)));
    }
    flows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_policy_names_each_of_the_thousand_services_once() {
        let gate = config();
        let [linear, set, conntrack] = [Nft::Linear, Nft::Set, Nft::Conntrack].map(nft);
        for rule in thousand() {
            let address = rule.destination.to_string();
            let named = |text: &str| text.matches(&format!("{address} ")).count();
            assert_eq!([&linear, &set, &conntrack].map(|text| named(text)), [1; 3]);
            assert_eq!(gate.matches(&format!("\"{address}\"")).count(), 1);
        }
        assert_eq!(forbidden(true).len(), forbidden(false).len() + COUNT);
    }
}

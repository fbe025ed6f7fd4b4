//! `portcullis explain`.

use super::{ConfigFile, cannot, print_json};
use crate::config::packet::Packet;
use crate::policy::explain::{self, Explanation, FieldMiss};
use crate::policy::table::Table;
use std::io::IsTerminal;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// The way the packet goes, out of the LAN or into it: out, in
    #[arg(long, value_name = "DIR", default_value = "out")]
    dir: String,
    /// tcp, udp, icmp, icmpv6, another protocol's name, or its number
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        required_unless_present = "ethertype"
    )]
    proto: String,
    /// Source: 10.77.0.9:40000, [fd77::9]:40000, or the address alone for a protocol without ports
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        default_value = "",
        hide_default_value = true,
        required_unless_present = "ethertype"
    )]
    src: String,
    /// Destination, in the same form
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        default_value = "",
        hide_default_value = true,
        required_unless_present = "ethertype"
    )]
    dst: String,
    /// ICMP or ICMPv6 type; without it, the echo request
    #[arg(long, value_name = "TYPE")]
    icmp_type: Option<u8>,
    /// ICMP or ICMPv6 code; without it, 0
    #[arg(long, value_name = "CODE")]
    icmp_code: Option<u8>,
    /// TCP flags that are set: syn,ack, or none; without it, syn
    #[arg(long, value_name = "FLAGS")]
    tcp_flags: Option<String>,
    /// What the payload of its flow is: irc, tls and so on, or unknown; as before anybody has looked where it is not given
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// VLAN id of the outer tag; without it, untagged
    #[arg(long, value_name = "ID")]
    vlan: Option<u16>,
    /// Source MAC address; without it, 00:00:00:00:00:00
    #[arg(long, value_name = "MAC")]
    src_mac: Option<String>,
    /// Name or number of the ethertype of a frame that is not IP, such as arp
    #[arg(long, value_name = "TYPE")]
    ethertype: Option<String>,
    /// The packet is the first fragment of a datagram that has more
    #[arg(long)]
    fragment: bool,
    /// Show every rule before the one that decides, however far from matching it is
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> ExitCode {
        let packet = Packet {
            direction: &self.dir,
            proto: &self.proto,
            src: &self.src,
            dst: &self.dst,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            vlan: self.vlan,
            ethertype: self.ethertype.as_deref(),
            src_mac: self.src_mac.as_deref(),
            tcp_flags: self.tcp_flags.as_deref(),
            app: self.app.as_deref(),
            fragment: self.fragment,
        };
        let key = match packet.key() {
            Ok(key) => key,
            Err(e) => return cannot(e),
        };
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let table = match Table::compile(&config.policy) {
            Ok(table) => table,
            Err(e) => return cannot(e),
        };
        match explain::explain(&config.policy, &table, &key) {
            Ok(explanation) if self.json => print_json(&explanation),
            Ok(explanation) => {
                let text = human(&explanation, self.all);
                if std::io::stdout().is_terminal() {
                    print!("{}", wrapped(&text));
                } else {
                    print!("{text}");
                }
                ExitCode::SUCCESS
            }
            Err(e) => cannot(e),
        }
    }
}

/// How many misses by one field are shown in full without `--all`.
const NEAREST: usize = 12;
/// Lines are kept to this where they can be.
const COLUMNS: usize = 80;
/// The longest text of what a rule wants, characters, without `--all`.
const WANTS: usize = 40;

fn human(explanation: &Explanation, all: bool) -> String {
    let mut text = explanation.verdict.to_string();
    if let Some(reason) = explanation.reason {
        text += &format!(" ({reason})");
    }
    text += &format!(" by rule {}", explanation.rule);
    if let Some(level) = explanation.alert {
        text += &format!(", alert {level}");
    }
    for mark in &explanation.marks {
        text += &format!(", {mark}");
    }
    text += &format!("\n  why: {}\n", explanation.why);
    if let Some(note) = explanation.note {
        text += &format!("  note: {note}\n");
    }
    if !explanation.in_shadow.is_empty() {
        let list = explanation.in_shadow.join(", ");
        text += &format!("  matched before it, in shadow and not enforced: {list}\n");
    }
    if !explanation.once_known.is_empty() {
        let list = shortened(&explanation.once_known, all);
        text += &format!("  once its payload is known, instead: {list}\n");
    }
    if !explanation.also.is_empty() {
        let list = shortened(&explanation.also, all);
        text += &format!("  would have matched after it: {list}\n");
    }
    text + &misses(explanation, all)
}

/// Long lines broken at spaces, and what is broken off set in by two more than its line.
fn wrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let mut column = 0;
        for (at, word) in line.trim_start().split(' ').enumerate() {
            let len = word.chars().count();
            if at > 0 && column + 1 + len > COLUMNS {
                out.push('\n');
                out.push_str(&" ".repeat(indent + 2));
                column = indent + 2;
            } else if at > 0 {
                out.push(' ');
                column += 1;
            } else {
                out.push_str(&" ".repeat(indent));
                column = indent;
            }
            out.push_str(word);
            column += len;
        }
        out.push('\n');
    }
    out
}

/// The first names of a list that may be long.
fn shortened(list: &[String], all: bool) -> String {
    match list.len() {
        len if len > NEAREST && !all => {
            let more = len - NEAREST;
            format!("{} and {more} more (--all)", list[..NEAREST].join(", "))
        }
        _ => list.join(", "),
    }
}

/// The rules before the one that decides: those that miss by one field, and how many others there are.
fn misses(explanation: &Explanation, all: bool) -> String {
    let misses = &explanation.misses;
    let near = misses.iter().take_while(|miss| miss.fields.len() == 1);
    let near = near.count();
    let shown = if all { misses.len() } else { near.min(NEAREST) };
    let mut text = String::new();
    for (at, miss) in misses[..shown].iter().enumerate() {
        let fields = miss.fields.len();
        if at == 0 || misses[at - 1].fields.len() != fields {
            text += &match fields {
                1 => "  rules before it that miss by one field:\n".to_owned(),
                _ => format!("  by {fields} fields:\n"),
            };
        }
        let marks: String = miss.marks.iter().map(|mark| format!(", {mark}")).collect();
        let origin = miss.origin.trim_end_matches(" of the config");
        let head = format!("    {} ({origin}{marks}):", miss.rule);
        let lines = miss.fields.iter();
        let lines: Vec<_> = lines
            .map(|field| miss_text(field, fields == 1, all))
            .collect();
        match &lines[..] {
            [one] if head.chars().count() + 1 + one.chars().count() <= COLUMNS => {
                text += &format!("{head} {one}\n");
            }
            lines => {
                text += &format!("{head}\n");
                lines
                    .iter()
                    .for_each(|line| text += &format!("      {line}\n"));
            }
        }
    }
    let left_near = near.saturating_sub(shown);
    let far = misses.len() - near.max(shown) + explanation.misses_left_out;
    if left_near > 0 {
        text += &format!("    and {left_near} more by one field\n");
    }
    if all && far > 0 {
        text += &format!("  and {far} more, not nearer than these\n");
    } else if far > 0 {
        let plural = if far == 1 {
            " before it misses"
        } else {
            "s before it miss"
        };
        text += &format!("  {far} rule{plural} by two fields or more (--all shows them)\n");
    }
    text
}

fn miss_text(miss: &FieldMiss, alone: bool, all: bool) -> String {
    let mut wants: String = miss.wants.clone();
    if !all && wants.chars().count() > WANTS {
        wants = wants.chars().take(WANTS - 3).collect::<String>() + "...";
    }
    let but = if alone { "all but " } else { "" };
    format!("{but}{}: wants {wants}, has {}", miss.field, miss.has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    const CONFIG: &str = r#"
lan.prefixes = ["10.77.0.0/24"]
sets.partners = ["198.51.100.0/24"]
rule = [
    { name = "no-telnet", action = "reject", proto = "tcp", dst = "!@partners", dport = [23, "2323-2330"] },
    { name = "guests", action = "drop", src = ["10.77.0.128/26", "10.77.0.192/27", "10.77.0.224/28"], dport = 22 },
    { name = "ssh", action = "allow", proto = "tcp", dport = 22, alert = "low" },
    { name = "ssh-too", action = "drop", proto = "tcp", dport = "20-29" },
]
"#;

    fn explained(all: bool) -> String {
        let config = config::parse(CONFIG, "p.toml", Path::new(".")).unwrap();
        let table = Table::compile(&config.policy).unwrap();
        let packet = Packet {
            direction: "out",
            proto: "tcp",
            src: "10.77.0.9:40000",
            dst: "93.184.216.34:22",
            ..Packet::default()
        };
        let key = packet.key().unwrap();
        human(
            &explain::explain(&config.policy, &table, &key).unwrap(),
            all,
        )
    }

    #[test]
    fn the_decision_is_told_with_what_came_near_before_it_and_what_stands_after_it() {
        let expected = "\
forward by rule ssh, alert low
  why: the first rule that matches is `ssh` (line 7 of the config): direction out, proto tcp, dport 22
  would have matched after it: ssh-too
  rules before it that miss by one field:
    no-telnet (line 5): all but dport: wants 23, 2323-2330, has 22
    guests (line 6):
      all but src: wants 10.77.0.128/26, 10.77.0.192/27, 10.77..., has 10.77.0.9
";
        assert_eq!(explained(false), expected);
        let whole = "      all but src: wants 10.77.0.128/26, 10.77.0.192/27, 10.77.0.224/28, has 10.77.0.9\n";
        assert!(explained(true).ends_with(whole), "{}", explained(true));
    }

    #[test]
    fn a_decoy_is_told_with_what_it_speaks_and_a_packet_that_it_does_not_answer_with_why() {
        let text = r#"
lan.prefixes = ["10.77.0.0/24"]
rule = [
    { name = "irc", action = "decoy" },
    { name = "odd", action = "decoy", decoy = "raw", proto = ["tcp", "udp"], dport = 4444, alert = "high" },
]
"#;
        let config = config::parse(text, "p.toml", Path::new(".")).unwrap();
        let table = Table::compile(&config.policy).unwrap();
        let told = |dst, app| {
            let packet = Packet {
                direction: "out",
                proto: "tcp",
                src: "10.77.0.9:40000",
                dst,
                app,
                ..Packet::default()
            };
            let key = packet.key().unwrap();
            let text = human(
                &explain::explain(&config.policy, &table, &key).unwrap(),
                false,
            );
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines
        };
        assert_eq!(
            told("93.184.216.34:6667", None)[..2],
            [
                "decoy by rule irc, alert high, speaks irc",
                "  why: the first rule that matches is `irc` (line 4 of the config): direction out, proto tcp, dport 6660-6669"
            ]
        );
        let silent = told("93.184.216.34:4444", None);
        assert_eq!(silent[0], "decoy by rule odd, alert high, says nothing");
        let late = told("93.184.216.34:8080", Some("irc"));
        assert_eq!(late[0], "drop (rule) by rule irc, alert high");
        assert_eq!(
            late[2],
            "  note: the connection is open to its destination when its payload is known, and no decoy can take its place: it is dropped"
        );
    }

    #[test]
    fn lines_for_a_terminal_are_broken_at_spaces_and_nothing_is_lost() {
        let text = explained(true);
        let narrow = wrapped(&text);
        assert!(
            narrow.lines().all(|line| line.chars().count() <= COLUMNS),
            "{narrow}"
        );
        assert!(
            narrow.contains("): direction\n    out, proto tcp"),
            "{narrow}"
        );
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&narrow), words(&text));
    }

    #[test]
    fn of_many_rules_before_it_the_nearest_are_shown_and_the_rest_are_counted() {
        let miss = |fields: usize| explain::Miss {
            rule: "r".to_owned(),
            origin: "built in".to_owned(),
            marks: vec!["shadow".to_owned()],
            fields: vec![
                FieldMiss {
                    field: "dport",
                    wants: "1".to_owned(),
                    has: "2".to_owned(),
                };
                fields
            ],
        };
        let mut misses: Vec<_> = (0..20).map(|_| miss(1)).collect();
        misses.extend((0..980).map(|at| miss(2 + at / 500)));
        let explanation = Explanation {
            verdict: "forward",
            reason: None,
            rule: "last".to_owned(),
            alert: None,
            marks: vec!["ttl 1h".to_owned(), "limit 5 in 1s".to_owned()],
            why: String::new(),
            origin: String::new(),
            note: None,
            in_shadow: vec!["quiet".to_owned()],
            once_known: vec!["irc (app irc)".to_owned()],
            also: (0..30).map(|at| format!("a{at}")).collect(),
            misses,
            misses_left_out: 9000,
        };
        let text = human(&explanation, false);
        assert_eq!(text.lines().count(), 20, "{text}");
        assert!(text.contains("once its payload is known, instead: irc (app irc)\n"));
        assert!(text.starts_with("forward by rule last, ttl 1h, limit 5 in 1s\n"));
        assert!(
            text.contains("in shadow and not enforced: quiet\n"),
            "{text}"
        );
        assert!(text.contains("a11 and 18 more (--all)\n"), "{text}");
        assert!(text.contains("    r (built in, shadow): all but dport: wants 1, has 2\n"));
        assert!(text.ends_with(
            "    and 8 more by one field\n  9980 rules before it miss by two fields or more (--all shows them)\n"
        ));
        let all = human(&explanation, true);
        assert!(all.contains("  by 3 fields:\n"), "{all}");
        assert!(all.ends_with("  and 9000 more, not nearer than these\n"));
    }
}

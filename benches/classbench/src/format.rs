//! The text format of ClassBench's filter sets and traces; IPv6 addresses as ClassBench-ng (Matoušek et al., ANCS 2017)
//! writes them.
//!
//! ```text
//! @192.0.2.0/24<TAB>198.51.100.7/32<TAB>0 : 65535<TAB>80 : 80<TAB>0x06/0xFF        a rule
//! 3221225985<TAB>3325256711<TAB>40000<TAB>80<TAB>6<TAB>0                           a packet
//! ```
//!
//! A packet is source, destination, source port, destination port, protocol, and the line (from 0) that it was drawn
//! from, or -1. IPv4 addresses are decimal numbers there, IPv6 addresses text.

use crate::{Header, Rule};
use ipnet::IpNet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// A line that is not of the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// The rules as text, one a line.
pub fn write_rules(rules: &[Rule]) -> String {
    let mut text = String::new();
    for Rule {
        src,
        dst,
        sport,
        dport,
        proto,
        mask,
    } in rules
    {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "@{src}\t{dst}\t{} : {}\t{} : {}\t0x{proto:02X}/0x{mask:02X}",
            sport.0, sport.1, dport.0, dport.1
        );
    }
    text
}

/// The packets as text, one a line.
pub fn write_trace(headers: &[Header]) -> String {
    let mut text = String::new();
    for header in headers {
        for addr in [header.src, header.dst] {
            let _ = match addr {
                IpAddr::V4(addr) => write!(text, "{}\t", u32::from(addr)),
                IpAddr::V6(addr) => write!(text, "{addr}\t"),
            };
        }
        let line = header
            .drawn_from
            .map_or("-1".to_owned(), |line| line.to_string());
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{line}",
            header.sport, header.dport, header.proto
        );
    }
    text
}

/// Reads rules. Between fields and around the `:` of a range stands any white space; a field behind the protocol (the
/// TCP flags of some seeds) is not looked at; empty lines are skipped.
///
/// # Errors
/// The first line that is not of the format.
pub fn parse_rules(text: &str) -> Result<Vec<Rule>, ParseError> {
    lines(text, |text| {
        let text = text.strip_prefix('@').ok_or("a rule starts with `@`")?;
        let mut rest = text;
        let mut prefix = || {
            rest = rest.trim_start();
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            let net = word.parse::<IpNet>();
            net.map(|net| net.trunc())
                .map_err(|_| format!("`{word}` is not a prefix"))
        };
        let (src, dst) = (prefix()?, prefix()?);
        if src.max_prefix_len() != dst.max_prefix_len() {
            return Err(format!("{src} and {dst} are of different families"));
        }
        let rest = rest.replace(':', " ");
        let mut words = rest.split_whitespace();
        let mut range = || {
            let (first, last) = (number(words.next())?, number(words.next())?);
            let right = first <= last;
            right
                .then_some((first, last))
                .ok_or(format!("{first} : {last} is the wrong way round"))
        };
        let (sport, dport) = (range()?, range()?);
        let proto = words.next().and_then(|word| word.split_once('/'));
        let (proto, mask) = proto.ok_or("the protocol and its mask are missing")?;
        let mask = hex(mask)?;
        Ok(Rule {
            src,
            dst,
            sport,
            dport,
            proto: hex(proto)? & mask,
            mask,
        })
    })
}

/// Reads packets. The line that a packet was drawn from may be missing.
///
/// # Errors
/// The first line that is not of the format.
pub fn parse_trace(text: &str) -> Result<Vec<Header>, ParseError> {
    lines(text, |text| {
        let mut words = text.split_whitespace();
        let mut addr = || match words.next() {
            Some(word) => match word.parse::<u32>() {
                Ok(number) => Ok(IpAddr::V4(Ipv4Addr::from(number))),
                Err(_) => word
                    .parse::<IpAddr>()
                    .map_err(|_| format!("`{word}` is not an address")),
            },
            None => Err("the address is missing".to_owned()),
        };
        let (src, dst) = (addr()?, addr()?);
        if src.is_ipv4() != dst.is_ipv4() {
            return Err(format!("{src} and {dst} are of different families"));
        }
        let (sport, dport) = (number(words.next())?, number(words.next())?);
        let proto = number(words.next())?;
        let drawn_from = words.next().and_then(|word| word.parse().ok());
        Ok(Header {
            src,
            dst,
            sport,
            dport,
            proto,
            drawn_from,
        })
    })
}

fn lines<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, ParseError> {
    let numbered = text.lines().enumerate();
    let full = numbered.filter(|(_, text)| !text.trim().is_empty());
    full.map(|(at, text)| read(text.trim()).map_err(|what| ParseError { line: at + 1, what }))
        .collect()
}

fn number<T: FromStr>(word: Option<&str>) -> Result<T, String> {
    let word = word.ok_or("a number is missing")?;
    word.parse()
        .map_err(|_| format!("`{word}` is not a number that fits"))
}

fn hex(word: &str) -> Result<u8, String> {
    let digits = word
        .strip_prefix("0x")
        .or(word.strip_prefix("0X"))
        .unwrap_or_default();
    u8::from_str_radix(digits, 16).map_err(|_| format!("`{word}` is not 0x and two digits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, generate, trace};

    #[test]
    fn what_is_written_reads_back_the_same() {
        for kind in Kind::ALL {
            for profile in [kind.v4(), kind.v6()] {
                let rules = generate(profile, 200, 9);
                assert_eq!(parse_rules(&write_rules(&rules)).as_ref(), Ok(&rules));
                let headers = trace(&rules, 500, 9);
                assert_eq!(parse_trace(&write_trace(&headers)), Ok(headers));
            }
        }
    }

    #[test]
    fn a_rule_reads_however_its_fields_are_spaced() {
        let written = "@192.0.2.0/24\t198.51.100.7/32\t0 : 65535\t80 : 90\t0x06/0xFF";
        let rules = parse_rules(written).unwrap();
        assert_eq!(write_rules(&rules).trim_end(), written);
        for other in [
            // As ClassBench's own generator ends a line.
            "@192.0.2.0/24\t198.51.100.7/32\t0 : 65535\t80 : 90\t0x06/0xFF\t\n",
            "@192.0.2.0/24\t198.51.100.7/32\t0 : 65535\t80 : 90\t0x06/0xFF\t0x0000/0x0200\t\r\n",
            "@192.0.2.0/24 198.51.100.7/32 0 : 65535 80 : 90 0x06/0xff",
            "@192.0.2.0/24  198.51.100.7/32  0:65535  80 :90 \t0x6/0xFF \n\n",
            "\n@192.0.2.77/24\t\t198.51.100.7/32\t0\t:\t65535\t80: 90\t0x06/0xFF\n",
        ] {
            assert_eq!(parse_rules(other).as_ref(), Ok(&rules), "{other:?}");
        }
        let six = "@2001:db8::/32\t2001:db8:1::5/128\t0 : 65535\t53 : 53\t0x11/0xFF\n";
        assert_eq!(write_rules(&parse_rules(six).unwrap()), six);
    }

    #[test]
    fn a_line_that_is_not_of_the_format_is_named_with_what_is_wrong() {
        let wrong = |text: &str| parse_rules(text).unwrap_err().to_string();
        let good = "@::/0\t::/0\t0 : 1\t0 : 1\t0x06/0xFF\n";
        assert_eq!(
            wrong(&format!("{good}192.0.2.0/24")),
            "line 2: a rule starts with `@`"
        );
        assert_eq!(
            wrong("@192.0.2.0/33 ::/0"),
            "line 1: `192.0.2.0/33` is not a prefix"
        );
        assert_eq!(wrong("@192.0.2.0/24"), "line 1: `` is not a prefix");
        assert_eq!(
            wrong("@0.0.0.0/0 ::/0 0 : 1"),
            "line 1: 0.0.0.0/0 and ::/0 are of different families"
        );
        assert_eq!(
            wrong("@::/0 ::/0 1 : 0"),
            "line 1: 1 : 0 is the wrong way round"
        );
        assert_eq!(
            wrong("@::/0 ::/0 1 : 65536"),
            "line 1: `65536` is not a number that fits"
        );
        assert_eq!(wrong("@::/0 ::/0 1 : 2 1"), "line 1: a number is missing");
        assert_eq!(
            wrong("@::/0 ::/0 1 : 2 1 : 2"),
            "line 1: the protocol and its mask are missing"
        );
        assert_eq!(
            wrong("@::/0 ::/0 1 : 2 1 : 2 6/FF"),
            "line 1: `FF` is not 0x and two digits"
        );
        assert_eq!(
            parse_trace("1 x 1 1 1").unwrap_err().to_string(),
            "line 1: `x` is not an address"
        );
        assert_eq!(
            parse_trace("1 2 1 1 256").unwrap_err().to_string(),
            "line 1: `256` is not a number that fits"
        );
    }
}

//! `[detect]`: what is looked for in how hosts behave.

use super::address;
use super::raw::Reader;
use super::section::Section;
use super::size;
use crate::policy::{Family, Set};
use std::time::Duration;
use toml::de::DeValue;

/// `[detect]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether anything is looked for.
    pub enabled: bool,
    /// Hosts that are remembered.
    pub hosts: usize,
    /// `None` where it is off; so are the others.
    pub scan: Option<Scan>,
    #[allow(missing_docs)]
    pub dns_tunnel: Option<DnsTunnel>,
    #[allow(missing_docs)]
    pub icmp_tunnel: Option<IcmpTunnel>,
    #[allow(missing_docs)]
    pub upload: Option<Upload>,
    #[allow(missing_docs)]
    pub beacon: Option<Beacon>,
}

/// Addresses of either end that a detector lets be: sorted intervals by family, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Except([Vec<(u128, u128)>; 2]);

impl Except {
    /// Whether it holds this address.
    pub fn has(&self, v6: bool, address: u128) -> bool {
        let ranges = &self.0[usize::from(v6)];
        let after = ranges.partition_point(|(first, _)| *first <= address);
        after > 0 && ranges[after - 1].1 >= address
    }
}

/// Horizontal and vertical scans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Addresses on one port that do not answer.
    pub hosts: u32,
    /// Ports of one address that do not answer.
    pub ports: u32,
    /// Within this time.
    pub window: Duration,
    #[allow(missing_docs)]
    pub except: Except,
}

/// Tunnels in names that are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsTunnel {
    /// Names of one domain.
    pub names: u32,
    /// Bytes before the domain, on the average.
    pub length: u32,
    /// Bits of entropy of these bytes, on the average.
    pub entropy: f32,
    /// Within this time.
    pub window: Duration,
    /// Domains that are let be: two labels in lower case.
    pub domains: Vec<String>,
    #[allow(missing_docs)]
    pub except: Except,
}

/// Tunnels in pings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpTunnel {
    /// Echo requests to one address that hold something else than a ping does.
    pub echoes: u32,
    /// Within this time.
    pub window: Duration,
    #[allow(missing_docs)]
    pub except: Except,
}

/// A host that sends far more than it did in any hour of the last week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// How many times as much.
    pub factor: u32,
    /// And at least so many bytes in the hour.
    pub least: u64,
    /// A host is watched for so long before it may alert.
    pub learn: Duration,
    #[allow(missing_docs)]
    pub except: Except,
}

/// Small connections in a beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Beats in a row.
    pub count: u32,
    /// Percent by which a beat may come early or late.
    pub jitter: u32,
    /// The longest beat.
    pub longest: Duration,
    /// Bytes that a connection sends on the average, at most.
    pub size: u64,
    #[allow(missing_docs)]
    pub except: Except,
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// Windows and learning times: what a host is remembered by has a week.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// Reads `[detect]`.
pub(super) fn detect(reader: &mut Reader, section: Option<Section<'_>>, sets: &[Set]) -> Settings {
    let span = section
        .as_ref()
        .map_or(0..0, |section| section.span.clone());
    let mut section = section.unwrap_or_else(|| Section::new("[detect]", Default::default(), span));
    let enabled = section
        .take("enabled")
        .and_then(|value| reader.boolean(&value, "enabled"));
    let hosts = section
        .take("hosts")
        .and_then(|value| reader.integer(&value, "hosts", 64..=65_536));
    let mut part = |key, reader: &mut Reader| {
        let section = section
            .take(key)
            .and_then(|value| reader.section(value, key))
            .unwrap_or_else(|| Section::new(key, Default::default(), 0..0));
        Part { section, sets }
    };
    let scan = scan(part("scan", reader), reader);
    let dns_tunnel = dns_tunnel(part("dns_tunnel", reader), reader);
    let icmp_tunnel = icmp_tunnel(part("icmp_tunnel", reader), reader);
    let upload = upload(part("upload", reader), reader);
    let beacon = beacon(part("beacon", reader), reader);
    section.finish(reader);
    Settings {
        enabled: enabled.unwrap_or(true),
        hosts: hosts.unwrap_or(4096) as usize,
        scan,
        dns_tunnel,
        icmp_tunnel,
        upload,
        beacon,
    }
}

/// One detector's table.
struct Part<'t, 's> {
    section: Section<'t>,
    sets: &'s [Set],
}

impl Part<'_, '_> {
    fn enabled(&mut self, reader: &mut Reader) -> bool {
        let value = self.section.take("enabled");
        value
            .and_then(|value| reader.boolean(&value, "enabled"))
            .unwrap_or(true)
    }

    fn number(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        range: std::ops::RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        let value = self.section.take(key);
        value
            .and_then(|value| reader.integer(&value, key, range))
            .unwrap_or(default)
    }

    fn bytes(&mut self, reader: &mut Reader, key: &'static str, default: u64) -> u64 {
        let value = self.section.take(key);
        value
            .and_then(|value| size::bytes(reader, &value, key, 1_000..=1 << 40))
            .unwrap_or(default)
    }

    fn time(&mut self, reader: &mut Reader, key: &'static str, default: Duration) -> Duration {
        let Some(value) = self.section.take(key) else {
            return default;
        };
        let Some(stated) = reader.duration(&value, key) else {
            return default;
        };
        if !(Duration::from_secs(1)..=LONGEST).contains(&stated) {
            let message = format!("`{key}` must be from 1s to 7days");
            let help = "a host is remembered for a week at most";
            reader.error(value.span(), message, "out of range", help);
        }
        stated
    }

    /// `default` are names of sets, as far as the config has them.
    fn except(&mut self, reader: &mut Reader, default: &[&str]) -> Except {
        let matched = match self.section.take("except") {
            None => {
                let known = default
                    .iter()
                    .filter_map(|name| self.sets.iter().position(|set| set.name == *name));
                let terms: Vec<_> = known.map(crate::policy::Term::Set).collect();
                (!terms.is_empty()).then(|| crate::policy::AddrMatch {
                    any_of: terms,
                    none_of: Vec::new(),
                })
            }
            // Nobody at all.
            Some(value)
                if value
                    .get_ref()
                    .as_array()
                    .is_some_and(|list| list.is_empty()) =>
            {
                None
            }
            Some(value) => address::expression(reader, &value, "except", self.sets),
        };
        let of = |family| {
            matched
                .as_ref()
                .map(|matched| matched.intervals(self.sets, family))
                .unwrap_or_default()
        };
        Except([of(Family::V4), of(Family::V6)])
    }

    fn entropy(&mut self, reader: &mut Reader, default: f32) -> f32 {
        let Some(value) = self.section.take("entropy") else {
            return default;
        };
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        match number {
            Some(bits) if (0.0..=8.0).contains(&bits) => bits,
            _ => {
                let message = "`entropy` must be a number from 0 to 8";
                let help = "write bits for each byte, such as 3.0: words of a language have about 3 in names this long, random letters up to 5";
                reader.error(value.span(), message, "not such a number", help);
                default
            }
        }
    }

    /// Domains of two labels.
    fn domains(&mut self, reader: &mut Reader) -> Vec<String> {
        let Some(value) = self.section.take("domains") else {
            return Vec::new();
        };
        let Some(list) = reader.list(&value, "domains") else {
            return Vec::new();
        };
        let mut domains = Vec::new();
        for item in list {
            let Some(text) = reader.string(&item, "domains") else {
                continue;
            };
            let labels: Vec<&str> = text.split('.').collect();
            let fits = labels.len() == 2 && labels.iter().all(|label| !label.is_empty());
            if fits && text.len() <= 48 {
                domains.push(text.to_ascii_lowercase());
            } else {
                let message = format!("{} is not a domain of two labels", address::quoted(&text));
                let help = "write the last two labels of the names, such as \"example.org\": they are counted by these";
                reader.error(item.span(), message, "here", help);
            }
        }
        domains
    }
}

fn scan(mut part: Part<'_, '_>, reader: &mut Reader) -> Option<Scan> {
    let enabled = part.enabled(reader);
    // Beyond it the bits that count would be full.
    let scan = Scan {
        hosts: part.number(reader, "hosts", 10..=300, 100),
        ports: part.number(reader, "ports", 10..=300, 100),
        window: part.time(reader, "window", MINUTE),
        except: part.except(reader, &[]),
    };
    part.section.finish(reader);
    enabled.then_some(scan)
}

fn dns_tunnel(mut part: Part<'_, '_>, reader: &mut Reader) -> Option<DnsTunnel> {
    let enabled = part.enabled(reader);
    let dns_tunnel = DnsTunnel {
        names: part.number(reader, "names", 10..=300, 100),
        length: part.number(reader, "length", 1..=250, 20),
        entropy: part.entropy(reader, 3.0),
        window: part.time(reader, "window", MINUTE),
        domains: part.domains(reader),
        except: part.except(reader, &["resolvers", "mail_servers"]),
    };
    part.section.finish(reader);
    enabled.then_some(dns_tunnel)
}

fn icmp_tunnel(mut part: Part<'_, '_>, reader: &mut Reader) -> Option<IcmpTunnel> {
    let enabled = part.enabled(reader);
    let icmp_tunnel = IcmpTunnel {
        echoes: part.number(reader, "echoes", 3..=100_000, 20),
        window: part.time(reader, "window", MINUTE),
        except: part.except(reader, &[]),
    };
    part.section.finish(reader);
    enabled.then_some(icmp_tunnel)
}

fn upload(mut part: Part<'_, '_>, reader: &mut Reader) -> Option<Upload> {
    let enabled = part.enabled(reader);
    let upload = Upload {
        factor: part.number(reader, "factor", 1..=1000, 5),
        least: part.bytes(reader, "least", 1_000_000_000),
        learn: part.time(reader, "learn", DAY),
        except: part.except(reader, &[]),
    };
    part.section.finish(reader);
    enabled.then_some(upload)
}

fn beacon(mut part: Part<'_, '_>, reader: &mut Reader) -> Option<Beacon> {
    let enabled = part.enabled(reader);
    let beacon = Beacon {
        count: part.number(reader, "count", 5..=1000, 20),
        jitter: part.number(reader, "jitter", 1..=50, 10),
        longest: part.time(reader, "longest", 60 * MINUTE),
        size: part.bytes(reader, "size", 64_000),
        except: part.except(reader, &[]),
    };
    part.section.finish(reader);
    enabled.then_some(beacon)
}

impl Default for Settings {
    /// What an empty config says.
    fn default() -> Settings {
        let mut reader = Reader::new("", "", std::path::Path::new(""));
        detect(&mut reader, None, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, String> {
        crate::config::parse(text, "test", std::path::Path::new("."))
            .map(|config| config.detect)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn all_of_them_are_on_where_nothing_is_said() {
        let nothing = settings("").unwrap();
        assert_eq!(nothing, Settings::default());
        assert!(nothing.enabled && nothing.hosts == 4096);
        assert_eq!(settings("[detect]\nscan = {}\n").unwrap(), nothing);
        let off = settings("[detect]\nbeacon = { enabled = false }\n").unwrap();
        assert!(off.beacon.is_none() && off.scan == nothing.scan);
    }

    #[test]
    fn resolvers_and_mail_servers_may_ask_as_much_as_they_like_unless_the_config_says_else() {
        let sets =
            "[sets]\nresolvers = [\"10.0.0.53\"]\nmail_servers = [\"10.0.0.25\", \"fd00::25\"]\n";
        let except = |more: &str| {
            let settings = settings(&format!("{sets}{more}")).unwrap();
            settings.dns_tunnel.unwrap().except
        };
        let default = except("");
        for (v6, address) in [
            (false, 0x0a00_0035),
            (false, 0x0a00_0019),
            (true, 0xfd << 120 | 0x25),
        ] {
            assert!(default.has(v6, address));
        }
        assert!(!default.has(false, 0x0a00_0036) && !default.has(true, 0x0a00_0035));
        let nobody = except("[detect]\ndns_tunnel = { except = [] }\n");
        assert!(!nobody.has(false, 0x0a00_0035));
        let named =
            except("[detect]\ndns_tunnel = { except = [\"10.9.0.0/16\", \"@mail_servers\"] }\n");
        assert!(named.has(false, 0x0a09_0807) && named.has(false, 0x0a00_0019));
        assert!(!named.has(false, 0x0a00_0035));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_word_of_help() {
        for (text, message) in [
            (
                "scan = { hosts = 5 }",
                "`hosts` must be a number from 10 to 300",
            ),
            (
                "scan = { window = \"8days\" }",
                "`window` must be from 1s to 7days",
            ),
            ("scan = { port = 5 }", "unknown key `port` in scan"),
            (
                "dns_tunnel = { entropy = 9.5 }",
                "`entropy` must be a number from 0 to 8",
            ),
            (
                "dns_tunnel = { domains = [\"a.b.c\"] }",
                "not a domain of two labels",
            ),
            (
                "dns_tunnel = { except = [\"@nobody\"] }",
                "there is no set `nobody`",
            ),
            ("upload = { least = \"1\" }", "`least` cannot be"),
            ("beacon = 7", "`beacon` must be a table"),
            ("hosts = 1", "`hosts` must be a number from 64 to 65536"),
        ] {
            let error = settings(&format!("[detect]\n{text}\n")).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}

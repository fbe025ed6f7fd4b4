//! Why a frame was not forwarded: one closed enum, and one name for each, the same in code, metrics, alerts,
//! `explain`, `replay` and the docs.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The reason of a drop or a reject.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of its index.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];
            /// How many reasons there are: the length of every per-reason counter array.
            pub const COUNT: usize = Self::ALL.len();

            /// The name that metrics, alerts and reports use: lower case, words joined by `-`.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)+ }
            }

            /// One sentence for a person.
            pub const fn describe(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// A rule of the policy says so.
    Rule = "rule",
    /// No rule matched, and the policy's default is to drop.
    Default = "default",
    /// A rule lets it through, and its limit is used up.
    RateLimit = "rate-limit",
    /// A length, version or header that contradicts itself or the frame.
    Malformed = "malformed",
    /// An ethertype, or an 802.3/LLC protocol, that is not in the table of those that pass.
    Ethertype = "ethertype",
    /// Three or more VLAN tags.
    VlanDepth = "vlan-depth",
    /// An IPv6 extension-header chain that is too long, unknown, out of order, or leaves the first fragment.
    ExtHeader = "ext-header",
    /// An IPv4 loose or strict source route, or an IPv6 routing header of type 0.
    SourceRoute = "source-route",
    /// A first fragment too short for the transport header, or a TCP fragment at offset 1.
    FragmentTiny = "fragment-tiny",
    /// A later fragment whose first fragment was not seen.
    FragmentOrphan = "fragment-orphan",
    /// A fragment that overlaps another one of its datagram, or comes after one that did.
    FragmentOverlap = "fragment-overlap",
    /// A fragment that was seen already.
    FragmentDuplicate = "fragment-duplicate",
    /// TCP flags that no TCP sends: SYN with FIN or RST, none, or FIN, PSH or URG without ACK.
    TcpFlags = "tcp-flags",
    /// A TCP segment that opens no connection and is of none, or an answer to no ICMP query.
    NoFlow = "no-flow",
    /// An ICMP error that quotes no packet of a live flow.
    IcmpUnrelated = "icmp-unrelated",
    /// The flow table is full.
    FlowTableFull = "flow-table-full",
    /// The host on the LAN side has as many flows as one host may have.
    HostFlows = "host-flows",
    /// A TCP or UDP checksum that is wrong, where the payload is to be looked at.
    Checksum = "checksum",
    /// A byte of a TCP stream came twice and was another the second time, before it was known what the stream is.
    PayloadOverlap = "payload-overlap",
    /// It cannot be seen what a flow's payload is: split over fragments, without sense for as long as is looked, or no longer held.
    PayloadHidden = "payload-hidden",
    /// Longer than a UMEM chunk, or a GSO/GRO super-frame.
    Oversize = "oversize",
    /// A rule has it answered by a decoy, and there is no room: as many conversations as may be, more frames than the stack is given, or its ring is full.
    DecoyFull = "decoy-full",
    /// To the box's own address, from an address that gets no answer.
    InbandRefused = "inband-refused",
    /// To the box's own address, beyond what its stack is given of one sender or of all, or its ring is full.
    InbandRate = "inband-rate",
}

impl Reason {
    /// The index into a per-reason counter array, below [`Reason::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_sits_at_its_index() {
        let mut names = HashSet::new();
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), i);
            assert!(names.insert(reason.name()), "{reason} twice");
            assert!(
                reason
                    .name()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-')
            );
            assert!(!reason.describe().trim().is_empty());
        }
    }
}

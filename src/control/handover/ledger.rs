//! The ledger: what one process writes down for the next, JSON in a sealed file of memory.
//!
//! It says what is where as far as the kernel does not: which chunks of the packet memory are in no ring, and how everything is laid out. Whoever reads it believes nothing.

use super::EXPIRES;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

/// Of this format. Another one is not understood: the next process starts anew.
pub const VERSION: u32 = 1;
/// No ledger is longer, bytes.
const LONGEST: u64 = 64 << 20;

/// What a process leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// [`VERSION`].
    pub version: u32,
    /// How everything is laid out.
    pub layout: Layout,
    /// The chunks that each worker had in hand. All others are in the rings, on their way there, or lost.
    pub in_hand: Vec<Chunks>,
    /// Frames that were submitted and had not come back, by side and queue.
    pub in_flight: [Vec<u32>; 2],
    /// Frames received since the sockets were bound, by side.
    pub received: [u64; 2],
    /// When the workers had ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub left: u64,
    /// How long the gate in the kernel waits from then on, nanoseconds.
    pub patience: u64,
}

/// How sockets and memory are laid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The inode of the network namespace.
    pub namespace: u64,
    /// By side.
    pub ports: [Port; 2],
    /// Queue n of either side belongs to worker n modulo this.
    pub workers: usize,
    /// Chunks of the memory, and bytes of one.
    pub frames: u32,
    /// See there.
    pub chunk: u32,
    /// Entries of each ring.
    pub ring: u32,
    /// `[bridge] huge_pages`.
    pub huge_pages: bool,
    /// The memory is in huge pages.
    pub huge: bool,
    /// `[bridge] busy_poll`: microseconds and budget.
    pub busy_poll: Option<[u32; 2]>,
}

/// One NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name and index.
    pub nic: String,
    /// See there.
    pub index: u32,
    /// Queues with a socket.
    pub queues: u32,
    /// The sockets are in zero-copy mode.
    pub zero_copy: bool,
}

/// Numbers of chunks: a bit each, so that none is there twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Chunks(Vec<u8>);

impl From<Chunks> for String {
    fn from(chunks: Chunks) -> String {
        STANDARD.encode(chunks.0)
    }
}

impl TryFrom<String> for Chunks {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Chunks, base64::DecodeError> {
        STANDARD.decode(text).map(Chunks)
    }
}

impl FromIterator<u32> for Chunks {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Chunks {
        let mut bits = Vec::new();
        for number in numbers {
            let byte = (number / 8) as usize;
            if bits.len() <= byte {
                bits.resize(byte + 1, 0);
            }
            bits[byte] |= 1 << (number % 8);
        }
        Chunks(bits)
    }
}

impl Chunks {
    /// Those that are there, upwards.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let bytes = (0u32..).zip(&self.0);
        bytes.flat_map(|(at, byte)| {
            let bits = (0..8).filter(move |bit| byte >> bit & 1 == 1);
            bits.map(move |bit| at.saturating_mul(8).saturating_add(bit))
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

impl Layout {
    /// What is another with `wanted`, in words. What was found out, and not asked for, is not compared.
    pub fn differs(&self, wanted: &Layout) -> Option<String> {
        fn other<T: PartialEq + std::fmt::Debug>(name: &str, was: T, is: T) -> Option<String> {
            (was != is).then(|| format!("{name} was {was:?} and is {is:?}"))
        }
        let ports = self.ports.iter().zip(&wanted.ports);
        let mut ports = ports.zip(["lan", "uplink"]).map(|((was, is), side)| {
            other(side, &was.nic, &is.nic)
                .or_else(|| other(&format!("the index of {}", is.nic), was.index, is.index))
                .or_else(|| other(&format!("queues of {}", is.nic), was.queues, is.queues))
        });
        other("the network namespace", self.namespace, wanted.namespace)
            .or_else(|| ports.find_map(|differs| differs))
            .or_else(|| other("the number of workers", self.workers, wanted.workers))
            .or_else(|| other("ring", self.ring, wanted.ring))
            .or_else(|| other("chunk", self.chunk, wanted.chunk))
            .or_else(|| other("frames of all queues", self.frames, wanted.frames))
            .or_else(|| other("huge_pages", self.huge_pages, wanted.huge_pages))
            .or_else(|| other("busy_poll", self.busy_poll, wanted.busy_poll))
    }
}

impl Ledger {
    /// Sees whether it can be as it says, at `now` of `CLOCK_MONOTONIC`, and is laid out as `wanted`.
    ///
    /// # Errors
    /// What is not so, in words.
    pub fn check(&self, wanted: &Layout, now: u64) -> Result<(), String> {
        if let Some(differs) = self.layout.differs(wanted) {
            return Err(differs);
        }
        match now.checked_sub(self.left) {
            None => return Err("its ledger is of a time to come".into()),
            Some(age) if u128::from(age) > EXPIRES.as_nanos() => {
                return Err(format!("its ledger is {} s old", age / 1_000_000_000));
            }
            Some(_) => {}
        }
        let Layout {
            workers, frames, ..
        } = self.layout;
        if self.in_hand.len() != workers {
            return Err(format!(
                "its ledger is of {} workers and not {workers}",
                self.in_hand.len()
            ));
        }
        let share = frames as usize / workers.max(1);
        let mut seen = vec![false; frames as usize];
        for chunks in &self.in_hand {
            if chunks.len() > share {
                return Err(format!(
                    "a worker had {} chunks in hand, of {share}",
                    chunks.len()
                ));
            }
            for number in chunks.numbers() {
                match seen.get_mut(number as usize) {
                    None => return Err(format!("there is no chunk {number}")),
                    Some(true) => return Err(format!("two workers had chunk {number}")),
                    Some(seen) => *seen = true,
                }
            }
        }
        for (queues, port) in self.in_flight.iter().zip(&self.layout.ports) {
            if queues.len() != port.queues as usize {
                return Err(format!(
                    "its ledger is of {} queues of {}",
                    queues.len(),
                    port.nic
                ));
            }
        }
        let in_flight = self.in_flight.iter().flatten().map(|n| u64::from(*n));
        match in_flight.sum::<u64>() {
            sum if sum > u64::from(frames) => Err(format!("{sum} frames are on their way")),
            _ => Ok(()),
        }
    }

    /// As text.
    pub fn text(&self) -> Vec<u8> {
        // Strings, numbers and lists alone: nothing that JSON does not have.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &[u8]) -> Result<Ledger, String> {
        #[derive(Deserialize)]
        struct Any {
            version: u32,
        }
        let wrong = |e| format!("its ledger cannot be read ({e})");
        // First of all: the rest is of that version.
        let Any { version } = serde_json::from_slice(text).map_err(wrong)?;
        if version != VERSION {
            return Err(format!(
                "its ledger is of version {version}, and {VERSION} is understood"
            ));
        }
        serde_json::from_slice(text).map_err(wrong)
    }
}

/// That nobody changes it any more.
pub fn seals() -> SealFlag {
    SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Reads a ledger.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(fd: OwnedFd) -> Result<Ledger, String> {
    let found = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|_| "its ledger is no file of memory")?;
    if !SealFlag::from_bits_retain(found).contains(seals()) {
        return Err("its ledger is not sealed".into());
    }
    let wrong = |e: std::io::Error| format!("its ledger cannot be read ({e})");
    let mut file = File::from(fd);
    std::io::Seek::rewind(&mut file).map_err(wrong)?;
    if file.metadata().map_err(wrong)?.len() > LONGEST {
        return Err("its ledger is too long".into());
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(wrong)?;
    Ledger::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use proptest::prelude::*;
    use std::io::Write;

    fn ledger() -> Ledger {
        let port = |nic: &str, index| Port {
            nic: nic.into(),
            index,
            queues: 2,
            zero_copy: false,
        };
        Ledger {
            version: VERSION,
            layout: Layout {
                namespace: 7,
                ports: [port("lan0", 3), port("up0", 4)],
                workers: 2,
                frames: 100,
                chunk: 4096,
                ring: 64,
                huge_pages: true,
                huge: false,
                busy_poll: None,
            },
            in_hand: vec![[0, 1, 99].into_iter().collect(), (50..90).collect()],
            in_flight: [vec![0, 3], vec![1, 0]],
            received: [10, 20],
            left: 1_000,
            patience: 2_000_000_000,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let ledger = ledger();
        assert_eq!(Ledger::parse(&ledger.text()), Ok(ledger.clone()));
        assert_eq!(ledger.check(&ledger.layout, 2_000), Ok(()));
        let numbers: Vec<u32> = ledger.in_hand[0].numbers().collect();
        assert_eq!((numbers, ledger.in_hand[0].len()), (vec![0, 1, 99], 3));
    }

    #[test]
    fn what_cannot_be_is_refused_and_said() {
        let good = ledger();
        let check = |change: &dyn Fn(&mut Ledger), words: &str| {
            let mut ledger = ledger();
            change(&mut ledger);
            let said = ledger.check(&good.layout, 1_000).unwrap_err();
            assert!(said.contains(words), "no `{words}` in {said}");
        };
        let late = EXPIRES.as_nanos() as u64;
        assert!(good.check(&good.layout, 1_000 + late).is_ok());
        let said = good.check(&good.layout, 1_001 + late).unwrap_err();
        assert!(said.contains("30 s old"), "{said}");
        check(&|l| l.left = 1_001, "to come");
        check(&|l| l.in_hand.truncate(1), "of 1 workers and not 2");
        check(
            &|l| l.in_hand[1] = (49..100).collect(),
            "51 chunks in hand, of 50",
        );
        check(
            &|l| l.in_hand[1] = [100].into_iter().collect(),
            "no chunk 100",
        );
        check(
            &|l| l.in_hand[1] = [1 << 20].into_iter().collect(),
            "no chunk",
        );
        check(
            &|l| l.in_hand[1] = [7, 99].into_iter().collect(),
            "two workers had chunk 99",
        );
        check(&|l| l.in_flight[1] = vec![0], "1 queues of up0");
        check(&|l| l.in_flight[0][0] = 97, "101 frames");
        check(
            &|l| l.in_flight[0] = vec![u32::MAX, u32::MAX],
            "on their way",
        );
    }

    #[test]
    fn each_part_of_the_layout_that_is_another_is_named() {
        let check = |change: &dyn Fn(&mut Layout), words: &str| {
            let (mut wanted, was) = (ledger().layout, ledger());
            change(&mut wanted);
            let said = was.check(&wanted, 1_000).unwrap_err();
            assert!(said.contains(words), "no `{words}` in {said}");
        };
        check(&|l| l.namespace = 8, "network namespace was 7 and is 8");
        check(
            &|l| l.ports[0].nic = "eth9".into(),
            "lan was \"lan0\" and is \"eth9\"",
        );
        check(&|l| l.ports[1].index = 9, "index of up0 was 4 and is 9");
        check(&|l| l.ports[1].queues = 1, "queues of up0 was 2 and is 1");
        check(&|l| l.workers = 1, "workers was 2 and is 1");
        check(&|l| l.ring = 128, "ring was 64 and is 128");
        check(&|l| l.chunk = 2048, "chunk was 4096 and is 2048");
        check(
            &|l| l.frames = 200,
            "frames of all queues was 100 and is 200",
        );
        check(&|l| l.huge_pages = false, "huge_pages was true");
        check(&|l| l.busy_poll = Some([20, 64]), "busy_poll was None");
        let mut found = ledger().layout;
        found.huge = true;
        found.ports[0].zero_copy = true;
        assert_eq!(
            ledger().check(&found, 1_000),
            Ok(()),
            "found out, not asked for"
        );
    }

    #[test]
    fn another_version_is_said_before_anything_else_is_read() {
        let said = Ledger::parse(br#"{"version":2,"and":"more"}"#).unwrap_err();
        assert!(said.contains("version 2, and 1 is"), "{said}");
        let mut text = ledger().text();
        text.truncate(text.len() - 1);
        assert!(Ledger::parse(&text).unwrap_err().contains("cannot be read"));
        let more = br#"{"version":1,"and":"more"}"#;
        assert!(Ledger::parse(more).unwrap_err().contains("unknown field"));
    }

    #[test]
    fn a_file_that_could_still_change_or_is_none_is_not_read() {
        let file = || {
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            let mut file = File::from(memfd_create(c"ledger", flags).unwrap());
            file.write_all(&ledger().text()).unwrap();
            file
        };
        let open = file();
        assert!(read(open.into()).unwrap_err().contains("not sealed"));
        let sealed = file();
        fcntl(&sealed, FcntlArg::F_ADD_SEALS(seals())).unwrap();
        assert_eq!(read(sealed.into()), Ok(ledger()));
        let long = file();
        long.set_len(LONGEST + 1).unwrap();
        fcntl(&long, FcntlArg::F_ADD_SEALS(seals())).unwrap();
        assert!(read(long.into()).unwrap_err().contains("too long"));
        let null = File::open("/dev/null").unwrap();
        assert!(read(null.into()).unwrap_err().contains("no file of memory"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Ledger::parse(&bytes);
        }

        #[test]
        fn no_change_of_a_ledger_makes_it_panic_or_pass_with_chunks_that_are_not_there(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), now in any::<u64>(),
        ) {
            let mut text = ledger().text();
            let at = at.index(text.len());
            text[at] = byte;
            if let Ok(ledger) = Ledger::parse(&text)
                && ledger.check(&super::tests::ledger().layout, now).is_ok()
            {
                let mut all: Vec<u32> = ledger.in_hand.iter().flat_map(Chunks::numbers).collect();
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                prop_assert_eq!(all.len(), count);
                prop_assert!(all.iter().all(|number| *number < 100));
            }
        }

        #[test]
        fn chunks_are_those_that_were_put_in(numbers in proptest::collection::btree_set(0u32..5_000, 0..200)) {
            let chunks: Chunks = numbers.iter().copied().collect();
            prop_assert_eq!(chunks.len(), numbers.len());
            let text = String::from(chunks);
            let again = Chunks::try_from(text).unwrap();
            prop_assert!(again.numbers().eq(numbers));
        }
    }
}

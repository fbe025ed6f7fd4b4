//! What is sent in a trial, frame by frame.

use crate::flow::Flow;
use crate::frames::{Ends, Frames, ROOM, Step};
use crate::mark::{Kind, Mark};
use crate::size::{FCS, Size};

/// Frames that are sent over and over.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// The same flows in one or several sizes.
    frames: Vec<Frames>,
    /// Which of them come one after the other.
    pattern: Vec<usize>,
    forbidden: Frames,
    /// Of a thousand frames so many are forbidden ones.
    per_mille: u64,
}

impl Load {
    /// A frame of each flow in turn, of the sizes that `size` has, stretched where a flow has no room in them. They go out, or with [`Step::Back`] the other way.
    pub fn of(flows: &[Flow], ends: &Ends, step: Step, size: Size) -> Load {
        let wanted = size.pattern();
        let mut sizes: Vec<u16> = wanted.to_vec();
        sizes.sort_unstable();
        sizes.dedup();
        let built = sizes
            .iter()
            .map(|size| Frames::build(flows, ends, step, usize::from(*size)));
        let place = |size: &u16| sizes.iter().position(|s| s == size).unwrap_or(0);
        Load {
            frames: built.collect(),
            pattern: wanted.iter().map(place).collect(),
            ..Load::default()
        }
    }

    /// Frames as they are.
    pub fn plain(frames: Frames) -> Load {
        Load {
            frames: vec![frames],
            pattern: vec![0],
            ..Load::default()
        }
    }

    /// With `per_mille` of a thousand frames out of these, which must not arrive.
    pub fn with_forbidden(mut self, forbidden: Frames, per_mille: u64) -> Load {
        self.per_mille = if forbidden.is_empty() {
            0
        } else {
            per_mille.min(1000)
        };
        self.forbidden = forbidden;
        self
    }

    /// How many forbidden flows there are.
    pub fn forbidden(&self) -> usize {
        self.forbidden.len()
    }

    /// How many flows there are that should arrive.
    pub fn flows(&self) -> usize {
        self.frames.first().map_or(0, Frames::len)
    }
}

/// Frames in the order in which they are sent.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    load: &'a Load,
    trial: u16,
    kind: Kind,
    /// Flows to be opened; else all of them in turn.
    list: Option<&'a [u32]>,
    /// Frames that should arrive, and bytes of them with FCS.
    pub counted: u64,
    /// The bytes of all frames, with FCS.
    pub bytes: u64,
    /// Frames that must not arrive.
    pub forbidden: u64,
}

impl<'a> Source<'a> {
    /// The frames of a trial.
    pub fn new(load: &'a Load, trial: u16) -> Source<'a> {
        Source {
            load,
            trial,
            kind: Kind::Counted,
            list: None,
            counted: 0,
            bytes: 0,
            forbidden: 0,
        }
    }

    /// One frame for each of these flows, whose number is the sequence number.
    pub fn opening(load: &'a Load, trial: u16, list: &'a [u32]) -> Source<'a> {
        Source {
            kind: Kind::Opening,
            list: Some(list),
            ..Source::new(load, trial)
        }
    }

    /// All that were sent.
    pub fn sent(&self) -> u64 {
        self.counted + self.forbidden
    }

    /// Writes the next frame; its length.
    #[inline]
    pub fn write(&mut self, now: u64, room: &mut [u8; ROOM]) -> usize {
        let n = self.sent();
        let share = self.load.per_mille;
        let len = if (n + 1) * share / 1000 > n * share / 1000 {
            let mark = self.mark(Kind::Forbidden, self.forbidden, now);
            let at = self.forbidden as usize % self.load.forbidden.len().max(1);
            self.forbidden += 1;
            self.load.forbidden.write(at, &mark, room)
        } else {
            let n = self.counted;
            self.counted += 1;
            match self.list {
                Some(list) => {
                    let flow = list.get(n as usize).copied().unwrap_or(0);
                    let mark = self.mark(self.kind, flow.into(), now);
                    self.write_counted(n, flow as usize, &mark, room)
                }
                None => {
                    let mark = self.mark(self.kind, n, now);
                    let flows = self.load.flows().max(1) as u64;
                    self.write_counted(n, (n % flows) as usize, &mark, room)
                }
            }
        };
        self.bytes += (len + FCS) as u64;
        len
    }

    fn write_counted(&self, n: u64, flow: usize, mark: &Mark, room: &mut [u8; ROOM]) -> usize {
        let at = n % self.load.pattern.len().max(1) as u64;
        let size = self.load.pattern.get(at as usize);
        let frames = size.and_then(|size| self.load.frames.get(*size));
        frames.map_or(0, |frames| frames.write(flow, mark, room))
    }

    fn mark(&self, kind: Kind, sequence: u64, time: u64) -> Mark {
        Mark {
            kind,
            trial: self.trial,
            sequence,
            time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Protocol, Ranges};

    const ENDS: Ends = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

    fn flows(count: usize) -> Vec<Flow> {
        let ranges = Ranges {
            src: "10.77.0.0/24".parse().unwrap(),
            dst: "93.184.216.0/24".parse().unwrap(),
            sport: 1024..=2047,
            dport: 7..=7,
            protocol: Protocol::Udp,
        };
        ranges.flows(count).unwrap()
    }

    fn sent(source: &mut Source<'_>, count: usize) -> Vec<(usize, Mark)> {
        let mut room = [0; ROOM];
        (0..count)
            .map(|_| {
                let len = source.write(5, &mut room);
                (len + FCS, Mark::of(&room[..len]).unwrap())
            })
            .collect()
    }

    #[test]
    fn imix_comes_in_its_shares_and_all_flows_in_turn() {
        let load = Load::of(&flows(5), &ENDS, Step::Out, Size::Imix);
        let frames = sent(&mut Source::new(&load, 1), 120);
        let count = |size| frames.iter().filter(|(s, _)| *s == size).count();
        assert_eq!([count(64), count(594), count(1518)], [70, 40, 10]);
        assert!(frames.iter().map(|(_, mark)| mark.sequence).eq(0..120));
    }

    #[test]
    fn a_tenth_is_forbidden_and_both_kinds_are_counted_from_zero() {
        let one = |size| Load::of(&flows(4), &ENDS, Step::Out, Size::Fixed(size));
        let forbidden = Frames::build(&flows(3), &ENDS, Step::Out, 64);
        let load = one(128).with_forbidden(forbidden, 100);
        let mut source = Source::new(&load, 1);
        let frames = sent(&mut source, 1000);
        let of = |kind| frames.iter().filter(move |(_, mark)| mark.kind == kind);
        assert!(
            of(Kind::Forbidden)
                .map(|(_, mark)| mark.sequence)
                .eq(0..100)
        );
        assert!(of(Kind::Counted).map(|(_, mark)| mark.sequence).eq(0..900));
        assert_eq!((source.counted, source.forbidden), (900, 100));
        assert_eq!(source.bytes, 900 * 128 + 100 * 64);
    }

    #[test]
    fn flows_are_opened_by_their_numbers() {
        let load = Load::of(&flows(9), &ENDS, Step::Out, Size::Fixed(64));
        let frames = sent(&mut Source::opening(&load, 1, &[7, 2]), 2);
        assert_eq!(
            frames.iter().map(|f| f.1.sequence).collect::<Vec<_>>(),
            [7, 2]
        );
        assert!(frames.iter().all(|f| f.1.kind == Kind::Opening));
    }
}

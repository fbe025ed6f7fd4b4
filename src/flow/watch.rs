//! Flows whose payload is still to be looked at, or is known and not yet read by its server: one worker's hand on them.

use super::Kind;
use super::slots::Slot;
use super::state::{Control, Phase, Watch};
use super::stream::{Known, Piece, Shown};
use super::tcp;
use super::tracker::{Found, Judged, Track, Tracker, Why};
use crate::frame::{Meta, checksum};
use crate::policy::{RuleId, Side};
use crate::telemetry::Reason;
use crate::telemetry::counters::FlowCounters;

/// A flow whose payload is to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub(super) slot: Slot,
    /// The rule that has let the flow through until now.
    pub rule: RuleId,
    /// The frame goes the way that the flow was opened: it is the client's.
    pub forth: bool,
    /// The sequence number of the first byte.
    base: u32,
    kept: bool,
    /// What the payload was known to be before, as in [`Key::app`]; 0 where it is not known.
    pub app: u8,
    /// Data on a SYN: the receiver may not take it, and then it comes again.
    pub again: bool,
}

/// What a look comes to that other frames of the burst, or other workers, may have come before.
#[derive(Clone, Copy, Debug)]
pub enum Still {
    /// It is to be looked at.
    Look(Look),
    /// It is known by now, and this rule lets it through.
    Known(RuleId, Seen),
    /// The flow has been ended, by this rule.
    Blocked(RuleId),
    /// The flow is gone.
    Gone,
}

/// What was seen of a flow's payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// As in [`Key::app`].
    pub app: u8,
    /// Whether it is still to be seen.
    pub watch: Watch,
}

impl Seen {
    /// What the control word of a flow says whose payload is of no interest.
    #[inline]
    pub fn of(word: u64) -> Seen {
        Seen {
            app: Control::app_of(word),
            watch: Watch::Off,
        }
    }
}

impl Track {
    pub(super) fn look(&self, slot: Slot, control: &Control, ends: [u64; 2], forth: bool) -> Look {
        let again = self.kind == Kind::Tcp && forth && self.segment.opens();
        Look {
            slot,
            rule: control.rule,
            forth,
            // What the responder has acknowledged, and that is the SYN: nothing else has passed. Where it has opened too, and acknowledged nothing yet, what is right for it to.
            base: match (again, ends) {
                (true, _) => self.segment.seq.wrapping_add(1),
                (false, [own, 0]) => own as u32,
                (false, [_, other]) => other as u32,
            },
            kept: control.watch == Watch::More,
            app: control.app,
            again,
        }
    }
}

impl Tracker {
    /// Of a frame of a flow whose payload is still to be looked at, or not yet read by its server.
    pub(super) fn watched(
        &mut self,
        track: &mut Track,
        meta: &Meta,
        frame: &[u8],
        (slot, mut word, ends): (Slot, u64, [u64; 2]),
        mut control: Control,
        forth: bool,
    ) -> Found {
        let flags = track.segment.flags;
        let tcp = track.kind == Kind::Tcp;
        let payload = track.has_payload(meta);
        if tcp && forth {
            let opening = track.segment.opens() && control.phase == Phase::SynSent;
            // No client sends data with a SYN once it is past that; what is urgent one server reads among the rest, and another one apart.
            let urgent = flags & tcp::URG != 0 && control.app == 0;
            if (payload && flags & tcp::SYN != 0 && !opening) || urgent {
                return Found::Drop(Reason::PayloadHidden);
            }
            if opening && ends[0] as u32 != track.segment.seq.wrapping_add(1) {
                // Another SYN in the place of the one before: what came with that is not part of the connection.
                self.flows.streams.forget(&track.key, track.hash);
                let next = Control {
                    app: 0,
                    watch: Watch::First,
                    ..control
                };
                if self.flows.slots.change(&slot, word, next.pack()) {
                    (word, control) = (next.pack(), next);
                }
            }
        }
        if payload && !checksum::is_right(meta, frame) {
            return Found::Drop(Reason::Checksum);
        }
        self.advance(&slot, track, meta.proto, word, control, ends, forth);
        let seen = Seen {
            app: control.app,
            watch: control.watch,
        };
        let flow = Found::Flow {
            rule: control.rule,
            blocked: control.blocked,
            forth,
            seen,
        };
        if !forth && control.app != 0 {
            // The server has read what its client said, or answered it: that is what the flow is.
            let ack = track.segment.ack;
            let acks = tcp && flags & (tcp::ACK | tcp::RST) == tcp::ACK;
            if !tcp || (acks && self.flows.streams.acknowledged(&track.key, track.hash, ack)) {
                self.change(&slot, meta.proto, |control| {
                    if control.app != 0 && control.watch.is_on() {
                        control.watch = Watch::Off;
                    }
                });
            }
            return flow;
        }
        match payload {
            true => Found::Look(track.look(slot, &control, ends, forth)),
            false => flow,
        }
    }

    /// The payload of a flow that was settled just now, to be looked at; `None` where there is none, or nobody asks. `seen` is as it was settled with.
    pub fn look(&self, track: &Track, meta: &Meta, seen: Seen, side: Side) -> Option<Look> {
        let slot = track.slot?;
        if !seen.watch.is_on() || !track.has_payload(meta) {
            return None;
        }
        let (word, ends) = self.flows.slots.read(&slot)?;
        let control = Control::unpack(word);
        Some(track.look(slot, &control, ends, control.initiator == side))
    }

    /// What a look has come to meanwhile: frames before it may have said what the payload is.
    pub fn still(&self, track: &Track, look: &Look) -> Still {
        let Some((word, ends)) = self.flows.slots.read(&look.slot) else {
            return Still::Gone;
        };
        let control = Control::unpack(word);
        if control.blocked {
            return Still::Blocked(control.rule);
        }
        match control.watch.is_on() {
            true => Still::Look(track.look(look.slot, &control, ends, look.forth)),
            false => Still::Known(
                control.rule,
                Seen {
                    app: control.app,
                    watch: control.watch,
                },
            ),
        }
    }

    /// The generation that judged a flow, its low bits.
    pub fn generation_of(&self, why: Why) -> Option<u16> {
        let (Why::Renews(slot, _) | Why::Turns(slot)) = why else {
            return None;
        };
        let (word, _) = self.flows.slots.read(&slot)?;
        Some(Control::generation_of(word))
    }

    /// Takes into account that a server has said so much before its client. False where that is more than a greeting.
    pub fn hear(&self, track: &Track, look: &Look, bytes: usize) -> bool {
        let streams = &self.flows.streams;
        streams.heard(&track.key, track.hash, look.base, bytes, self.steady)
    }

    /// Takes the client's next payload into account; what is known then.
    pub fn see(&self, track: &Track, look: &Look, payload: &[u8], shown: &mut Shown<'_>) -> Known {
        let seq = track.segment.seq;
        let piece = Piece {
            key: &track.key,
            base: look.base,
            seq: if look.again { seq.wrapping_add(1) } else { seq },
            bytes: payload,
            kept: look.kept,
            known: look.app != 0,
            again: look.again,
        };
        self.flows
            .streams
            .take(&piece, track.hash, self.steady, shown)
    }

    /// Writes down that a flow's payload is not known yet, and that what has passed of it is kept.
    pub fn keep_looking(&self, look: &Look, proto: u8) {
        self.change(&look.slot, proto, |control| {
            if control.watch == Watch::First {
                control.watch = Watch::More;
            }
        });
    }

    /// Writes down what a flow's payload is, or that it cannot be known, and what the rules say to that.
    pub fn seen(
        &self,
        track: &Track,
        look: &Look,
        judged: Judged,
        proto: u8,
        counters: &FlowCounters,
    ) {
        if !judged.seen.watch.is_on() {
            self.flows.streams.forget(&track.key, track.hash);
        }
        let was = self.change(&look.slot, proto, |control| {
            // What has been ended stays so, whatever another frame of it says.
            if !control.blocked {
                control.rule = judged.rule;
                control.blocked = judged.blocked;
                (control.app, control.watch) = (judged.seen.app, judged.seen.watch);
            }
        });
        if judged.blocked && was.is_some_and(|was| !was.blocked) {
            counters.ended.add(1);
        }
    }
}

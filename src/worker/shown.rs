//! What the payloads of a burst have shown: those that came in pieces, for the alerts that they make.

use crate::flow::Shown;
use crate::telemetry::event::SNIPPET;

/// Payloads of one burst that are shown whole; of more than that an alert shows the last piece.
const ROOMS: usize = 8;

/// The payloads of one burst that came in pieces.
pub(super) struct Showcase {
    rooms: Box<[[u8; SNIPPET]; ROOMS]>,
    lens: [usize; ROOMS],
    used: usize,
}

/// A place in the showcase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Showcase {
    pub fn new() -> Showcase {
        Showcase {
            rooms: Box::new([[0; SNIPPET]; ROOMS]),
            lens: [0; ROOMS],
            used: 0,
        }
    }

    /// A new burst.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Room for one payload: `look` puts it there. The place, if there was any and something was put there.
    pub fn show<T>(&mut self, look: impl FnOnce(&mut Shown<'_>) -> T) -> (T, Option<Place>) {
        let room = self.rooms.get_mut(self.used);
        let mut shown = Shown {
            bytes: room.map_or(&mut [][..], |room| &mut room[..]),
            len: 0,
        };
        let looked = look(&mut shown);
        let len = shown.len;
        if len == 0 {
            return (looked, None);
        }
        let place = Place(self.used);
        self.lens[place.0] = len;
        self.used += 1;
        (looked, Some(place))
    }

    /// What was put in a place.
    pub fn get(&self, place: Place) -> &[u8] {
        let room = self.rooms.get(place.0).zip(self.lens.get(place.0));
        room.and_then(|(room, len)| room.get(..*len))
            .unwrap_or_default()
    }
}

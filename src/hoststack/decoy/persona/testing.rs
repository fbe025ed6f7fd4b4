//! For the tests of this folder.

use super::{Kind, Limits, MOST_KEPT, Next, Persona};

/// How a stream comes.
#[derive(Clone, Copy)]
pub(super) enum Split {
    Whole,
    At(usize),
    Bytes,
}

/// What has come of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Heard {
    pub out: Vec<u8>,
    pub next: Next,
    pub learned: Vec<(&'static str, String)>,
}

/// What these have allocated.
pub(super) fn allocated<'a>(texts: impl IntoIterator<Item = &'a Vec<u8>>) -> usize {
    texts.into_iter().map(Vec::capacity).sum()
}

/// Says a stream to a server that has greeted.
pub(super) fn hear(kind: Kind, limits: Limits, bytes: &[u8], split: Split) -> Heard {
    let mut persona = Persona::new(kind, "x.example", limits);
    let mut out = Vec::new();
    persona.greet(&mut out);
    let pieces: Vec<&[u8]> = match split {
        Split::Whole => vec![bytes],
        Split::At(at) => <[&[u8]; 2]>::from(bytes.split_at(at.min(bytes.len()))).to_vec(),
        Split::Bytes => bytes.chunks(1).collect(),
    };
    let mut next = Next::More;
    for piece in pieces {
        next = persona.hear(piece, &mut out);
        let kept = persona.manners().kept();
        assert!(kept <= MOST_KEPT, "{kept} bytes");
    }
    Heard {
        out,
        next,
        learned: persona.learned(),
    }
}

/// A whole dialogue, turn by turn: what the client says, and what has to come back. The same is said once more in one piece, split at
/// every byte, and byte by byte. What was learned.
pub(super) fn dialogue(
    kind: Kind,
    turns: &[(&str, &str)],
    end: Next,
) -> Vec<(&'static str, String)> {
    let mut persona = Persona::new(kind, "x.example", Limits::default());
    let mut out = Vec::new();
    persona.greet(&mut out);
    let mut answers = String::new();
    let mut next = Next::More;
    for (client, server) in turns {
        if !client.is_empty() {
            next = persona.hear(client.as_bytes(), &mut out);
        }
        assert_eq!(String::from_utf8_lossy(&out), *server, "to {client:?}");
        answers += server;
        out.clear();
    }
    assert_eq!(next, end);
    let expected = Heard {
        out: answers.into_bytes(),
        next,
        learned: persona.learned(),
    };
    let stream: String = turns.iter().map(|(client, _)| *client).collect();
    let splits = (0..=stream.len()).map(Split::At);
    for split in splits.chain([Split::Whole, Split::Bytes]) {
        let heard = hear(kind, Limits::default(), stream.as_bytes(), split);
        assert_eq!(heard, expected);
    }
    expected.learned
}

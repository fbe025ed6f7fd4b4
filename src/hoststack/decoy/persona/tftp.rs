//! TFTP as a server speaks it (RFC 1350). It takes a file up to a bound, and has none to give. Of the file only the size is kept here.
//!
//! A last block is acknowledged again as often as it comes, for as long as the conversation is kept (RFC 1350 section 6).

#[cfg(test)]
use super::testing::allocated;
use super::{Learned, Limits, Manners, Next, keep};

/// Without options a block has so many bytes, and the last has fewer (RFC 1350 section 2).
const BLOCK: usize = 512;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;

const NOT_FOUND: (u16, &[u8]) = (1, b"File not found");
const DISK_FULL: (u16, &[u8]) = (3, b"Disk full");
const ILLEGAL: (u16, &[u8]) = (4, b"Illegal TFTP operation");

enum State {
    Idle,
    /// The block that was acknowledged last; 0 is the request.
    Receives(u16),
    /// All of a file was taken, with this block.
    Done(u16),
    /// Said its error, or heard one.
    Failed,
}

pub(super) struct Tftp {
    content: usize,
    state: State,
    operation: Option<u16>,
    file: Vec<u8>,
    mode: Vec<u8>,
    bytes: usize,
}

impl Tftp {
    pub fn new(limits: Limits) -> Tftp {
        Tftp {
            content: limits.content,
            state: State::Idle,
            operation: None,
            file: Vec::new(),
            mode: Vec::new(),
            bytes: 0,
        }
    }

    fn begin(&mut self, operation: u16, rest: &[u8], out: &mut Vec<u8>) -> Next {
        let Some((file, mode)) = request(rest) else {
            return self.fail(ILLEGAL, out);
        };
        self.operation = Some(operation);
        self.file = keep(file);
        self.mode = keep(mode);
        if operation == READ {
            return self.fail(NOT_FOUND, out);
        }
        // Options are declined by an answer that does not speak of them (RFC 2347).
        self.state = State::Receives(0);
        acknowledge(0, out);
        Next::More
    }

    fn block(&mut self, last: u16, rest: &[u8], out: &mut Vec<u8>) -> Next {
        let Some((number, data)) = rest.split_first_chunk() else {
            return self.fail(ILLEGAL, out);
        };
        let number = u16::from_be_bytes(*number);
        if data.len() > BLOCK {
            return self.fail(ILLEGAL, out);
        }
        // One that was sent again, as its acknowledgement was lost.
        if number == last && last != 0 {
            acknowledge(number, out);
            return Next::More;
        }
        if number != last.wrapping_add(1) {
            return Next::More;
        }
        if self.bytes + data.len() > self.content {
            return self.fail(DISK_FULL, out);
        }
        self.bytes += data.len();
        acknowledge(number, out);
        if data.len() < BLOCK {
            self.state = State::Done(number);
            return Next::Close;
        }
        self.state = State::Receives(number);
        Next::More
    }

    fn fail(&mut self, (code, text): (u16, &[u8]), out: &mut Vec<u8>) -> Next {
        self.state = State::Failed;
        for number in [ERROR, code] {
            out.extend(number.to_be_bytes());
        }
        out.extend_from_slice(text);
        out.push(0);
        Next::Close
    }
}

impl Manners for Tftp {
    fn hear_datagram(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Next {
        let (opcode, rest) = match bytes.split_first_chunk() {
            Some((opcode, rest)) => (u16::from_be_bytes(*opcode), rest),
            None => (0, &[][..]),
        };
        match (&self.state, opcode) {
            (State::Failed, _) => Next::Close,
            // An error is never answered (RFC 1350 section 7).
            (State::Idle | State::Receives(_), ERROR) => {
                self.state = State::Failed;
                Next::Close
            }
            (State::Idle, READ | WRITE) => self.begin(opcode, rest, out),
            (State::Receives(0), WRITE) => {
                acknowledge(0, out);
                Next::More
            }
            // A request that came late.
            (State::Receives(_), WRITE) => Next::More,
            (State::Receives(last), DATA) => self.block(*last, rest, out),
            (State::Done(last), DATA) => {
                if rest.starts_with(&last.to_be_bytes()) {
                    acknowledge(*last, out);
                }
                Next::Close
            }
            (State::Done(_), _) => Next::Close,
            _ => self.fail(ILLEGAL, out),
        }
    }

    fn learned(&self, fields: &mut Learned) {
        let Some(operation) = self.operation else {
            return;
        };
        fields.add(
            "operation",
            if operation == READ { b"read" } else { b"write" },
        );
        fields.add("file", &self.file);
        fields.add("mode", &self.mode);
        if operation == WRITE {
            fields.add_text("bytes", self.bytes.to_string());
        }
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        allocated([&self.file, &self.mode])
    }
}

fn acknowledge(block: u16, out: &mut Vec<u8>) {
    for number in [ACK, block] {
        out.extend(number.to_be_bytes());
    }
}

/// File and mode, each with a NUL behind it (RFC 1350 section 5).
fn request(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.split(|byte| *byte == 0);
    let (file, mode) = (parts.next()?, parts.next()?);
    // What is behind the mode's NUL, if only nothing.
    parts.next()?;
    let known = [&b"netascii"[..], b"octet", b"mail"];
    let is_known = known.iter().any(|name| name.eq_ignore_ascii_case(mode));
    (!file.is_empty() && is_known).then_some((file, mode))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Limits, Next, Persona};

    const ILLEGAL: &[u8] = b"\0\x05\0\x04Illegal TFTP operation\0";

    fn data(block: u16, length: usize) -> Vec<u8> {
        [&[0, 3][..], &block.to_be_bytes(), &vec![b'x'; length]].concat()
    }

    fn ack(block: u16) -> Vec<u8> {
        [&[0, 4][..], &block.to_be_bytes()].concat()
    }

    /// Datagram by datagram: what has to come back, and whether it goes on. What was learned.
    fn exchange(turns: &[(&[u8], &[u8], Next)]) -> Vec<(&'static str, String)> {
        let mut persona = Persona::new(Kind::Tftp, "x.example", Limits::default());
        for (at, (datagram, answer, next)) in turns.iter().enumerate() {
            let mut out = Vec::new();
            assert_eq!(
                persona.hear_datagram(datagram, &mut out),
                *next,
                "turn {at}"
            );
            assert_eq!(out, *answer, "turn {at}");
        }
        persona.learned()
    }

    #[test]
    fn a_file_is_taken_block_by_block_and_what_comes_again_is_acknowledged_again() {
        let learned = exchange(&[
            (
                b"\0\x02loot\x1b.zip\0OCTET\0blksize\x001428\0",
                &ack(0),
                Next::More,
            ),
            (
                b"\0\x02loot\x1b.zip\0OCTET\0blksize\x001428\0",
                &ack(0),
                Next::More,
            ),
            (&data(0, 512), b"", Next::More),
            (&data(1, 512), &ack(1), Next::More),
            (&data(1, 512), &ack(1), Next::More),
            (&data(3, 512), b"", Next::More),
            (&data(2, 512), &ack(2), Next::More),
            (b"\0\x02loot\x1b.zip\0octet\0", b"", Next::More),
            (&data(3, 100), &ack(3), Next::Close),
            (&data(3, 100), &ack(3), Next::Close),
            (&data(2, 512), b"", Next::Close),
            (b"x", b"", Next::Close),
        ]);
        let expected = [
            ("operation", "write"),
            ("file", "loot\\x1b.zip"),
            ("mode", "OCTET"),
            ("bytes", "1124"),
        ];
        assert_eq!(
            learned,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn there_is_no_file_to_read() {
        let learned = exchange(&[
            (
                b"\0\x01boot\0netascii\0",
                b"\0\x05\0\x01File not found\0",
                Next::Close,
            ),
            (b"\0\x01boot\0netascii\0", b"", Next::Close),
        ]);
        let expected = [
            ("operation", "read"),
            ("file", "boot"),
            ("mode", "netascii"),
        ];
        assert_eq!(
            learned,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn a_file_over_the_bound_fills_the_disk() {
        let mut persona = Persona::new(Kind::Tftp, "x.example", Limits::default());
        let mut out = Vec::new();
        persona.hear_datagram(b"\0\x02a\0octet\0", &mut out);
        for block in 1..=128 {
            assert_eq!(
                persona.hear_datagram(&data(block, 512), &mut out),
                Next::More
            );
        }
        out.clear();
        assert_eq!(persona.hear_datagram(&data(129, 1), &mut out), Next::Close);
        assert_eq!(out, b"\0\x05\0\x03Disk full\0");
    }

    #[test]
    fn anything_else_is_illegal_once_and_an_error_is_never_answered() {
        let (block, answer) = (data(1, 512), ack(0));
        for datagram in [
            &b""[..],
            b"\0",
            b"\0\x06",
            &block,
            &answer,
            b"\0\x02\0octet\0",
            b"\0\x02a\0octet",
            b"\0\x02a\0text\0",
        ] {
            exchange(&[
                (datagram, ILLEGAL, Next::Close),
                (datagram, b"", Next::Close),
            ]);
        }
        exchange(&[(b"\0\x05\0\x04no\0", b"", Next::Close)]);
        let request = b"\0\x02a\0octet\0";
        for datagram in [&data(1, 513)[..], b"\0\x03\0", b"\0\x01a\0octet\0", &answer] {
            exchange(&[
                (request, &answer, Next::More),
                (datagram, ILLEGAL, Next::Close),
            ]);
        }
    }
}

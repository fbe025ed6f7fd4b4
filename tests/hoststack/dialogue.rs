//! What decoys say over TCP and UDP is what their personas say, on a good line and on a bad one.

use super::client::{GOOD, Line, converse, directly, without_pings};
use portcullis::hoststack::decoy::Hall;
use portcullis::hoststack::decoy::persona::{Kind, Limits, Persona};
use portcullis::policy::{Manners, RuleSlot};
use smoltcp::time::Instant;

type Turns = &'static [&'static [u8]];

const DIALOGUES: [(Manners, Kind, Turns); 4] = [
    (
        Manners::Irc,
        Kind::Irc,
        &[
            b"NICK bot\r\n",
            b"USER b 0 * :b\r\n",
            b"JOIN #c key\r\n",
            b"PRIVMSG #c :hello\r\nPRIVMSG #c :again\r\n",
            b"QUIT\r\n",
        ],
    ),
    (
        Manners::Smtp,
        Kind::Smtp,
        &[
            b"EHLO pc\r\n",
            b"MAIL FROM:<a@b.example>\r\n",
            b"RCPT TO:<c@d.example>\r\n",
            b"DATA\r\n",
            b"Subject: x\r\n\r\n",
            &[b'x'; 2000],
            b"\r\n.\r\n",
            b"QUIT\r\n",
        ],
    ),
    (
        Manners::Http,
        Kind::Http,
        &[b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello"],
    ),
    (Manners::Raw, Kind::Raw, &[b"anything", &[0xff; 2000], b"!"]),
];

#[test]
fn what_every_persona_says_over_a_connection_is_what_it_says() {
    for (manners, kind, turns) in DIALOGUES {
        let (said, _) = directly(kind, turns);
        let (heard, report) = converse(manners, kind, turns, GOOD, 1);
        assert_eq!(heard, said.concat(), "{kind:?}");
        assert_eq!(report.kind, kind);
        let client: Vec<u8> = report
            .transcript
            .turns()
            .filter(|turn| !turn.0)
            .flat_map(|turn| turn.1.to_vec())
            .collect();
        assert_eq!(client, turns.concat(), "{kind:?}");
    }
}

#[test]
fn a_line_that_loses_doubles_and_reorders_changes_no_word_of_a_dialogue() {
    let said = |report: &portcullis::hoststack::decoy::Report| -> Vec<(bool, Vec<u8>)> {
        let turns = report.transcript.turns();
        turns
            .map(|turn| (turn.0, without_pings(turn.1)))
            .filter(|turn| !turn.1.is_empty())
            .collect()
    };
    for (manners, kind, turns) in DIALOGUES {
        let (heard, good) = converse(manners, kind, turns, GOOD, 1);
        for seed in 1..=10 {
            let part = seed * 3;
            let line = Line {
                lost: part,
                doubled: part,
                late: part * 4,
            };
            let (bad_heard, bad) = converse(manners, kind, turns, line, seed * 7919);
            assert_eq!(said(&bad), said(&good), "{kind:?} at {part} % by {seed}");
            assert_eq!(bad.learned, good.learned);
            // Its last words may be lost when it hangs up: it does not wait for long.
            assert!(
                without_pings(&heard).starts_with(&without_pings(&bad_heard)),
                "{kind:?}"
            );
        }
    }
}

#[test]
fn what_a_file_server_says_over_datagrams_is_what_it_says() {
    let datagrams: [&[u8]; 4] = [
        b"\0\x02a.bin\0octet\0",
        &[&[0, 3, 0, 1][..], &[7; 512]].concat(),
        b"\0\x03\0\x02end",
        b"\0\x03\0\x02end",
    ];
    let mut persona = Persona::new(Kind::Tftp, super::client::NAME, Limits::default());
    let mut hall = Hall::new(super::client::settings());
    for datagram in datagrams {
        let mut said = Vec::new();
        persona.hear_datagram(datagram, &mut said);
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 0xfe])
            .ipv4([10, 77, 0, 9], [192, 0, 2, 1], 64)
            .udp(40_000, 69)
            .write(&mut frame, datagram)
            .expect("a frame");
        let mut heard = Vec::new();
        hall.take_frame(
            &frame,
            (RuleSlot(0), Manners::Port),
            0,
            Instant::ZERO,
            |frame| {
                let parsed =
                    etherparse::PacketHeaders::from_ethernet_slice(frame).expect("a frame");
                // Behind it is what fills a short frame.
                let Some(etherparse::TransportHeader::Udp(udp)) = parsed.transport else {
                    panic!("no datagram")
                };
                let payload = parsed.payload.slice();
                assert!(payload.len() >= usize::from(udp.length) - 8);
                heard.push(payload[..usize::from(udp.length) - 8].to_vec());
                true
            },
        );
        assert_eq!(heard, [said]);
    }
}

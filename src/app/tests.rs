//! All of them together: what real clients sent (`tests/data/app`), what is none of these, and that no answer is taken back.

use super::*;
use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;

/// A payload over TCP or UDP, and what it is.
struct Sample {
    name: String,
    tcp: bool,
    app: Option<App>,
    bytes: Vec<u8>,
}

impl Sample {
    fn identify(&self, bytes: &[u8]) -> Identity {
        if self.tcp {
            identify_tcp(bytes)
        } else {
            identify_udp(bytes)
        }
    }
}

fn recorded(protocol: &str) -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/app")
        .join(protocol);
    let files = std::fs::read_dir(folder).unwrap();
    let sample = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let app = App::of_name(name.split('-').next().unwrap());
        assert!(app.is_some() || name.starts_with("none-"), "{name}");
        Sample {
            name,
            tcp: protocol == "tcp",
            app,
            bytes: std::fs::read(path).unwrap(),
        }
    };
    files.map(sample).collect()
}

/// What no client at hand sends, from the documents.
fn written() -> Vec<Sample> {
    let dce: Vec<u8> = [
        &[4, 0, 0x28, 0, 0x10, 0, 0, 0][..],
        &[0; 16],
        &[7; 32],
        &[
            0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 255, 255, 255, 255, 4, 0, 0, 0, 0, 0,
        ],
        &[1, 2, 3, 4],
    ]
    .concat();
    let peer = [
        b"\x13BitTorrent protocol",
        &[0; 8][..],
        &[0xab; 20],
        b"-XX0001-abcdefghijkl",
    ]
    .concat();
    let list: [(App, bool, &[u8]); 21] = [
        (App::Msrpc, false, &dce),
        (App::Bittorrent, true, &peer),
        (
            App::Bittorrent,
            false,
            b"d2:ip6:abcdef1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t2:aa1:y1:re",
        ),
        (App::Quic, false, b"\x0dabcdefghQ043\x01"),
        (
            App::Tls,
            true,
            b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10abcdefghijklmnopqrstuabcdefghijklmnop",
        ),
        (
            App::Tls,
            true,
            b"\x16\x03\x03\0\x01\x01\x16\x03\x03\0\x01\0",
        ),
        (App::Irc, true, b"\r\n\r\nUSER a b c :d\r\nNICK x\r\n"),
        (App::Irc, true, b"@a=b :p JOIN #c key\n"),
        (App::Irc, true, b"PASS x\r\nPASS x\r\nPONG y\r\n"),
        (App::Irc, true, b"PING x\nMODE x +i\n\tnick  \tx\n"),
        (App::Irc, true, b"WEBIRC pw gateway host 192.0.2.1\r\n"),
        (App::Irc, true, b"AUTHENTICATE PLAIN\r\n"),
        (App::Smtp, true, b"\nNOOP\nRSET\nmail from:<a@b>\n"),
        (App::Smtp, true, b"HELO\r\nHELO x\r\n"),
        (App::Http, true, b"\r\nOPTIONS * HTTP/1.1\r\n\r\n"),
        (App::Http, true, b"GET /\r\n"),
        (App::Smb, true, b"\x85\0\0\0\0\0\0\x40\xfdSMB"),
        (App::Ssh, true, b"SSH-1.99-x\r\n"),
        (App::Ftp, true, b"NOOP\r\nACCT x\r\n"),
        (App::Telnet, true, &[255, 251, 201, 255, 251, 70]),
        (App::Rdp, true, b"\x03\0\0\x0b\x06\xe0\0\0\0\0\0"),
    ];
    let sample = |(at, (app, tcp, bytes)): (usize, (App, bool, &[u8]))| Sample {
        name: format!("written {at}"),
        tcp,
        app: Some(app),
        bytes: bytes.to_vec(),
    };
    list.into_iter().enumerate().map(sample).collect()
}

static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    [recorded("tcp"), recorded("udp"), written()]
        .into_iter()
        .flatten()
        .collect()
});

#[test]
fn an_app_has_a_name_and_a_number_of_its_own() {
    for (at, app) in App::ALL.iter().enumerate() {
        assert_eq!(*app as usize, at + 1);
        assert_eq!(App::from_number(*app as u8), Some(*app));
        assert_eq!(App::of_name(app.name()), Some(*app));
        assert_eq!(app.name(), format!("{app:?}").to_lowercase());
    }
    assert_eq!((App::from_number(0), App::from_number(18)), (None, None));
    const { assert!(App::COUNT < 32) };
}

#[test]
fn every_recogniser_is_asked_only_for_what_can_begin_so() {
    let asked = |recognisers: &[Recogniser], table: &[u32; 256]| {
        for byte in 0..=255u8 {
            for (at, (app, looks, _)) in recognisers.iter().enumerate() {
                if table[usize::from(byte)] & 1 << at == 0 {
                    assert_eq!(looks(&[byte]), Looks::No, "{app:?} and {byte:#x}");
                }
            }
        }
    };
    // IRC alone may follow any line of text, and leaves out those that begin with a control character.
    let (_, others) = OVER_TCP.split_last().unwrap();
    asked(others, &TCP_TABLE);
    asked(OVER_UDP, &UDP_TABLE);
}

#[test]
fn what_real_clients_send_is_known_whole_and_undecided_in_part() {
    assert!(SAMPLES.len() > 80, "{}", SAMPLES.len());
    for app in App::ALL {
        assert!(
            SAMPLES.iter().any(|sample| sample.app == Some(*app)),
            "{app:?}"
        );
    }
    for sample in SAMPLES.iter() {
        let Some(app) = sample.app else { continue };
        let whole = sample.identify(&sample.bytes);
        assert_eq!(whole, Identity::Known(app), "{}", sample.name);
        for end in 1..sample.bytes.len() {
            let part = sample.identify(&sample.bytes[..end]);
            assert!(
                part == whole || part == Identity::More,
                "{} to {end}: {part:?}",
                sample.name
            );
        }
    }
}

#[test]
fn what_is_none_of_these_is_unknown_at_once() {
    let mut sip =
        b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\n\r\n".to_vec();
    let ntp = [&[0xe3, 0, 3, 0xfa, 0, 1, 0, 0, 0, 1, 0, 0][..], &[0; 36]].concat();
    let chrony = [&[0x23, 0, 0, 0x20][..], &[0; 36], &[7; 8]].concat();
    let rtp = [
        &[0x80, 0, 0x12, 0x34, 0, 0, 0, 160, 1, 2, 3, 4][..],
        &[0xd5; 160],
    ]
    .concat();
    let stun = b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl";
    let wireguard = [&[1, 0, 0, 0, 9, 8, 7, 6][..], &[0x5a; 140]].concat();
    let kerberos = b"\x6a\x81\xaf\x30\x81\xac\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a";
    let ldap3 = b"\x30\x0c\x02\x01\x03\x60\x07\x02\x01\x03\x04\0\x80\0";
    let vnc_like = b"RFC 1459\r\n";
    for (tcp, payload) in [
        (true, &b"PING\r\n"[..]),
        (true, b"*1\r\n$4\r\nPING\r\n"),
        (true, b"get key\r\n"),
        (true, b"set key 0 0 1\r\nx\r\n"),
        (true, b"stats\r\n"),
        (true, b"version\r\n"),
        (
            true,
            b"\x20\0\0\x01\x85\xa6\xff\x01\0\0\0\x01\x21\0\0\0\0\0\0\0root\0",
        ),
        (true, b"CAPA\r\n"),
        (true, b"AUTH PLAIN\r\n"),
        (true, b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"),
        (true, b"a001 LOGIN user pass\r\n"),
        (true, b"A1 STARTTLS\r\n"),
        (true, b"STARTTLS\r\n"),
        (true, b"AUTHENTICATE \"PLAIN\" \"AGE=\"\r\n"),
        (true, b"REGISTER sip:example.com SIP/2.0\r\n"),
        (true, b"OPTIONS sip:example.com SIP/2.0\r\n"),
        (true, b"OPTIONS rtsp://example.com/a RTSP/1.0\r\n"),
        (
            true,
            b"<?xml version='1.0'?><stream:stream to='example.com'",
        ),
        (true, b"<134>1 2026-01-01T00:00:00Z host app - - - hello\n"),
        (true, b"AMQP\0\0\x09\x01"),
        (true, b"\0\0\0\x24\0\x12\0\x03\0\0\0\x01\0\x07console"),
        (true, b"\0\0\x01\x24\0\x12\0\x03\0\0\0\x01\0\x07console"),
        (true, b"@RSYNCD: 31.0\n"),
        (
            true,
            b"0032git-upload-pack /project.git\0host=myserver.com\0",
        ),
        (
            true,
            b"\x03\0\0\x16\x11\xe0\0\0\0\x01\0\xc1\x02\x01\0\xc2\x02\x01\x02\xc0\x01\x09",
        ),
        (true, b"\x12\x01\0\x2f\0\0\x01\0\0\0\x1a\0\x06"),
        (true, b"CONNECT\naccept-version:1.2\n\n\0"),
        (true, b"CONNECT {\"verbose\":false}\r\n"),
        (true, b"JOIN us at the park today\n"),
        (true, b"User-agent: *\nDisallow: /\n"),
        (true, b"GNUTELLA CONNECT/0.6\r\n"),
        (
            true,
            b"{\"jsonrpc\":\"2.0\",\"method\":\"mining.subscribe\"}\n",
        ),
        (true, b"#!/bin/sh\necho hello\n"),
        (true, b"MAILBOX 1\r\n"),
        (true, kerberos),
        (true, ldap3),
        (true, vnc_like),
        (false, kerberos),
        (false, ldap3),
        (false, stun),
        (false, &ntp),
        (false, &chrony),
        (false, &rtp),
        (false, &wireguard),
        (false, b"REGISTER sip:example.com SIP/2.0\r\n"),
        (
            false,
            b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n",
        ),
        (false, b"<134>Jan  1 00:00:00 host app: hello"),
        (
            false,
            b"\x41\0\x12\x34\x01\x02\x03\x04\0\0\0\0\0\x10\0\0\0\x01\0\0",
        ),
        (
            false,
            b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x02de\0\0\x01\0\x01",
        ),
    ] {
        let identity = if tcp {
            identify_tcp(payload)
        } else {
            identify_udp(payload)
        };
        assert_eq!(
            identity,
            Identity::Unknown,
            "{:?}",
            String::from_utf8_lossy(payload)
        );
    }
    sip.truncate(8);
    assert_eq!(identify_udp(&sip), Identity::Unknown);
    for sample in SAMPLES.iter().filter(|sample| sample.app.is_none()) {
        let identity = sample.identify(&sample.bytes);
        assert_eq!(identity, Identity::Unknown, "{}", sample.name);
    }
}

#[test]
fn of_a_million_random_payloads_next_to_none_is_known_or_undecided() {
    // splitmix64.
    let mut state = 0_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let mut counts = [[0; 2]; 2];
    let mut bytes = [0; 256];
    for _ in 0..1_000_000 {
        let len = 16 + next() as usize % 240;
        for eight in bytes[..len.next_multiple_of(8)].chunks_mut(8) {
            eight.copy_from_slice(&next().to_le_bytes());
        }
        for (identity, count) in [identify_tcp(&bytes[..len]), identify_udp(&bytes[..len])]
            .iter()
            .zip(&mut counts)
        {
            match identity {
                Identity::Known(_) => count[0] += 1,
                Identity::More => count[1] += 1,
                Identity::Unknown => {}
            }
        }
    }
    // Three bytes of Telnet or SOCKS 5 are a match. A short text behind the mark of IRC's tags or prefix leaves TCP undecided, and what a TFTP request may
    // begin with, and no NUL behind, UDP.
    let [[tcp_known, tcp_more], [udp_known, udp_more]] = counts;
    assert!(tcp_known <= 16 && tcp_more <= 40, "{counts:?}");
    assert!(udp_known <= 1 && udp_more <= 40, "{counts:?}");
}

#[test]
fn of_lines_the_first_protocol_counts() {
    for (payload, app) in [
        (&b"HELO x\r\nNICK a\r\nUSER a b c d\r\n"[..], App::Smtp),
        (b"USER bob\r\nNICK a\r\nUSER a b c d\r\n", App::Ftp),
        (b"GET / HTTP/1.1\r\nNICK a\r\n", App::Http),
        (b"FOO\r\nNICK a\r\nUSER a b c d\r\n", App::Irc),
        (b"\xc3\xa9\r\nNICK a\r\nUSER a b c d\r\n", App::Irc),
    ] {
        assert_eq!(identify_tcp(payload), Identity::Known(app));
    }
}

#[test]
fn no_more_than_the_most_is_looked_at() {
    let mut stream = vec![b'\n'; MOST];
    stream.extend(b"NICK a\r\n");
    assert_eq!(identify_tcp(&stream), Identity::More);
    assert_eq!(identify_tcp(&stream[1..]), Identity::More);
    assert_eq!(identify_tcp(&stream[8..]), Identity::Known(App::Irc));
    assert_eq!(
        (identify_tcp(b""), identify_udp(b"")),
        (Identity::More, Identity::Unknown)
    );
}

#[test]
fn a_server_that_speaks_first_is_known_by_its_banner() {
    for (banner, app) in [
        (
            &b"220 mx.example.org ESMTP Postfix\r\n"[..],
            Some(App::Smtp),
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Some(App::Ssh)),
        (b"RFB 003.008\n", Some(App::Vnc)),
        (b"220 ftp.example.org ready\r\n", None),
        (b"+OK ready\r\n", None),
        (b"", None),
    ] {
        assert_eq!(identify_banner(banner), app);
    }
}

fn shown(name: &str, tcp: bool) -> Vec<String> {
    let of = |sample: &&Sample| sample.name == name && sample.tcp == tcp;
    let sample = SAMPLES.iter().find(of).unwrap();
    let details = details(sample.app.unwrap(), &sample.bytes);
    let pair = |(name, value): &(&str, String)| format!("{name}={value}");
    details.fields.iter().map(pair).collect()
}

#[test]
fn an_alert_shows_what_the_client_said() {
    for (name, expected) in [
        (
            "irc-ii",
            &["nick=iinick", "user=iinick", "realname=Real Name"][..],
        ),
        (
            "irc-weechat-pass",
            &["password=given", "nick=weenick", "user=wee", "realname=wee"],
        ),
        ("smtp-swaks", &["helo=mail.example.net"]),
        (
            "snmp-get-2c",
            &["version=2c", "community=public", "pdu=get"],
        ),
        (
            "tls-openssl",
            &["sni=www.example.org", "alpn=h2, http/1.1", "version=1.3"],
        ),
        ("tls-openssl-12", &["version=1.2"]),
        ("dns-dig", &["name=example.org", "type=MX"]),
        ("dns-dig-axfr", &["name=example.org", "type=AXFR"]),
        (
            "http-curl",
            &[
                "method=GET",
                "path=/index.html",
                "host=127.0.0.1:8000",
                "user_agent=curl/7.88.1",
            ],
        ),
        ("http-curl-h2", &["method=PRI", "path=*"]),
        ("ssh-openssh", &["software=OpenSSH_9.2p1 Debian-2+deb12u6"]),
        ("ftp-curl", &["user=anonymous"]),
        ("smb-smbclient", &["dialect=2/3"]),
        ("smb-smbclient-nt1", &["dialect=1"]),
        ("smb-smbclient-139", &["called=127.0.0.1"]),
        (
            "msrpc-rpcclient",
            &["interface=e1af8308-5d1f-11c9-91a4-08002b14a0fa"],
        ),
        ("rdp-xfreerdp", &["cookie=alice"]),
        ("vnc-tigervnc", &["version=003.008"]),
        ("socks-curl-4", &["version=4", "target=192.0.2.7:80"]),
        ("socks-curl-4a", &["version=4", "target=example.com:80"]),
        ("socks-curl-5", &["version=5"]),
        ("telnet-inetutils", &[]),
        (
            "written 1",
            &["info_hash=abababababababababababababababababababab"],
        ),
        ("written 7", &["channel=#c", "key=key"]),
    ] {
        assert_eq!(shown(name, true), expected, "{name}");
    }
    for (name, expected) in [
        (
            "tftp-hpa-get",
            &["operation=read", "file=boot/pxelinux.0", "mode=octet"][..],
        ),
        (
            "tftp-hpa-put",
            &["operation=write", "file=stolen.txt", "mode=netascii"],
        ),
        ("snmp-get-1", &["version=1", "community=public", "pdu=get"]),
        (
            "snmp-bulk-2c",
            &["version=2c", "community=public", "pdu=getbulk"],
        ),
        (
            "snmp-set-2c",
            &["version=2c", "community=private", "pdu=set"],
        ),
        ("snmp-get-3", &["version=3"]),
        ("dns-dig-chaos", &["name=version.bind", "type=TXT"]),
        ("quic-aioquic", &["version=1", "dcid_length=8"]),
        ("quic-aioquic-v2", &["version=2", "dcid_length=8"]),
        ("tls-openssl-dtls", &["version=dtls1.2"]),
        (
            "written 0",
            &["interface=07070707-0707-0707-0707-070707070707"],
        ),
    ] {
        assert_eq!(shown(name, false), expected, "{name}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let fields = details(App::Irc, b"PASS :geheim\r\nNICK x\r\nPASS geheim\r\n").fields;
    assert!(fields.iter().all(|(_, value)| !value.contains("geheim")));
    let mail =
        b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT to: <e@f> X=1\r\nDATA\r\nHELO y\r\n";
    let fields = details(App::Smtp, mail).fields;
    assert_eq!(
        fields[1..],
        [("from", "a@b".to_owned()), ("to", "c@d, e@f".to_owned())]
    );
}

/// A sample with some bytes changed, lines of the text protocols, or anything.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let changed = (
        0..SAMPLES.len(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(|(at, changes)| {
            let mut bytes = SAMPLES[at].bytes.clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    let lines = "(( |@a |:p )?(NICK|USER|PASS|CAP|JOIN|PING|EHLO|NOOP|MAIL|GET|FEAT|AUTH|FOO|nick)( |\t|  )?(LS|#c|FROM:x|/|TLS|a b c :d|a|http://|)(\r\n|\n|\r| HTTP/1.1\n|)){0,5}";
    prop_oneof![
        3 => changed,
        2 => lines.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_answer_is_taken_back_as_the_payload_grows(bytes in payload(), more in payload(), cut in any::<prop::sample::Index>()) {
        let whole = [bytes, more].concat();
        let cut = cut.index(whole.len() + 1);
        let start = &whole[..cut];
        for (app, looks, _) in OVER_TCP.iter().chain(OVER_UDP) {
            match looks(start) {
                Looks::No if *app == App::Irc => {}
                Looks::More => {}
                said => prop_assert_eq!(looks(&whole), said, "{:?} of {:?} at {}", app, whole, cut),
            }
        }
        for (identity, grown) in [(identify_tcp(start), identify_tcp(&whole)), (identify_udp(start), identify_udp(&whole))] {
            if let Identity::Known(_) = identity {
                prop_assert_eq!(identity, grown, "{:?} at {}", whole, cut);
            }
        }
    }

    #[test]
    fn the_first_byte_leaves_out_nobody_who_would_match(bytes in payload()) {
        for (recognisers, identity) in [(OVER_TCP, identify_tcp(&bytes)), (OVER_UDP, identify_udp(&bytes))] {
            let found: Vec<App> = recognisers.iter().filter(|(_, looks, _)| looks(&bytes) == Looks::Match).map(|(app, ..)| *app).collect();
            match identity {
                Identity::Known(app) => prop_assert!(found.contains(&app)),
                Identity::More => {}
                Identity::Unknown => prop_assert_eq!(found, vec![]),
            }
        }
    }

    #[test]
    fn whatever_a_payload_is_its_details_are_safe_to_show(bytes in payload()) {
        for app in App::ALL {
            for (name, value) in details(*app, &bytes).fields {
                prop_assert!(!value.is_empty() && value.chars().count() <= 128, "{}", name);
                let unsafe_char = |char: char| char.is_control() || matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
                prop_assert!(!value.chars().any(unsafe_char), "{} {:?}", name, value);
            }
        }
    }
}

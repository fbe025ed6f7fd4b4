use super::*;
use crate::frame::{Meta, Net};
use crate::policy::{Side, Verdict};
use crate::port::capture::{CaptureReader, Captured};
use std::os::unix::fs::PermissionsExt;

const SECOND: u64 = 1_000_000_000;
const HOST: u128 = 0x0a4d_0009;
const OTHER: u128 = 0x0a4d_000a;

/// A flow of this host by its port.
fn meta(host: u128, port: u16) -> Meta {
    Meta {
        net: Net::V4,
        proto: 17,
        src: host,
        dst: 0x0808_0808,
        sport: port,
        dport: 69,
        src_mac: [2; 6],
        ..Meta::NONE
    }
}

struct Bench {
    dir: tempfile::TempDir,
    recorder: Recorder,
    evidence: Evidence,
    thread: EvidenceThread,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Settings)) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            ring: 4 << 20,
            frames: 10,
            ..Settings::in_dir(dir.path().join("e"))
        };
        change(&mut settings);
        let (pages, mut recorders) = pages(&settings, 1);
        let names = ["lan0".to_owned(), "up0".to_owned()];
        let (evidence, thread) = start(&settings, pages, names).unwrap();
        let recorder = recorders.remove(0);
        Bench {
            dir,
            recorder,
            evidence,
            thread,
        }
    }

    fn record(&mut self, time: u64, meta: &Meta) {
        let frame = [meta.sport as u8; 60];
        self.recorder.tick(time);
        self.recorder
            .record(time, Side::Lan, meta, Verdict::Forward, &frame);
    }

    /// Until the thread has read what was recorded.
    fn hand_over(&mut self, time: u64) {
        self.recorder.tick(time);
        self.recorder.tick(time + SECOND);
        std::thread::sleep(Duration::from_millis(300));
    }

    fn ask(&self, host: u128, port: u16, time: u64) -> Option<PathBuf> {
        self.evidence.ask(Request {
            incident: format!("{time:x}-{port}"),
            rule: "tftp".to_owned(),
            host: std::net::Ipv4Addr::from(host as u32).to_string(),
            address: Some(host),
            mac: [2; 6],
            flow: crate::telemetry::recording::flow_of(&meta(host, port)),
            time,
        })
    }

    fn keep(&self, number: u64, text: &str) -> Option<PathBuf> {
        self.evidence.keep(OF, number, text.to_owned())
    }

    /// Ends the thread; the sizes that captures then have.
    fn end(self) -> (tempfile::TempDir, EvidenceStatus) {
        drop(self.recorder);
        drop(self.thread);
        (self.dir, self.evidence.status())
    }
}

fn frames(path: &Path) -> Vec<Captured> {
    let mut reader = CaptureReader::open(path).unwrap();
    let (mut all, mut frame) = (Vec::new(), Captured::default());
    while reader.next(&mut frame).unwrap() {
        all.push(frame.clone());
    }
    all
}

#[test]
fn a_capture_has_the_flow_from_before_and_the_next_frames_of_the_host_and_of_nobody_else() {
    let mut bench = Bench::new(|_| ());
    for n in 0..50 {
        bench.record(SECOND + n, &meta(HOST, 1 + (n % 2) as u16));
        bench.record(SECOND + n, &meta(OTHER, 1));
    }
    bench.hand_over(2 * SECOND);
    let path = bench.ask(HOST, 1, 2 * SECOND).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    for n in 0..30 {
        bench.record(5 * SECOND + n, &meta(OTHER, 1));
        bench.record(5 * SECOND + n, &meta(HOST, 7));
    }
    bench.hand_over(6 * SECOND);
    let (_dir, status) = bench.end();
    let all = frames(&path);
    let from = |port: u8| all.iter().filter(|frame| frame.bytes[0] == port).count();
    assert_eq!((from(1), from(2), from(7)), (25, 0, 10), "{status:?}");
    assert!(
        all.iter()
            .all(|frame| !frame.cut && frame.bytes.len() == 60)
    );
    let kept = (
        status.captures,
        status.skipped,
        status.errors,
        status.missed_frames,
    );
    assert_eq!(kept, (1, 0, 0, 0));
    assert_eq!(status.bytes, std::fs::metadata(&path).unwrap().len());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_capture_is_no_longer_than_it_may_be_and_says_what_was_cut_off() {
    let mut bench = Bench::new(|settings| (settings.file, settings.snap) = (5_000, 40));
    for n in 0..500 {
        bench.record(SECOND + n, &meta(HOST, 1));
    }
    bench.hand_over(2 * SECOND);
    let path = bench.ask(HOST, 1, 2 * SECOND).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let (_dir, status) = bench.end();
    assert!(status.bytes <= 5_000 && status.bytes > 1_000);
    let all = frames(&path);
    assert!(all.iter().all(|frame| frame.cut && frame.bytes.len() == 40));
}

#[test]
fn more_incidents_than_are_written_at_once_are_counted_and_cost_nobody_anything() {
    let bench = Bench::new(|_| ());
    let asked = (0..1000)
        .filter(|n| bench.ask(HOST, *n, SECOND).is_some())
        .count() as u64;
    std::thread::sleep(Duration::from_millis(300));
    let (_dir, status) = bench.end();
    assert_eq!(status.captures + status.skipped, 1000, "{asked} were taken");
    assert!(status.captures >= AT_ONCE as u64);
}

#[test]
fn a_folder_that_cannot_be_written_ends_evidence_for_a_while() {
    let bench = Bench::new(|_| ());
    let dir = bench.dir.path().join("e");
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "a file").unwrap();
    for n in 0..5 {
        bench.ask(HOST, n, SECOND);
        std::thread::sleep(Duration::from_millis(60));
    }
    let (_dir, status) = bench.end();
    assert_eq!((status.errors, status.skipped, status.captures), (1, 4, 0));
}

#[test]
fn a_transcript_that_is_there_already_is_left_as_it_is_and_ends_nothing() {
    let bench = Bench::new(|_| ());
    let path = bench.keep(1, "the first").unwrap();
    assert_eq!(bench.keep(1, "another"), Some(path.clone()));
    std::thread::sleep(Duration::from_millis(100));
    let next = bench.keep(2, "the next").unwrap();
    let (_dir, status) = bench.end();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "the first");
    assert_eq!(std::fs::read_to_string(&next).unwrap(), "the next");
    assert_eq!((status.errors, status.skipped), (0, 1));
    assert_eq!(status.bytes, 17, "each file once");
}

#[test]
fn a_transcript_that_the_disk_refuses_is_an_error_and_no_file_that_is_kept() {
    let bench = Bench::new(|_| ());
    let dir = bench.dir.path().join("e");
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "a file").unwrap();
    for n in 0..3 {
        bench.keep(n, "words");
        std::thread::sleep(Duration::from_millis(60));
    }
    let (_dir, status) = bench.end();
    assert_eq!((status.errors, status.skipped, status.bytes), (1, 2, 0));
}

/// Evidence whose thread does nothing.
fn waiting(per_host: u64) -> (Evidence, Asked) {
    let settings = Settings {
        per_host,
        ..Settings::in_dir(PathBuf::from("/nowhere"))
    };
    Evidence::new(&settings, Arc::default())
}

const OF: (&str, &str, &str) = ("5f1e", "10.77.0.9", "irc");

fn request(n: u64) -> Request {
    Request {
        incident: n.to_string(),
        rule: "tftp".to_owned(),
        host: "10.77.0.9".to_owned(),
        address: Some(HOST),
        mac: [2; 6],
        flow: n,
        time: SECOND,
    }
}

#[test]
fn transcripts_that_wait_take_no_capture_s_place_and_captures_none_of_theirs() {
    let (evidence, _asked) = waiting(8 << 20);
    let kept = |from: u64| {
        let asked = (from..from + 1000).map(|n| evidence.keep(OF, n, "words".to_owned()));
        asked.flatten().count()
    };
    assert_eq!(kept(0), WAITING);
    let begun = (0..1000).filter_map(|n| evidence.ask(request(n))).count();
    assert_eq!(begun, AT_ONCE);
    assert_eq!(
        evidence.tally.pending.load(Relaxed),
        WAITING * "words".len(),
        "what was refused does not wait"
    );

    let (evidence, _asked) = waiting(8 << 20);
    let begun = (0..1000).filter_map(|n| evidence.ask(request(n))).count();
    assert_eq!(begun, AT_ONCE);
    assert!(evidence.keep(OF, 1, "words".to_owned()).is_some());
}

#[test]
fn transcripts_that_wait_are_bounded_in_bytes_and_one_alone_by_what_its_host_may_have() {
    let (evidence, asked) = waiting(8 << 20);
    let long = "x".repeat(1 << 20);
    let kept = (0..20).filter_map(|n| evidence.keep(OF, n, long.clone()));
    assert_eq!(kept.count(), 16);
    assert_eq!(evidence.status().skipped, 4);
    assert_eq!(asked.notes.len(), 16);

    let (evidence, asked) = waiting(64 << 10);
    assert_eq!(evidence.keep(OF, 1, "x".repeat((64 << 10) + 1)), None);
    assert!(evidence.keep(OF, 2, "x".repeat(64 << 10)).is_some());
    assert_eq!((evidence.status().skipped, asked.notes.len()), (1, 1));
}

#[test]
fn what_was_written_waits_no_more() {
    let bench = Bench::new(|_| ());
    let long = "x".repeat(1 << 20);
    for n in 0..24 {
        let kept = || bench.keep(n, &long).is_some();
        let until = Instant::now() + Duration::from_secs(20);
        while !kept() {
            assert!(Instant::now() < until, "{n}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let tally = Arc::clone(&bench.evidence.tally);
    let (_dir, status) = bench.end();
    assert_eq!(tally.pending.load(Relaxed), 0);
    assert_eq!((status.errors, status.bytes), (0, 8 << 20), "of one host");
}

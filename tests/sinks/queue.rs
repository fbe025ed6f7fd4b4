//! What a dead sink costs: its own lines, counted, and nothing else.

use super::daemon::free_port;
use super::webhook::{self, Got};
use super::*;
use axum::http::StatusCode;

#[test]
fn a_dead_sink_loses_what_its_queue_does_not_hold_and_the_others_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let got = Got::default();
        let port = webhook::serve(webhook::router(&got, |_, _, _| StatusCode::OK)).await;
        // One is refused, one accepts and never answers.
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = [
            webhook::sink(port, "name = \"well\""),
            webhook::sink(free_port(false), "name = \"dead\"\nqueue = 5"),
            webhook::sink(
                deaf.local_addr().unwrap().port(),
                "name = \"deaf\"\nqueue = 7",
            ),
        ];
        let (sinks, delivery) = start(dir.path(), &config.concat());
        Lines::new().send(&sinks, 1..=500);
        sent(&sinks, "well", 500).await;
        sent(&sinks, "file", 500).await;
        assert_eq!(got.hosts(), numbered(1..=500));
        let text = std::fs::read_to_string(dir.path().join("alerts.jsonl")).unwrap();
        assert_eq!(hosts(&text), numbered(1..=500));
        until("a failed attempt", || {
            (status(&sinks, "dead").errors > 0).then_some(())
        })
        .await;
        for (name, queue) in [("dead", 5), ("deaf", 7)] {
            let status = status(&sinks, name);
            let counts = (status.sent, status.waiting, status.lost);
            assert_eq!(counts, (0, queue, 500 - queue), "{name}");
        }
        assert_eq!(status(&sinks, "well").lost, 0);
        let start = Instant::now();
        let left = delivery.finish(Duration::from_millis(500)).await;
        assert!(start.elapsed() < Duration::from_secs(3));
        assert_eq!(left, [("dead".to_owned(), 5), ("deaf".to_owned(), 7)]);
        assert_eq!(status(&sinks, "dead").lost, 500);
    });
}

#[test]
fn at_the_end_what_waits_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let got = Got::default();
        let answer = |_: &_, _: &_, n| match n {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        let port = webhook::serve(webhook::router(&got, answer)).await;
        let (sinks, delivery) = start(dir.path(), &webhook::sink(port, "level = \"high\""));
        Lines::new().send(&sinks, 1..=3000);
        assert!(delivery.finish(LIMIT).await.is_empty());
        assert_eq!(got.hosts(), numbered(1..=3000));
        let text = std::fs::read_to_string(dir.path().join("alerts.jsonl")).unwrap();
        assert_eq!(hosts(&text), numbered(1..=3000));
    });
}

//! The alert file: rotation, full disks, and others who move it.

use super::webhook::{self, Got};
use super::*;
use axum::http::StatusCode;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_default()
}

/// All that is there, the oldest first.
fn all(dir: &Path, keep: u32) -> String {
    let aside = (1..=keep)
        .rev()
        .map(|n| read(dir, &format!("alerts.jsonl.{n}")));
    let mut text: String = aside.collect();
    text += &read(dir, "alerts.jsonl");
    text
}

#[test]
fn rotation_under_load_loses_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[alerts]\nfile = \"alerts.jsonl\"\nrotate = { size = \"8kB\", keep = 1000 }\n";
    on_one_thread(async {
        let (sinks, delivery) = start(dir.path(), config);
        let mut lines = Lines::new();
        for n in 0..50 {
            lines.send(&sinks, n * 100 + 1..=n * 100 + 100);
            tokio::task::yield_now().await;
        }
        assert!(delivery.finish(LIMIT).await.is_empty());
        assert_eq!(status(&sinks, "file").lost, 0);
    });
    assert_eq!(hosts(&all(dir.path(), 1000)), numbered(1..=5000));
    let files = std::fs::read_dir(dir.path()).unwrap();
    let sizes: Vec<u64> = files
        .map(|f| f.unwrap().metadata().unwrap().len())
        .collect();
    assert!(
        sizes.len() > 300 && sizes.iter().all(|size| *size <= 8000),
        "{sizes:?}"
    );
}

#[test]
fn as_many_old_files_are_kept_as_the_config_says() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[alerts]\nfile = \"alerts.jsonl\"\nrotate = { size = \"4096B\", keep = 2 }\n";
    // One start adds to the file of the one before.
    for n in [0, 50] {
        on_one_thread(async {
            let (sinks, delivery) = start(dir.path(), config);
            Lines::new().send(&sinks, n + 1..=n + 50);
            assert!(delivery.finish(LIMIT).await.is_empty());
        });
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    let left = hosts(&all(dir.path(), 2));
    assert!(
        left.len() > 8 && numbered(1..=100).ends_with(&left),
        "{left:?}"
    );
}

#[test]
fn a_file_that_logrotate_moves_away_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let (sinks, delivery) = start(dir.path(), "");
        let mut lines = Lines::new();
        lines.send(&sinks, 1..=5);
        sent(&sinks, "file", 5).await;
        std::fs::rename(dir.path().join("alerts.jsonl"), dir.path().join("moved")).unwrap();
        lines.send(&sinks, 6..=9);
        assert!(delivery.finish(LIMIT).await.is_empty());
    });
    assert_eq!(hosts(&read(dir.path(), "moved")), numbered(1..=5));
    assert_eq!(hosts(&read(dir.path(), "alerts.jsonl")), numbered(6..=9));
}

#[test]
fn a_full_disk_costs_the_file_what_its_queue_does_not_hold_and_no_other_sink_anything() {
    let dir = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let got = Got::default();
        let port = webhook::serve(webhook::router(&got, |_, _, _| StatusCode::OK)).await;
        // Every write to it finds no space (full(4)).
        let config = format!(
            "[alerts]\nfile = \"/dev/full\"\nqueue = 10\n{}",
            webhook::sink(port, "")
        );
        let (sinks, delivery) = start(dir.path(), &config);
        Lines::new().send(&sinks, 1..=100);
        sent(&sinks, "webhook", 100).await;
        let file = until("a failed attempt", || {
            Some(status(&sinks, "file")).filter(|file| file.errors > 0)
        })
        .await;
        assert_eq!(
            (file.state, file.sent, file.waiting, file.lost),
            ("failing", 0, 10, 90)
        );
        assert_eq!(sinks.lost_for_file(), 90);
        assert!(file.last_error.unwrap().contains("No space left"));
        assert_eq!(got.hosts(), numbered(1..=100));
        let left = delivery.finish(Duration::from_millis(300)).await;
        assert_eq!(left, [("file".to_owned(), 10)]);
    });
}

#[test]
fn a_disk_that_was_full_gets_what_waited_and_the_line_that_it_cut_in_two() {
    if !rig::root_or_say("a_disk_that_was_full_gets_what_waited_and_the_line_that_it_cut_in_two") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Of this thread alone, and of those that it starts; gone with them.
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(
        Some("none"),
        dir.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=64k"),
    )
    .unwrap();
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![0; 32 * 1024]).unwrap();
    on_one_thread(async {
        let config = "[alerts]\nfile = \"alerts.jsonl\"\nqueue = 20\n";
        let (sinks, delivery) = start(dir.path(), config);
        let mut lines = Lines::new();
        for n in 1..=100 {
            sinks.write(lines.of(n));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let full = until("a full disk", || {
            Some(status(&sinks, "file")).filter(|file| file.errors > 0)
        })
        .await;
        assert!(full.lost > 0 && full.waiting == 20, "{full:?}");
        let cut = read(dir.path(), "alerts.jsonl");
        assert!(!cut.ends_with('\n'), "no line is cut");
        std::fs::remove_file(&ballast).unwrap();
        sent(&sinks, "file", 100 - full.lost).await;
        let text = read(dir.path(), "alerts.jsonl");
        assert!(text.starts_with(&cut));
        let kept = (100 - full.lost) as u32;
        assert_eq!(hosts(&text), numbered(1..=kept), "the newest are lost");
        assert!(delivery.finish(LIMIT).await.is_empty());
    });
    nix::mount::umount(dir.path()).unwrap();
}

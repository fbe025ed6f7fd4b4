//! `/evidence/NAME`: the captures, one by one, by their plain names.

use super::{Shared, crowded};
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes that are read at once: a capture may have a gibibyte.
const PIECE: u64 = 64 << 10;

/// A name that evidence has: of an incident, a host and a rule, none of which holds what a path or a header is made of.
fn is_plain(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || "._-:~+@=,".contains(c);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(letter)
}

/// Opens a capture of this folder: a regular file directly in it, behind no symbolic link. With how long it is now.
fn open(dir: &Path, name: &str) -> io::Result<(File, u64)> {
    if !is_plain(name) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // A pipe of that name would keep who opens it waiting.
    let flags = O_NOFOLLOW | O_NONBLOCK;
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(flags)
        .open(dir.join(name))?;
    let about = file.metadata()?;
    match about.is_file() {
        true => Ok((file, about.len())),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The next piece of what is left; `None` at the end. A file that became shorter is an error: its length was announced.
fn piece(file: &mut File, left: u64) -> Option<io::Result<Bytes>> {
    if left == 0 {
        return None;
    }
    let mut bytes = Vec::new();
    let read = file.take(left.min(PIECE)).read_to_end(&mut bytes);
    Some(match read {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(bytes.into()),
        Err(e) => Err(e),
    })
}

pub(super) async fn capture(
    State(shared): State<Shared>,
    UrlPath(name): UrlPath<String>,
) -> Response {
    let missing = || (StatusCode::NOT_FOUND, "no such capture\n").into_response();
    let Some(dir) = shared.evidence else {
        return missing();
    };
    // Pieces are read aside, like other answers that take their time.
    let Ok(seat) = Arc::clone(&shared.writing).try_acquire_owned() else {
        return crowded();
    };
    let asked = name.clone();
    let opened = tokio::task::spawn_blocking(move || open(&dir, &asked)).await;
    let Ok(Ok((file, len))) = opened else {
        return missing();
    };
    let pieces = stream::try_unfold((file, len, seat), |(mut file, left, seat)| async move {
        let read = tokio::task::spawn_blocking(move || (piece(&mut file, left), file));
        match read.await.map_err(io::Error::other)? {
            (None, _) => Ok(None),
            (Some(bytes), file) => {
                let bytes = bytes?;
                let left = left.saturating_sub(bytes.len() as u64);
                Ok::<_, io::Error>(Some((bytes, (file, left, seat))))
            }
        }
    });
    let attachment = format!("attachment; filename=\"{name}\"");
    let about = [
        (header::CONTENT_TYPE, kind(&name).to_owned()),
        (header::CONTENT_DISPOSITION, attachment),
        (header::CONTENT_LENGTH, len.to_string()),
    ];
    (about, Body::from_stream(pieces)).into_response()
}

/// What a file of evidence is, by its name: a capture, or the transcript of a conversation.
fn kind(name: &str) -> &'static str {
    match name.ends_with(".txt") {
        true => "text/plain; charset=utf-8",
        false => "application/vnd.tcpdump.pcap",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_read_in_pieces_up_to_the_length_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let long = vec![7; PIECE as usize + 5];
        std::fs::write(dir.path().join("a.pcapng"), &long).unwrap();
        let (mut file, mut left) = open(dir.path(), "a.pcapng").unwrap();
        let mut got = Vec::new();
        while let Some(bytes) = piece(&mut file, left) {
            let bytes = bytes.unwrap();
            left -= bytes.len() as u64;
            got.extend(bytes);
        }
        assert_eq!(got, long);
        assert!(piece(&mut file, 1).unwrap().is_err());
    }

    #[test]
    fn nothing_but_a_regular_file_directly_in_the_folder_is_opened() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("evidence");
        std::fs::create_dir_all(dir.join("folder.pcapng")).unwrap();
        std::fs::write(top.path().join("secret"), "s").unwrap();
        std::fs::write(dir.join("real.pcapng"), "r").unwrap();
        std::fs::write(dir.join(".hidden"), "h").unwrap();
        std::os::unix::fs::symlink(top.path().join("secret"), dir.join("link.pcapng")).unwrap();
        std::os::unix::fs::symlink(dir.join("real.pcapng"), dir.join("near.pcapng")).unwrap();
        nix::unistd::mkfifo(&dir.join("pipe.pcapng"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(&dir, "real.pcapng").is_ok());
        for name in [
            "",
            ".",
            "..",
            "../secret",
            "..%2fsecret",
            "folder.pcapng",
            "folder.pcapng/..",
            "link.pcapng",
            "near.pcapng",
            "pipe.pcapng",
            ".hidden",
            "real.pcapng\0",
            "real.pcapng\"\r\nX: y",
            "/etc/passwd",
            "none.pcapng",
        ] {
            assert!(open(&dir, name).is_err(), "{name:?}");
        }
    }
}

//! `portcullis top`: the running gate in a terminal.
//!
//! ```text
//! gate ◄─ asker: a picture a second ─┐
//! terminal ─► keys ──────────────────┼► events ─► view: what is shown ─► draw
//! signals ─► the end ────────────────┘
//! ```

mod draw;
mod form;
mod keys;
mod picture;
mod rates;
mod terminal;
#[cfg(test)]
mod testing;
mod view;

use super::{Gate, cannot, gate};
use crate::config::packet::Asked;
use crate::control::recent;
use crate::control::socket::Request;
use keys::Act;
use nix::sys::signal::{SigSet, Signal};
use picture::{Picture, made_safe};
use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};
use serde_json::Value;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};
use terminal::Terminal;
use view::View;

/// How often the screen is drawn anew where nothing happens: it says how old the picture is.
const REDRAW: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(super) struct Top {
    #[command(flatten)]
    gate: Gate,
    /// How often the gate is asked: 500ms, 1s, 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

const MORE: &str = "Keys:
  Tab               the other list: rules, incidents
  arrows, j k       move in it; PgUp, PgDn, Home and End too
  Enter             all of the chosen incident or rule: payload, evidence file, what to do
  /                 show only rules and incidents with this text; Esc shows all again
  e                 explain: what the policy in force does with a packet, and why
  s                 rules by rate, or in the order in which they are asked
  p                 pause, and go on
  ?                 what the screen says
  q, Ctrl-C, Esc    leave

Examples:
  portcullis top
  portcullis top --interval 5s
  portcullis top --socket /run/portcullis/control.sock
  NO_COLOR=1 portcullis top          without colour; nothing is said by colour alone

Rates are those of the last interval. Times are UTC. Without a terminal, `portcullis status` says the same once.";

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    match range.contains(&interval) {
        true => Ok(interval),
        false => Err("it must be from 100ms to 1h".to_owned()),
    }
}

/// What the loop waits for.
enum Event {
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    Picture(Box<Result<Picture, String>>),
    /// What came of the question of this number.
    Answer(u64, Result<Value, String>),
    /// A signal, or a terminal that is gone.
    End,
}

impl Top {
    pub(super) fn run(self) -> ExitCode {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !io::stdout().is_terminal() || dumb {
            return cannot(
                "top draws on a terminal, and standard output is none that it can draw on; `portcullis status` says the same once, `portcullis status --json` for a program",
            );
        }
        let socket = match self.gate.socket() {
            Ok(socket) => socket,
            Err(code) => return code,
        };
        // What is wrong from the start is said where it can be read and copied.
        let first = match look(&socket) {
            Ok(picture) => picture,
            Err(e) => return cannot(e),
        };
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut view = View::new(colour);
        view.see(Ok(first));
        match self.watch(view, &socket) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => cannot(format!("the terminal: {e}")),
        }
    }

    fn watch(&self, mut view: View, socket: &Path) -> io::Result<()> {
        let (events, happened) = mpsc::channel();
        // Before there are other threads, which all have them blocked then.
        let ends = end_signals()?;
        let mut terminal = Terminal::open()?;
        on_a_thread(&events, move |events| {
            // Whatever it is that cannot be waited for, nobody would be told of it later.
            let _ = ends.wait();
            let _ = events.send(Event::End);
        })?;
        on_a_thread(&events, read_keys)?;
        let (asked, interval) = (socket.to_owned(), self.interval);
        on_a_thread(&events, move |events| {
            ask_for_ever(&asked, interval, &events)
        })?;
        loop {
            terminal.draw(|frame| draw::draw(frame, &mut view, Instant::now()))?;
            if !next(&happened, &mut view, |number, packet| {
                let socket = socket.to_owned();
                on_a_thread(&events, move |events| {
                    let _ = events.send(Event::Answer(number, explained(socket, packet)));
                })
            })? {
                return Ok(());
            }
        }
    }
}

/// Takes all that has happened, or waits for it. False where it is time to leave.
fn next(
    happened: &Receiver<Event>,
    view: &mut View,
    ask: impl Fn(u64, Box<Asked>) -> io::Result<()>,
) -> io::Result<bool> {
    let first = match happened.recv_timeout(REDRAW) {
        Ok(event) => event,
        Err(RecvTimeoutError::Timeout) => return Ok(true),
        Err(RecvTimeoutError::Disconnected) => return Ok(false),
    };
    for event in std::iter::once(first).chain(happened.try_iter()) {
        match event {
            Event::Key(key) => match keys::press(view, key) {
                Act::Nothing => {}
                Act::Ask(number, packet) => ask(number, packet)?,
                Act::Leave => return Ok(false),
            },
            Event::Resized => {}
            Event::Picture(picture) => view.see(*picture),
            Event::Answer(number, answer) => view.hear(number, answer),
            Event::End => return Ok(false),
        }
    }
    Ok(true)
}

/// SIGTERM, SIGINT and SIGHUP, which only wait for somebody from now on.
fn end_signals() -> io::Result<SigSet> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(set)
}

fn on_a_thread(
    events: &Sender<Event>,
    work: impl FnOnce(Sender<Event>) + Send + 'static,
) -> io::Result<()> {
    let events = events.clone();
    let thread = std::thread::Builder::new().name("top".to_owned());
    thread.spawn(move || work(events)).map(drop)
}

fn read_keys(events: Sender<Event>) {
    loop {
        let event = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
            Ok(event::Event::Resize(..)) => Event::Resized,
            Ok(_) => continue,
            Err(_) => Event::End,
        };
        let last = matches!(event, Event::End);
        if events.send(event).is_err() || last {
            return;
        }
    }
}

fn ask_for_ever(socket: &Path, interval: Duration, events: &Sender<Event>) {
    loop {
        std::thread::sleep(interval);
        if events.send(Event::Picture(Box::new(look(socket)))).is_err() {
            return;
        }
    }
}

fn look(socket: &Path) -> Result<Picture, String> {
    let status = gate::ask(socket, &Request::Status)?;
    let moment = (Instant::now(), SystemTime::now());
    let most = recent::MOST;
    Picture::read(
        moment,
        &status,
        &gate::ask(socket, &Request::Incidents { most })?,
    )
}

fn explained(socket: PathBuf, packet: Box<Asked>) -> Result<Value, String> {
    gate::ask(&socket, &Request::Explain { packet }).map(|answer| made_safe(&answer))
}

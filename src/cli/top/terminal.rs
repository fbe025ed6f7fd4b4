//! The terminal, taken over and given back as it was: at the end, after an error, and after a panic.

use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::io::{self, Stdout, stdout};

/// Ours until it is dropped.
pub(super) struct Terminal(ratatui::Terminal<CrosstermBackend<Stdout>>);

impl Terminal {
    pub fn open() -> io::Result<Terminal> {
        let before = std::panic::take_hook();
        // A release build aborts where others unwind, so no drop would do it.
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        let terminal = Terminal(ratatui::Terminal::new(CrosstermBackend::new(stdout()))?);
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        Ok(terminal)
    }

    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(picture).map(drop)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that is gone wants nothing back.
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
}

//! How far a run is.
//!
//! A cell that recovers large directories on a busy machine takes minutes, and its row is printed
//! when it ends. Until then a terminal shows a bar; where the output goes to a file, a line says
//! every half minute that something goes on.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Kills done out of all that are to come; shared by the cells that run at the same time.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// When the last line was written; none on a terminal.
    last_line: Option<Mutex<Instant>>,
}

impl Progress {
    /// Of a run with `kills` kills in all.
    pub(crate) fn new(kills: usize) -> Progress {
        let bar = ProgressBar::new(kills as u64);
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} kills, {elapsed} {msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        let is_terminal = std::io::stderr().is_terminal();
        Progress {
            bar,
            last_line: (!is_terminal).then(|| Mutex::new(Instant::now())),
        }
    }

    /// One that nobody sees.
    pub(crate) fn hidden() -> Progress {
        Progress {
            bar: ProgressBar::hidden(),
            last_line: None,
        }
    }

    /// A cycle of `cell` is over.
    pub(crate) fn cycle(&self, cell: impl Display, is_kill: bool) {
        self.bar.inc(u64::from(is_kill));
        self.bar.set_message(cell.to_string());
        let Some(last_line) = &self.last_line else {
            return;
        };
        let mut last_line = last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last_line.elapsed() >= LINE_INTERVAL {
            *last_line = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            eprintln!("{done} of {all} kills, {cell}");
        }
    }

    /// Prints a row, which the bar must not draw over.
    pub(crate) fn print(&self, row: impl FnOnce()) {
        self.bar.suspend(row);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

//! A progress bar on a terminal, a line every few seconds elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use moon_tools::Progress;
use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// How often a line says how far the work is, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress on standard error.
pub(super) struct Shown(RefCell<Kind>);

enum Kind {
    Bar(Option<ProgressBar>),
    Lines(Option<Lines>),
}

struct Lines {
    what: String,
    total: u64,
    done: u64,
    told: Instant,
}

impl Shown {
    /// Shows progress in the way that fits where standard error goes.
    pub(super) fn new() -> Shown {
        Shown(RefCell::new(if std::io::stderr().is_terminal() {
            Kind::Bar(None)
        } else {
            Kind::Lines(None)
        }))
    }
}

impl Progress for Shown {
    fn begin(&self, what: &str, total_bytes: u64) {
        match &mut *self.0.borrow_mut() {
            Kind::Bar(bar) => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
                let style = ProgressStyle::with_template(
                    "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                );
                let new = ProgressBar::new(total_bytes).with_message(what.to_owned());
                if let Ok(style) = style {
                    new.set_style(style);
                }
                *bar = Some(new);
            }
            Kind::Lines(lines) => {
                *lines = Some(Lines {
                    what: what.to_owned(),
                    total: total_bytes,
                    done: 0,
                    told: Instant::now(),
                });
            }
        }
    }

    fn advance(&self, bytes: u64) {
        match &mut *self.0.borrow_mut() {
            Kind::Bar(Some(bar)) => bar.inc(bytes),
            Kind::Lines(Some(lines)) => {
                lines.done += bytes;
                if lines.told.elapsed() >= LINE_EVERY {
                    lines.told = Instant::now();
                    eprintln!("{}: {} of {} bytes", lines.what, lines.done, lines.total);
                }
            }
            Kind::Bar(None) | Kind::Lines(None) => {}
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Kind::Bar(Some(bar)) = &mut *self.0.borrow_mut() {
            bar.finish_and_clear();
        }
    }
}

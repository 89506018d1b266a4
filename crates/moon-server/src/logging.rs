//! The log: one line per event, as Redis prints it: `pid:M 23 Nov 2026 00:55:18.293 * message`.
//!
//! `debug!` is debug (`.`), `info!` with target [`VERBOSE`] is verbose (`-`), any other `info!`
//! is notice (`*`), `warn!` and `error!` are warning (`#`).

use crate::config::{LogLevel, Settings};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer as _, util::SubscriberInitExt as _};

/// Target of events at Redis's verbose level.
pub const VERBOSE: &str = "moon::verbose";

/// Starts logging to `logfile`, or to standard output if that is empty. The level follows
/// `settings`, so CONFIG SET loglevel acts at once.
///
/// # Errors
/// When the file cannot be opened, or logging has been started before.
pub fn init(logfile: &str, settings: Arc<Settings>) -> io::Result<()> {
    let sink = if logfile.is_empty() {
        Sink::Stdout
    } else {
        let file = OpenOptions::new().create(true).append(true).open(logfile)?;
        Sink::File(Arc::new(Mutex::new(file)))
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        // Its report goes to standard error, and if that is on the same full disk, too, printing
        // it would panic and so end the server. Lines that cannot be written are lost.
        .log_internal_errors(false)
        .event_format(RedisLines)
        .with_writer(move || sink.clone())
        .with_filter(ByLoglevel(settings));
    tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .map_err(io::Error::other)
}

fn level_of(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        Level::ERROR | Level::WARN => LogLevel::Warning,
        Level::INFO if metadata.target() == VERBOSE => LogLevel::Verbose,
        Level::INFO => LogLevel::Notice,
        _ => LogLevel::Debug,
    }
}

struct ByLoglevel(Arc<Settings>);

impl<S: Subscriber> Filter<S> for ByLoglevel {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        level_of(metadata) >= self.0.loglevel()
            // What libraries have to say about themselves is for their developers.
            && (metadata.target().starts_with("moon") || *metadata.level() <= Level::WARN)
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        // The level can change at any time, so nothing about a call site can be remembered.
        tracing::subscriber::Interest::sometimes()
    }
}

#[derive(Clone)]
enum Sink {
    Stdout,
    File(Arc<Mutex<File>>),
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout => io::stdout().write(buf),
            Sink::File(file) => file
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout => io::stdout().flush(),
            Sink::File(_) => Ok(()),
        }
    }
}

struct RedisLines;

impl<S, N> FormatEvent<S, N> for RedisLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mark = match level_of(event.metadata()) {
            LogLevel::Debug => '.',
            LogLevel::Verbose => '-',
            LogLevel::Notice => '*',
            LogLevel::Warning | LogLevel::Nothing => '#',
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let date = Utc(now.as_secs(), now.subsec_millis());
        write!(writer, "{}:M {date} {mark} ", std::process::id())?;
        ctx.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Seconds and milliseconds since the epoch, printed as `23 Nov 2026 00:55:18.293` in UTC.
struct Utc(u64, u32);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let (mut days, second) = (self.0 / 86_400, self.0 % 86_400);
        let mut year = 1970;
        let leap =
            |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
        while days >= 365 + u64::from(leap(year)) {
            days -= 365 + u64::from(leap(year));
            year += 1;
        }
        let lengths = [
            31,
            28 + u64::from(leap(year)),
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
            31,
        ];
        let mut month = 0;
        while month < 11 && days >= lengths[month] {
            days -= lengths[month];
            month += 1;
        }
        write!(
            f,
            "{:02} {} {year} {:02}:{:02}:{:02}.{:03}",
            days + 1,
            MONTHS[month],
            second / 3600,
            second / 60 % 60,
            second % 60,
            self.1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (s, text) in [
            (0, "01 Jan 1970 00:00:00.007"),
            (951_782_400, "29 Feb 2000 00:00:00.007"),
            (1_795_395_318, "23 Nov 2026 00:55:18.007"),
            (4_107_542_399, "28 Feb 2100 23:59:59.007"),
            (1_798_761_599, "31 Dec 2026 23:59:59.007"),
        ] {
            assert_eq!(Utc(s, 7).to_string(), text);
        }
    }
}

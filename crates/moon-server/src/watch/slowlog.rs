//! SLOWLOG: the last commands that took long, over all shards.
//!
//! Whoever executed one adds it, under a lock that is only ever taken for slow commands and by
//! SLOWLOG itself.

use moon_resp::Reply;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most arguments that are kept of a command, as in Redis.
const ARGS_MAX: usize = 32;
/// Most bytes that are kept of an argument, as in Redis.
const ARG_BYTES_MAX: usize = 128;

/// A command that took long, before it is in the log.
#[derive(Clone, Debug)]
pub struct New<'a> {
    /// When it ended, in Unix seconds.
    pub unix_s: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// Its arguments without secrets.
    pub args: Vec<Cow<'a, [u8]>>,
    /// Address of the client; empty if it has gone.
    pub address: String,
    /// Name of the client.
    pub name: String,
}

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts up; never used again while the server runs.
    pub id: u64,
    /// When it ended, in Unix seconds.
    pub unix_s: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// Its arguments, cut to a bounded size.
    pub args: Vec<Box<[u8]>>,
    /// Address of the client; empty if it has gone.
    pub address: String,
    /// Name of the client.
    pub name: String,
}

#[derive(Debug, Default)]
struct Log {
    /// The newest first.
    entries: VecDeque<Entry>,
    next_id: u64,
    len_max: usize,
}

/// The log of slow commands.
#[derive(Debug, Default)]
pub struct SlowLog {
    log: Mutex<Log>,
}

impl SlowLog {
    /// An empty log of at most `len_max` entries.
    #[must_use]
    pub fn new(len_max: u64) -> SlowLog {
        let log = SlowLog::default();
        log.set_len_max(len_max);
        log
    }

    /// Changes how many entries it holds; the oldest go if there are more.
    pub fn set_len_max(&self, len_max: u64) {
        let mut log = self.lock();
        log.len_max = usize::try_from(len_max).unwrap_or(usize::MAX);
        let len_max = log.len_max;
        log.entries.truncate(len_max);
    }

    /// Adds a command.
    pub fn add(&self, new: New<'_>) {
        let args = cut(&new.args);
        let mut log = self.lock();
        let id = log.next_id;
        log.next_id += 1;
        log.entries.push_front(Entry {
            id,
            unix_s: new.unix_s,
            micros: new.micros,
            args,
            address: new.address,
            name: new.name,
        });
        let len_max = log.len_max;
        log.entries.truncate(len_max);
    }

    /// The newest `count` entries, the newest first.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.lock().entries.iter().take(count).cloned().collect()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// How many were ever added: SLOWLOG RESET does not change it.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.lock().next_id
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries. Their numbers are not used again.
    pub fn reset(&self) {
        self.lock().entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The arguments as they are kept: the last place says how many more there were, and the end of an
/// argument how many bytes.
fn cut(args: &[Cow<'_, [u8]>]) -> Vec<Box<[u8]>> {
    let is_long = args.len() > ARGS_MAX;
    let kept = if is_long { ARGS_MAX - 1 } else { args.len() };
    let mut out: Vec<Box<[u8]>> = args[..kept].iter().map(|arg| cut_arg(arg)).collect();
    if is_long {
        let more = format!("... ({} more arguments)", args.len() - kept);
        out.push(more.into_bytes().into());
    }
    out
}

fn cut_arg(arg: &[u8]) -> Box<[u8]> {
    if arg.len() <= ARG_BYTES_MAX {
        return arg.into();
    }
    let mut kept = arg[..ARG_BYTES_MAX].to_vec();
    let more = arg.len() - ARG_BYTES_MAX;
    kept.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
    kept.into()
}

/// Writes entries as SLOWLOG GET answers them.
pub fn write_entries(reply: &mut Reply<'_>, entries: &[Entry]) {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(number(entry.id));
        reply.integer(number(entry.unix_s));
        reply.integer(number(entry.micros));
        reply.array(entry.args.len());
        for arg in &entry.args {
            reply.bulk(arg);
        }
        reply.bulk(entry.address.as_bytes());
        reply.bulk(entry.name.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(log: &SlowLog, args: &[&str]) {
        log.add(New {
            unix_s: 7,
            micros: 11,
            args: args.iter().map(|a| Cow::Borrowed(a.as_bytes())).collect(),
            address: String::new(),
            name: String::new(),
        });
    }

    #[test]
    fn the_newest_entries_stay_and_numbers_are_not_used_again() {
        let log = SlowLog::new(3);
        for n in 0..5 {
            add(&log, &["set", &n.to_string()]);
        }
        let ids = |log: &SlowLog| log.newest(10).iter().map(|e| e.id).collect::<Vec<_>>();
        assert_eq!(ids(&log), [4, 3, 2]);
        assert_eq!(log.newest(1)[0].args[1][..], *b"4");
        log.set_len_max(1);
        assert_eq!(ids(&log), [4]);
        log.reset();
        assert!(log.is_empty());
        add(&log, &["get"]);
        assert_eq!(ids(&log), [5]);
        log.set_len_max(0);
        add(&log, &["get"]);
        assert_eq!(log.len(), 0);
    }

    #[test]
    fn long_commands_are_cut_as_in_redis() {
        let log = SlowLog::new(10);
        let words: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        add(&log, &words.iter().map(String::as_str).collect::<Vec<_>>());
        let entry = &log.newest(1)[0];
        assert_eq!(entry.args.len(), 32);
        assert_eq!(entry.args[31][..], *b"... (9 more arguments)");
        add(
            &log,
            &words[..32].iter().map(String::as_str).collect::<Vec<_>>(),
        );
        assert_eq!(log.newest(1)[0].args[31][..], *b"31");
        let (long, full) = ("x".repeat(129), "x".repeat(128));
        add(&log, &[&long, &full]);
        let entry = &log.newest(1)[0];
        assert_eq!(entry.args[0][128..], *b"... (1 more bytes)");
        assert_eq!(entry.args[1].len(), 128);
    }
}

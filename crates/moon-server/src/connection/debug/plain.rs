//! The subcommands of DEBUG that look at no data.

use super::protocol;
use crate::config::value::memory;
use moon_commands::glob::{self, Case};
use moon_commands::parse::{canonical_integer, integer};
use moon_resp::{Args, Reply};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// Longest pause that DEBUG SLEEP makes.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Longest text that DEBUG STRINGMATCH-LEN makes up, in bytes.
const MATCHED_LEN_MAX: usize = 1 << 20;

/// Writes the reply; `false` if there is no such subcommand with so many arguments here.
///
/// # Errors
/// The error reply.
pub(super) fn answer(args: Args<'_>, reply: &mut Reply<'_>) -> Result<bool, String> {
    let subcommand = args.at(1).to_ascii_lowercase();
    match (subcommand.as_slice(), args.len()) {
        (b"sleep", 3) => {
            sleep(args.at(2));
            reply.ok();
        }
        (b"panic", _) => panic!("DEBUG PANIC"),
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.at(2)));
            reply.ok();
        }
        (b"error", 3) => reply.error_bytes(args.at(2)),
        (b"protocol", 3) => protocol::answer(args.at(2), reply)?,
        (b"quicklist-packed-threshold", 3) => {
            check_threshold(args.at(2))?;
            reply.ok();
        }
        (b"replybuffer", 4) => return reply_buffer(args, reply),
        // What they switch is not there, or always as it is.
        (b"pause-cron" | b"set-disable-deny-scripts" | b"dict-resizing", 3) => reply.ok(),
        (b"stringmatch-len", 4) => {
            let matches = matches_len(args)?;
            reply.flag(matches);
        }
        (b"stringmatch-test", 2) => {
            match_at_random();
            reply.simple("Apparently Redis did not crash: test passed");
        }
        (b"help", 2) => help(reply),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Clients' tests use this to make a shard busy, which is what blocking it does. As in Redis, what
/// stands behind a number does not count, and what is no number is none.
fn sleep(arg: &[u8]) {
    let is_number = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+');
    let len = arg.iter().take_while(is_number).count();
    let seconds = str::from_utf8(&arg[..len]).ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let pause = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    std::thread::sleep(pause.min(SLEEP_MAX));
}

/// Patterns and texts without sense, to see that none of them leads a match astray.
fn match_at_random() {
    const ROUNDS: usize = 20_000;
    const LEN_MAX: usize = 32;
    const LETTERS: &[u8] = b"*?[]^-\\ab\0\xff";
    let mut rng = SmallRng::seed_from_u64(1);
    let mut below = |end: usize| rng.random_range(0..end);
    for _ in 0..ROUNDS {
        let mut word = || -> Vec<u8> {
            let len = below(LEN_MAX);
            (0..len).map(|_| LETTERS[below(LETTERS.len())]).collect()
        };
        let (pattern, text) = (word(), word());
        std::hint::black_box(glob::matches(&pattern, &text, Case::Insensitive));
    }
}

/// Lists have no nodes of one element here, so that the number is only checked.
fn check_threshold(arg: &[u8]) -> Result<(), String> {
    const MAX: u64 = (4 << 30) - (1 << 20);
    let size = str::from_utf8(arg).ok();
    let size = size.and_then(|text| memory(text, 0, MAX).ok());
    size.map(drop).ok_or_else(|| {
        "ERR argument must be a memory value bigger than 1 and smaller than 4gb".to_owned()
    })
}

/// Reply buffers grow and shrink by themselves; there is nothing to set.
fn reply_buffer(args: Args<'_>, reply: &mut Reply<'_>) -> Result<bool, String> {
    let value = args.at(3).to_ascii_lowercase();
    match args.at(2).to_ascii_lowercase().as_slice() {
        b"peak-reset-time" if value == b"never" || value == b"reset" => {}
        b"peak-reset-time" => {
            integer(&value).map_err(|e| e.text().to_owned())?;
        }
        b"resizing" => {}
        _ => return Ok(false),
    }
    reply.ok();
    Ok(true)
}

/// Whether the pattern matches so many times the letter `a`.
fn matches_len(args: Args<'_>) -> Result<bool, String> {
    let len = canonical_integer(args.at(2)).and_then(|len| usize::try_from(len).ok());
    let len = len.filter(|len| *len <= MATCHED_LEN_MAX);
    let text = vec![b'a'; len.ok_or("ERR value is out of range")?];
    Ok(glob::matches(args.at(3), &text, Case::Sensitive))
}

const HELP: &[(&str, &str)] = &[
    (
        "DIGEST",
        "A number for the whole content, the same as that of Redis.",
    ),
    (
        "DIGEST-VALUE <key> [<key> ...]",
        "A number for the value of each key.",
    ),
    ("ERROR <string>", "Answer with this error."),
    ("HTSTATS <dbid>", "How many keys a database has."),
    ("HTSTATS-KEY <key>", "How many elements a large value has."),
    ("LISTPACK <key>", "Whether the value has its compact form."),
    ("LOG <message>", "Write a line to the server's log."),
    ("OBJECT <key>", "How a value is kept."),
    ("PANIC", "End the process as after a fault of its own."),
    (
        "POPULATE <count> [<prefix>] [<size>]",
        "Create <count> keys named key:<number>; they are logged.",
    ),
    ("PROTOCOL <type>", "Answer with a value of this type."),
    (
        "QUICKLIST-PACKED-THRESHOLD <size>",
        "Accepted; changes nothing.",
    ),
    (
        "RELOAD [MERGE] [NOFLUSH]",
        "Write all data in the form of a dump, in memory, and load it.",
    ),
    (
        "REPLYBUFFER <setting> <value>",
        "Accepted; changes nothing.",
    ),
    (
        "SET-ACTIVE-EXPIRE <0|1>",
        "Stop or resume the removal of expired keys that nobody asks for.",
    ),
    ("SLEEP <seconds>", "Stop this shard."),
    (
        "STRINGMATCH-LEN <len> <pattern>",
        "Whether a pattern matches <len> times the letter a.",
    ),
    (
        "STRINGMATCH-TEST",
        "Match patterns at random, to see that none makes a fault.",
    ),
];

fn help(reply: &mut Reply<'_>) {
    reply.array(HELP.len() * 2 + 3);
    reply.simple("DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for (usage, text) in HELP {
        reply.simple(usage);
        reply.simple(&format!("    {text}"));
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}

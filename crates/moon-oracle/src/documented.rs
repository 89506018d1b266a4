//! Examples from documentation as the judge, for commands that Redis 7.0 does not have.
//!
//! A file of examples is read line by line:
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | a comment, such as the address of the page; the keyspace is emptied |
//! | `> request` | a request, quoted as `redis-cli` takes it |
//! | anything else | the reply to the request before, as [`moon_harness::Reply`] prints it |
//! | `*` | any reply but an error |
//!
//! The connection speaks RESP3 behind a line `! resp3`, RESP2 before it.

use anyhow::{Context as _, Result, bail};
use moon_harness::{Client, Reply};
use moon_resp::split_args;

/// The files, by name.
pub const FILES: &[(&str, &str)] = &[
    (
        "hash-field-expiration",
        include_str!("../examples/hash-field-expiration.txt"),
    ),
    ("bitop", include_str!("../examples/bitop.txt")),
    ("streams", include_str!("../examples/streams.txt")),
    ("zset", include_str!("../examples/zset.txt")),
];

/// What running a file shows.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// Replies that were as documented.
    pub passed: usize,
    /// Requests whose command the server does not have.
    pub missing: usize,
    /// Those that were not: line, request, both replies.
    pub failed: Vec<String>,
}

/// Runs the examples of one file.
///
/// # Errors
/// When the connection breaks or a line cannot be read.
pub fn run(text: &str, client: &mut Client) -> Result<Examples> {
    let mut examples = Examples::default();
    let mut reply: Option<(String, Reply)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if line.starts_with('#') {
            client.run("FLUSHALL")?;
        } else if line == "! resp3" {
            client.run("HELLO 3")?;
        } else if let Some(request) = line.strip_prefix("> ") {
            let args = split_args(request.as_bytes())
                .with_context(|| format!("line {}: {request}", number + 1))?;
            let words: Vec<&[u8]> = args.as_args().iter().collect();
            client.queue(&words);
            client.flush()?;
            let value = client.read_value()?;
            reply = Some((request.to_owned(), value.into()));
        } else {
            let Some((request, found)) = reply.take() else {
                bail!("line {}: a reply without a request", number + 1);
            };
            let shown = format!("{found:?}");
            let is_unknown = shown.starts_with("-ERR unknown command");
            if is_unknown && !line.starts_with("-ERR unknown") {
                examples.missing += 1;
            } else if shown == line || (line == "*" && !matches!(found, Reply::Error(_))) {
                examples.passed += 1;
            } else {
                examples.failed.push(format!(
                    "line {}: {request}\n  documented: {line}\n  found:      {shown}",
                    number + 1
                ));
            }
        }
    }
    Ok(examples)
}

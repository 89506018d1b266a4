//! The requests in a frame's payload, one by one, and which shards' data they touch.
//!
//! Replay applies them; tools that never apply anything look at them by the same rules.

use crate::parse;
use crate::replay::ReplayError;
use crate::spec::{CommandSpec, Run, Scope};
use crate::subcommands;
use crate::table::lookup;
use moon_core::{ShardCount, ShardId};
use moon_resp::{Args, Parsed, RequestLimits, RequestParser, Span};

/// Hands every request of `payload` to `take`, with the offset of its first byte. Annotations,
/// lines that begin with `#`, are passed over.
///
/// # Errors
/// If something else than a whole request stands there, or `take` refuses one.
pub fn each_request(
    payload: &[u8],
    mut take: impl FnMut(Args<'_>, usize) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    // The log was written under the rules of its time: no limit but the format's own.
    let request_limits = RequestLimits {
        max_bulk_len: usize::MAX,
        ..RequestLimits::default()
    };
    let mut parser = RequestParser::new();
    let mut spans: Vec<Span> = Vec::new();
    let mut offset = 0;
    while offset < payload.len() {
        match payload[offset] {
            b'*' => {}
            b'#' => {
                offset += annotation_len(&payload[offset..]);
                continue;
            }
            _ => return Err(ReplayError::NoRequest { offset }),
        }
        spans.clear();
        let parsed = parser
            .parse_at(payload, offset, &mut spans, &request_limits)
            .map_err(|source| ReplayError::Protocol { offset, source })?;
        let consumed = match parsed {
            Parsed::Request { consumed } => {
                let args = Args::new(payload, &spans);
                if !args.is_empty() {
                    take(args, offset)?;
                }
                consumed
            }
            Parsed::Inline { .. } => return Err(ReplayError::NoRequest { offset }),
            Parsed::Incomplete { .. } => return Err(ReplayError::Truncated { offset }),
        };
        offset += consumed;
    }
    Ok(())
}

/// Length of an annotation, such as the time stamps that Redis writes: a line that begins with
/// `#`.
pub(crate) fn annotation_len(text: &[u8]) -> usize {
    let line = text.iter().position(|&b| b == b'\n');
    line.map_or(text.len(), |end| end + 1)
}

/// Whose data a payload touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Nobody's.
    Nothing,
    /// One shard's only.
    One(ShardId),
    /// That of several shards, or of all.
    Several,
}

impl Touched {
    fn and(self, shard: ShardId) -> Touched {
        match self {
            Touched::Nothing => Touched::One(shard),
            Touched::One(known) if known == shard => self,
            _ => Touched::Several,
        }
    }
}

/// Whose data `payload` touches when `shard_count` shards share the keys: that of the keys its
/// commands name, or everybody's where a command touches more than its keys.
///
/// # Errors
/// [`ReplayError`] where replay would refuse a request before executing it.
pub fn touched_shards(payload: &[u8], shard_count: ShardCount) -> Result<Touched, ReplayError> {
    let mut touched = Touched::Nothing;
    let mut keys = Vec::new();
    each_request(payload, |args, offset| {
        if is_structure(args.at(0)) || is_no_data(args.at(0)) {
            return Ok(());
        }
        let spec = replayable(args, offset)?;
        if shard_count == ShardCount::ONE {
            touched = touched.and(ShardId(0));
            return Ok(());
        }
        keys.clear();
        spec.key_positions(args, &mut keys);
        if spec.scope_of(args) != Scope::Keys || keys.is_empty() {
            touched = Touched::Several;
        }
        for at in &keys {
            touched = touched.and(shard_count.shard_of_key(args.at(*at)));
        }
        Ok(())
    })?;
    Ok(touched)
}

/// The command of a request that replay may execute.
pub(crate) fn replayable(
    args: Args<'_>,
    offset: usize,
) -> Result<&'static CommandSpec, ReplayError> {
    let spec = match lookup(args.at(0)).map(|(_, spec)| subcommands::row_of(spec, args)) {
        Some(spec) if matches!(spec.run, Run::Data(_)) && spec.is_write() => spec,
        _ => {
            let name = name_of(args);
            return Err(ReplayError::UnknownCommand { name, offset });
        }
    };
    if !spec.accepts(args.len()) {
        let name = name_of(args);
        return Err(ReplayError::WrongArity { name, offset });
    }
    Ok(spec)
}

pub(crate) fn name_of(args: Args<'_>) -> String {
    String::from_utf8_lossy(args.at(0)).into_owned()
}

/// Requests that say where and how the others are applied.
fn is_structure(name: &[u8]) -> bool {
    ["select", "multi", "exec"]
        .iter()
        .any(|known| parse::is(name, known))
}

/// Requests of the stream that are not data: they keep replicas informed.
pub(crate) fn is_no_data(name: &[u8]) -> bool {
    ["ping", "replconf", "publish", "spublish"]
        .iter()
        .any(|known| parse::is(name, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(commands: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            out.extend(format!("*{}\r\n", words.len()).bytes());
            for word in words {
                out.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
            }
        }
        out
    }

    fn touched(shards: u16, commands: &[&str]) -> Touched {
        let count = ShardCount::new(shards).expect("in range");
        touched_shards(&payload(commands), count).expect("a good payload")
    }

    #[test]
    fn a_payload_touches_the_shards_of_its_keys() {
        let count = ShardCount::new(4).expect("in range");
        let owner = count.shard_of_key(b"{a}");
        assert_eq!(
            touched(
                4,
                &[
                    "SELECT 3",
                    "MULTI",
                    "SET {a}1 x",
                    "DEL {a}2 {a}3",
                    "EXEC",
                    "SELECT 0"
                ]
            ),
            Touched::One(owner)
        );
        let other = (0..)
            .map(|n| format!("k{n}"))
            .find(|key| count.shard_of_key(key.as_bytes()) != owner)
            .expect("some key is elsewhere");
        assert_eq!(
            touched(4, &["SET {a}1 x", &format!("SET {other} y")]),
            Touched::Several
        );
        assert_eq!(
            touched(4, &["SELECT 1", "SELECT 0", "PING"]),
            Touched::Nothing
        );
    }

    #[test]
    fn commands_that_touch_everything_touch_every_shard() {
        for command in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"] {
            assert_eq!(touched(2, &[command]), Touched::Several, "{command}");
            assert_eq!(
                touched(1, &[command]),
                Touched::One(ShardId(0)),
                "{command}"
            );
        }
    }

    #[test]
    fn what_replay_refuses_is_refused() {
        let count = ShardCount::ONE;
        let unknown = touched_shards(&payload(&["SET a b", "NOSUCH a"]), count);
        assert!(matches!(
            unknown,
            Err(ReplayError::UnknownCommand { offset: 27, .. })
        ));
        let cut = &payload(&["SET a b"])[..20];
        assert!(touched_shards(cut, count).is_err());
        assert!(touched_shards(b"+OK\r\n", count).is_err());
    }
}

//! A log applied piece by piece: what another server or an earlier version wrote.
//!
//! Pieces may end anywhere. The database in force and an open transaction are kept from piece to
//! piece; a transaction is applied when its EXEC comes, so one that the log does not finish
//! leaves nothing behind. Memory is taken for the longest request and the longest transaction.

use super::{Multi, ReplayError, ReplayStats, Replayer};
use crate::context::Limits;
use crate::parse;
use crate::requests::annotation_len;
use crate::shard_set::ShardSet;
use moon_core::{ShardCount, UnixMs};
use moon_resp::{Args, OwnedArgs, Parsed, RequestLimits, RequestParser, Span};
use moon_store::{DbIndex, STRING_LEN_MAX};

/// Longest annotation that is waited for; a line without end is not one.
const ANNOTATION_MAX: usize = 64 << 10;

/// One log in the course of being applied.
///
/// # Invariants
/// What lies before `offset` has been applied, or waits in `queue` for its EXEC.
pub struct StreamReplay<'a> {
    replayer: Replayer<'a>,
    parser: RequestParser,
    limits: RequestLimits,
    /// Bytes from `offset` on: at most a part of one request between two pieces.
    bytes: Vec<u8>,
    offset: usize,
    multi: Multi,
    /// The requests of the open transaction, with their places.
    queue: Vec<(usize, OwnedArgs)>,
}

/// Where a stream stood at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// What was applied.
    pub stats: ReplayStats,
    /// Everything before this byte has been applied.
    pub whole: u64,
    /// Bytes from there on: a part of a request, or a transaction without its end.
    pub left: u64,
}

impl<'a> StreamReplay<'a> {
    /// At the start of a log, in database 0. Relative expire times count from `now`, until a
    /// time stamp in the log says when it was written.
    #[must_use]
    pub fn new(shard_count: ShardCount, limits: &'a Limits, now: UnixMs) -> StreamReplay<'a> {
        let mut replayer = Replayer::new(shard_count, 0, limits);
        replayer.time = Some(now);
        StreamReplay {
            replayer,
            parser: RequestParser::new(),
            limits: RequestLimits {
                max_bulk_len: STRING_LEN_MAX,
                ..RequestLimits::default()
            },
            bytes: Vec::new(),
            offset: 0,
            multi: Multi::default(),
            queue: Vec::new(),
        }
    }

    /// The database in force.
    #[must_use]
    pub fn db(&self) -> DbIndex {
        self.replayer.stats.db
    }

    /// Whether the last piece ended at the end of a request.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte fed stands at `offset` of its file: something else than requests lies
    /// before it, such as a preamble or the head of a frame. Only between requests.
    pub fn skip_to(&mut self, offset: u64) {
        debug_assert!(self.is_between_requests(), "a request has no gap");
        self.offset = usize::try_from(offset).unwrap_or(usize::MAX);
    }

    /// How the stream stands, as if it ended here.
    #[must_use]
    pub fn end(&self) -> StreamEnd {
        let whole = self.multi.open.unwrap_or(self.offset);
        StreamEnd {
            stats: self.replayer.stats,
            whole: whole as u64,
            left: self
                .offset
                .saturating_add(self.bytes.len())
                .saturating_sub(whole) as u64,
        }
    }

    /// Applies the next bytes of the log to the shards in hand, as far as they hold whole
    /// requests and transactions. The shards are the same ones in every call.
    ///
    /// # Errors
    /// [`ReplayError`], its offset counted from the stream's start. What was applied before
    /// cannot be used as it is, and the stream cannot go on.
    pub fn feed(&mut self, mut shards: ShardSet<'_>, piece: &[u8]) -> Result<(), ReplayError> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(piece);
        let mut spans = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&mut shards, &bytes, at, &mut spans)? {
                0 => break,
                consumed => {
                    at += consumed;
                    self.offset += consumed;
                }
            }
        }
        // What is left is shorter than what came, or the whole of one long request.
        bytes.drain(..at);
        self.bytes = bytes;
        Ok(())
    }

    /// Takes what stands at `at`; 0 if it is not complete.
    fn step(
        &mut self,
        shards: &mut ShardSet<'_>,
        bytes: &[u8],
        at: usize,
        spans: &mut Vec<Span>,
    ) -> Result<usize, ReplayError> {
        let offset = self.offset;
        match bytes[at] {
            b'*' => {}
            b'#' => return self.annotation(&bytes[at..]),
            _ => return Err(ReplayError::NoRequest { offset }),
        }
        spans.clear();
        let parsed = self
            .parser
            .parse_at(bytes, at, spans, &self.limits)
            .map_err(|source| ReplayError::Protocol { offset, source })?;
        match parsed {
            Parsed::Request { .. } if spans.is_empty() => Err(ReplayError::NoRequest { offset }),
            Parsed::Request { consumed } => {
                self.request(shards, Args::new(bytes, spans), offset)?;
                Ok(consumed)
            }
            Parsed::Inline { .. } => Err(ReplayError::NoRequest { offset }),
            Parsed::Incomplete { .. } => Ok(0),
        }
    }

    /// A line such as `#TS:1700000000`, the Unix time of what follows, in seconds.
    fn annotation(&mut self, text: &[u8]) -> Result<usize, ReplayError> {
        let len = annotation_len(text);
        let line = &text[..len];
        if !line.ends_with(b"\n") {
            let offset = self.offset;
            return match len > ANNOTATION_MAX {
                true => Err(ReplayError::NoRequest { offset }),
                false => Ok(0),
            };
        }
        let seconds = line
            .strip_prefix(b"#TS:")
            .and_then(|rest| parse::canonical_integer(rest.trim_ascii_end()));
        if let Some(time) = seconds.and_then(|seconds| seconds.checked_mul(1000)) {
            self.replayer.time = Some(UnixMs(time));
        }
        Ok(len)
    }

    fn request(
        &mut self,
        shards: &mut ShardSet<'_>,
        args: Args<'_>,
        offset: usize,
    ) -> Result<(), ReplayError> {
        if self.multi.takes(args, offset)? {
            if self.multi.open.is_none() {
                for (offset, args) in std::mem::take(&mut self.queue) {
                    self.replayer.request(shards, args.as_args(), offset)?;
                }
            }
            return Ok(());
        }
        if self.multi.open.is_some() {
            self.queue.push((offset, OwnedArgs::from(args)));
            return Ok(());
        }
        self.replayer.request(shards, args, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_core::ShardId;
    use moon_resp::write_request;
    use moon_store::{Key, ShardData};

    const NOW: UnixMs = UnixMs(1_000_000);

    fn requests(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            if line.starts_with('#') {
                bytes.extend_from_slice(line.as_bytes());
                bytes.extend_from_slice(b"\r\n");
            } else {
                write_request(&mut bytes, &line.split(' ').collect::<Vec<_>>());
            }
        }
        bytes
    }

    /// Database, name and deadline of a key.
    type Found = (usize, String, Option<i64>);

    /// Feeds `bytes` in pieces of `size`; the keys of all databases afterwards.
    fn keys(bytes: &[u8], size: usize) -> Result<(Vec<Found>, StreamEnd), ReplayError> {
        let mut shard = ShardData::new(ShardId(0), 3, false);
        let limits = Limits::default();
        let mut stream = StreamReplay::new(ShardCount::ONE, &limits, NOW);
        for piece in bytes.chunks(size) {
            stream.feed(ShardSet::One(&mut shard), piece)?;
        }
        let mut keys = Vec::new();
        for (db, data) in shard.dbs.iter().enumerate() {
            data.for_each(&mut |key, _, deadline| {
                let key = String::from_utf8_lossy(key).into_owned();
                keys.push((db, key, deadline.map(|at| at.0)));
            });
        }
        keys.sort();
        Ok((keys, stream.end()))
    }

    #[test]
    fn pieces_may_end_anywhere() {
        let bytes = requests(&[
            "SET a 1",
            "SELECT 2",
            "MULTI",
            "SET b 1",
            "EXPIRE b 5",
            "SELECT 1",
            "EXEC",
            "SET c 1",
            "#TS:5000",
            "PEXPIRE c 1",
            "ping",
        ]);
        let (expected, end) = keys(&bytes, bytes.len()).unwrap();
        assert_eq!(
            expected,
            [
                (0, "a".to_owned(), None),
                (1, "c".to_owned(), Some(5_000_001)),
                (2, "b".to_owned(), Some(1_005_000))
            ]
        );
        assert_eq!((end.whole, end.left), (bytes.len() as u64, 0));
        assert_eq!((end.stats.commands, end.stats.db), (5, 1));
        for size in 1..bytes.len() {
            assert_eq!(
                keys(&bytes, size).unwrap(),
                (expected.clone(), end),
                "{size}"
            );
        }
    }

    #[test]
    fn a_cut_end_leaves_whole_requests_and_no_part_of_a_transaction() {
        let first = requests(&["SET a 1"]);
        let rest = requests(&["MULTI", "SET b 1", "EXEC"]);
        for cut in 0..rest.len() {
            let mut bytes = first.clone();
            bytes.extend_from_slice(&rest[..cut]);
            let (found, end) = keys(&bytes, 7).unwrap();
            assert_eq!(found, [(0, "a".to_owned(), None)], "{cut}");
            assert_eq!((end.whole, end.left), (first.len() as u64, cut as u64));
        }
    }

    #[test]
    fn what_is_no_log_is_refused_with_its_place() {
        let good = requests(&["SET a 1"]);
        let at = good.len();
        let cases: [(&[u8], &str); 7] = [
            (b"\0\0\0", "no request at byte 27"),
            (b"*0\r\n", "no request at byte 27"),
            (b"PING\r\n", "no request at byte 27"),
            (b"*1\r\n$-1\r\n", "broken request at byte 27"),
            (
                b"*2\r\n$4\r\nNONE\r\n$1\r\nk\r\n",
                "the command 'NONE' at byte 27 cannot be replayed",
            ),
            (
                b"*1\r\n$4\r\nEXEC\r\n",
                "'EXEC' at byte 27 does not fit there",
            ),
            (
                b"*2\r\n$6\r\nSELECT\r\n$1\r\n9\r\n",
                "'SELECT' at byte 27 does not fit there",
            ),
        ];
        for (bad, text) in cases {
            let mut bytes = good.clone();
            bytes.extend_from_slice(bad);
            for size in [1, at + 1, bytes.len()] {
                let error = keys(&bytes, size).unwrap_err();
                assert_eq!(error.to_string(), text);
            }
        }
    }

    #[test]
    fn a_deadline_in_the_past_does_not_remove_what_a_later_command_keeps() {
        let bytes = requests(&["SET a 1", "PEXPIREAT a 5", "PERSIST a"]);
        let (found, _) = keys(&bytes, 9).unwrap();
        assert_eq!(found, [(0, "a".to_owned(), None)]);
    }

    #[test]
    fn keys_are_found_by_every_shard() {
        let count = ShardCount::new(3).unwrap();
        let mut shards: Vec<_> = count
            .ids()
            .map(|id| Some(Box::new(ShardData::new(id, 1, false))))
            .collect();
        let limits = Limits::default();
        let mut stream = StreamReplay::new(count, &limits, NOW);
        let bytes = requests(&[
            "MSET a 1 b 2 c 3 d 4",
            "RENAME a e",
            "FLUSHALL",
            "MSET a 1 b 2",
        ]);
        for piece in bytes.chunks(10) {
            let shards = ShardSet::Many {
                count,
                shards: &mut shards,
            };
            stream.feed(shards, piece).unwrap();
        }
        let set = &mut ShardSet::Many {
            count,
            shards: &mut shards,
        };
        assert_eq!(set.iter().map(|shard| shard.len()).sum::<usize>(), 2);
        assert!(set.of_key(b"a").db(0).contains(Key::new(b"a")));
    }
}

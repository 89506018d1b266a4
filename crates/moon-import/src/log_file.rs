//! One log of requests, with or without RDB data in front, from its first byte to its last.

use crate::error::{ImportError, read_error};
use crate::load::{BUFFER_BYTES, IgnoredEnd, Loader};
use crate::source::RDB_MAGIC;
use moon_commands::load::LoadExpired;
use moon_commands::{ShardSet, StreamReplay};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// Loads the log at `path`; only the end of the last one may be cut.
pub(crate) fn load(loader: &mut Loader<'_>, path: &Path, is_last: bool) -> Result<(), ImportError> {
    let file = File::open(path).map_err(read_error(path))?;
    let mut source = BufReader::with_capacity(BUFFER_BYTES, file);
    let head = source.fill_buf().map_err(read_error(path))?;
    // Every log starts in database 0: Redis does not carry it from one file to the next.
    let mut stream = StreamReplay::new(loader.count, loader.limits, loader.options.now);
    if head.starts_with(RDB_MAGIC) {
        let loaded = loader.rdb(path, &mut source, LoadExpired::Keep)?;
        stream.skip_to(loaded.bytes);
    } else {
        loader.summary.files += 1;
    }
    loop {
        let piece = source.fill_buf().map_err(read_error(path))?;
        let len = piece.len();
        if len == 0 {
            break;
        }
        feed(&mut stream, loader.shards(), piece, path)?;
        source.consume(len);
        loader.meter.add(len as u64);
    }
    end(loader, &stream, path, is_last)
}

pub(crate) fn feed(
    stream: &mut StreamReplay<'_>,
    shards: ShardSet<'_>,
    piece: &[u8],
    path: &Path,
) -> Result<(), ImportError> {
    stream
        .feed(shards, piece)
        .map_err(|source| ImportError::Replay {
            path: path.to_owned(),
            source,
        })
}

/// Takes account of a log that has ended.
pub(crate) fn end(
    loader: &mut Loader<'_>,
    stream: &StreamReplay<'_>,
    path: &Path,
    may_be_cut: bool,
) -> Result<(), ImportError> {
    let end = stream.end();
    loader.summary.commands += end.stats.commands;
    if end.left == 0 {
        return Ok(());
    }
    let (path, offset, bytes) = (path.to_owned(), end.whole, end.left);
    if !may_be_cut || !loader.options.load_truncated {
        return Err(ImportError::Truncated {
            path,
            offset,
            bytes,
        });
    }
    loader.summary.ignored.push(IgnoredEnd {
        path,
        offset,
        bytes,
    });
    Ok(())
}

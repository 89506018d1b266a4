//! The logs of version 2: one file for each shard, in frames of `[u64 lsn LE][u32 len LE][RESP]`.
//!
//! The frames of all shards are applied in the order of their LSN, those of equal LSN in the
//! order of their shards. The database in force and an open transaction belong to the file. There
//! are no checksums, so what can be checked is: positions never fall, payloads are whole
//! requests, and a length that leads behind the end of the file is a cut end only if what is
//! there is the beginning of such a payload.

use crate::error::{FrameFault, ImportError, read_error};
use crate::load::{BUFFER_BYTES, IgnoredEnd, Loader, file_len};
use crate::log_file;
use moon_commands::StreamReplay;
use moon_resp::{Parsed, RequestLimits, RequestParser};
use moon_store::STRING_LEN_MAX;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes before a payload.
const HEAD: u64 = 12;

/// Memory for the buffers of all files together.
const BUFFERS_BYTES: usize = 16 << 20;

/// Loads the logs of all shards that have one, in shard order.
pub(crate) fn load(loader: &mut Loader<'_>, paths: &[PathBuf]) -> Result<(), ImportError> {
    let buffer = (BUFFERS_BYTES / paths.len().max(1)).clamp(4096, BUFFER_BYTES);
    let mut files = Vec::new();
    for path in paths {
        let mut file = FrameFile::open(path, buffer)?;
        loader.meter.expect(file.len);
        loader.summary.files += 1;
        file.next_head(loader)?;
        let stream = StreamReplay::new(loader.count, loader.limits, loader.options.now);
        files.push((file, stream));
    }
    loop {
        let heads = files.iter().enumerate();
        let next = heads
            .filter_map(|(index, (file, _))| Some((file.head.as_ref()?.lsn, index)))
            .min();
        let Some((_, index)) = next else {
            break;
        };
        let (file, stream) = &mut files[index];
        file.apply(loader, stream)?;
        file.next_head(loader)?;
    }
    for (file, stream) in &files {
        log_file::end(loader, stream, &file.path, true)?;
    }
    Ok(())
}

/// The frame whose payload comes next.
struct Head {
    lsn: u64,
    len: u32,
    /// Where the frame begins.
    offset: u64,
}

/// One file in the course of being read.
struct FrameFile {
    path: PathBuf,
    source: BufReader<File>,
    len: u64,
    /// Bytes read.
    offset: u64,
    /// `None` behind the last whole frame.
    head: Option<Head>,
    /// Position of the frame before.
    before: u64,
}

impl FrameFile {
    fn open(path: &Path, buffer: usize) -> Result<FrameFile, ImportError> {
        let len = file_len(path)?;
        let file = File::open(path).map_err(read_error(path))?;
        Ok(FrameFile {
            path: path.to_owned(),
            source: BufReader::with_capacity(buffer, file),
            len,
            offset: 0,
            head: None,
            before: 0,
        })
    }

    /// Reads the next frame's head and checks that its payload can be there.
    fn next_head(&mut self, loader: &mut Loader<'_>) -> Result<(), ImportError> {
        self.head = None;
        let left = self.len.saturating_sub(self.offset);
        if left == 0 {
            return Ok(());
        }
        let offset = self.offset;
        if left < HEAD {
            return self.cut(loader, offset);
        }
        let mut bytes = [0; HEAD as usize];
        self.source
            .read_exact(&mut bytes)
            .map_err(read_error(&self.path))?;
        self.offset += HEAD;
        loader.meter.add(HEAD);
        let [l0, l1, l2, l3, l4, l5, l6, l7, n0, n1, n2, n3] = bytes;
        let lsn = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
        let len = u32::from_le_bytes([n0, n1, n2, n3]);
        if len == 0 {
            return Err(self.damaged(offset, FrameFault::Empty));
        }
        if lsn < self.before {
            let before = self.before;
            return Err(self.damaged(offset, FrameFault::Descends { lsn, before }));
        }
        if u64::from(len) > left - HEAD {
            let begins = begins_requests(&mut self.source).map_err(read_error(&self.path))?;
            return match begins {
                true => self.cut(loader, offset),
                false => Err(self.damaged(offset, FrameFault::Length { len })),
            };
        }
        self.before = lsn;
        self.head = Some(Head { lsn, len, offset });
        Ok(())
    }

    /// Applies the payload of the frame at hand.
    fn apply(
        &mut self,
        loader: &mut Loader<'_>,
        stream: &mut StreamReplay<'_>,
    ) -> Result<(), ImportError> {
        let Some(head) = self.head.take() else {
            return Ok(());
        };
        stream.skip_to(self.offset);
        let mut left = head.len as usize;
        while left > 0 {
            let piece = self.source.fill_buf().map_err(read_error(&self.path))?;
            let len = piece.len().min(left);
            if len == 0 {
                // It was longer a moment ago.
                let eof = io::ErrorKind::UnexpectedEof.into();
                return Err(read_error(&self.path)(eof));
            }
            log_file::feed(stream, loader.shards(), &piece[..len], &self.path)?;
            self.source.consume(len);
            self.offset += len as u64;
            left -= len;
            loader.meter.add(len as u64);
        }
        match stream.is_between_requests() {
            true => Ok(()),
            false => Err(self.damaged(head.offset, FrameFault::CutRequest)),
        }
    }

    /// The file ends in the middle of the frame at `offset`.
    fn cut(&mut self, loader: &mut Loader<'_>, offset: u64) -> Result<(), ImportError> {
        let (path, bytes) = (self.path.clone(), self.len - offset);
        if !loader.options.load_truncated {
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

    fn damaged(&self, offset: u64, fault: FrameFault) -> ImportError {
        ImportError::Frame {
            path: self.path.clone(),
            offset,
            fault,
        }
    }
}

/// Whether all that is left could be the beginning of a payload: requests, the last one cut.
fn begins_requests(source: &mut impl BufRead) -> io::Result<bool> {
    let limits = RequestLimits {
        max_bulk_len: STRING_LEN_MAX,
        ..RequestLimits::default()
    };
    let mut parser = RequestParser::new();
    let mut bytes = Vec::new();
    let mut spans = Vec::new();
    loop {
        let piece = source.fill_buf()?;
        let len = piece.len();
        if len == 0 {
            return Ok(true);
        }
        bytes.extend_from_slice(piece);
        source.consume(len);
        let mut at = 0;
        while at < bytes.len() {
            spans.clear();
            if bytes[at] != b'*' {
                return Ok(false);
            }
            match parser.parse_at(&bytes, at, &mut spans, &limits) {
                Ok(Parsed::Request { consumed }) => at += consumed,
                Ok(Parsed::Incomplete { .. }) => break,
                Ok(Parsed::Inline { .. }) | Err(_) => return Ok(false),
            }
        }
        bytes.drain(..at);
    }
}

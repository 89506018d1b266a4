//! Reading one segment: which frames are good, where bytes are bad, which durable marks it
//! tells.
//!
//! Frames follow each other without gaps, so the scan goes from one to the next. Where the bytes
//! are no frame it searches on, at every aligned offset, for a good header with a later LSN: a
//! flipped length in mid-file must not look like the end of the file. Nothing inside a payload
//! passes for a frame, because its checksum would need the segment's secret seed.

use crate::frame::{ALIGNMENT, FrameHeader, HEADER_LEN, Piece, Seeds};
use crate::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::storage::{StorageFile, read_full_at};
use moon_core::Lsn;
use moon_repl::FrameKind;
use std::io;

/// Bytes read at once.
const WINDOW: usize = 1 << 20;

/// A good frame and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameRef {
    pub(crate) lsn: Lsn,
    /// Offset of the header in the file.
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) db: u16,
    pub(crate) kind: FrameKind,
    pub(crate) piece: Piece,
}

impl FrameRef {
    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(u64::from(self.len)))
    }

    /// First byte of the file behind the frame.
    pub(crate) fn end_offset(&self) -> u64 {
        self.offset + crate::frame::bytes_in_file(u64::from(self.len))
    }
}

/// Bytes that are no frame, between good frames or behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRegion {
    /// Where the bad bytes start.
    pub(crate) from: u64,
    /// End of the last good frame before, zero if there is none.
    pub(crate) after: Lsn,
}

/// Everything one pass over a segment tells.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    pub(crate) seeds: Seeds,
    /// In LSN order, which is file order.
    pub(crate) frames: Vec<FrameRef>,
    pub(crate) bad: Vec<BadRegion>,
    /// The highest durable mark on any good header, frames with a bad payload included.
    pub(crate) durable: Lsn,
    /// The highest frame time.
    pub(crate) time_ms: u64,
    /// First byte behind the last one that is not zero; the file's length if frames that do not
    /// exist follow.
    pub(crate) data_end: u64,
    pub(crate) file_len: u64,
}

impl SegmentScan {
    /// Of a segment nothing of which counts, whatever its `file_len` bytes are.
    pub(crate) fn unread(header: &SegmentHeader, file_len: u64) -> SegmentScan {
        SegmentScan {
            seeds: header.seeds(),
            frames: Vec::new(),
            bad: Vec::new(),
            durable: Lsn::ZERO,
            time_ms: 0,
            data_end: file_len,
            file_len,
        }
    }
}

/// Scans the frames of a segment whose header was read and checked. Frames at or beyond `limit`
/// (the generation's end in the manifest) do not exist for a reader, nor do their marks.
pub(crate) fn scan(
    file: &dyn StorageFile,
    header: &SegmentHeader,
    limit: Option<Lsn>,
) -> io::Result<SegmentScan> {
    let mut scanner = Scanner {
        window: Window::new(file)?,
        limit: limit.unwrap_or(Lsn::MAX),
        last: Lsn::ZERO,
        reached_limit: false,
        out: SegmentScan::unread(header, 0),
    };
    scanner.run()?;
    let mut out = scanner.out;
    out.file_len = scanner.window.file_len;
    if scanner.reached_limit {
        // What lies there matters to nobody, so nobody reads it.
        out.data_end = out.file_len;
        return Ok(out);
    }
    let known_end = out
        .frames
        .last()
        .map_or(SEGMENT_HEADER_LEN as u64, FrameRef::end_offset);
    out.data_end = scanner.window.data_end(known_end)?;
    Ok(out)
}

struct Scanner<'a> {
    window: Window<'a>,
    limit: Lsn,
    /// End of the last frame with a good header: later frames start there or beyond.
    last: Lsn,
    reached_limit: bool,
    out: SegmentScan,
}

/// What lies at an offset.
enum Found {
    Frame(FrameHeader),
    /// A good header whose payload is cut off or changed.
    BadPayload(FrameHeader),
    Nothing,
}

impl Scanner<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut at = SEGMENT_HEADER_LEN as u64;
        let mut in_bad = false;
        while at < self.window.file_len {
            match self.look(at)? {
                Found::Frame(header) | Found::BadPayload(header) if self.beyond(&header) => {
                    self.reached_limit = true;
                    return Ok(());
                }
                Found::Frame(header) => {
                    in_bad = false;
                    self.note(&header);
                    self.out.frames.push(FrameRef {
                        lsn: header.lsn,
                        offset: at,
                        len: header.len,
                        payload_crc: header.payload_crc,
                        db: header.db,
                        kind: header.kind,
                        piece: header.piece,
                    });
                    at += header.bytes_in_file();
                }
                Found::BadPayload(header) => {
                    self.bad(at, &mut in_bad);
                    self.note(&header);
                    // The length is good, so the next frame follows; if it does not, the search
                    // finds it further on. A length beyond the file ends the file.
                    at = at.saturating_add(header.bytes_in_file());
                }
                Found::Nothing => {
                    if !in_bad && self.window.data_end(at)? <= at {
                        // Preallocated space and nothing behind it.
                        return Ok(());
                    }
                    self.bad(at, &mut in_bad);
                    at += ALIGNMENT;
                }
            }
        }
        Ok(())
    }

    /// A later frame than the manifest lets readers see.
    fn beyond(&self, header: &FrameHeader) -> bool {
        header.lsn >= self.limit || header.end() > self.limit
    }

    fn bad(&mut self, from: u64, in_bad: &mut bool) {
        if !*in_bad {
            *in_bad = true;
            let after = self.out.frames.last().map_or(Lsn::ZERO, FrameRef::end);
            self.out.bad.push(BadRegion { from, after });
        }
    }

    fn note(&mut self, header: &FrameHeader) {
        self.last = header.end();
        self.out.durable = self.out.durable.max(header.durable);
        self.out.time_ms = self.out.time_ms.max(header.time_ms);
    }

    fn look(&mut self, at: u64) -> io::Result<Found> {
        let seeds = self.out.seeds;
        let Some(bytes) = self.window.header(at)? else {
            return Ok(Found::Nothing);
        };
        let Some(header) = FrameHeader::decode(bytes, seeds) else {
            return Ok(Found::Nothing);
        };
        if header.lsn < self.last {
            return Ok(Found::Nothing);
        }
        let payload_at = at + HEADER_LEN as u64;
        let mut crc = seeds.payload_hasher();
        if !self
            .window
            .each(payload_at, u64::from(header.len), |part| crc.update(part))?
            || crc.finalize() != header.payload_crc
        {
            return Ok(Found::BadPayload(header));
        }
        Ok(Found::Frame(header))
    }
}

/// A piece of a file in memory that moves with the reader.
pub(crate) struct Window<'a> {
    file: &'a dyn StorageFile,
    pub(crate) file_len: u64,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte.
    start: u64,
    /// Where the last search for the end of the data went to, and what it found.
    data_end: Option<(u64, u64)>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn StorageFile) -> io::Result<Window<'a>> {
        Ok(Window {
            file,
            file_len: file.len()?,
            buffer: Vec::new(),
            start: 0,
            data_end: None,
        })
    }

    /// At least `want` (at most [`WINDOW`]) bytes at `at`, fewer only at the end of the file.
    fn at(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let have = self.start + self.buffer.len() as u64;
        let wanted_end = (at + want as u64).min(self.file_len);
        if at < self.start || wanted_end > have {
            self.buffer.resize(WINDOW, 0);
            let read = read_full_at(self.file, &mut self.buffer, at)?;
            self.buffer.truncate(read);
            self.start = at;
        }
        // `at - start` is below WINDOW whenever it is inside the buffer.
        let from = usize::try_from(at - self.start)
            .unwrap_or(usize::MAX)
            .min(self.buffer.len());
        Ok(&self.buffer[from..])
    }

    /// The bytes of a header at `at`; `None` if the file ends before.
    pub(crate) fn header(&mut self, at: u64) -> io::Result<Option<&[u8; HEADER_LEN]>> {
        let bytes = self.at(at, HEADER_LEN)?;
        Ok(bytes.first_chunk())
    }

    /// Hands `len` bytes at `at` to `take`, piece by piece; false if the file ends before.
    pub(crate) fn each(
        &mut self,
        at: u64,
        len: u64,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        if at.saturating_add(len) > self.file_len {
            return Ok(false);
        }
        let mut done = 0;
        while done < len {
            let want = usize::try_from(len - done).unwrap_or(WINDOW).min(WINDOW);
            let part = self.at(at + done, want)?;
            let part = &part[..part.len().min(want)];
            if part.is_empty() {
                return Ok(false);
            }
            take(part);
            done += part.len() as u64;
        }
        Ok(true)
    }

    /// First byte from `from` on behind which all bytes are zero.
    pub(crate) fn data_end(&mut self, from: u64) -> io::Result<u64> {
        if let Some((searched_from, end)) = self.data_end
            && searched_from <= from
        {
            return Ok(end.max(from));
        }
        let mut end = from;
        let mut at = from;
        while at < self.file_len {
            let part = self.at(at, WINDOW)?;
            if part.is_empty() {
                break;
            }
            if let Some(last) = part.iter().rposition(|&byte| byte != 0) {
                end = at + last as u64 + 1;
            }
            at += part.len() as u64;
        }
        self.data_end = Some((from, end));
        Ok(end)
    }
}

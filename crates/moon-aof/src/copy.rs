//! Writing the files of another generation or directory: segments with frames that keep their
//! place in the stream, and plain files from one end to the other.
//!
//! Nothing of what is written here counts before a manifest names it, so nothing is preallocated
//! or written out of order, and one sync at the end decides. Long files are synced in steps, so
//! that the last sync is no longer than the ones before.

use crate::frame::{FrameHeader, Piece, Seeds, padding};
use crate::segment::SegmentHeader;
use crate::storage::{Storage, StorageFile, replace_file, write_all_at};
use moon_core::{Lsn, ShardId};
use moon_manifest::{AofManifest, AofPaths, ReplicationId};
use moon_repl::FrameKind;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes collected for one write; longer ones are passed through.
const BUFFER: usize = 256 << 10;
/// Bytes written before they are synced.
const SYNC_EVERY: u64 = 8 << 20;

/// Writes a new file from its beginning to its end.
pub struct FileWriter {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    at: u64,
    unsynced: u64,
}

impl FileWriter {
    /// Creates `path`, or empties what is there.
    ///
    /// # Errors
    /// As the storage's.
    pub fn create(storage: &dyn Storage, path: PathBuf) -> io::Result<FileWriter> {
        Ok(FileWriter {
            file: storage.create(&path)?,
            path,
            buffer: Vec::new(),
            at: 0,
            unsynced: 0,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is buffered, syncs the file and returns its length. The directory is the
    /// caller's to sync.
    ///
    /// # Errors
    /// As the storage's; nothing is known of the file's bytes then.
    pub fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_data()?;
        Ok(self.at)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_all_at(&*self.file, &[bytes, &[], &[]], self.at)?;
        self.at += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() > BUFFER {
            self.put(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.put(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a file from its beginning to its end. Reads are as large as they are asked for.
pub struct FileReader {
    file: Arc<dyn StorageFile>,
    at: u64,
}

impl FileReader {
    /// Opens `path`.
    ///
    /// # Errors
    /// As the storage's.
    pub fn open(storage: &dyn Storage, path: &Path) -> io::Result<FileReader> {
        let file = storage.open(path)?;
        Ok(FileReader { file, at: 0 })
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    /// As the storage's.
    pub fn file_len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Writes one new segment: frames in the order of the stream, at positions given to them before.
///
/// # Invariants
/// * No frame begins before the end of the one before it.
/// * Times never fall: a frame of another shard that is a little older takes the time of the
///   frame before it.
pub struct SegmentWriter {
    out: FileWriter,
    seeds: Seeds,
    /// End of the last frame.
    end: Lsn,
    time_ms: u64,
}

/// A frame as it is to stand in a new segment.
#[derive(Clone, Copy, Debug)]
pub struct FrameToCopy<'a> {
    /// What it is there.
    pub kind: FrameKind,
    /// The header it was read with: position, piece, database, durable mark and time stay.
    pub header: FrameHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

impl SegmentWriter {
    /// Creates the segment that `header` describes, with random bytes of its own.
    ///
    /// # Errors
    /// As the storage's.
    pub fn create(
        storage: &dyn Storage,
        paths: &AofPaths,
        header: SegmentHeader,
    ) -> io::Result<SegmentWriter> {
        let header = SegmentHeader {
            random: storage.random()?,
            ..header
        };
        let mut out = FileWriter::create(storage, paths.incr(header.shard, header.seq))?;
        out.write_all(&header.encode())?;
        Ok(SegmentWriter {
            out,
            seeds: header.seeds(),
            end: Lsn::ZERO,
            time_ms: 0,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.out.path()
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// As the storage's. The segment is unusable then.
    ///
    /// # Panics
    /// If it begins before the end of the one before, or its payload has another length than its
    /// header says: readers would not find it.
    pub fn frame(&mut self, frame: &FrameToCopy<'_>) -> io::Result<()> {
        let from = &frame.header;
        assert!(
            from.lsn >= self.end,
            "frames are in the order of the stream"
        );
        assert!(
            from.len as usize == frame.payload.len(),
            "a header belongs to its payload"
        );
        debug_assert!(from.piece == Piece::Whole || from.len > 0);
        self.time_ms = self.time_ms.max(from.time_ms);
        self.end = from.end();
        let header = FrameHeader {
            kind: frame.kind,
            time_ms: self.time_ms,
            payload_crc: self.seeds.payload_crc(frame.payload),
            ..*from
        };
        self.out.write_all(&header.encode(self.seeds))?;
        self.out.write_all(frame.payload)?;
        self.out.write_all(padding(u64::from(from.len)))
    }

    /// Syncs the segment and returns the end of its last frame. The directory is the caller's to
    /// sync.
    ///
    /// # Errors
    /// As the storage's.
    pub fn finish(self) -> io::Result<Lsn> {
        self.out.finish()?;
        Ok(self.end)
    }
}

/// Copies a whole file and syncs the copy; the directory is the caller's to sync.
///
/// # Errors
/// As the storage's.
pub fn copy_file(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<u64> {
    let mut source = FileReader::open(storage, from)?;
    let mut out = FileWriter::create(storage, to.to_owned())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return out.finish(),
            Ok(read) => out.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts `manifest` in force in its directory: `manifest-switch-is-atomic`. After an error either
/// the old or the new one is there, and a crash may still bring back the old one.
///
/// # Errors
/// As the storage's.
///
/// # Panics
/// If `manifest` breaks an invariant of its type.
pub fn put_manifest(
    storage: &dyn Storage,
    paths: &AofPaths,
    manifest: &AofManifest,
) -> io::Result<()> {
    replace_file(
        storage,
        &paths.manifest_temp(),
        &paths.manifest(),
        manifest.to_text().as_bytes(),
    )
}

/// A replication id that nobody has.
///
/// # Errors
/// If the storage has no random bytes.
pub fn new_replication_id(storage: &dyn Storage) -> io::Result<ReplicationId> {
    let (first, second) = (storage.random()?, storage.random()?);
    let mut bytes = [0; ReplicationId::LEN / 2];
    let (head, rest) = bytes.split_at_mut(first.len());
    head.copy_from_slice(&first);
    rest.copy_from_slice(&second[..rest.len()]);
    Ok(ReplicationId::from_random(bytes))
}

/// Creates the directories of shards and makes their names durable.
///
/// # Errors
/// As the storage's.
pub fn create_shard_dirs(
    storage: &dyn Storage,
    paths: &AofPaths,
    shards: impl Iterator<Item = ShardId>,
) -> io::Result<()> {
    for shard in shards {
        storage.create_dir(&paths.shard_dir(shard))?;
    }
    storage.sync_dir(paths.root())
}

//! One RDB file being written from encoded keys: the base of a shard, or `dump.rdb`.
//!
//! The bytes come from whoever walks the tables ([`moon_rdb::encode`]); here they get a header,
//! the database they belong to and a checksum, and go to the disk in large writes. The file is
//! synced every few MiB on the way, so that the last sync is short and the page cache never has
//! to swallow a whole base at once.

use crate::failpoint;
use crate::storage::{Storage, StorageFile, write_all_at};
use moon_rdb::{RdbInfo, RdbVersion, RdbWriter};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes collected for one write.
const BUFFER: usize = 256 << 10;

/// Bytes written between two syncs.
const SYNC_EVERY: u64 = 8 << 20;

/// Every server since Redis 7.0 opens it.
const VERSION: RdbVersion = RdbVersion::V10;

/// What stands in front of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdbFileInfo {
    /// The Redis version whose behaviour the data has.
    pub redis_ver: String,
    /// Unix seconds.
    pub ctime_s: u64,
    /// Memory in use.
    pub used_mem_bytes: u64,
    /// Whether the file is the base of an append-only log. For a base it always says yes.
    pub aof_base: bool,
    /// The file is the state just before this LSN. For a base it is the cut.
    pub cut_lsn: Option<u64>,
    /// Database, keys and keys with a deadline: hints for the reader's tables, which need not be
    /// exact.
    pub databases: Vec<(u32, u64, u64)>,
}

/// Where the bytes of an RDB file go: collected, written, and synced from time to time.
struct Sink {
    file: Arc<dyn StorageFile>,
    buffer: Vec<u8>,
    /// Bytes in the file; the buffer goes behind them.
    written: u64,
    unsynced: u64,
    /// A write or sync failed: after that nothing is known about the file's bytes, and no later
    /// success makes it a good one.
    failed: bool,
}

impl Sink {
    fn flush_buffer(&mut self) -> io::Result<()> {
        let written = write_all_at(&*self.file, &[&self.buffer, &[], &[]], self.written);
        self.failed |= written.is_err();
        written?;
        self.written += self.buffer.len() as u64;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let synced = self.file.sync_data();
        self.failed |= synced.is_err();
        self.unsynced = 0;
        synced
    }
}

impl Write for Sink {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("an earlier write of this file failed"));
        }
        let taken = bytes.len();
        while !bytes.is_empty() {
            let room = BUFFER - self.buffer.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER {
                self.flush_buffer()?;
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()
    }
}

/// Where a finished base's length is noted.
pub(crate) struct Finished {
    pub(crate) lengths: Arc<[AtomicU64]>,
    pub(crate) index: usize,
}

impl Finished {
    /// A base that is not finished.
    pub(crate) const NOT: u64 = u64::MAX;
}

/// One RDB file being written. Dropping it without [`finish`](RdbFile::finish) leaves a file that
/// every reader refuses as truncated; whoever created it removes it.
pub struct RdbFile {
    writer: RdbWriter<Sink>,
    file: Arc<dyn StorageFile>,
    /// Bytes of keys taken so far.
    bytes: u64,
    db: Option<u32>,
    finished: Option<Finished>,
}

impl RdbFile {
    /// Creates the file, or empties the one that is there, and begins it.
    ///
    /// # Errors
    /// As the disk's.
    pub fn create(storage: &dyn Storage, path: &Path, info: &RdbFileInfo) -> io::Result<RdbFile> {
        RdbFile::begin(storage, path, info, None)
    }

    pub(crate) fn begin(
        storage: &dyn Storage,
        path: &Path,
        info: &RdbFileInfo,
        finished: Option<Finished>,
    ) -> io::Result<RdbFile> {
        let file = storage.create(path)?;
        let sink = Sink {
            file: file.clone(),
            buffer: Vec::with_capacity(BUFFER),
            written: 0,
            unsynced: 0,
            failed: false,
        };
        let mut writer = RdbWriter::header(sink, VERSION)?;
        writer.info(&RdbInfo {
            redis_ver: &info.redis_ver,
            ctime_s: info.ctime_s,
            used_mem_bytes: info.used_mem_bytes,
            aof_base: info.aof_base,
            cut_lsn: info.cut_lsn,
        })?;
        for (db, keys, expires) in &info.databases {
            writer.select_db(*db, *keys, *expires)?;
        }
        Ok(RdbFile {
            writer,
            file,
            bytes: 0,
            db: info.databases.last().map(|(db, ..)| *db),
            finished,
        })
    }

    /// Writes the next keys of database `db`, or the next part of one: bytes made by
    /// [`moon_rdb::encode`]. A key that spans chunks must be finished before `db` changes.
    ///
    /// # Errors
    /// As the disk's. The file is of no use then, and every later call fails.
    pub fn chunk(&mut self, db: u32, bytes: &[u8]) -> io::Result<()> {
        if self.finished.is_some() {
            failpoint::hit("rewrite-mid-base");
        }
        if self.db != Some(db) {
            self.writer.select(db)?;
            self.db = Some(db);
        }
        self.writer.encoded(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes a library of functions. Between two keys, so best before all of them.
    ///
    /// # Errors
    /// As [`chunk`](RdbFile::chunk).
    pub fn function(&mut self, code: &[u8]) -> io::Result<()> {
        self.writer.function(code)
    }

    /// Bytes of keys taken so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the file with its checksum and syncs it; returns its length. The directory is synced
    /// by whoever puts the file to use.
    ///
    /// # Errors
    /// As the disk's.
    pub fn finish(self) -> io::Result<u64> {
        let mut sink = self.writer.finish()?;
        sink.flush_buffer()?;
        self.file.sync_data()?;
        if let Some(Finished { lengths, index }) = self.finished {
            lengths[index].store(sink.written, Ordering::SeqCst);
        }
        Ok(sink.written)
    }
}

/// A `dump.rdb` being written beside the one in use. Dropping it removes what was written.
pub struct DumpFile {
    storage: Arc<dyn Storage>,
    file: Option<RdbFile>,
    temporary: PathBuf,
    target: PathBuf,
    renamed: bool,
}

impl DumpFile {
    /// Begins `<dir>/temp-<pid>.rdb`, which [`commit`](DumpFile::commit) gives the name `name`.
    /// One at a time in a directory.
    ///
    /// # Errors
    /// As the disk's. Nothing is left behind.
    pub fn create(
        storage: Arc<dyn Storage>,
        dir: &Path,
        name: &str,
        info: &RdbFileInfo,
    ) -> io::Result<DumpFile> {
        let temporary = dir.join(format!("temp-{}.rdb", std::process::id()));
        let mut dump = DumpFile {
            storage,
            file: None,
            temporary,
            target: dir.join(name),
            renamed: false,
        };
        dump.file = Some(RdbFile::create(&*dump.storage, &dump.temporary, info)?);
        Ok(dump)
    }

    /// See [`RdbFile::chunk`].
    ///
    /// # Errors
    /// As the disk's.
    pub fn chunk(&mut self, db: u32, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.chunk(db, bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// See [`RdbFile::function`].
    ///
    /// # Errors
    /// As the disk's.
    pub fn function(&mut self, code: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.function(code),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Bytes of keys taken so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, RdbFile::bytes)
    }

    /// Makes the file durable and gives it the name of the dump before it; returns its length.
    ///
    /// # Errors
    /// As the disk's. The dump before it is still there, unless only the last step failed, the
    /// sync of the directory: then either may be found after a power loss.
    pub fn commit(mut self) -> io::Result<u64> {
        let file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        let bytes = file.finish()?;
        self.storage.rename(&self.temporary, &self.target)?;
        self.renamed = true;
        let dir = self.target.parent().unwrap_or(Path::new("/"));
        self.storage.sync_dir(dir)?;
        Ok(bytes)
    }
}

impl Drop for DumpFile {
    fn drop(&mut self) {
        self.file = None;
        if self.renamed {
            return;
        }
        match self.storage.remove(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.temporary.display(), error = %error, "cannot remove");
            }
            _ => {}
        }
    }
}

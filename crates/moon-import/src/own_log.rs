//! A log of this version, read by the code of a start, put into any number of shards.

use crate::error::{ImportError, read_error};
use crate::load::{BUFFER_BYTES, Loader};
use bytes::Bytes;
use moon_aof::{AofOptions, NoProgress, RealStorage, Recovery, ReplayError, ReplaySink};
use moon_commands::load::LoadExpired;
use moon_commands::replay;
use moon_core::{Lsn, ShardCount, ShardId};
use moon_store::DbIndex;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

/// Loads the log in the append-only directory `dir`.
pub(crate) fn load(loader: &mut Loader<'_>, dir: &Path) -> Result<(), ImportError> {
    let options = AofOptions {
        dir: dir.to_owned(),
        // Whoever names a closed log means it.
        use_closed: true,
        ..AofOptions::default()
    };
    let storage = Arc::new(RealStorage);
    // The directory's own shard count counts; the other one is for a directory without a log.
    let mut recovery = Recovery::scan(storage, &options, None, ShardCount::ONE, &NoProgress)?;
    for base in recovery.bases() {
        let file = File::open(&base.path).map_err(read_error(&base.path))?;
        let mut source = BufReader::with_capacity(BUFFER_BYTES, file);
        loader.rdb(&base.path, &mut source, LoadExpired::Keep)?;
    }
    let (segments, bytes) = (recovery.summary().segments, recovery.summary().bytes);
    loader.meter.expect(bytes);
    loader.summary.files += segments as u64;
    recovery.replay(&mut Sink { loader }, &NoProgress)?;
    Ok(())
}

/// Applies frames at once, whichever shard they come from.
struct Sink<'a, 'b> {
    loader: &'a mut Loader<'b>,
}

impl Sink<'_, '_> {
    fn apply(&mut self, db: u32, payload: &[u8]) -> Result<(), ReplayError> {
        let db = DbIndex::try_from(db).unwrap_or(DbIndex::MAX);
        let (count, limits) = (self.loader.count, self.loader.limits);
        let stats = replay(self.loader.shards(), count, payload, db, limits)?;
        self.loader.summary.commands += stats.commands;
        self.loader.meter.add(payload.len() as u64);
        Ok(())
    }
}

impl ReplaySink for Sink<'_, '_> {
    fn own(
        &mut self,
        _shard: ShardId,
        _lsn: Lsn,
        db: u32,
        payload: Bytes,
    ) -> Result<(), ReplayError> {
        self.apply(db, &payload)
    }

    fn cross(&mut self, _lsn: Lsn, db: u32, payload: Bytes) -> Result<(), ReplayError> {
        self.apply(db, &payload)
    }
}

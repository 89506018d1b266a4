//! DEBUG RELOAD: the data of a shard through an RDB file in memory and back.
//!
//! What comes back is what was there, in the forms that loading makes; so nothing is logged,
//! nothing becomes dirty, and watched keys have not changed. An image that is being written goes
//! on with the data of its cut.

use crate::context::Limits;
use crate::load::{LoadError, LoadExpired, load_rdb};
use crate::shard_set::ShardSet;
use moon_core::ShardCount;
use moon_rdb::{RdbLimits, RdbVersion, RdbWriter};
use moon_store::{AccessRule, DbIndex, ShardData, encode_entry};
use std::io;

/// Why a shard cannot be reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be written.
    #[error("cannot write the data of a shard to memory")]
    Write(#[from] io::Error),
    /// What was written cannot be loaded.
    #[error("cannot load what was written")]
    Load(#[from] LoadError),
}

/// Writes all keys of `shard`, expired or not, and puts what a load of them makes in their place.
/// All keys count as used by `access` then. Takes the memory of the shard once more meanwhile.
///
/// # Errors
/// [`ReloadError`], and the shard is as it was.
pub fn reload(
    shard: &mut ShardData,
    count: ShardCount,
    limits: &Limits,
    access: AccessRule,
) -> Result<(), ReloadError> {
    let databases = DbIndex::try_from(shard.dbs.len()).unwrap_or(DbIndex::MAX);
    let file = write(shard)?;
    let mut loaded = ShardData::new(shard.id, databases, false);
    loaded.set_access(access);
    load_rdb(
        ShardSet::One(&mut loaded),
        count,
        file.as_slice(),
        RdbLimits::own(),
        limits,
        LoadExpired::Keep,
        &mut |_| (),
    )?;
    drop(file);
    for (index, db) in (0..databases).zip(loaded.dbs) {
        drop(shard.reload(index, db));
    }
    Ok(())
}

fn write(shard: &ShardData) -> io::Result<Vec<u8>> {
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V12)?;
    let mut entry = Vec::new();
    for (index, db) in (0..).zip(&shard.dbs) {
        if db.is_empty() {
            continue;
        }
        writer.select_db(index, db.len() as u64, db.volatile_len() as u64)?;
        let mut written = Ok(());
        db.for_each(&mut |key, value, deadline| {
            entry.clear();
            encode_entry(&mut entry, key, value, deadline);
            if written.is_ok() {
                written = writer.encoded(&entry);
            }
        });
        written?;
    }
    writer.finish()
}

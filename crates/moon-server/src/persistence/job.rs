//! One snapshot from its cut to its files: the part that a rewrite and a dump share.
//!
//! ```text
//!   this thread                              shard threads
//!   cut: borrow all, ----------------------> note where the walk begins (and switch segments)
//!   walk -----------------------------------> encode in slices  --chunks-->  files, here
//! ```

use moon_core::{Lsn, ShardCount, ShardId};
use moon_repl::CommitLog;
use moon_shard::mailbox::{ControlMessage, Directory};
use moon_shard::snapshot::CHUNKS_MAX;
use moon_shard::{AtLend, Image, Shard, SnapshotProgress};
use moon_store::{Compression, ImageChunk, Libraries, ShardData};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::{mpsc, oneshot};

/// The walks ended without a complete image: the server stops, or somebody gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot was stopped")]
pub struct Stopped;

/// What every shard does at the cut besides beginning its walk.
pub(super) type AtCut = Arc<dyn Fn(ShardId, &mut Box<dyn CommitLog>, &mut ShardData) + Send + Sync>;

/// The state of all shards at one position.
pub(super) struct Snapshot {
    /// Everything below is in it, nothing above.
    pub(super) cut: Lsn,
    /// For every shard and database with keys: its number, keys, keys with a deadline.
    pub(super) databases: Vec<Vec<(u32, u64, u64)>>,
    /// The libraries of functions.
    pub(super) libraries: Libraries,
    /// The images, by shard.
    pub(super) images: Vec<mpsc::Receiver<Image>>,
    /// One for every walk that is on; an answer, good or bad, when it is over.
    walks: Vec<oneshot::Receiver<()>>,
    progress: Arc<SnapshotProgress>,
}

/// One walk at a time: whoever gives a snapshot up waits until its walks are over.
impl Drop for Snapshot {
    fn drop(&mut self) {
        self.progress.stop.store(true, Relaxed);
        self.images.clear();
        for walk in self.walks.drain(..) {
            drop(walk.blocking_recv());
        }
    }
}

impl Snapshot {
    /// Cuts the history and starts the walks. Waits for the cut only.
    pub(super) fn begin(
        directory: &Directory,
        count: ShardCount,
        at_cut: Option<AtCut>,
        compression: Compression,
        progress: &Arc<SnapshotProgress>,
    ) -> Result<Snapshot, Stopped> {
        let at_cut = at_cut.unwrap_or_else(|| Arc::new(|_, _, _| ()));
        let (cut, sizes) = cut(directory, at_cut, Some(compression))?;
        let Noted {
            databases,
            libraries,
        } = sizes;
        let keys = databases.iter().flatten().map(|(_, keys, _)| keys).sum();
        progress.keys_total.store(keys, Relaxed);
        let mut snapshot = Snapshot {
            cut,
            databases,
            libraries,
            images: Vec::new(),
            walks: Vec::new(),
            progress: Arc::clone(progress),
        };
        for shard in count.ids() {
            let (to, from) = mpsc::channel(CHUNKS_MAX);
            let (ended, walk) = oneshot::channel();
            snapshot.images.push(from);
            snapshot.walks.push(walk);
            let progress = Arc::clone(progress);
            on_shard(directory, shard, move |shard| {
                shard.start_walk(to, progress, ended);
            });
        }
        Ok(snapshot)
    }

    /// Keys and keys with a deadline of each database, over all shards.
    pub(super) fn databases_of_all(&self) -> Vec<(u32, u64, u64)> {
        let mut sums = std::collections::BTreeMap::new();
        for (db, keys, expires) in self.databases.iter().flatten() {
            let sum = sums.entry(*db).or_insert((0, 0));
            *sum = (sum.0 + keys, sum.1 + expires);
        }
        sums.into_iter()
            .map(|(db, (keys, expires))| (db, keys, expires))
            .collect()
    }
}

/// Hands the next chunks of one shard to `take`, up to one that ends an entry. `Ok(false)` when
/// the image is complete.
pub(super) fn receive<E: From<Stopped>>(
    images: &mut mpsc::Receiver<Image>,
    take: &mut dyn FnMut(ImageChunk) -> Result<(), E>,
) -> Result<bool, E> {
    loop {
        match images.blocking_recv() {
            Some(Image::Chunk(chunk)) => {
                let ends_entry = chunk.ends_entry;
                take(chunk)?;
                if ends_entry {
                    return Ok(true);
                }
            }
            Some(Image::End) => return Ok(false),
            None => return Err(Stopped.into()),
        }
    }
}

/// What is noted of all shards at a cut.
#[derive(Default)]
pub(super) struct Noted {
    /// As [`Snapshot::databases`].
    pub(super) databases: Vec<Vec<(u32, u64, u64)>>,
    /// The libraries of functions.
    pub(super) libraries: Libraries,
}

/// The global cut. At it every shard does what `at_cut` says, and begins a walk if there is to be
/// one. Returns the cut and what there is in each shard.
pub(super) fn cut(
    directory: &Directory,
    at_cut: AtCut,
    walk: Option<Compression>,
) -> Result<(Lsn, Noted), Stopped> {
    let (to, answer) = oneshot::channel();
    on_shard(directory, ShardId(0), move |shard| {
        let shard = Rc::clone(shard);
        tokio::task::spawn_local(async move {
            let at_lend = |id| -> AtLend {
                let at_cut = Arc::clone(&at_cut);
                Box::new(move |log, data| {
                    at_cut(id, log, data);
                    if let Some(compression) = walk {
                        data.begin_walk(compression);
                    }
                })
            };
            let mut noted = Noted::default();
            let note = |data: &ShardData| {
                noted.databases.push(sizes(data));
                if data.id == ShardId(0) {
                    noted.libraries = data.libraries.clone();
                }
            };
            let cut = shard.cut(at_lend, note).await;
            // Whoever asked waits for it.
            drop(to.send((cut, noted)));
        });
    });
    answer.blocking_recv().map_err(|_| Stopped)
}

/// Number, keys and keys with a deadline of each database that has keys.
fn sizes(data: &ShardData) -> Vec<(u32, u64, u64)> {
    let numbered = (0u32..).zip(&data.dbs);
    let with_keys = numbered.filter(|(_, db)| !db.is_empty());
    with_keys
        .map(|(number, db)| (number, db.len() as u64, db.volatile_len() as u64))
        .collect()
}

fn on_shard(directory: &Directory, shard: ShardId, run: impl FnOnce(&Rc<Shard>) + Send + 'static) {
    directory
        .of(shard)
        .send_control(ControlMessage::Run(Box::new(run)));
}

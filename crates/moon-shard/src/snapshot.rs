//! The walk: a shard encodes its state as of a cut while it serves.
//!
//! [`Shard::cut`] fixes the state, [`Shard::start_walk`] then encodes it in short slices between
//! other work and sends it off in chunks; whoever receives them writes files elsewhere. Keys that
//! are about to change are encoded before they do (`moon_store`'s pre-images), so every chunk
//! belongs to the state at the cut, whatever happens meanwhile.
//!
//! Nothing piles up: the channel has few places, and what is encoded and not yet sent counts
//! against the shard's memory bound, so a slow disk slows writers down instead of being outrun.

use crate::shard::Shard;
use moon_store::ImageChunk;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How long a walk holds its thread at once.
const SLICE: Duration = Duration::from_micros(200);
/// Chunks on their way to the file of one shard.
pub const CHUNKS_MAX: usize = 8;

/// What a walk sends.
#[derive(Debug)]
pub enum Image {
    /// The next bytes.
    Chunk(ImageChunk),
    /// The image is complete. A channel that closes without it belongs to a walk that was given
    /// up.
    End,
}

/// How far a snapshot is, over all shards.
#[derive(Debug, Default)]
pub struct SnapshotProgress {
    /// Keys encoded.
    pub keys_done: AtomicU64,
    /// Keys at the cut.
    pub keys_total: AtomicU64,
    /// Set by whoever wants the walks to be given up.
    pub stop: AtomicBool,
}

impl Shard {
    /// Encodes the state that [`Shard::cut`] fixed and sends it to `images`, ending with
    /// [`Image::End`]. Gives up when nobody receives or the snapshot is stopped. In any case the
    /// data is free of the walk when `ended` is dropped, and the next one may begin.
    pub fn start_walk(
        self: &Rc<Self>,
        images: mpsc::Sender<Image>,
        progress: Arc<SnapshotProgress>,
        ended: oneshot::Sender<()>,
    ) {
        let shard = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let complete = shard.walk(&images, &progress).await;
            shard.with_data(|data| data.end_walk()).await;
            shard.walk_moved();
            drop(ended);
            if complete {
                // If the receiver has gone, nobody wants to know.
                drop(images.send(Image::End).await);
            }
        });
    }

    /// Whether everything was encoded and sent.
    async fn walk(&self, images: &mpsc::Sender<Image>, progress: &SnapshotProgress) -> bool {
        let mut counted = 0;
        loop {
            if progress.stop.load(Relaxed) {
                return false;
            }
            let (chunk, done, keys) = self
                .with_data(|data| {
                    let until = Instant::now() + SLICE;
                    data.walk(&mut || Instant::now() >= until);
                    // All there is, however little: the walk may wait for it to be taken.
                    let chunk = data.take_image();
                    let done = data.walk_is_done();
                    (chunk, done, data.walk_progress().keys_done)
                })
                .await;
            progress.keys_done.fetch_add(keys - counted, Relaxed);
            counted = keys;
            if let Some(chunk) = chunk {
                if images.send(Image::Chunk(chunk)).await.is_err() {
                    return false;
                }
            } else if done {
                return true;
            }
            self.walk_moved();
            // The connections, the mailbox and the committer have their turn.
            tokio::task::yield_now().await;
        }
    }
}

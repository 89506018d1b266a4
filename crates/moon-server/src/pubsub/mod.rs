//! Publish and subscribe, and everything else that a client is sent without having asked.
//!
//! ```text
//!  publisher's shard                                    subscriber's shard
//!  Hub::publish ─▶ registry: which shards? ─▶ mailbox ─▶ inbox ─▶ gates ─▶ sockets
//!       │                (all threads)                 (one task per shard)
//!       └ kept until the turn, or the transaction, has its place in the history
//! ```
//!
//! Each shard thread has a [`Hub`] ([`Hub::of_this_thread`]; a connection has it as `hub`). It
//! knows the subscriptions of the connections here, and takes what is said here to the shards
//! that have somebody listening. What others build on:
//!
//! ```text
//! Hub::publish(&self, kind: Kind, channel: &[u8], payload: &[u8], depends_on: Lsn) -> usize
//! Hub::push_to(&self, to: Address, push: Push, depends_on: Lsn)
//! Hub::begin_unit(&self)    Hub::end_unit(&self, depends_on: Lsn)
//! Hub::address_of(&self, client: u64) -> Address      // of a client of this shard
//! Push::new(|reply| ...)  Push { resp2: Bytes, resp3: Bytes }  // empty: not for that protocol
//! ```
//!
//! * Nothing is shown before what it depends on is committed: it waits in the receiver's gate.
//!   `depends_on` is [`Lsn::ZERO`] for nothing, `THIS_TURN` for the effects of the turn in
//!   progress (there must be some: the frame that they become lets it go), or a frame's end. That
//!   is what `Running::execute` and `Borrowed::execute` return.
//! * Between `begin_unit` and `end_unit`, which may nest, everything is kept, then leaves in order
//!   with the dependency of the outermost unit: for EXEC and scripts. Whoever awaits in between
//!   sets the unit aside meanwhile ([`Hub::set_unit_aside`]).
//! * All of it may be called while commands run on this thread: nothing here touches the data, and
//!   deliveries, to clients of this shard too, are made later by a task of their own.
//! * What one shard says arrives everywhere in the order in which it was said, as far as the
//!   dependencies do not say otherwise; a client's own publications always do.
//!
//! In reading order:
//! * [`message`]: [`Message`], [`Push`]: what is sent, encoded once.
//! * [`registry`]: [`Registry`]: who listens where, for all threads.
//! * [`local`]: the subscriptions of one shard's connections.
//! * [`hub`]: [`Hub`]: what keeps, takes and delivers.

pub mod hub;
mod local;
pub mod message;
pub mod registry;

pub use hub::{Address, Hub, Unit};
pub use message::{Message, Push};
pub use registry::{Kind, Registry};

#[cfg(doc)]
use moon_core::Lsn;

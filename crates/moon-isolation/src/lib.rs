//! The proof of isolation: many clients at once, everything recorded, and one serial order that must
//! explain it all.
//!
//! Every call of every client is written down with the time before it was sent and the time after its
//! answer was read. Whether a server is right is then decided by looking at that alone:
//!
//! * small histories by a search for one serial order, in which every call happens between its two
//!   times and answers what it answered;
//! * large ones by their construction: a sum that stays, pairs that are equal, counters that count,
//!   lists that only grow.
//!
//! A server may be killed meanwhile. What it had acknowledged is in the order, what was in flight is
//! in it as a whole or not at all, and the order goes on over the crash.
//!
//! What the crate guarantees: a history that it calls wrong has no explanation (the piece that it
//! prints can be checked by hand), and one whose search was given up is never called right.
//!
//! * [`command`]: commands as data, keys over all shards.
//! * [`model`]: what one thread would do.
//! * [`history`]: calls, and what became of them.
//! * [`linear`]: the search for a serial order.
//! * [`piece`]: the shortest piece of a history that is wrong by itself.
//! * [`graph`], [`append`]: lists that only grow, and circles in their order.
//! * [`sums`]: sums, pairs, counters.
//! * [`finding`]: what is wrong.
//! * [`step`], [`generate`], [`discipline`]: what clients do.
//! * [`connection`]: a client.
//! * [`rounds`]: the clients of one discipline, round after round.
//! * [`cell`]: all disciplines on one server, and kills.
//!
//! Used by `xtask` and by the end-to-end tests; no crate of the server depends on it.

pub mod append;
pub mod cell;
pub mod command;
pub mod connection;
pub mod discipline;
pub mod finding;
pub mod generate;
pub mod graph;
pub mod history;
pub mod linear;
pub mod model;
pub mod piece;
pub mod rounds;
pub mod step;
pub mod sums;

pub use cell::{Cell, CellReport};
pub use finding::{Anomaly, Finding};

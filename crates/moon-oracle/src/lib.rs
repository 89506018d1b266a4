//! Redis as the judge: sequences of commands that `redis-server` and the tested servers execute
//! side by side, the comparison of what they answer and hold, and the shortest sequence that shows
//! a difference.
//!
//! What this crate guarantees to its user:
//! * a sequence depends on its seed alone, never on the clock or on a reply;
//! * what is not compared exactly is named: orders that Redis leaves open in [`compare`], replies
//!   of chance in [`property`], everything else, with its reason, in [`differences`];
//! * a difference is reported only when the shortened sequence shows it again from an empty
//!   keyspace, or is marked as not repeated.
//!
//! The modules in reading order; all but the last five are free of sockets and processes:
//!
//! * [`request`]: requests, and the steps that stay together.
//! * [`words`]: random words of each kind, usual and odd.
//! * [`lua`]: scripts and libraries.
//! * [`grammar`]: templates of requests, and their expansion.
//! * [`families`]: the templates of each family of commands.
//! * [`generator`]: sequences of steps.
//! * [`property`]: what must hold for replies of chance.
//! * [`compare`]: whether two replies are the same.
//! * [`differences`]: what may differ, with reasons.
//! * [`shrink`]: the shortest failing part of a sequence.
//! * [`documented`]: examples from documentation, for what Redis 7.0 does not have.
//! * [`keyspace`]: everything a server holds.
//! * [`rig`]: the servers.
//! * [`round`]: one sequence on all servers.
//! * [`conversation`]: steps in which clients wait and listen.
//! * [`told`]: what a client is told unasked.

#![forbid(unsafe_code)]

pub mod compare;
mod conversation;
pub mod differences;
pub mod documented;
pub mod families;
pub mod generator;
pub mod grammar;
pub mod keyspace;
pub mod lua;
pub mod property;
pub mod request;
pub mod rig;
pub mod round;
pub mod shrink;
mod told;
pub mod words;

pub use families::Family;
pub use generator::Generator;
pub use request::{Request, Step};
pub use rig::{Rig, RigConfig};
pub use round::{Difference, Outcome};

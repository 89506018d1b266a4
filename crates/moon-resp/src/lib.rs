//! RESP2 and RESP3, read and written incrementally. Knows no commands and no sockets.
//!
//! * [`args`]: [`Args`], one request as spans of the buffer it was parsed from; nothing is copied.
//! * [`reply`]: [`Reply`], which writes a reply in the protocol version of the connection.

pub mod args;
pub mod reply;

pub use args::{Args, OwnedArgs, Span};
pub use reply::{Protocol, Reply, write_request};

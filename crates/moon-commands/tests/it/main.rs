//! Commands from the outside: requests in, replies and effects out.

mod harness;
mod replay_refusals;
mod replayed_effects;

//! The parallel replay.

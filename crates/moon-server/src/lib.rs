//! The server around the shards: configuration, checks of a start, clients, statistics.
//!
//! What this crate promises: a start that could lose data is refused with a reason
//! ([`startup`]), a setting that is not understood is an error and never a default ([`config`]),
//! and what the server says about itself (INFO, metrics) costs the path of a command nothing but
//! plain stores ([`stats`]).

pub mod boot;
pub mod clients;
pub mod config;
pub mod connection;
pub mod cores;
pub mod histogram;
pub mod info;
pub mod listener;
pub mod loading;
pub mod lock;
pub mod logging;
pub mod metrics;
mod notify;
pub mod observer;
pub mod persistence;
pub mod pubsub;
pub mod recover;
pub mod report;
pub mod scripts;
pub mod server;
pub mod startup;
pub mod stats;
pub mod tools;
pub mod tracking;
pub mod watch;

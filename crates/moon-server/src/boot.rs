//! From a checked configuration to a serving process and down again.
//!
//! ```text
//!   check -> bind -> scan the log -> replay -> one manifest -> shards serve
//!   SIGTERM -> stop accepting -> replies leave -> turns end -> last sync -> exit 0
//! ```
//!
//! Clients that connect during recovery are answered LOADING; nothing is served, no LSN issued
//! and no mark published before [`moon_aof::Recovery::finish`] has returned.

use crate::clients::Clients;
use crate::config::{Config, RuntimeConfig};
use crate::connection;
use crate::listener::{ListenError, Listeners};
use crate::loading;
use crate::observer::StatsObserver;
use crate::server::{Parts, Server, limits_of};
use crate::startup::{Checked, Refusal};
use crate::stats::ServerStats;
use moon_aof::{AofWriterPool, Recovery};
use moon_core::{Lsn, ShardCount, ShardId};
use moon_repl::{Clock, CommitLog, CommitOn, Lane, MemoryLog};
use moon_shard::mailbox::Directory;
use moon_shard::shard::Shared;
use moon_shard::{ReplayPool, Shard, ShardConfig, ShardSeed, spawn};
use moon_store::ShardData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// How long connections get to send their last replies when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

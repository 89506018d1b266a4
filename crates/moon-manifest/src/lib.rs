//! The AOF manifest (v1, v2, v3), the layout on disk, and the checks before a start.
//!
//! The manifest is the one file that says which segments and bases hold a directory's history.
//! This crate parses it strictly, prints it byte for byte, and derives every path from shard and
//! generation, so that no path is ever stored. It does no I/O at all: file contents and lists of
//! directory entries come in as values, and replacing the file atomically is `moon-aof`'s work.
//!
//! What it guarantees: `parse` refuses anything that `to_text` could not have written for that
//! version, a v3 file with any changed or missing byte included; what was parsed prints as the
//! same bytes; `to_text` never prints what `parse` would refuse.
//!
//! In reading order:
//!
//! * [`manifest`]: [`AofManifest`] and its lines, what must hold for them, and the shard count check.
//! * [`parse`](mod@parse): text to [`AofManifest`], all three versions.
//! * [`print`](mod@print): [`AofManifest`] to text.
//! * [`error`]: one variant per fault, each with its line and what to do.
//! * [`layout`]: paths and file names, and the recognition of the old top-level layout.
//! * [`migrate`]: the plan that brings v1's files into the directory of shard 0.
//!
//! The format is described in `docs/format/manifest.md`, whose examples the tests parse.

#![forbid(unsafe_code)]

pub mod manifest;

pub mod parse;
pub mod print;

pub mod error;

pub mod layout;

pub mod migrate;

pub use error::{InvariantError, ManifestError, ShardCountError};
pub use layout::{AofPaths, FileKind, MANIFEST_FILE_NAME, is_legacy_top_level_layout};
pub use manifest::{
    AofLayout, AofManifest, BaseLine, IncrLine, ManifestVersion, ReplicationId, ReplicationIdEntry,
    ShardManifest,
};
pub use migrate::{MigrationError, MigrationStep, Version1Files, migrate_top_level_to_per_shard};

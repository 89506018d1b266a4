//! Test support: a FUSE file system that loses what was not synced, and fails on request.

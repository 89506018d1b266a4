//! The questions a start asks a manifest.

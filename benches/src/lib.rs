//! Shared workloads of the criterion benches.

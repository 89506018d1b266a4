//! The section Memory, and what it is made from.

use super::numbers::{difference, human, percent, ratio};
use super::{InfoSource, put};
use crate::scripts::ScriptsInfo;

pub(super) fn memory(i: &InfoSource, s: &mut String) {
    let m = &i.memory;
    fields!(s,
        "used_memory": m.used,
        "used_memory_human": human(m.used),
        "used_memory_rss": m.rss,
        "used_memory_rss_human": human(m.rss),
        "used_memory_peak": m.peak,
        "used_memory_peak_human": human(m.peak),
        "used_memory_peak_perc": percent(m.used, m.peak),
        "used_memory_overhead": m.overhead(),
        "used_memory_startup": m.startup,
        "used_memory_dataset": m.dataset(),
        "used_memory_dataset_perc": percent(m.dataset(), m.used.saturating_sub(m.startup)),
        "allocator_allocated": m.used,
        "allocator_active": m.committed,
        "allocator_resident": m.rss,
        "total_system_memory": m.total_system,
        "total_system_memory_human": human(m.total_system),
    );
    // One state per shard serves both, scripts and functions.
    let scripts = m.scripts;
    fields!(s,
        "used_memory_lua": scripts.engine_bytes,
        "used_memory_vm_eval": scripts.engine_bytes,
        "used_memory_lua_human": human(scripts.engine_bytes),
        "used_memory_scripts_eval": scripts.script_bytes,
        "number_of_cached_scripts": scripts.scripts,
        "number_of_functions": scripts.functions,
        "number_of_libraries": scripts.libraries,
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": scripts.engine_bytes,
        "used_memory_vm_total_human": human(scripts.engine_bytes),
        "used_memory_functions": scripts.function_bytes,
        "used_memory_scripts": scripts.script_bytes + scripts.function_bytes,
        "used_memory_scripts_human": human(scripts.script_bytes + scripts.function_bytes),
    );
    fields!(s,
        "maxmemory": m.maxmemory,
        "maxmemory_human": human(m.maxmemory),
        "maxmemory_policy": m.policy,
        "allocator_frag_ratio": ratio(m.committed, m.used),
        "allocator_frag_bytes": m.committed.saturating_sub(m.used),
        "allocator_rss_ratio": ratio(m.rss, m.committed),
        "allocator_rss_bytes": difference(m.rss, m.committed),
        "rss_overhead_ratio": "1.00",
        "rss_overhead_bytes": 0,
        "mem_fragmentation_ratio": ratio(m.rss, m.used),
        "mem_fragmentation_bytes": difference(m.rss, m.used),
        "mem_not_counted_for_evict": m.not_counted,
        "mem_replication_backlog": 0,
        "mem_total_replication_buffers": 0,
        "mem_clients_slaves": 0,
        "mem_clients_normal": m.clients,
        "mem_cluster_links": 0,
        "mem_aof_buffer": i.aof_inflight_bytes,
        "mem_allocator": "mimalloc",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": m.lazyfree_pending,
        "lazyfreed_objects": m.lazyfreed,
    );
}

/// What is known about memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryInfo {
    /// Set aside by the allocator: all of it.
    pub used: u64,
    /// The highest `used` seen.
    pub peak: u64,
    /// `used` before any data was loaded.
    pub startup: u64,
    /// Resident, as the kernel counts.
    pub rss: u64,
    /// What the allocator has of the operating system.
    pub committed: u64,
    /// The machine's memory.
    pub total_system: u64,
    /// Tables of keys.
    pub keyspace: u64,
    /// What keys and values own outside the tables.
    pub values: u64,
    /// Tables of deadlines.
    pub expiry: u64,
    /// Buffers of clients.
    pub clients: u64,
    /// Scripts and functions.
    pub scripts: ScriptsInfo,
    /// What the log has not written or made safe yet.
    pub aof_in_flight: u64,
    /// What does not count towards the limit.
    pub not_counted: u64,
    /// `maxmemory`; 0 means none.
    pub maxmemory: u64,
    /// `maxmemory-policy`.
    pub policy: &'static str,
    /// Values that wait to be dropped.
    pub lazyfree_pending: u64,
    /// Values that were dropped so.
    pub lazyfreed: u64,
}

impl MemoryInfo {
    /// What the server needs beside keys and values.
    #[must_use]
    pub fn overhead(&self) -> u64 {
        let scripts = self.scripts;
        let beside = scripts.engine_bytes + scripts.script_bytes + scripts.function_bytes;
        self.startup + self.keyspace + self.expiry + self.clients + self.aof_in_flight + beside
    }

    /// Keys and values.
    #[must_use]
    pub fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead())
    }
}

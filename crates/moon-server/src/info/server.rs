//! The sections on the process and its clients: Server, Clients, CPU.

use super::numbers::seconds;
use super::{InfoSource, REDIS_VERSION, put};

pub(super) fn server(i: &InfoSource, s: &mut String) {
    fields!(s,
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": 0,
        "redis_mode": "standalone",
        "server_name": "moon",
        "moon_version": env!("CARGO_PKG_VERSION"),
        "moon_shards": i.shards,
        "os": &i.os,
        "arch_bits": usize::BITS,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll",
        "process_id": i.process_id,
        "process_supervised": "no",
        "run_id": &i.run_id,
        "tcp_port": i.tcp_port,
        "server_time_usec": i.now_us,
        "uptime_in_seconds": i.uptime_s,
        "uptime_in_days": i.uptime_s / 86_400,
        "hz": i.hz,
        "configured_hz": i.hz,
        "lru_clock": (i.now_us / 1_000_000) & 0xff_ffff,
        "executable": &i.executable,
        "config_file": &i.config_file,
        "io_threads_active": 0,
    );
}

pub(super) fn clients(i: &InfoSource, s: &mut String) {
    fields!(s,
        "connected_clients": i.connected_clients,
        "cluster_connections": 0,
        "maxclients": i.maxclients,
        "client_recent_max_input_buffer": i.input_buffer_max,
        "client_recent_max_output_buffer": i.output_buffer_max,
        "blocked_clients": i.blocked_clients,
        "tracking_clients": i.tracking.clients,
        "pubsub_clients": 0,
        "watching_clients": i.watching_clients,
        "clients_in_timeout_table": 0,
        "total_blocking_keys": 0,
        "total_blocking_keys_on_nokey": 0,
    );
}

pub(super) fn cpu(i: &InfoSource, s: &mut String) {
    fields!(s,
        "used_cpu_sys": seconds(i.cpu.sys_us),
        "used_cpu_user": seconds(i.cpu.user_us),
        "used_cpu_sys_children": "0.000000",
        "used_cpu_user_children": "0.000000",
    );
}

//! The section Replication.

use super::{InfoSource, put};

pub(super) fn replication(i: &InfoSource, s: &mut String) {
    fields!(s,
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": &i.replid,
        "master_replid2": "0000000000000000000000000000000000000000",
        "master_repl_offset": i.lsn_head,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": 0,
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    );
}

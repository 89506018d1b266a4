//! Huge pages for large data only.
//!
//! With huge pages the kernel gives 2 MiB where 4 KiB are touched. Gigabytes of data are read
//! faster for it, by a tenth or more. But the allocator keeps blocks of every size in regions of
//! their own, and a server with a few megabytes of data would have a huge page for each of them,
//! three times what it uses. So huge pages wait until there is data that fills them.

use nix::sys::prctl::{get_thp_disable, set_thp_disable};

/// Allocated bytes from which on memory that is touched for the first time may be huge pages.
const FROM_BYTES: u64 = 64 << 20;

/// Whether the process does without huge pages for now.
#[derive(Debug)]
pub struct HugePages {
    held_back: bool,
}

impl HugePages {
    /// Does without huge pages until [`HugePages::follow`] sees enough memory. Who started the
    /// process may have decided that already, and for good. Call it before much is allocated.
    #[must_use]
    pub fn hold_back() -> HugePages {
        // Where the kernel has no such switch, everything stays as it is.
        let held_back = get_thp_disable() == Ok(false) && set_thp_disable(true).is_ok();
        HugePages { held_back }
    }

    /// Allows huge pages from here on if so many bytes are allocated that they pay.
    pub fn follow(&mut self, allocated_bytes: u64) {
        if self.held_back && allocated_bytes >= FROM_BYTES {
            self.held_back = set_thp_disable(false).is_err();
        }
    }
}

//! What mimalloc knows about itself, and giving back what it keeps for later.
//!
//! The `unsafe` here are calls of mimalloc's own interface.
#![allow(unsafe_code)]

use libmimalloc_sys::{
    mi_collect, mi_option_set, mi_option_t, mi_process_info, mi_stats_print_out,
};
use std::ffi::{CStr, c_char, c_void};

/// Gives free memory of this thread, and what no thread uses, back to the operating system.
pub fn collect() {
    // SAFETY: may be called at any time, on any thread.
    unsafe { mi_collect(true) }
}

/// `mi_option_purge_delay` of mimalloc 3: for how many milliseconds free memory is kept.
const PURGE_DELAY: mi_option_t = 15;
/// Longer than any run without a [`collect`].
const NEVER_MS: std::ffi::c_long = 1000 * 60 * 60 * 24;

/// From now on free memory goes back to the operating system by [`collect`] alone. By itself the
/// allocator would give all of it back at once, on the thread that happens to allocate when it is
/// old enough: a tenth of a second for a gigabyte, during which that thread serves nobody.
pub fn collect_by_hand() {
    // SAFETY: sets a number that is read when memory is freed; may be called at any time.
    unsafe { mi_option_set(PURGE_DELAY, NEVER_MS) }
}

/// Memory that the allocator has of the operating system, in bytes: committed now and at most.
#[must_use]
pub fn committed() -> (u64, u64) {
    let [
        mut elapsed,
        mut user,
        mut system,
        mut rss,
        mut rss_max,
        mut now,
        mut most,
        mut faults,
    ] = [0usize; 8];
    // SAFETY: all pointers are to live, writable words.
    unsafe {
        mi_process_info(
            &raw mut elapsed,
            &raw mut user,
            &raw mut system,
            &raw mut rss,
            &raw mut rss_max,
            &raw mut now,
            &raw mut most,
            &raw mut faults,
        );
    }
    (now as u64, most as u64)
}

/// mimalloc's statistics, for people.
#[must_use]
pub fn text() -> String {
    unsafe extern "C" fn append(part: *const c_char, out: *mut c_void) {
        if part.is_null() || out.is_null() {
            return;
        }
        // SAFETY: `out` is the `String` below, which nobody else uses during the call; mimalloc
        // passes text that ends with a zero byte.
        let (out, part) = unsafe { (&mut *out.cast::<String>(), CStr::from_ptr(part)) };
        out.push_str(&part.to_string_lossy());
    }
    let mut out = String::new();
    // SAFETY: `append` takes exactly what is passed to it here.
    unsafe { mi_stats_print_out(Some(append), (&raw mut out).cast()) }
    out
}

//! Asks the processor to load memory before it is needed. Without effect on any result.
//!
//! The one `unsafe` here is the intrinsic itself.
#![allow(unsafe_code)]

/// Starts loading the cache line that `target` begins in.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(target: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = std::ptr::from_ref(target).cast::<i8>();
        // SAFETY: a prefetch never faults and reads nothing that the program could see; SSE is
        // part of every x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = target;
}

/// Starts loading bytes: the first two cache lines; the processor follows more by itself.
#[inline(always)]
pub(crate) fn prefetch_bytes(bytes: &[u8]) {
    prefetch(bytes);
    if bytes.len() > 64 {
        prefetch(&bytes[64]);
    }
}

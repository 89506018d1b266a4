//! The global allocator: mimalloc, with every byte counted.
//!
//! The `unsafe` here is that of [`GlobalAlloc`], whose conditions are passed on as they are.
#![allow(unsafe_code)]

use crate::counters::add;
use crate::size::good_size;
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};

/// The allocator. A program declares it with `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// What is set aside for `bytes`, as it is counted. A layout is below 2^63 bytes.
#[inline]
fn counted(bytes: usize) -> i64 {
    good_size(bytes).cast_signed() as i64
}

// SAFETY: every method passes its arguments to mimalloc, which is a GlobalAlloc, and returns what
// it returned; counting touches no memory that was handed out, does not allocate and does not
// unwind.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one asked for.
        let memory = unsafe { MiMalloc.alloc(layout) };
        if !memory.is_null() {
            add(counted(layout.size()));
        }
        memory
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one asked for.
        let memory = unsafe { MiMalloc.alloc_zeroed(layout) };
        if !memory.is_null() {
            add(counted(layout.size()));
        }
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        add(-counted(layout.size()));
        // SAFETY: the caller got `memory` from here, which is from mimalloc, with this layout.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller got `memory` from here, which is from mimalloc, with this layout,
        // and promises what is asked for about `new_size`.
        let moved = unsafe { MiMalloc.realloc(memory, layout, new_size) };
        if !moved.is_null() {
            add(counted(new_size) - counted(layout.size()));
        }
        moved
    }
}

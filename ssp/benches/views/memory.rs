//! `Counting`: the system's allocator, with a count of the bytes that are in use.

#![allow(unsafe_code, reason = "an allocator is an unsafe trait; it passes every call on as it is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what the measuring thread holds; other threads are not measured.
pub(crate) struct Counting;

thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

/// Bytes that this thread allocated and nobody freed.
pub(crate) fn bytes() -> isize {
    BYTES.get()
}

fn count(bytes: isize) {
    // A thread that ends has no count any more, and is not measured.
    let _gone = BYTES.try_with(|held| held.set(held.get() + bytes));
}

fn size(layout: Layout) -> isize {
    isize::try_from(layout.size()).expect("a layout is at most isize::MAX bytes")
}

// SAFETY: every call goes to `System` with the arguments it came with; counting allocates nothing, since the
// thread's cell is a constant without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(isize::try_from(bytes).unwrap_or(isize::MAX) - size(layout));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

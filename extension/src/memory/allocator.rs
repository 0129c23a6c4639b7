//! The allocator of the library's Rust code: the system's allocator with a reserve behind it. It
//! never unwinds. It ends the session (FATAL) if the reserve cannot serve a request either.

use core::hint::black_box;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::Ordering;

use super::reserve::Reserve;
use super::{FATAL, IS_FALLIBLE, IS_SHORT, report};

static RESERVE: Reserve = Reserve::new();

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: memory of the system's allocator, or of the reserve, which follows the same rules; each
// piece returns to its origin.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { fall_back(layout) } else { memory }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; a piece of the reserve is as long as the layout says.
        unsafe {
            let memory = System.alloc_zeroed(layout);
            if !memory.is_null() {
                return memory;
            }
            let memory = fall_back(layout);
            if !memory.is_null() {
                memory.write_bytes(0, layout.size());
            }
            memory
        }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe {
            if RESERVE.holds(memory) {
                RESERVE.give_back(memory, layout);
            } else {
                System.dealloc(memory, layout);
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise; `bytes` does not overflow when it is rounded up to the
        // alignment.
        unsafe {
            if !RESERVE.holds(memory) {
                let grown = System.realloc(memory, layout, bytes);
                if !grown.is_null() {
                    return grown;
                }
            }
            let new = Layout::from_size_align_unchecked(bytes, layout.align());
            let grown = self.alloc(new);
            if !grown.is_null() {
                core::ptr::copy_nonoverlapping(memory, grown, layout.size().min(bytes));
                self.dealloc(memory, layout);
            }
            grown
        }
    }
}

#[cold]
fn fall_back(layout: Layout) -> *mut u8 {
    if IS_FALLIBLE.load(Ordering::Relaxed) {
        return core::ptr::null_mut();
    }
    IS_SHORT.store(true, Ordering::Relaxed);
    // SAFETY: a backend has one thread.
    let memory = unsafe { RESERVE.take(layout) };
    if memory.is_null() {
        // Rust would abort, and take the cluster down. This ends only the session.
        // SAFETY: FATAL does not return and does not unwind. It exits the process in Postgres's own
        // way; our callbacks in that exit neither allocate nor depend on the interrupted work.
        unsafe { report(FATAL, layout.size()) };
    }
    memory
}

/// Reports whether the system can allocate this many bytes now.
pub fn has(bytes: usize) -> bool {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), 16) else { return false };
    // SAFETY: the memory is freed at once. The compiler must not see that, or it would remove both
    // calls.
    unsafe {
        let memory = black_box(System.alloc(layout));
        if memory.is_null() {
            return false;
        }
        System.dealloc(memory, layout);
    }
    true
}

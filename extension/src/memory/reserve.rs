//! A small stock of memory for when the system has none. It hands out runs of blocks. Pure.
//!
//! `take` examines every block to find a run. That is acceptable, because the reserve is used only
//! in an emergency, and for little.

use std::alloc::Layout;
use std::cell::UnsafeCell;

/// Enough for an error in progress with all its texts, and for the memory that a row needs in
/// addition to its data: arrays of 1,600 columns. The reserve lies in the library's own memory. It
/// takes address space from the start, and no memory until it is used.
pub const RESERVE_BYTES: usize = 256 * 1024;

const BLOCK_BYTES: usize = 256;
const BLOCKS: usize = RESERVE_BYTES / BLOCK_BYTES;

#[repr(C, align(4096))]
struct Memory(UnsafeCell<[u8; RESERVE_BYTES]>);

/// The reserve. All blocks are free at first.
pub struct Reserve {
    memory: Memory,
    /// True for each block in use.
    used: UnsafeCell<[bool; BLOCKS]>,
}

// SAFETY: a backend has one thread; `take` and `give_back` require that.
unsafe impl Sync for Reserve {}

impl Reserve {
    pub const fn new() -> Self {
        Self { memory: Memory(UnsafeCell::new([0; RESERVE_BYTES])), used: UnsafeCell::new([false; BLOCKS]) }
    }

    fn begin(&self) -> *mut u8 {
        self.memory.0.get().cast()
    }

    fn blocks(layout: Layout) -> usize {
        layout.size().div_ceil(BLOCK_BYTES).max(1)
    }

    /// Reports whether a piece of memory came from here.
    #[inline]
    pub fn holds(&self, memory: *const u8) -> bool {
        (memory as usize).wrapping_sub(self.begin() as usize) < RESERVE_BYTES
    }

    /// Hands out memory. Returns null if no piece is large enough, or if the reserve cannot align
    /// it.
    ///
    /// # Safety
    /// No other thread uses the reserve.
    pub unsafe fn take(&self, layout: Layout) -> *mut u8 {
        if layout.align() > BLOCK_BYTES {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise: there is no other reference.
        let used = unsafe { &mut *self.used.get() };
        let wanted = Self::blocks(layout);
        let mut free = 0;
        for at in 0..BLOCKS {
            free = if used[at] { 0 } else { free + 1 };
            if free == wanted {
                let first = at + 1 - wanted;
                used[first..=at].fill(true);
                // SAFETY: the block lies within the memory.
                return unsafe { self.begin().add(first * BLOCK_BYTES) };
            }
        }
        core::ptr::null_mut()
    }

    /// Takes memory back.
    ///
    /// # Safety
    /// It was handed out by [`Self::take`] with this layout. No other thread uses the reserve.
    pub unsafe fn give_back(&self, memory: *mut u8, layout: Layout) {
        let first = (memory as usize - self.begin() as usize) / BLOCK_BYTES;
        // SAFETY: the caller's promise: there is no other reference.
        let used = unsafe { &mut *self.used.get() };
        used[first..first + Self::blocks(layout)].fill(false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).unwrap()
    }

    #[test]
    fn all_of_it_can_be_had_and_no_more() {
        let reserve = Box::new(Reserve::new());
        // SAFETY: one thread; each piece is returned once, as it was taken.
        unsafe {
            let all = reserve.take(layout(RESERVE_BYTES, 16));
            assert!(reserve.holds(all) && reserve.holds(all.add(RESERVE_BYTES - 1)));
            assert!(!reserve.holds(all.wrapping_sub(1)) && !reserve.holds(all.wrapping_add(RESERVE_BYTES)));
            assert!(reserve.take(layout(1, 1)).is_null());
            reserve.give_back(all, layout(RESERVE_BYTES, 16));
            assert!(reserve.take(layout(RESERVE_BYTES + 1, 1)).is_null());
            assert!(reserve.take(layout(1, 2 * BLOCK_BYTES)).is_null());
            assert!(!reserve.take(layout(0, 1)).is_null());
        }
    }

    proptest! {
        /// Pieces do not overlap, are aligned, and keep the bytes written into them until they are
        /// returned.
        #[test]
        fn pieces_are_apart(steps in prop::collection::vec((1..40_000usize, 0..9u32, any::<bool>()), 0..120)) {
            let reserve = Box::new(Reserve::new());
            let mut pieces: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (number, (bytes, align, gives_back)) in steps.into_iter().enumerate() {
                let mark = (number % 251) as u8;
                // SAFETY: one thread; all reads and writes lie within a piece.
                unsafe {
                    if gives_back && !pieces.is_empty() {
                        let (memory, layout, mark) = pieces.swap_remove(number % pieces.len());
                        let bytes = core::slice::from_raw_parts(memory, layout.size());
                        prop_assert!(bytes.iter().all(|byte| *byte == mark));
                        reserve.give_back(memory, layout);
                        continue;
                    }
                    let layout = layout(bytes, 1 << align);
                    let memory = reserve.take(layout);
                    if !memory.is_null() {
                        prop_assert_eq!(memory as usize % layout.align(), 0);
                        memory.write_bytes(mark, bytes);
                        pieces.push((memory, layout, mark));
                    }
                }
            }
            for (memory, layout, mark) in pieces {
                // SAFETY: as above.
                unsafe {
                    let bytes = core::slice::from_raw_parts(memory, layout.size());
                    prop_assert!(bytes.iter().all(|byte| *byte == mark));
                    reserve.give_back(memory, layout);
                }
            }
            // SAFETY: as above.
            let all = unsafe { reserve.take(layout(RESERVE_BYTES, 1)) };
            prop_assert!(!all.is_null());
        }
    }
}

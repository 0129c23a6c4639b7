//! The store of held events: in memory up to `work_mem`, the rest in a temporary file.
//!
//! Events are appended, and read again by their place. No event is removed in between. The space is
//! free again when no event is left, or when the events at the end have been rolled back. The file
//! belongs to the transaction. Allocation failures and errors of the file are raised as Postgres
//! errors.

use core::ffi::c_void;

use pgrx::{PgSqlErrorCode, pg_sys};

use crate::memory;

/// The texts of an event: type, table_name, key, actor, origin, traceparent, payload, previous,
/// owner.
pub const TEXTS: usize = 9;

/// Stands for the length of a null text.
const NULL: u32 = u32::MAX;

/// An empty store frees its memory above this size.
const KEPT_BYTES_MAX: usize = 256 * 1024;

pub struct Store {
    /// The bytes from `spilled` on.
    memory: Vec<u8>,
    /// Number of bytes in the file.
    spilled: u64,
    file: *mut pg_sys::BufFile,
}

impl Store {
    pub const fn new() -> Self {
        Self { memory: Vec::new(), spilled: 0, file: core::ptr::null_mut() }
    }

    /// Appends an event and returns its place.
    ///
    /// # Errors
    /// Returns the number of bytes needed if there is no memory. Raises the errors of writing a
    /// temporary file.
    pub fn put(&mut self, truncated: bool, texts: &[Option<&[u8]>; TEXTS]) -> Result<u64, usize> {
        if self.memory.len() > bytes_max() {
            self.spill();
        }
        let place = self.spilled + self.memory.len() as u64;
        let bytes: usize = texts.iter().flatten().map(|text| text.len()).sum();
        let total = 4 + 1 + 4 * TEXTS + bytes;
        memory::fallible(|| self.memory.try_reserve(total)).map_err(|_| total)?;
        self.memory.extend_from_slice(&(total as u32).to_ne_bytes());
        self.memory.push(u8::from(truncated));
        for text in texts {
            let length = text.map_or(NULL, |text| text.len() as u32);
            self.memory.extend_from_slice(&length.to_ne_bytes());
        }
        texts.iter().flatten().for_each(|text| self.memory.extend_from_slice(text));
        Ok(place)
    }

    fn spill(&mut self) {
        // SAFETY: the file is made in the transaction's memory and with its owner, so it lives
        // until the store closes it or the transaction ends. It is written where its valid part
        // ends.
        unsafe {
            if self.file.is_null() {
                let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
                pg_sys::CurrentMemoryContext = pg_sys::TopTransactionContext;
                pg_sys::CurrentResourceOwner = pg_sys::TopTransactionResourceOwner;
                self.file = pg_sys::BufFileCreateTemp(false);
                pg_sys::CurrentMemoryContext = context;
                pg_sys::CurrentResourceOwner = owner;
            }
            self.seek(self.spilled);
            pg_sys::BufFileWrite(self.file, self.memory.as_mut_ptr().cast::<c_void>(), self.memory.len());
        }
        self.spilled += self.memory.len() as u64;
        self.memory.clear();
    }

    unsafe fn seek(&self, place: u64) {
        // SAFETY: an open file; a place within it, counted from the beginning of its first segment.
        unsafe {
            if pg_sys::BufFileSeek(self.file, 0, place as pg_sys::off_t, SEEK_SET) != 0 {
                broken();
            }
        }
    }

    /// Copies the bytes of an event.
    ///
    /// # Errors
    /// Returns the number of bytes needed if there is no memory. Raises the errors of reading a
    /// temporary file.
    pub fn read(&self, place: u64) -> Result<Vec<u8>, usize> {
        let mut bytes = Vec::new();
        let mut length = [0; 4];
        self.copy(place, &mut length);
        let total = u32::from_ne_bytes(length) as usize;
        memory::fallible(|| bytes.try_reserve_exact(total)).map_err(|_| total)?;
        bytes.resize(total, 0);
        self.copy(place, &mut bytes);
        Ok(bytes)
    }

    fn copy(&self, place: u64, target: &mut [u8]) {
        if let Some(at) = place.checked_sub(self.spilled) {
            let at = at as usize;
            target.copy_from_slice(&self.memory[at..at + target.len()]);
            return;
        }
        // SAFETY: the file holds the event as a whole; the target has room for the bytes that are
        // read.
        unsafe {
            self.seek(place);
            let read = pg_sys::BufFileRead(self.file, target.as_mut_ptr().cast::<c_void>(), target.len());
            if read != target.len() {
                broken();
            }
        }
    }

    /// Discards the events from a place on. Does not allocate or fail.
    pub fn cut(&mut self, place: u64) {
        match place.checked_sub(self.spilled) {
            Some(at) => self.memory.truncate(at as usize),
            None => {
                self.spilled = place;
                self.memory.clear();
            }
        }
    }

    /// Empties the store and closes its file, because no event is held.
    pub fn clear(&mut self) {
        let file = core::mem::replace(&mut self.file, core::ptr::null_mut());
        self.forget();
        if !file.is_null() {
            // SAFETY: an open file of this transaction, known only to this store.
            unsafe { pg_sys::BufFileClose(file) };
        }
    }

    /// Empties the store, because the transaction has ended and its file with it. Does not allocate
    /// or fail.
    pub fn forget(&mut self) {
        self.file = core::ptr::null_mut();
        self.spilled = 0;
        self.memory.clear();
        if self.memory.capacity() > KEPT_BYTES_MAX {
            self.memory = Vec::new();
        }
    }
}

/// `SEEK_SET` of the C library.
const SEEK_SET: core::ffi::c_int = 0;

fn bytes_max() -> usize {
    // SAFETY: reads a setting, in KiB; the backend has one thread.
    let kib = unsafe { pg_sys::work_mem };
    usize::try_from(kib).unwrap_or(0).saturating_mul(1024)
}

fn broken() -> ! {
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_IO_ERROR,
        "cannot read the temporary file of captured events",
        "pg_webhook",
    )
    .report(pgrx::PgLogLevel::ERROR);
    unreachable!("ERROR does not return")
}

/// Parses the bytes of an event.
pub fn parse(bytes: &[u8]) -> (bool, [Option<&[u8]>; TEXTS]) {
    let truncated = bytes[4] != 0;
    let mut from = 5 + 4 * TEXTS;
    let texts = core::array::from_fn(|i| {
        let at = 5 + 4 * i;
        let length = u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if length == NULL {
            return None;
        }
        let text = &bytes[from..from + length as usize];
        from += text.len();
        Some(text)
    });
    (truncated, texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_stored() {
        let mut texts = [None; TEXTS];
        texts[0] = Some(b"item.created".as_slice());
        texts[6] = Some(b"{}".as_slice());
        texts[7] = Some(b"".as_slice());
        let mut memory = Vec::new();
        memory.extend_from_slice(&[0; 4]);
        memory.push(1);
        for text in &texts {
            memory.extend_from_slice(&text.map_or(NULL, |text| text.len() as u32).to_ne_bytes());
        }
        texts.iter().flatten().for_each(|text| memory.extend_from_slice(text));
        assert_eq!(parse(&memory), (true, texts));
    }
}

//! The columns of a row.

use pgrx::pg_sys;

/// The columns of a row, as Postgres deforms it.
#[derive(Debug, Clone, Copy)]
pub struct Values {
    pub datums: *const pg_sys::Datum,
    pub nulls: *const bool,
}

impl Values {
    /// # Safety
    /// The arrays hold more than `at` columns.
    pub unsafe fn get(&self, at: usize) -> Option<pg_sys::Datum> {
        // SAFETY: the caller's promise.
        unsafe { (!*self.nulls.add(at)).then(|| *self.datums.add(at)) }
    }
}

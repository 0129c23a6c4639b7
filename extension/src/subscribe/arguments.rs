//! The arguments of a SQL call, taken one after the other. An SQL function with twenty of them has its list in
//! `sql/functions.sql`, and once more where they are read; nowhere else.

use pgrx::fcinfo::{pg_getarg, pg_getarg_datum};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The rest of a call's arguments.
#[derive(Debug)]
pub struct Arguments {
    call: pg_sys::FunctionCallInfo,
    next: usize,
}

impl Arguments {
    /// # Safety
    /// A call under way of a function that is declared with the arguments, in type and order, that will be taken.
    pub unsafe fn of(call: pg_sys::FunctionCallInfo) -> Self {
        Self { call, next: 0 }
    }

    /// The next argument; `None`: null.
    pub fn take<T: FromDatum>(&mut self) -> Option<T> {
        // SAFETY: the promise of `of`.
        unsafe { pg_getarg(self.call, self.advance()) }
    }

    /// The next argument as it is, of a type that Rust has no name for.
    pub fn take_datum(&mut self) -> Option<pg_sys::Datum> {
        // SAFETY: the promise of `of`.
        unsafe { pg_getarg_datum(self.call, self.advance()) }
    }

    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

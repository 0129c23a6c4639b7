//! The arguments of a SQL call, taken one after the other. An SQL function with many of them has its list in
//! `sql/functions.sql`, and once more where they are read; nowhere else.

use crate::error::Error;
use pgrx::fcinfo::{pg_getarg, pg_getarg_datum};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// The rest of a call's arguments.
#[derive(Debug)]
pub struct Arguments {
    call: pg_sys::FunctionCallInfo,
    next: usize,
}

impl Arguments {
    /// Of a function that this library knows with so many.
    ///
    /// # Errors
    /// [`Error::Outdated`] if the catalogue has it with another number: it is older than the library.
    ///
    /// # Safety
    /// A call under way of a function that is declared, if with this number of arguments, with those in type and order
    /// that will be taken.
    pub unsafe fn of(call: pg_sys::FunctionCallInfo, count: i16) -> Result<Self, Error> {
        // SAFETY: Postgres passes a valid call.
        if unsafe { (*call).nargs } != count {
            return Err(Error::Outdated);
        }
        Ok(Self { call, next: 0 })
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

    /// The next argument, of type jsonb. Not by way of `JsonB`, which panics where serde_json knows less than Postgres: at
    /// a number beyond f64.
    ///
    /// # Errors
    /// [`Error::BadOption`] in such a case.
    pub fn take_json(&mut self, option: &'static str) -> Result<Option<serde_json::Value>, Error> {
        let Some(datum) = self.take_datum() else { return Ok(None) };
        // SAFETY: the argument is declared as jsonb; its output function gives a NUL-terminated text of ours.
        let text =
            unsafe { CStr::from_ptr(pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), datum)) };
        let value = text.to_str().ok().and_then(|text| serde_json::from_str(text).ok());
        value.map(Some).ok_or_else(|| Error::BadOption {
            option,
            reason: "it holds a number that is out of range, or nests too deep".to_owned(),
            hint: "Its values are strings.",
        })
    }

    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

//! The arguments of a SQL call, taken one after the other. An SQL function with many of them has its list in
//! `sql/functions.sql`, and once more where they are read; nowhere else.

use crate::error::Error;
use crate::memory;
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
    /// [`Error::Outdated`] if the catalogue has it with another number: it is older than the library. Raises
    /// `out_of_memory` if there is no room for what Rust makes of the arguments.
    ///
    /// # Safety
    /// A call under way of a function that is declared, if with this number of arguments, with those in type and order
    /// that will be taken.
    pub unsafe fn of(call: pg_sys::FunctionCallInfo, count: i16) -> Result<Self, Error> {
        // SAFETY: Postgres passes a valid call.
        if unsafe { (*call).nargs } != count {
            return Err(Error::Outdated);
        }
        // SAFETY: a valid call of a function that the catalog knows.
        memory::room_for_input(unsafe { bytes_of_arguments(call) });
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
        // The shortest element, `1,`, becomes a value of 32 bytes in a list that has doubled.
        memory::room_for(64 * text.count_bytes());
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

/// The size of all arguments that have a length of their own, detoasted.
///
/// # Safety
/// A call under way.
unsafe fn bytes_of_arguments(call: pg_sys::FunctionCallInfo) -> usize {
    let (mut types, mut count) = (core::ptr::null_mut(), 0);
    // SAFETY: the caller's promise; `types` gets `count` entries in the current memory context. A type with length -1 is a
    // varlena.
    unsafe {
        pg_sys::get_func_signature((*(*call).flinfo).fn_oid, &raw mut types, &raw mut count);
        (0..usize::try_from(count).unwrap_or(0))
            .filter(|at| pg_sys::get_typlen(*types.add(*at)) == -1)
            .filter_map(|at| pg_getarg_datum(call, at))
            .map(|datum| pg_sys::toast_raw_datum_size(datum))
            .sum()
    }
}

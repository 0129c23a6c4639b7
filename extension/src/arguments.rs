//! Reads the arguments of an SQL call one after the other. An SQL function with many arguments
//! lists them in `sql/functions.sql`, a second time where they are read, and nowhere else.

use crate::error::Error;
use crate::memory;
use pgrx::fcinfo::{pg_getarg, pg_getarg_datum};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// The arguments of a call that are still to be read.
#[derive(Debug)]
pub struct Arguments {
    call: pg_sys::FunctionCallInfo,
    next: usize,
}

impl Arguments {
    /// Starts to read the arguments of a function that this library knows with `count` arguments.
    ///
    /// # Errors
    /// [`Error::Outdated`] if the system catalog has the function with another number of arguments,
    /// because the database's version is older than the library. Raises `out_of_memory` if there is
    /// no room for what Rust makes of the arguments.
    ///
    /// # Safety
    /// A call in progress. If the function is declared with this number of arguments, their types
    /// and order are those in which they will be taken.
    pub unsafe fn of(call: pg_sys::FunctionCallInfo, count: i16) -> Result<Self, Error> {
        // SAFETY: Postgres passes a valid call.
        if unsafe { (*call).nargs } != count {
            return Err(Error::Outdated);
        }
        // SAFETY: a valid call of a function that the catalog knows.
        memory::room_for_input(unsafe { bytes_of_arguments(call) });
        Ok(Self { call, next: 0 })
    }

    /// Takes the next argument. Returns `None` if it is null.
    pub fn take<T: FromDatum>(&mut self) -> Option<T> {
        // SAFETY: the promise of `of`.
        unsafe { pg_getarg(self.call, self.advance()) }
    }

    /// Takes the next argument as a datum, for types without a Rust type.
    pub fn take_datum(&mut self) -> Option<pg_sys::Datum> {
        // SAFETY: the promise of `of`.
        unsafe { pg_getarg_datum(self.call, self.advance()) }
    }

    /// Takes the next argument, of type jsonb. Does not use `JsonB`, which panics on JSON that
    /// serde_json rejects and Postgres accepts: a number beyond f64.
    ///
    /// # Errors
    /// [`Error::BadOption`] for such JSON.
    pub fn take_json(&mut self, option: &'static str) -> Result<Option<serde_json::Value>, Error> {
        let Some(datum) = self.take_datum() else { return Ok(None) };
        // SAFETY: the argument is declared as jsonb; its output function returns a NUL-terminated
        // text of ours.
        let text =
            unsafe { CStr::from_ptr(pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), datum)) };
        // The shortest element, `1,`, becomes a value of 32 bytes in a list that has doubled.
        memory::room_for(64 * text.count_bytes());
        let value = text.to_str().ok().and_then(|text| serde_json::from_str(text).ok());
        value.map(Some).ok_or_else(|| Error::BadOption {
            option,
            reason: "contains a number that is out of range, or is nested too deeply".to_owned(),
            hint: "The values must be strings.",
        })
    }

    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

/// Returns the size in bytes of all varlena arguments after detoasting.
///
/// # Safety
/// A call in progress.
unsafe fn bytes_of_arguments(call: pg_sys::FunctionCallInfo) -> usize {
    let (mut types, mut count) = (core::ptr::null_mut(), 0);
    // SAFETY: the caller's promise; `types` gets `count` entries in the current memory context. A
    // type with length -1 is a varlena.
    unsafe {
        pg_sys::get_func_signature((*(*call).flinfo).fn_oid, &raw mut types, &raw mut count);
        (0..usize::try_from(count).unwrap_or(0))
            .filter(|at| pg_sys::get_typlen(*types.add(*at)) == -1)
            .filter_map(|at| pg_getarg_datum(call, at))
            .map(|datum| pg_sys::toast_raw_datum_size(datum))
            .sum()
    }
}

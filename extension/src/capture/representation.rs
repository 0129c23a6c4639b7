//! Payload functions: the API's own form of a row. A payload function returns json or jsonb for the
//! row type; it was named when the table was watched.
//!
//! It is called with the rights of the role that writes the row, and nothing elevates them. A null
//! result means that the row has no representation, and no event is emitted for it.

use core::ffi::{CStr, c_char};
use std::ffi::CString;

use pgrx::pg_sys;

use super::root::Root;
use crate::error::Error;
use crate::{compat, json};

#[derive(Debug)]
pub struct Representation {
    /// Quoted, qualified name, in the database's encoding.
    function: CString,
    /// Row type of the watched table, the function's argument.
    row_type: pg_sys::Oid,
    /// Descriptor of the watched table, in the plan's memory.
    descriptor: pg_sys::TupleDesc,
    /// Maps a partition's columns to the table's; null if both have the same layout.
    map: *mut pg_sys::TupleConversionMap,
}

/// The function, looked up once per statement. Its plans (if it is in SQL) and its rights must not
/// be kept longer.
struct OutputCall {
    function: pg_sys::FmgrInfo,
    is_jsonb: bool,
}

impl Representation {
    /// Prepares the calls of a payload function.
    ///
    /// # Safety
    /// `descriptor`, of the relation `own`, and `memory` live as long as the result.
    pub unsafe fn new(
        function: std::borrow::Cow<'_, [u8]>,
        root: &Root,
        own: pg_sys::Oid,
        descriptor: pg_sys::TupleDesc,
        memory: pg_sys::MemoryContext,
    ) -> Self {
        let function = CString::new(function.into_owned()).unwrap_or_default();
        // SAFETY: the descriptors are valid; everything that must last is made in `memory`.
        unsafe {
            let caller = pg_sys::MemoryContextSwitchTo(memory);
            let target = pg_sys::CreateTupleDescCopyConstr(root.descriptor);
            let map = if own == root.oid {
                core::ptr::null_mut()
            } else {
                pg_sys::convert_tuples_by_name(descriptor, target)
            };
            pg_sys::MemoryContextSwitchTo(caller);
            Self { function, row_type: (*target).tdtypeid, descriptor: target, map }
        }
    }

    /// Returns the JSON of a row, or `None` if the function returns null. The text is in the
    /// current memory context.
    ///
    /// `site` is the trigger's own FmgrInfo, which lives for a statement and keeps the look-up. If
    /// it is null, nothing keeps the look-up.
    ///
    /// # Errors
    /// Raises an error if the function does not exist, if the role may not execute it, if it
    /// returns another type, or if it raises an error itself.
    ///
    /// # Safety
    /// `tuple` is a row of the relation that the representation was made for.
    pub unsafe fn of<'a>(&self, tuple: pg_sys::HeapTuple, site: *mut pg_sys::FmgrInfo) -> Option<&'a [u8]> {
        // SAFETY: the caller's promise; the call lives in the site's memory or in the current
        // context.
        unsafe {
            let call = self.call(site);
            let tuple =
                if self.map.is_null() { tuple } else { pg_sys::execute_attr_map_tuple(tuple, self.map) };
            let row = pg_sys::heap_copy_tuple_as_datum(tuple, self.descriptor);
            let result = compat::call_nullable(&raw mut (*call).function, row)?;
            if (*call).is_jsonb {
                let text: *mut c_char = pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), result);
                Some(CStr::from_ptr(text).to_bytes())
            } else {
                Some(json::bytes_of(result))
            }
        }
    }

    unsafe fn call(&self, site: *mut pg_sys::FmgrInfo) -> *mut OutputCall {
        // SAFETY: `fn_extra` of our own trigger function is null, or the pointer that is stored
        // below for the same statement.
        unsafe {
            if !site.is_null() && !(*site).fn_extra.is_null() {
                return (*site).fn_extra.cast();
            }
            let memory = if site.is_null() { pg_sys::CurrentMemoryContext } else { (*site).fn_mcxt };
            let call = self.look_up(memory);
            if !site.is_null() {
                (*site).fn_extra = call.cast();
            }
            call
        }
    }

    unsafe fn look_up(&self, memory: pg_sys::MemoryContext) -> *mut OutputCall {
        let name = || self.function.to_string_lossy().into_owned();
        // SAFETY: look-ups by name and OID; the result lives in `memory`.
        unsafe {
            let names = compat::qualified_name(&self.function);
            let function = pg_sys::LookupFuncName(names, 1, &self.row_type, true);
            if function == pg_sys::Oid::INVALID {
                Error::NoPayloadFunction { function: name() }.raise();
            }
            let returns = pg_sys::get_func_rettype(function);
            if returns != pg_sys::JSONOID && returns != pg_sys::JSONBOID {
                Error::NotAPayloadFunction { function: name() }.raise();
            }
            compat::check_may_execute(function, &self.function);
            let call = pg_sys::MemoryContextAllocZero(memory, size_of::<OutputCall>()).cast::<OutputCall>();
            pg_sys::fmgr_info_cxt(function, &raw mut (*call).function, memory);
            if (*call).function.fn_retset {
                Error::NotAPayloadFunction { function: name() }.raise();
            }
            (*call).is_jsonb = returns == pg_sys::JSONBOID;
            call
        }
    }
}

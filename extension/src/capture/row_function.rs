//! Functions from a table's row type that were named when the table was watched. A payload function
//! returns the API's own form of a row; an owner function returns the owner of the row's events.
//!
//! They are called with the rights of the role that writes the row, and nothing elevates them. A
//! null payload means that the row has no representation, and no event is emitted for it. A null
//! owner means that the event has no owner.

use core::ffi::{CStr, c_char};
use std::ffi::CString;

use pgrx::pg_sys;

use super::root::Root;
use crate::definition::RowFunctionKind;
use crate::error::Error;
use crate::{compat, json};

#[derive(Debug)]
pub struct RowFunction {
    kind: RowFunctionKind,
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
    /// Has no number until it is looked up.
    function: pg_sys::FmgrInfo,
    is_jsonb: bool,
}

/// The calls of a trigger, by [`RowFunctionKind`].
type OutputCalls = [OutputCall; RowFunctionKind::COUNT];

impl RowFunction {
    /// Prepares the calls of a function.
    ///
    /// # Safety
    /// `descriptor`, of the relation `own`, and `memory` live as long as the result.
    pub unsafe fn new(
        kind: RowFunctionKind,
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
            Self { kind, function, row_type: (*target).tdtypeid, descriptor: target, map }
        }
    }

    /// Returns the text of the result for a row, or `None` if the function returns null. The text
    /// is in the current memory context.
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
        // below for the same statement. Zeroes are calls that have not been looked up.
        unsafe {
            let (memory, calls) = if site.is_null() {
                (pg_sys::CurrentMemoryContext, core::ptr::null_mut())
            } else {
                ((*site).fn_mcxt, (*site).fn_extra.cast::<OutputCalls>())
            };
            let calls = if calls.is_null() {
                pg_sys::MemoryContextAllocZero(memory, size_of::<OutputCalls>()).cast::<OutputCalls>()
            } else {
                calls
            };
            if !site.is_null() {
                (*site).fn_extra = calls.cast();
            }
            let call = &raw mut (*calls)[self.kind as usize];
            if (*call).function.fn_oid == pg_sys::Oid::INVALID {
                self.look_up(call, memory);
            }
            call
        }
    }

    unsafe fn look_up(&self, call: *mut OutputCall, memory: pg_sys::MemoryContext) {
        let name = || self.function.to_string_lossy().into_owned();
        let is_of_no_kind = || Error::NotARowFunction { kind: self.kind, function: name() };
        // SAFETY: look-ups by name and OID; the result lives in `memory`. The number is set last:
        // an error leaves a call that has not been looked up.
        unsafe {
            let names = compat::qualified_name(&self.function);
            let function = pg_sys::LookupFuncName(names, 1, &self.row_type, true);
            if function == pg_sys::Oid::INVALID {
                Error::NoRowFunction { kind: self.kind, function: name() }.raise();
            }
            let returns = pg_sys::get_func_rettype(function);
            let fits = match self.kind {
                RowFunctionKind::Payload => returns == pg_sys::JSONOID || returns == pg_sys::JSONBOID,
                RowFunctionKind::Owner => returns == pg_sys::TEXTOID,
            };
            if !fits || pg_sys::get_func_retset(function) {
                is_of_no_kind().raise();
            }
            compat::check_may_execute(function, &self.function);
            (*call).is_jsonb = returns == pg_sys::JSONBOID;
            pg_sys::fmgr_info_cxt(function, &raw mut (*call).function, memory);
        }
    }
}

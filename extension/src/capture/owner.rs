//! The owner of a row's events: the text of a column, the result of a function, or a setting of the
//! session.
//!
//! Capture never fails a statement for the sake of an owner's name, and never guesses one. A text
//! that cannot be the name of an owner makes an event without an owner: it is empty, too long, or
//! has control characters. The same holds for `*`, which stands for every owner. Only
//! `webhook_emit()` makes announcements; a tenant that names itself `*` must not reach all others.
//! A column that cannot be found, or that may be another one, gives events no owner either.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use super::planned::PlannedColumn;
use super::row_function::RowFunction;
use super::values::Values;
use crate::memory::Bytes;
use crate::owner_name::{self, EVERY};
use crate::{encoding, json};

/// The source of the owners of a watched table.
#[derive(Debug)]
pub enum OwnerSource {
    None,
    Column(PlannedColumn),
    Function(RowFunction),
    Setting(CString),
}

impl OwnerSource {
    /// Reports whether the owner follows from the row. If it does not, it belongs to the session,
    /// and a row has no former owner.
    pub fn is_of_row(&self) -> bool {
        matches!(self, Self::Column(_) | Self::Function(_))
    }

    /// Writes the owner of a row. Writes nothing if the row has none.
    ///
    /// # Errors
    /// Raises the errors of the function, and of the column's output function.
    ///
    /// # Safety
    /// `values` and `tuple` are both forms of one row of the relation that this source was planned
    /// for.
    pub unsafe fn write(
        &self,
        out: &mut Bytes,
        values: Values,
        tuple: pg_sys::HeapTuple,
        site: *mut pg_sys::FmgrInfo,
    ) {
        out.clear();
        match self {
            Self::None => return,
            // SAFETY: the caller's promise.
            Self::Column(column) => unsafe {
                if let Some(value) = values.get(column.compared.at) {
                    let written = column.printer.write(out, value, json::Form::Text, owner_name::BYTES_MAX);
                    if written.is_err() {
                        out.clear();
                    }
                }
            },
            // SAFETY: the caller's promise.
            Self::Function(function) => unsafe {
                if let Some(text) = json::with_settings(|| function.of(tuple, site)) {
                    keep(out, text);
                }
            },
            Self::Setting(name) => write_setting(out, name),
        }
        check(out);
    }

    /// Writes the owner of an event that has no row.
    pub fn write_without_row(&self, out: &mut Bytes) {
        out.clear();
        if let Self::Setting(name) = self {
            write_setting(out, name);
            check(out);
        }
    }
}

/// Returns a written owner. An empty text stands for none.
pub fn text(written: &Bytes) -> Option<&[u8]> {
    (!written.is_empty()).then_some(written.as_slice())
}

/// Writes what current_setting(name, true) returns.
fn write_setting(out: &mut Bytes, name: &CStr) {
    // SAFETY: a NUL-terminated name. Returns null if there is no such setting. The text is valid
    // until the setting changes, and is copied at once.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if !value.is_null() {
            keep(out, CStr::from_ptr(value).to_bytes());
        }
    }
}

/// Copies a text, unless it is too long to be a name.
fn keep(out: &mut Bytes, text: &[u8]) {
    if text.len() <= owner_name::BYTES_MAX {
        out.extend_from_slice(text);
    }
}

/// Removes a text that is not the name of an owner. Postgres does not check the encoding of some
/// settings.
fn check(out: &mut Bytes) {
    let text = out.as_slice();
    if text == EVERY.as_bytes() || !encoding::is_valid(text) || owner_name::flaw_of_bytes(text).is_some() {
        out.clear();
    }
}

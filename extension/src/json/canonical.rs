//! The canonical text of a value: one text for one value, under any settings of the session. Rows
//! are filtered, compared, and deduplicated by this text.
//!
//! Output functions of Postgres read settings from its global variables. [`Style`] changes those
//! variables while one value is printed, and always restores them. It does not touch the settings
//! themselves. That is cheap, but only code that sets no setting may run meanwhile: an abort would
//! restore a setting to the value found in the global variable. Functions of the application get
//! settings that are set for the call, as a SET clause sets them ([`with_settings`]).
//!
//! The canonical form uses UTC, ISO 8601, hexadecimal, shortest floats, and qualified names of
//! objects outside pg_catalog.

use core::ffi::{CStr, c_int};
use std::cell::Cell;

use pgrx::pg_sys;

use super::influence::Influence;
use crate::rights::set_locally;

// The values of BYTEA_OUTPUT_HEX (utils/bytea.h) and INTSTYLE_ISO_8601 (miscadmin.h).
const HEX: c_int = 1;
const ISO_8601: c_int = 3;
const ISO_DATES: c_int = pg_sys::USE_ISO_DATES as c_int;
/// Every value from 1 on prints floats in their shortest exact form.
const SHORTEST: c_int = 1;

/// Calls `work` to print a value of a type with this influence, in the canonical form.
///
/// # Errors
/// Raises the errors of `work`.
pub fn printing<R>(influence: Influence, work: impl FnOnce() -> R) -> R {
    match influence {
        Influence::Nothing => work(),
        Influence::Style => {
            let _style = Style::begin();
            work()
        }
        Influence::Names => with_names(|| {
            let _style = Style::begin();
            work()
        }),
        Influence::Functions => with_settings(work),
    }
}

/// Makes values print in the canonical form for as long as it lives.
struct Style {
    timezone: *mut pg_sys::pg_tz,
    date_style: c_int,
    interval_style: c_int,
    bytea_output: c_int,
    float_digits: c_int,
}

impl Style {
    fn begin() -> Self {
        // SAFETY: a backend has one thread; the time zone lives as long as the backend.
        unsafe {
            let before = Self {
                timezone: pg_sys::session_timezone,
                date_style: pg_sys::DateStyle,
                interval_style: pg_sys::IntervalStyle,
                bytea_output: global::bytea_output,
                float_digits: pg_sys::extra_float_digits,
            };
            let utc = utc().0;
            if !utc.is_null() {
                pg_sys::session_timezone = utc;
            }
            pg_sys::DateStyle = ISO_DATES;
            pg_sys::IntervalStyle = ISO_8601;
            global::bytea_output = HEX;
            pg_sys::extra_float_digits = SHORTEST;
            before
        }
    }
}

impl Drop for Style {
    fn drop(&mut self) {
        // SAFETY: as above. An error in an output function unwinds through here (crate::protect).
        unsafe {
            pg_sys::session_timezone = self.timezone;
            pg_sys::DateStyle = self.date_style;
            pg_sys::IntervalStyle = self.interval_style;
            global::bytea_output = self.bytea_output;
            pg_sys::extra_float_digits = self.float_digits;
        }
    }
}

/// Calls code of the application, which prints values itself, with settings that make it print the
/// canonical form. Settings that `work` makes for the session or the transaction remain, as after a
/// function with a SET clause.
///
/// # Errors
/// Raises the errors of `work`; the abort of the (sub)transaction restores the settings.
pub fn with_settings<R>(work: impl FnOnce() -> R) -> R {
    let (utc, utc_name) = utc();
    // SAFETY: reads variables of the backend.
    let settings = unsafe {
        [
            (pg_sys::session_timezone != utc && !utc.is_null(), c"TimeZone", utc_name),
            (pg_sys::DateStyle != ISO_DATES, c"DateStyle", c"ISO"),
            (pg_sys::IntervalStyle != ISO_8601, c"IntervalStyle", c"iso_8601"),
            (global::bytea_output != HEX, c"bytea_output", c"hex"),
            (pg_sys::extra_float_digits < SHORTEST, c"extra_float_digits", c"1"),
        ]
    };
    if settings.iter().all(|(differs, ..)| !differs) {
        return work();
    }
    within_level(|| {
        for (_, name, value) in settings.iter().filter(|(differs, ..)| *differs) {
            set_locally(name, value);
        }
        work()
    })
}

/// Calls `work` with settings that qualify the names of tables, functions, and types, unless they
/// are in pg_catalog. The names are quoted where necessary.
fn with_names<R>(work: impl FnOnce() -> R) -> R {
    within_level(|| {
        set_locally(c"search_path", c"pg_catalog");
        set_locally(c"quote_all_identifiers", c"off");
        work()
    })
}

/// Calls `work`, then reverts the settings that it made locally.
fn within_level<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: a nest level that is closed below or by the abort, like the SET clause of a function.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    let result = work();
    // SAFETY: closes the level opened above.
    unsafe { pg_sys::AtEOXact_GUC(true, level) };
    result
}

thread_local! {
    /// Looked up once: Postgres keeps each zone that it has loaded.
    static UTC: Cell<(*mut pg_sys::pg_tz, &'static CStr)> = const { Cell::new((core::ptr::null_mut(), c"")) };
}

/// Returns the zone UTC and the name that found it. Postgres knows GMT without its time zone files.
fn utc() -> (*mut pg_sys::pg_tz, &'static CStr) {
    let known = UTC.get();
    if !known.0.is_null() {
        return known;
    }
    for name in [c"UTC", c"GMT"] {
        // SAFETY: a NUL-terminated name; null if there is no such zone.
        let zone = unsafe { pg_sys::pg_tzset(name.as_ptr()) };
        if !zone.is_null() {
            UTC.set((zone, name));
            break;
        }
    }
    UTC.get()
}

mod global {
    unsafe extern "C" {
        /// pgrx does not declare this variable (utils/bytea.h).
        pub static mut bytea_output: core::ffi::c_int;
    }
}

//! One text for one value, whatever the session's settings: for keys, which are compared as text.
//!
//! Output functions read settings from Postgres's globals. While a key is printed those are changed, and put back
//! whatever happens; the settings themselves are not touched, and nothing but output functions and casts runs meanwhile.

use core::ffi::c_int;

use pgrx::pg_sys;

/// As long as it lives, values print in one form: UTC, ISO 8601, hexadecimal, shortest floats.
pub struct Canonical {
    timezone: *mut pg_sys::pg_tz,
    date_style: c_int,
    interval_style: c_int,
    bytea_output: c_int,
    float_digits: c_int,
}

impl Canonical {
    pub fn begin() -> Self {
        // The numbers of BYTEA_OUTPUT_HEX (utils/bytea.h) and INTSTYLE_ISO_8601 (miscadmin.h).
        const HEX: c_int = 1;
        const ISO_8601: c_int = 3;
        // SAFETY: a backend has one thread; the time zone is one that Postgres always knows, and keeps.
        unsafe {
            let before = Self {
                timezone: pg_sys::session_timezone,
                date_style: pg_sys::DateStyle,
                interval_style: pg_sys::IntervalStyle,
                bytea_output: global::bytea_output,
                float_digits: pg_sys::extra_float_digits,
            };
            let utc = pg_sys::pg_tzset(c"GMT".as_ptr());
            if !utc.is_null() {
                pg_sys::session_timezone = utc;
            }
            pg_sys::DateStyle = pg_sys::USE_ISO_DATES as c_int;
            pg_sys::IntervalStyle = ISO_8601;
            global::bytea_output = HEX;
            pg_sys::extra_float_digits = 1;
            before
        }
    }
}

impl Drop for Canonical {
    fn drop(&mut self) {
        // SAFETY: as above. An error in an output function unwinds past here (crate::protect).
        unsafe {
            pg_sys::session_timezone = self.timezone;
            pg_sys::DateStyle = self.date_style;
            pg_sys::IntervalStyle = self.interval_style;
            global::bytea_output = self.bytea_output;
            pg_sys::extra_float_digits = self.float_digits;
        }
    }
}

mod global {
    unsafe extern "C" {
        /// Not among pgrx's (utils/bytea.h).
        pub static mut bytea_output: core::ffi::c_int;
    }
}

//! Converts between the database's encoding and UTF-8, for the few texts that Rust parses itself (a
//! trigger's argument). [`replace`] is for sessions that must read every text.

mod replace;

use std::borrow::Cow;
use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

/// Converts text of the database to UTF-8.
///
/// # Errors
/// Raises an error if a character has no equivalent.
pub fn to_utf8(text: &[u8]) -> Cow<'_, [u8]> {
    convert(text, |source, len| {
        // SAFETY: reads `len` bytes; returns the source or a new NUL-terminated text.
        unsafe { pg_sys::pg_server_to_any(source, len, pg_sys::pg_enc::PG_UTF8 as i32) }
    })
}

/// Converts UTF-8 to text of the database.
///
/// # Errors
/// Raises an error if a character has no equivalent.
pub fn from_utf8(text: &str) -> Cow<'_, [u8]> {
    convert(text.as_bytes(), |source, len| {
        // SAFETY: as above.
        unsafe { pg_sys::pg_any_to_server(source, len, pg_sys::pg_enc::PG_UTF8 as i32) }
    })
}

/// Reports whether these bytes are text in the database's encoding.
pub fn is_valid(text: &[u8]) -> bool {
    // Every encoding that a server can have includes ASCII.
    // SAFETY: reads `text.len()` bytes, and raises nothing.
    text.is_ascii() || unsafe { pg_sys::pg_verifymbstr(text.as_ptr().cast(), text.len() as i32, true) }
}

fn convert(text: &[u8], with: impl Fn(*const c_char, i32) -> *mut c_char) -> Cow<'_, [u8]> {
    let source = text.as_ptr().cast::<c_char>();
    let converted = with(source, text.len() as i32);
    if core::ptr::eq(converted, source) {
        Cow::Borrowed(text)
    } else {
        // SAFETY: a NUL-terminated text in the current memory context.
        Cow::Owned(unsafe { CStr::from_ptr(converted) }.to_bytes().to_owned())
    }
}

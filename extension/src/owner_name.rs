//! The rule for names of owners: of subscriptions, of tenants, and of events. Reads the encoding of
//! the database, and nothing else.

use pgrx::pg_sys;

/// Maximum length of a name, in characters.
pub const CHARS_MAX: usize = 200;
/// Longest text in bytes that can be a name. No encoding has longer characters.
pub const BYTES_MAX: usize = 4 * CHARS_MAX;
/// As the owner of an event, this stands for every owner. It is not a name.
pub const EVERY: &str = "*";

/// Returns what makes a text unusable as a name, or `None`.
pub fn flaw(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        Some("must not be blank")
    } else if text.chars().count() > CHARS_MAX || text.chars().any(char::is_control) {
        Some("must have at most 200 characters and no control characters")
    } else {
        None
    }
}

/// Does what [`flaw`] does for a text in the database's encoding. Never raises an error, also for a
/// text that has no equivalent in UTF-8.
pub fn flaw_of_bytes(text: &[u8]) -> Option<&'static str> {
    if text.len() > BYTES_MAX {
        return flaw("\0");
    }
    if let Ok(text) = core::str::from_utf8(text)
        && (text.is_ascii() || is_utf8())
    {
        return flaw(text);
    }
    // Every encoding that a server can have includes ASCII.
    // SAFETY: reads `text.len()` bytes, and raises nothing.
    let count = unsafe { pg_sys::pg_mbstrlen_with_len(text.as_ptr().cast(), text.len() as i32) };
    let is_control = text.iter().any(|byte| byte.is_ascii_control());
    if is_control || usize::try_from(count).is_ok_and(|count| count > CHARS_MAX) { flaw("\0") } else { None }
}

fn is_utf8() -> bool {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

//! Text that UTF-8 lacks, and UTF-8 that the database lacks.
//!
//! A database that is not in UTF-8 may hold bytes without a meaning: 0x81 in WIN1252, any byte in
//! SQL_ASCII. Every role that may insert into a watched table can write one. A session in UTF-8
//! that reads it gets an error, and could read no event behind it either. So the daemon calls
//! `webhook.replace_untranslatable()`. From then on, the session reads U+FFFD in place of what
//! UTF-8 lacks, and stores `<U+0142>` in place of a character that the database lacks. What other
//! sessions read and write is unchanged, and so is what is stored.
//!
//! Postgres looks up the conversion of a client's encoding by the search path. The schema `webhook`
//! has a pair of default conversions between the database's encoding and UTF-8 (`sql/tables.sql`),
//! which only this call selects. Without it, they do what the built-in ones do.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::fcinfo::{pg_getarg, pg_getarg_datum};
use pgrx::{pg_sys, prelude::*};

use crate::compat;
use crate::memory;
use crate::rights;

const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;
const SQL_ASCII: i32 = pg_sys::pg_enc::PG_SQL_ASCII as i32;

/// U+FFFD, the replacement character.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Bytes that UTF-8 never contains mark untranslatable bytes in [`exact_utf8`].
const MARK: u8 = 0xff;

/// The built-in conversions of the database's encoding, kept for the life of the backend: they are
/// needed outside of transactions too, where the system catalog cannot be read.
struct BuiltIn {
    to_utf8: pg_sys::FmgrInfo,
    from_utf8: pg_sys::FmgrInfo,
}

thread_local! {
    static BUILT_IN: Cell<*mut BuiltIn> = const { Cell::new(core::ptr::null_mut()) };
    /// Set by `webhook.replace_untranslatable()`.
    static REPLACES: Cell<bool> = const { Cell::new(false) };
}

fn database_encoding() -> i32 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetDatabaseEncoding() }
}

/// Returns the built-in conversions. Reads the system catalog the first time.
///
/// # Errors
/// Raises `undefined_function` if Postgres has no conversion between these encodings.
fn built_in() -> *mut BuiltIn {
    if BUILT_IN.get().is_null() {
        let find = |from: i32, to: i32| {
            // SAFETY: a look-up in the system catalog, and a handle in memory that stays.
            unsafe {
                let found = compat::FindDefaultConversion(pg_sys::PG_CATALOG_NAMESPACE.into(), from, to);
                if found == pg_sys::Oid::INVALID {
                    pgrx::ereport!(
                        ERROR,
                        PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                        "there is no conversion between the database's encoding and UTF-8"
                    );
                }
                let mut function = pg_sys::FmgrInfo::default();
                pg_sys::fmgr_info_cxt(found, &raw mut function, pg_sys::TopMemoryContext);
                function
            }
        };
        let encoding = database_encoding();
        let (to_utf8, from_utf8) = (find(encoding, UTF8), find(UTF8, encoding));
        BUILT_IN.set(Box::leak(Box::new(BuiltIn { to_utf8, from_utf8 })));
    }
    BUILT_IN.get()
}

/// Calls a built-in conversion. Returns how many bytes of the source it has converted; the result
/// ends with a NUL.
///
/// # Safety
/// `result` has room for four times the source and a NUL.
unsafe fn call(
    function: *mut pg_sys::FmgrInfo,
    (from, to): (i32, i32),
    source: &[u8],
    result: *mut u8,
    no_error: bool,
) -> usize {
    // SAFETY: the caller's promise; the arguments are those of every conversion function.
    let converted = unsafe {
        pg_sys::FunctionCall6Coll(
            function,
            pg_sys::Oid::INVALID,
            pg_sys::Datum::from(from),
            pg_sys::Datum::from(to),
            pg_sys::Datum::from(source.as_ptr()),
            pg_sys::Datum::from(result),
            pg_sys::Datum::from(source.len() as i32),
            pg_sys::Datum::from(no_error),
        )
    };
    usize::try_from(converted.value() as i32).unwrap_or(0)
}

/// How many bytes at the beginning belong together: those of a valid character, or one.
fn character_len(encoding: i32, text: &[u8]) -> usize {
    // SAFETY: reads within the slice.
    let len = unsafe { pg_sys::pg_encoding_verifymbchar(encoding, text.as_ptr().cast(), text.len() as i32) };
    usize::try_from(len).unwrap_or(0).clamp(1, text.len())
}

/// Converts as far as possible, and passes each untranslatable character to `replace`, which writes
/// to the given place and returns the number of bytes written, at most four for each byte.
/// Returns the length of the result without the NUL at its end.
///
/// # Safety
/// `result` has room for four times the source and a NUL.
unsafe fn convert_all(
    encodings: (i32, i32),
    function: *mut pg_sys::FmgrInfo,
    mut source: &[u8],
    result: *mut u8,
    replace: impl Fn(&[u8], *mut u8) -> usize,
) -> usize {
    let mut len = 0;
    // SAFETY: the caller's promise. A conversion ends with a NUL, and contains none.
    unsafe {
        while !source.is_empty() {
            let end = result.add(len);
            *end = 0;
            let done = call(function, encodings, source, end, true).min(source.len());
            len += CStr::from_ptr(end.cast()).count_bytes();
            source = &source[done..];
            if !source.is_empty() {
                let character = character_len(encodings.0, source);
                len += replace(&source[..character], result.add(len));
                source = &source[character..];
            }
        }
        *result.add(len) = 0;
    }
    len
}

/// Writes a few bytes, and returns how many.
///
/// # Safety
/// There is room for them.
unsafe fn put(text: &[u8], at: *mut u8) -> usize {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), at, text.len()) };
    text.len()
}

/// The text for a character of UTF-8 that the database lacks. Four bytes for each of its bytes are
/// enough: `<U+0142>` has eight.
fn named(character: &[u8]) -> String {
    match std::str::from_utf8(character).ok().and_then(|text| text.chars().next()) {
        Some(character) if character as u32 >= 0x80 => format!("<U+{:04X}>", character as u32),
        _ => "?".to_owned(),
    }
}

/// The function of the conversions in schema `webhook`.
#[pg_extern(sql = false)]
fn convert_encoding(info: pg_sys::FunctionCallInfo) -> i32 {
    // SAFETY: Postgres calls conversions with these arguments, and with room for four times the
    // source.
    unsafe {
        let number = |at| pg_getarg::<i32>(info, at).unwrap_or(0);
        let pointer =
            |at| pg_getarg_datum(info, at).map_or(core::ptr::null_mut(), |p| p.cast_mut_ptr::<u8>());
        let (encodings, len) = ((number(0), number(1)), number(4));
        let source = core::slice::from_raw_parts(pointer(2), usize::try_from(len).unwrap_or(0));
        let result = pointer(3);
        let no_error = pg_getarg::<bool>(info, 5).unwrap_or(false);
        let built_in = built_in();
        let function =
            if encodings.1 == UTF8 { &raw mut (*built_in).to_utf8 } else { &raw mut (*built_in).from_utf8 };
        if !REPLACES.get() {
            return call(function, encodings, source, result, no_error) as i32;
        }
        convert_all(encodings, function, source, result, |character, at| {
            if encodings.1 == UTF8 { put(REPLACEMENT, at) } else { put(named(character).as_bytes(), at) }
        });
        len
    }
}

/// `webhook.replace_untranslatable()`.
#[pg_extern(sql = false)]
fn replace_untranslatable() {
    match database_encoding() {
        UTF8 => {}
        // No conversion exists. The client reads the bytes as they are.
        SQL_ASCII => rights::set_for_session(c"client_encoding", c"SQL_ASCII"),
        _ => {
            built_in();
            REPLACES.set(true);
            rights::with_search_path(c"webhook, pg_catalog, pg_temp", || {
                // SAFETY: as SET client_encoding does; the look-up needs the transaction that a
                // function call has.
                unsafe {
                    if pg_sys::PrepareClientEncoding(UTF8) >= 0 {
                        pg_sys::SetClientEncoding(UTF8);
                    }
                }
            });
        }
    }
}

/// `webhook.exact_utf8(text)`: the text in UTF-8, different for different texts. What UTF-8 lacks
/// is marked, byte for byte.
#[pg_extern(sql = false)]
fn exact_utf8(text: &[u8]) -> Vec<u8> {
    let encoding = database_encoding();
    memory::room_for_input(text.len());
    if encoding == UTF8 || encoding == SQL_ASCII || text.is_ascii() {
        return text.to_owned();
    }
    let mut result = Vec::new();
    memory::reserve(&mut result, 4 * text.len() + 1);
    let built_in = built_in();
    // SAFETY: the buffer has the room that conversions need, and as much of it is written as they
    // say.
    unsafe {
        let function = &raw mut (*built_in).to_utf8;
        let len = convert_all((encoding, UTF8), function, text, result.as_mut_ptr(), |character, at| {
            let mut written = 0;
            for byte in character {
                written += put(&[MARK, *byte], at.add(written));
            }
            written
        });
        result.set_len(len);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_character_that_the_database_lacks_is_named_in_the_room_that_there_is() {
        for (character, name) in
            [("ł", "<U+0142>"), ("€", "<U+20AC>"), ("😀", "<U+1F600>"), ("\u{80}", "<U+0080>")]
        {
            assert_eq!(named(character.as_bytes()), name);
            assert!(name.len() <= 4 * character.len(), "{character}");
        }
        assert_eq!(named(&[0x81]), "?");
        assert_eq!(named(&[0xc5]), "?");
    }
}

//! Prints the values of one type. A printer holds the category that `row_to_json` would put the
//! type in, and its output function; both are looked up once. The session's settings make no
//! difference (`canonical`).
//!
//! Reads the system catalog when a printer is made. Detoasts values and calls output functions when
//! it prints.

use core::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys;

use super::canonical::printing;
use super::cast::cast_to_json;
use super::influence::Influence;
use super::{TooLong, write_string};
use crate::compat::unguarded;
use crate::memory::Bytes;
use crate::protect::protect;

/// Longest date or time, in bytes (MAXDATELEN and a NUL).
const DATE_BYTES_MAX: usize = 129;

/// Bytes of the longest `i64`, sign included.
const INTEGER_BYTES_MAX: usize = 20;

/// The form of a printed value: a JSON value, or the bare text that `->>` returns for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Text,
}

/// The categories of `json_categorize_type`, which Postgres does not export. The first five are
/// ours, for speed.
#[derive(Debug, Clone, Copy)]
enum Category {
    Int2,
    Int4,
    Int8,
    Bool,
    /// text, varchar, char(n): the bytes are the output.
    Text,
    /// float and numeric: as printed, but NaN and the infinities as strings.
    Number,
    /// date, timestamp, timestamptz: in ISO 8601 and UTC under any DateStyle.
    Date,
    /// json: the bytes are the output.
    Json,
    /// jsonb: the output is JSON.
    Jsonb,
    Array,
    Composite,
    /// An extension's type with a cast to json.
    Cast,
    Other,
}

/// Prints values of one type.
#[derive(Debug)]
pub struct Printer {
    category: Category,
    /// The base type of the column's type. For `Cast`, the function.
    oid: pg_sys::Oid,
    /// Output function; null for categories that need none. Lives as long as the memory context
    /// given to `new`.
    output: *mut pg_sys::FmgrInfo,
    /// The settings that the functions which print the type would follow.
    influence: Influence,
}

impl Printer {
    /// Looks up how values of a type are printed.
    ///
    /// # Safety
    /// The printer is not used after `memory` has been reset or deleted.
    pub unsafe fn new(column_type: pg_sys::Oid, memory: pg_sys::MemoryContext) -> Self {
        // SAFETY: look-ups of a type that exists, because a column has it.
        let oid = unsafe { pg_sys::getBaseType(column_type) };
        let (category, oid) = match oid {
            pg_sys::INT2OID => (Category::Int2, oid),
            pg_sys::INT4OID => (Category::Int4, oid),
            pg_sys::INT8OID => (Category::Int8, oid),
            pg_sys::BOOLOID => (Category::Bool, oid),
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => (Category::Text, oid),
            pg_sys::FLOAT4OID | pg_sys::FLOAT8OID | pg_sys::NUMERICOID => (Category::Number, oid),
            pg_sys::DATEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => (Category::Date, oid),
            pg_sys::JSONOID => (Category::Json, oid),
            pg_sys::JSONBOID => (Category::Jsonb, oid),
            // SAFETY: look-ups by type.
            _ => unsafe { Self::categorize(oid) },
        };
        let mut output = core::ptr::null_mut();
        let mut influence = Influence::Nothing;
        if matches!(category, Category::Number | Category::Jsonb | Category::Other) {
            // SAFETY: the FmgrInfo and the data that the function attaches to it live in the same
            // context.
            unsafe {
                let mut function = pg_sys::Oid::INVALID;
                let mut is_varlena = false;
                pg_sys::getTypeOutputInfo(oid, &mut function, &mut is_varlena);
                output = pg_sys::MemoryContextAllocZero(memory, size_of::<pg_sys::FmgrInfo>()).cast();
                pg_sys::fmgr_info_cxt(function, output, memory);
                influence = Influence::on(oid);
            }
        } else if matches!(category, Category::Array | Category::Composite) {
            // SAFETY: a look-up of a type that exists.
            influence = unsafe { Influence::on(oid) };
        } else if matches!(category, Category::Cast) {
            influence = Influence::Functions;
        }
        Self { category, oid, output, influence }
    }

    unsafe fn categorize(oid: pg_sys::Oid) -> (Category, pg_sys::Oid) {
        // SAFETY: look-ups of a type that exists.
        unsafe {
            if pg_sys::get_element_type(oid) != pg_sys::Oid::INVALID
                || oid == pg_sys::ANYARRAYOID
                || oid == pg_sys::ANYCOMPATIBLEARRAYOID
                || oid == pg_sys::RECORDARRAYOID
            {
                return (Category::Array, oid);
            }
            if pg_sys::type_is_rowtype(oid) {
                return (Category::Composite, oid);
            }
            match cast_to_json(oid) {
                Some(function) => (Category::Cast, function),
                None => (Category::Other, oid),
            }
        }
    }

    /// Appends a value that is not null.
    ///
    /// # Errors
    /// Returns [`TooLong`] if it is certain, before the text is made or copied, that `out` would
    /// exceed `bytes_max`.
    ///
    /// # Safety
    /// `value` is a value of the printer's type.
    pub unsafe fn write(
        &self,
        out: &mut Bytes,
        value: pg_sys::Datum,
        form: Form,
        bytes_max: usize,
    ) -> Result<(), TooLong> {
        let room = bytes_max.saturating_sub(out.len());
        // SAFETY: the caller's promise; the value is of the type that the category stands for.
        unsafe {
            match self.category {
                Category::Int2 => write_integer(out, i64::from(value.value() as i16)),
                Category::Int4 => write_integer(out, i64::from(value.value() as i32)),
                Category::Int8 => write_integer(out, value.value() as i64),
                Category::Bool => {
                    out.extend_from_slice(if value.value() & 0xff != 0 { b"true" } else { b"false" })
                }
                Category::Text => {
                    fits(raw_len(value), room)?;
                    write_text(out, bytes_of(value), form);
                }
                Category::Json => {
                    fits(raw_len(value), room)?;
                    out.extend_from_slice(bytes_of(value));
                }
                Category::Date => self.write_date(out, value, form),
                Category::Number | Category::Jsonb | Category::Other => {
                    let text = printing(self.influence, || {
                        protect(|| unguarded::OutputFunctionCall(self.output, value))
                    });
                    let text = CStr::from_ptr(text).to_bytes();
                    fits(text.len(), room)?;
                    match self.category {
                        Category::Jsonb => out.extend_from_slice(text),
                        // NaN, Infinity, and -Infinity are not JSON numbers. They alone end in a
                        // letter.
                        Category::Number if text.last().is_some_and(u8::is_ascii_digit) => {
                            out.extend_from_slice(text)
                        }
                        _ => write_text(out, text, form),
                    }
                }
                Category::Array | Category::Composite | Category::Cast => {
                    let function = self.function();
                    let json = printing(self.influence, || {
                        protect(|| unguarded::OidFunctionCall1Coll(function, pg_sys::Oid::INVALID, value))
                    });
                    fits(raw_len(json), room)?;
                    out.extend_from_slice(bytes_of(json));
                }
            }
        }
        Ok(())
    }

    /// Returns the function that makes JSON of an array, a row, or a type with a cast. Like
    /// Postgres, the caller looks it up at each call: a cast may be a function in SQL, whose plans
    /// must not outlive the statement.
    fn function(&self) -> pg_sys::Oid {
        match self.category {
            Category::Array => pg_sys::Oid::from(pg_sys::F_ARRAY_TO_JSON_ANYARRAY),
            Category::Composite => pg_sys::Oid::from(pg_sys::F_ROW_TO_JSON_RECORD),
            _ => self.oid,
        }
    }

    unsafe fn write_date(&self, out: &mut Bytes, value: pg_sys::Datum, form: Form) {
        let mut text = [0 as c_char; DATE_BYTES_MAX];
        // Seconds west of UTC, instead of the session's time zone.
        let utc: c_int = 0;
        // SAFETY: the buffer has the size that the function requires; the function ends the text
        // with a NUL.
        let text = unsafe {
            pg_sys::JsonEncodeDateTime(text.as_mut_ptr(), value, self.oid, &raw const utc);
            CStr::from_ptr(text.as_ptr()).to_bytes()
        };
        if form == Form::Json {
            out.push(b'"');
        }
        out.extend_from_slice(text);
        if form == Form::Json {
            out.push(b'"');
        }
    }
}

fn write_text(out: &mut Bytes, text: &[u8], form: Form) {
    match form {
        Form::Json => write_string(out, text),
        Form::Text => out.extend_from_slice(text),
    }
}

fn fits(bytes: usize, room: usize) -> Result<(), TooLong> {
    if bytes > room { Err(TooLong) } else { Ok(()) }
}

fn write_integer(out: &mut Bytes, value: i64) {
    let mut digits = [0u8; INTEGER_BYTES_MAX];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// Returns the size in bytes of a varlena value after detoasting and decompression, without doing
/// either.
unsafe fn raw_len(value: pg_sys::Datum) -> usize {
    let varlena = value.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: the caller's promise; a varlena value.
    unsafe {
        if pgrx::varatt_is_1b_e(varlena) || pgrx::varatt_is_4b_c(varlena) {
            pg_sys::toast_raw_datum_size(value).saturating_sub(pg_sys::VARHDRSZ)
        } else {
            pgrx::varsize_any_exhdr(varlena)
        }
    }
}

/// Returns the bytes of a text or json value, detoasted into the current memory context if
/// necessary.
///
/// # Safety
/// The value is a varlena. The slice is not used after the value, or the current memory context, is
/// gone.
pub unsafe fn bytes_of<'a>(value: pg_sys::Datum) -> &'a [u8] {
    let varlena = value.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: the caller's promise.
    unsafe {
        let plain = if pgrx::varatt_is_1b_e(varlena) || pgrx::varatt_is_4b_c(varlena) {
            pg_sys::pg_detoast_datum_packed(varlena)
        } else {
            varlena
        };
        pgrx::varlena_to_byte_slice(plain)
    }
}

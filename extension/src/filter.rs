//! The filter of a subscription: an SQL/JSON path on an event, evaluated by Postgres itself.
//!
//! `webhook.path_matches` is called for every event that the patterns of a filtered subscription
//! match. It therefore makes the event's jsonb in one step, from text to parser, and does not build
//! it member by member. Reads its arguments only.
//!
//! It never raises an error for the content of an event. An event does not match if jsonb cannot
//! hold it (`\u0000`, a number of 200,000 digits), or if the path cannot be evaluated on it.
//! Problems of the server are raised.

use pgrx::fcinfo::{direct_function_call, direct_function_call_as_datum, pg_getarg_datum};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::encoding;
use crate::error::Error;
use crate::json;
use crate::memory::Bytes;
use crate::subtransaction::{self, End};

/// The longest path, in bytes of the text that Postgres prints of it. It bounds the text that is
/// read, compared, and sent for every batch. The cost of a path does not depend on its length; the
/// daemon limits the time of each path.
const BYTES_MAX: usize = 8192;

/// The parts of an event that a filter sees. Texts are in the database's encoding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    pub event_type: &'a [u8],
    pub key: Option<&'a [u8]>,
    pub table_name: Option<&'a [u8]>,
    pub actor: Option<&'a [u8]>,
    pub origin: Option<&'a [u8]>,
    pub truncated: bool,
    /// JSON.
    pub data: &'a [u8],
    /// JSON.
    pub previous: Option<&'a [u8]>,
}

impl Subject<'_> {
    /// Returns the subject as a JSON object, with a NUL at its end.
    fn to_json(self) -> Bytes {
        const FIXED_BYTES: usize = 100;
        let texts = [self.key, self.table_name, self.actor, self.origin, self.previous];
        let bytes: usize = texts.iter().flatten().map(|text| text.len()).sum();
        let mut out = Bytes::with_capacity(FIXED_BYTES + self.event_type.len() + bytes + self.data.len());
        out.extend_from_slice(b"{\"type\":");
        json::write_string(&mut out, self.event_type);
        let labels: [&[u8]; 4] = [b",\"key\":", b",\"table\":", b",\"actor\":", b",\"origin\":"];
        for (label, text) in labels.into_iter().zip(texts) {
            if let Some(text) = text {
                out.extend_from_slice(label);
                json::write_string(&mut out, text);
            }
        }
        if self.truncated {
            out.extend_from_slice(b",\"truncated\":true");
        }
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(self.data);
        if let Some(previous) = self.previous {
            out.extend_from_slice(b",\"previous\":");
            out.extend_from_slice(previous);
        }
        out.extend_from_slice(b"}\0");
        out
    }
}

/// A detoasted filter.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    path: pg_sys::Datum,
    is_predicate: bool,
}

impl Filter {
    /// Prepares a filter.
    ///
    /// # Safety
    /// `path` is a jsonpath. It and the current memory context outlive the result.
    pub unsafe fn new(path: pg_sys::Datum) -> Self {
        // SAFETY: the caller's promise. A jsonpath is a varlena of four bytes of length, four of
        // flags, and its root item. The item is its kind in one byte, padding, and the place of the
        // next item in four bytes, which is 0 if there is none.
        unsafe {
            let varlena = pg_sys::pg_detoast_datum(path.cast_mut_ptr());
            let root = varlena.cast::<u8>().add(8);
            let has_next = root.add(4).cast::<i32>().read_unaligned() != 0;
            Self { path: pg_sys::Datum::from(varlena), is_predicate: !has_next && is_predicate(*root) }
        }
    }

    /// Reads a filter into the current memory context, which must outlive it.
    ///
    /// # Errors
    /// Raises an error if the text is not a path.
    pub fn parse(text: &str) -> Self {
        let mut text = encoding::from_utf8(text).into_owned();
        text.push(0);
        // SAFETY: a built-in function with a NUL-terminated text; it returns a jsonpath or raises.
        unsafe {
            let text = pg_sys::Datum::from(text.as_ptr());
            let path = pg_sys::OidFunctionCall1Coll(pg_sys::F_JSONPATH_IN.into(), pg_sys::Oid::INVALID, text);
            Self::new(path)
        }
    }

    /// Reports whether an event matches.
    ///
    /// # Errors
    /// Raises errors that do not concern the event: out of memory, a cancelled query.
    pub fn matches(self, subject: &Subject<'_>) -> bool {
        let text = subject.to_json();
        let function =
            if self.is_predicate { pg_sys::jsonb_path_match_opr } else { pg_sys::jsonb_path_exists_opr };
        let is_caught = |sqlstate: PgSqlErrorCode| {
            matches!(&subtransaction::class(sqlstate), b"22" | b"42" | b"0A" | b"54")
        };
        let holds = subtransaction::attempt(End::Keep, is_caught, || {
            // SAFETY: built-in functions with arguments of their types; the text ends with its only
            // NUL.
            unsafe {
                let text = pg_sys::Datum::from(text.as_ptr());
                let event = direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text)]);
                // Null if the answer is unknown.
                direct_function_call::<bool>(function, &[event, Some(self.path)])
            }
        });
        holds.is_ok_and(|holds| holds == Some(true))
    }
}

/// Reports whether an item of this kind is a condition and not a query. These numbers are stored in
/// every jsonpath, so they do not change: `and` to `>=`, `exists`, `starts with`, `like_regex`
/// (utils/jsonpath.h).
fn is_predicate(kind: u8) -> bool {
    matches!(kind, 4..=13 | 30 | 41 | 42)
}

/// Checks that a path can be evaluated.
///
/// # Errors
/// [`Error::BadOption`] if it is too long, or has a variable, for which there is no value.
///
/// # Safety
/// `path` is a jsonpath.
pub unsafe fn check(path: pg_sys::Datum) -> Result<pg_sys::Datum, Error> {
    // SAFETY: the caller's promise; the text ends with a NUL.
    let text = unsafe {
        let text = pg_sys::OidOutputFunctionCall(pg_sys::F_JSONPATH_OUT.into(), path);
        core::ffi::CStr::from_ptr(text).to_bytes()
    };
    let bad = |reason, hint| Err(Error::BadOption { option: "filter", reason, hint });
    if text.len() > BYTES_MAX {
        let reason = format!("the path has {} bytes; the maximum is {BYTES_MAX}", text.len());
        return bad(reason, "Add the value to the event in the application, and filter by that value.");
    }
    match variable(text) {
        None => Ok(path),
        Some(name) => bad(
            format!("variable ${} is not defined", String::from_utf8_lossy(name)),
            "Write the value itself into the path, as in '$.data.total > 100'.",
        ),
    }
}

/// Returns the first variable in the text that Postgres prints of a path: `$"name"`, outside of
/// strings.
fn variable(path: &[u8]) -> Option<&[u8]> {
    let mut before = 0;
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        if byte == b'"' {
            let len = json::string_len(&path[at..])?;
            if before == b'$' {
                return Some(&path[at..at + len]);
            }
            at += len;
        } else {
            at += 1;
        }
        before = byte;
    }
    None
}

#[pg_extern(sql = false)]
fn path_matches(info: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: the declaration below: a jsonpath, five texts, a boolean, and two json.
    unsafe {
        let bytes = |at| pg_getarg_datum(info, at).map(|datum| json::bytes_of(datum));
        let (Some(path), Some(event_type), Some(data)) = (pg_getarg_datum(info, 0), bytes(1), bytes(7))
        else {
            return false;
        };
        Filter::new(path).matches(&Subject {
            event_type,
            key: bytes(2),
            table_name: bytes(3),
            actor: bytes(4),
            origin: bytes(5),
            truncated: pg_getarg_datum(info, 6).is_some_and(|datum| datum.value() & 0xff != 0),
            data,
            previous: bytes(8),
        })
    }
}

extension_sql!(
    r#"
create function webhook.path_matches(
    path jsonpath, type text, key text, table_name text, actor text, origin text, truncated boolean, payload json, previous json
) returns boolean
    language c immutable parallel unsafe cost 1000 as 'MODULE_PATHNAME', 'path_matches_wrapper';
comment on function webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) is
    'Whether a SQL/JSON path holds for an event of these parts; call webhook.filter_matches()';
revoke all on function webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) from public;
"#,
    name = "filter",
    requires = ["cursor"]
);

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn variables_are_not_taken_for_strings() {
        for (path, found) in [
            (r#"($."a" > $"b")"#, Some(r#""b""#)),
            (r#"strict $"x y"."a""#, Some(r#""x y""#)),
            (r#"($."a" == "$")"#, None),
            (r#"($."$" == "\"$\"" && $."b" like_regex "a$" flag "i")"#, None),
            (r#"$."data"[*]?(@."a" == 1)"#, None),
        ] {
            assert_eq!(variable(path.as_bytes()), found.map(str::as_bytes), "{path}");
        }
    }
}

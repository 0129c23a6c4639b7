//! Finds the top-level members of a JSON object that differ from those in another object. Pure.
//! Works on valid JSON in any server encoding.
//!
//! Values are compared as text, because they are sent as text.

use crate::memory::{self, Bytes};

/// One member: its name with quotes and escapes, and its value, both as written.
type Member<'a> = (&'a [u8], &'a [u8]);

/// Returns an object of the members of `old` that `new` lacks or has with another text. Returns
/// `None` if `old` or `new` is not an object.
///
/// # Errors
/// Raises `out_of_memory`.
pub fn changed_members(old: &[u8], new: &[u8]) -> Option<Bytes> {
    let old = members(old)?;
    let new = members(new)?;
    let mut out = Bytes::new();
    out.push(b'{');
    for (name, value) in old {
        // The last member of a repeated name counts, as everywhere in Postgres.
        if new.iter().rev().find(|(other, _)| *other == name).is_some_and(|(_, now)| *now == value) {
            continue;
        }
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Some(out)
}

fn skip_space(text: &[u8]) -> &[u8] {
    let at = text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    &text[at.unwrap_or(text.len())..]
}

/// Returns the length in bytes of the string that `text` begins with, quotes included.
pub fn string_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns the length in bytes of the value that `text` begins with.
fn value_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += string_len(&text[at..])?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => break,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    (at > 0).then_some(at)
}

fn members(object: &[u8]) -> Option<Vec<Member<'_>>> {
    let mut rest = skip_space(skip_space(object).strip_prefix(b"{")?);
    let mut found = Vec::new();
    if rest.first() == Some(&b'}') {
        return Some(found);
    }
    loop {
        let (name, after) = rest.split_at(string_len(rest)?);
        let after = skip_space(skip_space(after).strip_prefix(b":")?);
        let (value, after) = after.split_at(value_len(after)?);
        memory::reserve(&mut found, 1);
        found.push((name, value));
        let after = skip_space(after);
        match after.first()? {
            b',' => rest = skip_space(&after[1..]),
            b'}' => return Some(found),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::changed_members;

    fn changed(old: &str, new: &str) -> Option<String> {
        changed_members(old.as_bytes(), new.as_bytes()).map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn only_members_that_differ() {
        let old = r#" { "a" : 1 , "b":{"x":[1,"}"]}, "c":"q\"," ,"d":null,"gone":true } "#;
        let new = r#"{"a": 1,"b":{"x":[1,"]"]},"c":"q\"," ,"d":false,"new":0}"#;
        assert_eq!(changed(old, new).unwrap(), r#"{"b":{"x":[1,"}"]},"d":null,"gone":true}"#);
    }

    #[test]
    fn nothing_differs() {
        assert_eq!(changed("{}", "{ }").unwrap(), "{}");
        assert_eq!(changed(r#"{"a":-1.5e3}"#, "{\n\"a\" : -1.5e3\n}").unwrap(), "{}");
    }

    #[test]
    fn the_last_of_a_repeated_name_counts() {
        assert_eq!(changed(r#"{"a":1}"#, r#"{"a":2,"a":1}"#).unwrap(), "{}");
        assert_eq!(changed(r#"{"a":1}"#, r#"{"a":1,"a":2}"#).unwrap(), r#"{"a":1}"#);
    }

    #[test]
    fn only_objects_have_members() {
        for text in ["[1]", "1", "\"{}\"", "null"] {
            assert_eq!(changed(text, "{}"), None);
            assert_eq!(changed("{}", text), None);
        }
    }

    #[test]
    fn escaped_quotes_and_nested_brackets_end_nothing() {
        let old = r#"{"k\"ey":"v\\","n":[[{"a":"]"}]],"z":1}"#;
        assert_eq!(changed(old, r#"{"k\"ey":"v\\","n":[[{"a":"]"}]],"z":2}"#).unwrap(), r#"{"z":1}"#);
    }
}

//! Splits JSON objects without changing their bytes, which are what the judge compares.

use std::collections::HashMap;

/// Returns the members of an object in order, with names and values as written.
pub fn members(object: &str) -> Vec<(&str, &str)> {
    let mut members = Vec::new();
    let (mut depth, mut in_string, mut is_escaped) = (0, false, false);
    let (mut from, mut name) = (1, "");
    for (at, letter) in object.char_indices() {
        if in_string {
            (in_string, is_escaped) = (is_escaped || letter != '"', !is_escaped && letter == '\\');
            continue;
        }
        match letter {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            ':' if depth == 1 && name.is_empty() => (name, from) = (&object[from..at], at + 1),
            ',' | '}' if depth == 1 => {
                if !name.is_empty() {
                    members.push((name, &object[from..at]));
                }
                (name, from) = ("", at + 1);
                depth -= i32::from(letter == '}');
            }
            '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    members
}

pub fn version(object: &str) -> Option<i64> {
    members(object).into_iter().find(|(name, _)| *name == "\"v\"")?.1.parse().ok()
}

/// Returns the expected `previous`: the members of the former row that have changed.
pub fn changed(former: &str, data: &str) -> String {
    let now: HashMap<&str, &str> = members(data).into_iter().collect();
    let parts: Vec<String> = members(former)
        .into_iter()
        .filter(|(name, value)| now.get(name) != Some(value))
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    format!("{{{}}}", parts.join(","))
}

/// Describes how two objects differ.
pub fn difference(expected: &str, found: &str) -> String {
    let (of, so) = (members(expected), members(found));
    let names = |list: &[(&str, &str)]| list.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    if names(&of) != names(&so) {
        return format!("expected {}, found {}", short(expected), short(found));
    }
    of.iter()
        .zip(&so)
        .filter(|(one, other)| one != other)
        .map(|((name, one), (_, other))| format!("{name}: expected {}, found {}", short(one), short(other)))
        .collect::<Vec<_>>()
        .join("; ")
}

pub fn short(text: &str) -> String {
    const CHARACTERS_MAX: usize = 240;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

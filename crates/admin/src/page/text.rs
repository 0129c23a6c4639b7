//! Safe display of foreign text on the page. Pure.
//!
//! `maud` escapes HTML. This module makes other dangerous characters visible: characters that
//! change the direction of text, invisible characters, and control characters that a terminal would
//! execute.

use maud::{Markup, html};
use std::fmt::Write;

/// Returns the text with each hidden character replaced by its code point.
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            let _ = write!(out, "⟨U+{:04X}⟩", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// Renders a URL, or another text without spaces, that may break after `/` and `.` only.
pub fn broken(text: &str) -> Markup {
    let text = inert(text);
    html! { span.any { @for part in text.split_inclusive(['/', '.']) { (part) wbr; } } }
}

/// Returns JSON indented and with hidden characters visible. Numbers keep their spelling. Other
/// text is not indented.
pub fn pretty(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    inert(&indented(&text).unwrap_or_else(|| text.into_owned()))
}

fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Adds line breaks, and two spaces per level, to JSON. Returns `None` if the text is not JSON.
fn indented(text: &str) -> Option<String> {
    serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut characters = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(64)));
    };
    while let Some(character) = characters.next() {
        if in_string {
            out.push(character);
            in_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
            continue;
        }
        match character {
            '"' => {
                in_string = true;
                out.push(character);
            }
            '{' | '[' => {
                out.push(character);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                match characters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(character);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ if character.is_ascii_whitespace() => {}
            _ => out.push(character),
        }
    }
    Some(out)
}

/// Shortens a time of Postgres (`2026-11-22T03:38:00.123456+00:00`) to milliseconds or seconds, and
/// names its zone.
pub fn moment(text: &str, precision: Precision) -> String {
    let (day, rest) = text.split_once('T').unwrap_or((text, ""));
    let digits = match precision {
        Precision::Seconds => 8,
        Precision::Milliseconds => 12,
    };
    let at = rest.find(['+', '-', 'Z']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(at);
    let zone = if matches!(zone, "Z" | "+00:00" | "") { "UTC" } else { zone };
    format!("{day} {} {zone}", clock.get(..digits).unwrap_or(clock))
}

/// How exactly a time is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    Seconds,
    Milliseconds,
}

/// Formats a number of milliseconds for people.
pub fn milliseconds(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.1} ms"),
        value if value < 1000.0 => format!("{value:.0} ms"),
        value => format!("{:.1} s", value / 1000.0),
    }
}

/// Formats a number with the digits that matter.
pub fn figure(value: f64) -> String {
    match value {
        value if value >= 1_000_000.0 => format!("{:.1} M", value / 1_000_000.0),
        value if value >= 10_000.0 => format!("{:.1} k", value / 1000.0),
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_nobody_sees_is_shown() {
        assert_eq!(inert("a\u{202e}b\0c\x1b[31m\u{200b}"), "a⟨U+202E⟩b⟨U+0000⟩c⟨U+001B⟩[31m⟨U+200B⟩");
        assert_eq!(inert("<script>é\n\t日本"), "<script>é\n\t日本", "escaping is the template's");
    }

    #[test]
    fn json_is_indented_and_numbers_stay() {
        let text = r#"{"a":1.50,"b":[],"c":{"d":"x,{\"y\":1}"},"e":[1,2]}"#;
        let want = "{\n  \"a\": 1.50,\n  \"b\": [],\n  \"c\": {\n    \"d\": \"x,{\\\"y\\\":1}\"\n  },\n  \"e\": [\n    1,\n    2\n  ]\n}";
        assert_eq!(pretty(text.as_bytes()), want);
        assert_eq!(pretty(b"not json"), "not json");
    }

    #[test]
    fn times_are_shortened() {
        let (seconds, milliseconds) = (Precision::Seconds, Precision::Milliseconds);
        let text = "2026-11-22T03:38:00.123456+00:00";
        assert_eq!(moment(text, milliseconds), "2026-11-22 03:38:00.123 UTC");
        assert_eq!(moment(text, seconds), "2026-11-22 03:38:00 UTC");
        assert_eq!(moment("2026-11-22T03:38:00+00:00", milliseconds), "2026-11-22 03:38:00 UTC");
        assert_eq!(moment("2026-11-22T03:38:00.1+02:00", seconds), "2026-11-22 03:38:00 +02:00");
    }

    #[test]
    fn urls_break_after_slashes_and_dots() {
        let shown = broken("https://a.example/<b>").into_string();
        let parts = "https:/<wbr>/<wbr>a.<wbr>example/<wbr>&lt;b&gt;<wbr>";
        assert_eq!(shown, format!("<span class=\"any\">{parts}</span>"));
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text: String) {
            prop_assert!(!inert(&text).chars().any(is_hidden));
        }

        #[test]
        fn indenting_keeps_the_value(value in any::<Vec<(String, i64)>>()) {
            let value = serde_json::json!(value);
            let indented = indented(&value.to_string()).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&indented).unwrap(), value);
        }
    }
}

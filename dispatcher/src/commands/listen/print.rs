//! Prints webhooks as lines for people, or as lines of JSON for programs.

use crate::commands::{
    listen::{
        Printed,
        summary::{Summary, is_form},
    },
    terminal::clean,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::header::HeaderMap;
use serde_json::{Map, Value, json, value::RawValue};
use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};
use url::form_urlencoded;

/// The result of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    Invalid(&'static str),
    /// There is no secret to verify with.
    Unchecked,
}

/// One webhook as it was received.
pub struct Webhook<'a> {
    pub received_at: SystemTime,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub verdict: Verdict,
    /// The status of our answer.
    pub status: u16,
}

impl Webhook<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Writes to standard output, each webhook in one write.
pub struct Printer {
    json: bool,
    quiet: bool,
    terminal: bool,
    colour: bool,
}

impl Printer {
    pub fn new(json: bool, quiet: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, quiet, terminal, colour }
    }

    /// Prints the address first, so that a program can read it.
    pub fn greet(&self, address: SocketAddr, unchecked: bool) -> Printed {
        let url = format!("http://{address}/");
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", json!({ "listening": url, "verifies": !unchecked }))?;
        } else {
            writeln!(out, "listening on {url}")?;
            if unchecked {
                writeln!(out, "no --secret is given, so signatures are not verified")?;
            }
        }
        out.flush()
    }

    pub fn print(&self, webhook: &Webhook<'_>) -> Printed {
        let text = if self.json { json_line(webhook) } else { self.readable(webhook) };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn readable(&self, webhook: &Webhook<'_>) -> String {
        let body = json(webhook.body);
        let summary = Summary::of(webhook.headers, webhook.body, body);
        let (mark, colour) = match webhook.verdict {
            Verdict::Valid => ("✓", "32"),
            Verdict::Invalid(_) => ("✗", "31"),
            Verdict::Unchecked => ("?", "33"),
        };
        let mark = if self.colour { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() };
        let event_type = match &summary.types[..] {
            [] => "(no type)".to_owned(),
            [one] => clean(one),
            several => format!("{} events: {}", several.len(), kinds(several)),
        };
        let id = webhook.header("webhook-id").map_or_else(|| "(no id)".into(), clean);
        let mut line = format!("{} {mark} {event_type}  {id}", clock(webhook.received_at));
        if let Some(sequence) = summary.sequence {
            line.push_str(&format!("  #{sequence}"));
        }
        if let Some(table) = &summary.table {
            line.push_str(&format!("  {}", clean(table)));
        }
        if let Some(actor) = &summary.actor {
            line.push_str(&format!("  by {}", clean(actor)));
        }
        if let Some(changes) = summary.compacted {
            line.push_str(&format!("  {changes} changes in one"));
        }
        if let Verdict::Invalid(why) = webhook.verdict {
            line.push_str(&format!("  {why}"));
        }
        if webhook.status / 100 != 2 {
            line.push_str(&format!("  answered {}", webhook.status));
        }
        line.push('\n');
        if !self.quiet {
            line.push_str(&self.shown_body(webhook, body.is_some()));
        }
        line
    }

    /// Returns the body: indented on a terminal, unchanged elsewhere, and a form field by field.
    fn shown_body(&self, webhook: &Webhook<'_>, is_json: bool) -> String {
        let text = String::from_utf8_lossy(webhook.body);
        let text = if is_form(webhook.headers) {
            let fields = form_urlencoded::parse(webhook.body);
            fields.map(|(name, value)| format!("{name}: {value}\n")).collect()
        } else if self.terminal && is_json {
            spread(&text)
        } else {
            text.into_owned()
        };
        text.lines().map(|line| format!("    {}\n", clean(line))).collect()
    }
}

/// Returns the different types of a batch, in the order of their first occurrence.
fn kinds(types: &[String]) -> String {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for event_type in types {
        match kinds.iter_mut().find(|(kind, _)| kind == event_type) {
            Some((_, count)) => *count += 1,
            None => kinds.push((event_type.clone(), 1)),
        }
    }
    let kinds: Vec<String> =
        kinds.into_iter().map(|(kind, count)| format!("{count} {}", clean(&kind))).collect();
    kinds.join(", ")
}

/// Returns JSON over many lines. It keeps the order of keys and the spelling of numbers, which
/// parsing and printing would change.
fn spread(json: &str) -> String {
    let mut out = String::with_capacity(2 * json.len());
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut chars = json.chars().filter(|c| !matches!(c, '\n' | '\r' | '\t')).peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        // The limit bounds the output for a body that consists of brackets.
        out.extend(std::iter::repeat_n("  ", depth.min(64)));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                while chars.next_if_eq(&' ').is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            ' ' => {}
            _ => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn json_line(webhook: &Webhook<'_>) -> String {
    let since_1970 = webhook.received_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (verdict, why) = match webhook.verdict {
        Verdict::Valid => ("valid", None),
        Verdict::Invalid(why) => ("invalid", Some(why)),
        Verdict::Unchecked => ("unchecked", None),
    };
    let text = String::from_utf8_lossy(webhook.body);
    // JSON keeps its bytes. Parsing and printing would change numbers, order and depth. Line breaks
    // are only between its tokens. Other bodies are strings.
    let body = match json(webhook.body) {
        Some(raw) => raw.get().replace(['\n', '\r'], ""),
        None => Value::from(&*text).to_string(),
    };
    let mut line = json!({
        "received_at": since_1970.as_secs_f64(),
        "signature": verdict,
        "id": webhook.header("webhook-id"),
        "timestamp": webhook.header("webhook-timestamp"),
        "status": webhook.status,
    });
    if let Some(why) = why {
        line["why"] = why.into();
    }
    if matches!(text, Cow::Owned(_)) {
        // The body is not UTF-8. The string below has replacement characters.
        line["body_base64"] = BASE64_STANDARD.encode(webhook.body).into();
    }
    let attributes = attributes(webhook.headers);
    if !attributes.is_empty() {
        line["attributes"] = attributes.into();
    }
    let mut line = line.to_string();
    line.truncate(line.len() - 1);
    format!("{line},\"body\":{body}}}\n")
}

/// Returns a body that is JSON, as it was sent.
fn json(body: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(body).ok()
}

/// Returns the attributes that a format has in headers, as they were sent.
fn attributes(headers: &HeaderMap) -> Map<String, Value> {
    let is_known = |name: &str| ["webhook-id", "webhook-timestamp", "webhook-signature"].contains(&name);
    let is_attribute =
        |name: &str| (name.starts_with("ce-") || name.starts_with("webhook-")) && !is_known(name);
    let attributes = headers.iter().filter(|(name, _)| is_attribute(name.as_str()));
    attributes
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect()
}

/// Returns the time of day in UTC.
fn clock(at: SystemTime) -> String {
    let since_1970 = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let second = since_1970.as_secs() % 86_400;
    format!(
        "{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since_1970.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BODY: &str = r#"{"id":"evt_1","type":"order.updated","sequence":42,"table":"public.orders","actor":"user:7\u001b[2J","data":{"a":1}}"#;

    fn webhook<'a>(headers: &'a mut HeaderMap, body: &'a [u8], verdict: Verdict) -> Webhook<'a> {
        headers.insert("webhook-id", "evt_1".parse().unwrap());
        let received_at = UNIX_EPOCH + Duration::from_millis(1_795_318_680_123);
        Webhook {
            received_at,
            headers,
            body,
            verdict,
            status: if verdict == Verdict::Valid { 200 } else { 401 },
        }
    }

    #[test]
    fn a_webhook_is_one_line_and_its_body() {
        let mut printer = Printer { json: false, quiet: true, terminal: false, colour: false };
        let mut headers = HeaderMap::new();
        let good = webhook(&mut headers, BODY.as_bytes(), Verdict::Valid);
        let line = "03:38:00.123Z ✓ order.updated  evt_1  #42  public.orders  by user:7\u{fffd}[2J\n";
        assert_eq!(printer.readable(&good), line);
        printer.quiet = false;
        assert_eq!(printer.readable(&good), format!("{line}    {BODY}\n"));
        printer.terminal = true;
        let shown = printer.readable(&good);
        assert!(
            shown.contains("    {\n      \"id\": \"evt_1\",\n      \"type\": \"order.updated\",\n"),
            "{shown}"
        );
    }

    #[test]
    fn batches_forms_and_attributes_are_shown() {
        let printer = Printer { json: false, quiet: false, terminal: false, colour: false };
        let mut headers = HeaderMap::new();
        let batch = br#"[{"type":"a.b"},{"type":"c.d"},{"type":"a.b"}]"#;
        let shown = printer.readable(&webhook(&mut headers, batch, Verdict::Valid));
        assert!(shown.starts_with("03:38:00.123Z ✓ 3 events: 2 a.b, 1 c.d  evt_1\n"), "{shown}");
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        let form = b"type=a.b&sequence=7&compacted=2&data=%7B%22x%22%3A+1%7D";
        let shown = printer.readable(&webhook(&mut headers, form, Verdict::Valid));
        let want = "03:38:00.123Z ✓ a.b  evt_1  #7  2 changes in one\n    type: a.b\n    sequence: 7\n    compacted: 2\n    data: {\"x\": 1}\n";
        assert_eq!(shown, want);
        let mut headers = HeaderMap::new();
        headers.insert("ce-type", "a.b".parse().unwrap());
        headers.insert("ce-actor", "user%207%1B[2J".parse().unwrap());
        let binary = webhook(&mut headers, b"{}", Verdict::Valid);
        assert!(printer.readable(&binary).contains("a.b  evt_1  by user 7\u{fffd}[2J\n"));
        let line: Value = serde_json::from_str(&json_line(&binary)).unwrap();
        assert_eq!(line["attributes"], json!({"ce-type": "a.b", "ce-actor": "user%207%1B[2J"}));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let printer = Printer { json: false, quiet: false, terminal: true, colour: true };
        let mut headers = HeaderMap::new();
        let bad =
            webhook(&mut headers, b"no \x1b[2J json\n", Verdict::Invalid("the signature does not match"));
        assert_eq!(
            printer.readable(&bad),
            "03:38:00.123Z \u{1b}[31m✗\u{1b}[0m (no type)  evt_1  the signature does not match  answered 401\n    no \u{fffd}[2J json\n"
        );
    }

    #[test]
    fn json_is_spread_without_being_changed() {
        let json = r#"{"b":1.50,"a":[], "c" : { },"d":[1,{"x\\":"{,:\"]"}],"e":12345678901234567890123}"#;
        let spread = spread(json);
        assert_eq!(
            spread,
            "{\n  \"b\": 1.50,\n  \"a\": [],\n  \"c\": {},\n  \"d\": [\n    1,\n    {\n      \"x\\\\\": \"{,:\\\"]\"\n    }\n  ],\n  \"e\": 12345678901234567890123\n}"
        );
    }

    #[test]
    fn json_lines_are_for_programs() {
        let mut headers = HeaderMap::new();
        let line = json_line(&webhook(&mut headers, BODY.as_bytes(), Verdict::Valid));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with(&format!(",\"body\":{BODY}}}\n")), "the bytes as they came: {line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["signature"], &line["body"]["sequence"]), (&json!("valid"), &json!(42)));
        let line = json_line(&webhook(&mut headers, b"\xff", Verdict::Invalid("why")));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["why"], &line["body"], &line["status"]),
            (&json!("why"), &json!("\u{fffd}"), &json!(401))
        );
        assert_eq!(line["body_base64"], "/w==", "the bytes themselves");
    }

    /// Returns the text after `"body":` in its line of JSON.
    fn printed(body: &[u8]) -> String {
        let line = json_line(&webhook(&mut HeaderMap::new(), body, Verdict::Valid));
        assert_eq!(line.matches(['\n', '\r']).count(), 1, "{line}");
        let (_, body) = line.split_once(",\"body\":").unwrap();
        body.strip_suffix("}\n").unwrap().to_owned()
    }

    #[test]
    fn a_body_in_a_json_line_is_the_bytes_that_came() {
        for number in ["1.0", "1e400", "-0", "12345678901234567890123", "0.1000", "1E+2"] {
            assert_eq!(printed(number.as_bytes()), number);
            assert_eq!(
                printed(format!("{{\n\"n\": {number}\r\n}}").as_bytes()),
                format!("{{\"n\": {number}}}")
            );
        }
        let twice = r#"{"b":1,"a":2,"b":3,"u":"\u00e9\ud800 \n"}"#;
        assert_eq!(printed(twice.as_bytes()), twice);
        assert_eq!(
            printed(format!("{}\n", twice.replace(',', ",\n")).as_bytes()),
            twice,
            "with line breaks, too"
        );
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(printed(deep.as_bytes()), deep);
        assert_eq!(printed(deep.replace("[[", "[\n[").as_bytes()), deep);
        assert_eq!(printed(b"{\"a\":01}\n"), r#""{\"a\":01}\n""#, "no JSON: a string");
        assert_eq!(printed(b""), "\"\"");
    }

    #[test]
    fn numbers_and_depth_hide_nothing_from_people() {
        let printer = Printer { json: false, quiet: false, terminal: true, colour: false };
        let mut headers = HeaderMap::new();
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        let body = format!(r#"{{"type":"a.b","sequence":7,"data":{{"n":1e400,"deep":{deep}}}}}"#);
        let shown = printer.readable(&webhook(&mut headers, body.as_bytes(), Verdict::Valid));
        assert!(shown.contains("✓ a.b  evt_1  #7\n"), "{}", &shown[..200]);
        assert!(shown.contains("\"n\": 1e400,\n"), "spread out: {}", &shown[..200]);
        assert!(shown.len() < 200 * body.len(), "{}", shown.len());
    }

    proptest::proptest! {
        /// The line is JSON, and its body is what was sent, except for line breaks.
        #[test]
        fn any_body_makes_one_line_of_json(body in "[\\[\\]{}:,\"0-9e. \n\ra\\\\\u{2028}-]{0,30}") {
            let printed = printed(body.as_bytes());
            let raw: &RawValue = serde_json::from_str(&printed).unwrap();
            if let Some(sent) = json(body.as_bytes()) {
                proptest::prop_assert_eq!(raw.get(), sent.get().replace(['\n', '\r'], ""));
            } else {
                proptest::prop_assert_eq!(serde_json::from_str::<String>(raw.get()).unwrap(), body);
            }
        }
    }
}

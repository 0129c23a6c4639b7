//! Formats of CloudEvents 1.0. Structured mode puts the attributes and the data into one JSON
//! object; binary mode puts the attributes into headers.
//!
//! Attributes of our own follow the rules for extensions: their names have lower-case letters and
//! digits only, and their types exist in the standard. `sequence` is a text that sorts numerically,
//! as its documented extension requires. `previous` is JSON in a text. Only structured mode has it,
//! because a row does not fit into a header.

use crate::body::{
    Content,
    text::{header_value, percent_encoded, public_id, push_text, timestamp},
};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::io::Write;
use thiserror::Error;

/// Bytes reserved for the names of the attributes, the id, the time, and two numbers.
const FIXED_BYTES: usize = 320;

/// Maximum length of a [`Source`], in bytes.
const SOURCE_BYTES_MAX: usize = 500;

/// Attribute `source`: the origin of the events, a URI reference. Each table has its own source
/// below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(Box<str>);

/// The reason why a text is not a source.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum BadSource {
    #[error("a source must not be empty")]
    Empty,
    #[error("a source must have at most {SOURCE_BYTES_MAX} bytes")]
    TooLong,
    #[error(
        "a source must be a URI reference such as /shop or https://shop.example, without query and fragment"
    )]
    NoUri,
}

impl Source {
    /// Parses a URI reference.
    ///
    /// # Errors
    /// Returns [`BadSource`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, BadSource> {
        if text.is_empty() {
            return Err(BadSource::Empty);
        }
        if text.len() > SOURCE_BYTES_MAX {
            return Err(BadSource::TooLong);
        }
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            let is_escape = byte == b'%'
                && [rest.next(), rest.next()].iter().flatten().filter(|b| b.is_ascii_hexdigit()).count() == 2;
            if !(is_escape || is_segment(byte) || byte == b'/') {
                return Err(BadSource::NoUri);
            }
        }
        Ok(Self(text.trim_end_matches('/').into()))
    }

    /// Returns the default source of a database: `/` and its name.
    pub fn of_database(name: &str) -> Self {
        Self(format!("/{}", percent_encoded(name, is_segment)).into())
    }

    /// Returns the source of a table's events, or of the events that the application emits
    /// (`None`).
    fn of(&self, table: Option<&str>) -> String {
        match table {
            Some(table) => format!("{}/{}", self.0, percent_encoded(table, is_segment)),
            None if self.0.is_empty() => "/".to_owned(),
            None => self.0.to_string(),
        }
    }
}

/// Reports whether the byte is a `pchar` of RFC 3986. The percent sign is excluded.
fn is_segment(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// Returns the attribute `subject`, which must not be empty.
fn subject<'a>(content: &Content<'a>) -> Option<&'a str> {
    content.event.key.as_deref().filter(|key| !key.is_empty())
}

pub fn structured(content: &Content<'_>, source: &Source) -> Bytes {
    let event = content.event;
    let data = content.data.as_deref().unwrap_or_default();
    let mut out = Vec::with_capacity(
        FIXED_BYTES + data.len() + content.previous.map_or(0, |previous| 2 * previous.len()),
    );
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    let mut member = |name: &str, value: &str| {
        // The names are constants that need no escaping. Writing to a Vec cannot fail.
        let _ = write!(out, r#","{name}":"#);
        push_text(&mut out, value);
    };
    member("id", &public_id(event));
    member("source", &source.of(event.table_name.as_deref()));
    member("type", &event.event_type);
    member("time", &timestamp(event.created_at_us));
    if let Some(subject) = subject(content) {
        member("subject", subject);
    }
    member("sequence", &format!("{:019}", event.id));
    if let Some(table) = &event.table_name {
        member("table", table);
    }
    if let Some(actor) = content.actor().filter(|actor| !actor.is_empty()) {
        member("actor", actor);
    }
    if let Some(previous) = content.previous.and_then(|previous| std::str::from_utf8(previous).ok()) {
        member("previous", previous);
    }
    if content.data.is_some() {
        member("datacontenttype", "application/json");
    }
    content.push_marks(&mut out);
    if content.data.is_some() {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
    }
    out.push(b'}');
    out.into()
}

/// Returns the attributes as headers. `Content-Type` takes the place of `datacontenttype`. Values
/// that are too long are left out, and the attribute `omitted` names them.
pub fn attributes(content: &Content<'_>, source: &Source) -> HeaderMap {
    let event = content.event;
    let mut map = HeaderMap::with_capacity(11);
    map.insert(HeaderName::from_static("ce-specversion"), HeaderValue::from_static("1.0"));
    let mut omitted = Vec::new();
    let mut attribute = |name: &'static str, value: &str| {
        // Every text is a valid header value once it is percent-encoded, unless it is too long.
        match header_value(value) {
            Some(value) => drop(map.insert(HeaderName::from_static(name), value)),
            None => omitted.push(name.trim_start_matches("ce-")),
        }
    };
    attribute("ce-id", &public_id(event));
    attribute("ce-source", &source.of(event.table_name.as_deref()));
    attribute("ce-type", &event.event_type);
    attribute("ce-time", &timestamp(event.created_at_us));
    if let Some(subject) = subject(content) {
        attribute("ce-subject", subject);
    }
    attribute("ce-sequence", &format!("{:019}", event.id));
    if let Some(table) = &event.table_name {
        attribute("ce-table", table);
    }
    if let Some(actor) = content.actor().filter(|actor| !actor.is_empty()) {
        attribute("ce-actor", actor);
    }
    if content.truncated() {
        attribute("ce-truncated", "true");
    }
    if event.replaced {
        attribute("ce-replaced", "true");
    }
    if let Some(changes) = content.compacted() {
        attribute("ce-compacted", &changes.to_string());
    }
    // The names of attributes need no encoding.
    if let Ok(omitted) = HeaderValue::try_from(omitted.join(" "))
        && !omitted.is_empty()
    {
        map.insert(HeaderName::from_static("ce-omitted"), omitted);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_uri_reference_with_the_table_below_it() {
        let of = |source: &str, table| Source::parse(source).unwrap().of(table);
        assert_eq!(of("/shop", Some("public.orders")), "/shop/public.orders");
        assert_eq!(of("https://shop.example/db/", None), "https://shop.example/db");
        assert_eq!(of("urn:shop", Some("public.\"Größe/n\"")), "urn:shop/public.%22Gr%C3%B6%C3%9Fe%2Fn%22");
        assert_eq!((of("/", None), of("/", Some("public.orders"))), ("/".into(), "/public.orders".into()));
        assert_eq!(Source::of_database("my shop%").of(None), "/my%20shop%25");
        assert_eq!(Source::parse(""), Err(BadSource::Empty));
        assert_eq!(Source::parse(&"x".repeat(501)), Err(BadSource::TooLong));
        for text in ["a b", "ä", "/x?y", "/x#y", "\"", "a\r\nb", "/%zz", "/%2", "%"] {
            assert_eq!(Source::parse(text), Err(BadSource::NoUri), "{text}");
        }
        assert_eq!(of("/a%20b", None), "/a%20b");
    }
}

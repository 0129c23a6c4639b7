//! Renders the body of a delivery and the headers that belong to it. Pure.
//!
//! The result depends on the event alone, so every attempt sends the same bytes. `data` and
//! `previous` are embedded as they were stored. They are not parsed if they are sent whole, so the
//! spelling of numbers and the order of keys stay. A body is never empty.

mod cloudevents;
mod foreign;
mod form;
mod raw;
mod standard;
mod text;

use crate::{
    event::Event,
    members,
    shape::{Format, PayloadMode, Shape},
};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use std::{borrow::Cow, io::Write, sync::Arc};

pub use cloudevents::{BadSource, Source};
pub use text::public_id;

/// An event in one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub body: Bytes,
    /// Headers of the format, if it has any.
    pub headers: Option<Arc<HeaderMap>>,
}

impl Rendered {
    /// Returns the size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().flat_map(|map| map.iter());
        self.body.len() + headers.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
    }
}

/// The parts of an event that a payload mode includes.
#[derive(Debug)]
struct Content<'a> {
    event: &'a Event,
    /// The number of changes that the event is made of.
    changes: u32,
    /// The event's key, in the modes in which `data` may not contain it.
    key: Option<&'a str>,
    data: Option<Cow<'a, [u8]>>,
    previous: Option<&'a [u8]>,
}

impl<'a> Content<'a> {
    fn of(event: &'a Event, changes: u32, mode: PayloadMode) -> Self {
        let key = if mode == PayloadMode::Full { None } else { event.key.as_deref() };
        if mode == PayloadMode::Thin {
            return Self { event, changes, key, data: None, previous: None };
        }
        let previous = event.previous.as_deref();
        let changed = previous
            .filter(|_| mode == PayloadMode::Changed)
            .and_then(|previous| members::named(&event.payload, previous));
        let data = changed.map_or(Cow::Borrowed(&*event.payload), Cow::Owned);
        Self { event, changes, key, data: Some(data), previous }
    }

    /// Returns the body of a format without an envelope: `data`, or the table and the key.
    fn bare(&self) -> Cow<'_, [u8]> {
        match &self.data {
            Some(data) => Cow::Borrowed(data),
            None => Cow::Owned(thing(self.event)),
        }
    }

    /// Returns the actor. A thin body has none.
    fn actor(&self) -> Option<&'a str> {
        self.event.actor.as_deref().filter(|_| self.data.is_some())
    }

    /// Reports whether `data` has been cut. A thin body has no `data`.
    fn truncated(&self) -> bool {
        self.event.truncated && self.data.is_some()
    }

    /// Returns the number of changes that the event is made of, if it is more than one.
    fn compacted(&self) -> Option<u32> {
        (self.changes > 1).then_some(self.changes)
    }

    /// Appends the members that say how `data` differs from the row.
    fn push_marks(&self, out: &mut Vec<u8>) {
        if self.truncated() {
            out.extend_from_slice(br#","truncated":true"#);
        }
        if self.event.replaced {
            out.extend_from_slice(br#","replaced":true"#);
        }
        if let Some(changes) = self.compacted() {
            let _ = write!(out, r#","compacted":{changes}"#);
        }
    }
}

/// Returns `{"table":…,"key":…}`, as far as the event has them.
fn thing(event: &Event) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (name, value) in [("table", &event.table_name), ("key", &event.key)] {
        if let Some(value) = value {
            if out.len() > 1 {
                out.push(b',');
            }
            text::push_text(&mut out, name);
            out.push(b':');
            text::push_text(&mut out, value);
        }
    }
    out.push(b'}');
    out
}

/// Renders an event that is made of `changes` changes. `source` is the CloudEvents attribute.
pub fn render(event: &Event, changes: u32, shape: Shape, source: &Source) -> Rendered {
    let content = Content::of(event, changes, shape.payload_mode);
    match shape.format {
        Format::Standard => Rendered { body: standard::body(&content), headers: None },
        Format::CloudEventsStructured => {
            Rendered { body: cloudevents::structured(&content, source), headers: None }
        }
        Format::CloudEventsBinary => Rendered {
            body: Bytes::from(content.bare().into_owned()),
            headers: Some(Arc::new(cloudevents::attributes(&content, source))),
        },
        Format::Form => Rendered { body: form::body(&content), headers: None },
        Format::Raw => Rendered {
            body: Bytes::from(content.bare().into_owned()),
            headers: Some(Arc::new(raw::headers(&content))),
        },
        Format::Supabase => {
            Rendered { body: foreign::supabase(&content), headers: Some(Arc::new(raw::headers(&content))) }
        }
        Format::Hasura => {
            Rendered { body: foreign::hasura(&content), headers: Some(Arc::new(raw::headers(&content))) }
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
// The case of a charset is not significant, but CloudEvents' SDK for JavaScript compares it.
const CLOUDEVENT: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
const CLOUDEVENTS: HeaderValue =
    HeaderValue::from_static("application/cloudevents-batch+json; charset=utf-8");

/// Returns the content type of one event, or of an array of events.
pub fn content_type(format: Format, is_array: bool) -> HeaderValue {
    match (format, is_array) {
        (Format::CloudEventsStructured, false) => CLOUDEVENT,
        (Format::CloudEventsStructured, true) => CLOUDEVENTS,
        (Format::Form, _) => FORM,
        (
            Format::Standard | Format::CloudEventsBinary | Format::Raw | Format::Supabase | Format::Hasura,
            _,
        ) => JSON,
    }
}

#[cfg(test)]
mod tests;

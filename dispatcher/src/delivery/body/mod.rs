//! The body of a delivery and the headers that belong to it, made from the event alone: the same bytes for every
//! attempt. Pure.
//!
//! `data` and `previous` are embedded as they were stored, not parsed, wherever they are sent whole: number spelling and
//! key order stay. A body is never empty.

mod cloudevents;
mod foreign;
mod form;
mod raw;
mod standard;
mod text;

use super::{
    members,
    shape::{Format, PayloadMode, Shape},
};
use crate::event::Event;
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use std::{borrow::Cow, sync::Arc};

pub use cloudevents::{BadSource, Source};
pub use text::public_id;

/// An event in one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub body: Bytes,
    /// What the format says in headers; `None`: nothing.
    pub headers: Option<Arc<HeaderMap>>,
}

impl Rendered {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().flat_map(|map| map.iter());
        self.body.len() + headers.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
    }
}

/// What of an event is told in a payload mode.
#[derive(Debug)]
struct Content<'a> {
    event: &'a Event,
    /// How many changes it is made of.
    changes: u32,
    /// Which thing it is about, where `data` need not say it.
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

    /// What stands for `data` in a body that has nothing else.
    fn bare(&self) -> Cow<'_, [u8]> {
        match &self.data {
            Some(data) => Cow::Borrowed(data),
            None => Cow::Owned(thing(self.event)),
        }
    }

    /// Who did it; a thin body does not tell.
    fn actor(&self) -> Option<&'a str> {
        self.event.actor.as_deref().filter(|_| self.data.is_some())
    }

    /// Whether `data` has been cut; a thin body has none.
    fn truncated(&self) -> bool {
        self.event.truncated && self.data.is_some()
    }

    /// Changes that it stands for, if they are more than one.
    fn compacted(&self) -> Option<u32> {
        (self.changes > 1).then_some(self.changes)
    }
}

/// `{"table":…,"key":…}`: which thing an event is about, as far as is known.
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

/// The event in a shape, made of so many changes; `source` is what CloudEvents call the place it comes from.
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
// Case does not matter in a charset, but the SDK for JavaScript compares it all the same.
const CLOUDEVENT: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
const CLOUDEVENTS: HeaderValue =
    HeaderValue::from_static("application/cloudevents-batch+json; charset=utf-8");

/// The content type of one event, or of an array of them.
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

//! An event as filters see it. Pure.

use crate::json::{Obstacle, Value};
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
};

/// Maximum size of payload and former values, in bytes. The tree takes 20 times as much.
const BYTES_MAX: usize = 1 << 20;

/// Maximum number of steps of all filters on one document beyond those that each has anyway. This
/// is a few milliseconds.
const STEPS_MAX: u32 = 100_000;

/// The parts of an event that a filter sees, as UTF-8.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    pub event_type: &'a str,
    pub key: Option<&'a str>,
    pub table_name: Option<&'a str>,
    pub actor: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub truncated: bool,
    /// JSON.
    pub data: &'a [u8],
    /// JSON.
    pub previous: Option<&'a [u8]>,
}

/// The document of an event, parsed when the first filter asks for it.
#[derive(Debug)]
pub struct Document<'a> {
    subject: Subject<'a>,
    root: OnceCell<Result<Value<'a>, Obstacle>>,
    /// The number of steps that are left.
    steps_left: Cell<u32>,
}

/// What is known of the document.
pub(crate) enum Root<'d, 'a> {
    Json(&'d Value<'a>),
    /// `jsonb` cannot hold it, so no filter matches.
    NotJsonb,
    Uncertain,
}

impl<'a> Document<'a> {
    pub fn new(subject: Subject<'a>) -> Self {
        Self { subject, root: OnceCell::new(), steps_left: Cell::new(STEPS_MAX) }
    }

    pub(crate) fn root(&self) -> Root<'_, 'a> {
        match self.root.get_or_init(|| parse(&self.subject)) {
            Ok(root) => Root::Json(root),
            Err(Obstacle::NotJsonb) => Root::NotJsonb,
            Err(Obstacle::Uncertain) => Root::Uncertain,
        }
    }

    /// Takes steps that not every filter has. Returns `None` if too few are left.
    pub(crate) fn take_steps(&self, steps: u32) -> Option<()> {
        self.steps_left.set(self.steps_left.get().checked_sub(steps)?);
        Some(())
    }
}

/// Builds the object that `webhook.path_matches` builds.
fn parse<'a>(subject: &Subject<'a>) -> Result<Value<'a>, Obstacle> {
    let Subject { event_type, key, table_name, actor, origin, truncated, data, previous } = *subject;
    if data.len() + previous.map_or(0, <[u8]>::len) > BYTES_MAX {
        return Err(Obstacle::Uncertain);
    }
    let text = |text: &'a str| Value::String(Cow::Borrowed(text.as_bytes()));
    let name = |name: &'static str| Cow::Borrowed(name.as_bytes());
    let mut members = vec![(name("type"), text(event_type))];
    for (label, value) in [("key", key), ("table", table_name), ("actor", actor), ("origin", origin)] {
        members.extend(value.map(|value| (name(label), text(value))));
    }
    if truncated {
        members.push((name("truncated"), Value::Bool(true)));
    }
    members.push((name("data"), Value::parse(data)?));
    if let Some(previous) = previous {
        members.push((name("previous"), Value::parse(previous)?));
    }
    Ok(Value::Object(members))
}

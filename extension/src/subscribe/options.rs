//! The options of `webhook_subscribe` and `webhook_alter`: reads them, validates them, and converts
//! them to columns. This is the only list.

use super::check;
use super::fit::Fit;

use super::secret::Material;
use crate::arguments::Arguments;
use crate::error::{Error, not_null};
use crate::filter;
use crate::owner;
use crate::rights::Caller;
use pgrx::datum::{AnyNumeric, DatumWithOid, Interval};
use pgrx::pg_sys;
use pgrx::{IntoDatum, JsonB};
use signature::Profiles;

/// Options that can be null, with the types of their columns.
const NULLABLE: [(&str, pg_sys::Oid); 4] = [
    ("name", pg_sys::TEXTOID),
    ("filter", pg_sys::JSONPATHOID),
    ("rate_limit", pg_sys::NUMERICOID),
    ("tls", pg_sys::TEXTOID),
];

/// A null argument means the default for a new subscription, and no change for an existing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    New,
    Existing,
}

/// The options that were given.
pub struct Options {
    of: Of,
    /// Columns of `webhook.subscription` with their values.
    columns: Vec<(&'static str, DatumWithOid<'static>)>,
    /// The columns among them that are cleared.
    cleared: Vec<&'static str>,
    pub name: Option<String>,
    pub owner: Option<String>,
    pub secret: Option<Material>,
    pub profiles: Option<Profiles>,
    pub enabled: Option<bool>,
    /// The options that must fit together.
    pub fit: Fit,
}

impl Options {
    /// Reads the options from `url` on, in the order of the SQL functions, and validates each.
    /// Called as the extension's owner, on behalf of the caller.
    ///
    /// # Errors
    /// The first invalid option.
    pub fn read(arguments: &mut Arguments, of: Of, caller: Caller) -> Result<Self, Error> {
        let mut options = Self {
            of,
            columns: Vec::new(),
            cleared: Vec::new(),
            name: None,
            owner: None,
            secret: None,
            profiles: None,
            enabled: None,
            fit: Fit::default(),
        };
        let url: Option<String> = arguments.take();
        if of == Of::New && url.is_none() {
            return Err(Error::Null("url"));
        }
        options.set("url", url, |url| check::url(&url))?;
        options.set("events", arguments.take(), check::events)?;
        options.name = options.set_and_keep("name", arguments.take(), check::name)?;
        options.secret = arguments.take::<String>().map(|text| Material::parse(&text)).transpose()?;
        options.set("timeout", arguments.take::<Interval>(), check::timeout)?;
        options.set("retry", arguments.take(), check::retry)?;
        options.set("max_in_flight", arguments.take(), check::max_in_flight)?;
        options.enabled = options.set_and_keep("enabled", arguments.take(), Ok::<bool, _>)?;
        if let Some(path) = arguments.take_datum() {
            // SAFETY: the argument is declared as jsonpath, and lives as long as the call.
            let path = unsafe { DatumWithOid::new(filter::check(path)?, pg_sys::JSONPATHOID) };
            options.columns.push(("filter", path));
        }
        options.fit.format = options.set_and_keep("format", arguments.take(), check::format)?;
        options.set("payload_mode", arguments.take(), check::payload_mode)?;
        options
            .set("headers", arguments.take_json("headers")?, |headers| check::headers(headers).map(JsonB))?;
        options.set("rate_limit", arguments.take::<AnyNumeric>(), check::rate_limit)?;
        options.fit.ordering = options.set_and_keep("ordering", arguments.take(), check::ordering)?;
        options.fit.batch_size = options.set_and_keep("batch_size", arguments.take(), check::batch_size)?;
        let window =
            options.set_and_keep("batch_window", arguments.take::<Interval>(), check::batch_window)?;
        options.fit.has_batch_window = window.map(|window| window.days() != 0 || window.micros() != 0);
        options.fit.compact = options.set_and_keep("compact", arguments.take(), Ok::<bool, _>)?;
        options.set("exclude_origin", arguments.take(), check::exclude_origin)?;
        options.set("verification", arguments.take(), check::verification)?;
        let mut profiles = None;
        options.set("signature", arguments.take(), |words| {
            check::signature(words).map(|(parsed, words)| {
                profiles = Some(parsed);
                words
            })
        })?;
        options.profiles = profiles;
        let named = arguments.take::<String>();
        if of == Of::New || named.is_some() {
            let owner = owner::choose(caller, named)?;
            options.columns.push(("owner", owner.clone().into()));
            options.owner = Some(owner);
        }
        options.set("tls", arguments.take(), check::tls)?;
        Ok(options)
    }

    /// Reads the names of options to clear.
    ///
    /// # Errors
    /// An option cannot be cleared, or has a value in the same call.
    pub fn clear(&mut self, names: Option<Vec<Option<String>>>) -> Result<(), Error> {
        let bad = |reason: String| Error::BadOption {
            option: "clear",
            reason,
            hint: "Name options among '{name,filter,rate_limit,tls}'; the others have no value that stands for none.",
        };
        for name in names.into_iter().flatten() {
            let name = name.ok_or_else(|| bad("it holds a null".to_owned()))?;
            let Some((column, oid)) = NULLABLE.into_iter().find(|(column, _)| *column == name) else {
                return Err(bad(format!("\"{name}\" cannot be cleared")));
            };
            if self.columns.iter().any(|(given, _)| *given == column) {
                return Err(bad(format!("{column} is given a value in the same call, or named twice")));
            }
            // SAFETY: null is a value of every type.
            self.columns.push((column, unsafe { DatumWithOid::new(None::<String>, oid) }));
            self.cleared.push(column);
        }
        Ok(())
    }

    /// Reports whether this option is cleared.
    pub fn clears(&self, name: &str) -> bool {
        self.cleared.contains(&name)
    }

    /// Returns the columns to write, with their values.
    pub fn into_columns(self) -> (Vec<&'static str>, Vec<DatumWithOid<'static>>) {
        self.columns.into_iter().unzip()
    }

    /// Sets the value of a column, if there is one and `check` accepts it.
    fn set<T, U: IntoDatum>(
        &mut self,
        column: &'static str,
        value: Option<T>,
        check: impl FnOnce(T) -> Result<U, Error>,
    ) -> Result<(), Error> {
        if self.of == Of::New && NULLABLE.iter().all(|(nullable, _)| *nullable != column) {
            not_null(value.as_ref(), column)?;
        }
        if let Some(value) = value {
            self.columns.push((column, check(value)?.into()));
        }
        Ok(())
    }

    /// The same for a value that is needed again.
    fn set_and_keep<T, U: IntoDatum + Clone>(
        &mut self,
        column: &'static str,
        value: Option<T>,
        check: impl FnOnce(T) -> Result<U, Error>,
    ) -> Result<Option<U>, Error> {
        let mut kept = None;
        self.set(column, value, |value| check(value).inspect(|value| kept = Some(value.clone())))?;
        Ok(kept)
    }
}

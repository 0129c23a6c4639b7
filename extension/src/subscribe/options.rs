//! The options of `webhook_subscribe` and `webhook_alter`: reads them, validates them, and converts
//! them to columns. The crate `subscription_options` lists them.

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
use subscription_options::{Kind, OPTIONS, SubscriptionOption};

/// A null argument means the default for a new subscription, and no change for an existing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    New,
    Existing,
}

/// Options whose default for a new subscription depends on its owner ([`super::scope`]).
const OF_OWNER: [&str; 3] = ["max_in_flight", "scope", "locked"];

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
    pub scope: Option<String>,
    pub locked: Option<Vec<String>>,
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
            scope: None,
            locked: None,
            fit: Fit::default(),
        };
        for option in &OPTIONS {
            options.take(option, arguments, caller)?;
        }
        Ok(options)
    }

    /// Reads one option. An option without a rule of its own is validated by its kind.
    fn take(
        &mut self,
        option: &SubscriptionOption,
        arguments: &mut Arguments,
        caller: Caller,
    ) -> Result<(), Error> {
        let name = option.name;
        match name {
            "url" => {
                let url: Option<String> = arguments.take();
                if self.of == Of::New && url.is_none() {
                    return Err(Error::Null(name));
                }
                self.set(name, url, |url| check::url(&url))
            }
            "events" => self.set(name, arguments.take(), check::events),
            "name" => {
                self.name = self.set_and_keep(name, arguments.take(), check::name)?;
                Ok(())
            }
            "secret" => {
                self.secret = arguments.take::<String>().map(|text| Material::parse(&text)).transpose()?;
                Ok(())
            }
            "timeout" => self.set(name, arguments.take::<Interval>(), check::timeout),
            "retry" => self.set(name, arguments.take(), check::retry),
            "enabled" => {
                self.enabled = self.set_and_keep(name, arguments.take(), Ok::<bool, _>)?;
                Ok(())
            }
            "filter" => {
                if let Some(path) = arguments.take_datum() {
                    // SAFETY: the argument is declared as jsonpath, and lives as long as the call.
                    let path = unsafe { DatumWithOid::new(filter::check(path)?, pg_sys::JSONPATHOID) };
                    self.columns.push((name, path));
                }
                Ok(())
            }
            "format" => {
                self.fit.format =
                    self.set_and_keep(name, arguments.take(), |word| check::word(option, word))?;
                Ok(())
            }
            "headers" => {
                let headers = arguments.take_json(name)?;
                self.set(name, headers, |headers| check::headers(headers).map(JsonB))
            }
            "rate_limit" => self.set(name, arguments.take::<AnyNumeric>(), check::rate_limit),
            "ordering" => {
                self.fit.ordering =
                    self.set_and_keep(name, arguments.take(), |word| check::word(option, word))?;
                Ok(())
            }
            "batch_size" => {
                self.fit.batch_size =
                    self.set_and_keep(name, arguments.take(), |count| check::integer(option, count))?;
                Ok(())
            }
            "batch_window" => {
                let window = self.set_and_keep(name, arguments.take::<Interval>(), check::batch_window)?;
                self.fit.has_batch_window = window.map(|window| window.days() != 0 || window.micros() != 0);
                Ok(())
            }
            "compact" => {
                self.fit.compact = self.set_and_keep(name, arguments.take(), Ok::<bool, _>)?;
                Ok(())
            }
            "exclude_origin" => self.set(name, arguments.take(), check::exclude_origin),
            "signature" => {
                let mut profiles = None;
                self.set(name, arguments.take(), |words| {
                    check::signature(words).map(|(parsed, words)| {
                        profiles = Some(parsed);
                        words
                    })
                })?;
                self.profiles = profiles;
                Ok(())
            }
            "owner" => {
                let named = arguments.take::<String>();
                if self.of == Of::New || named.is_some() {
                    let owner = owner::choose(caller, named)?;
                    self.columns.push((name, owner.clone().into()));
                    self.owner = Some(owner);
                }
                Ok(())
            }
            "scope" => {
                self.scope = self.set_and_keep(name, arguments.take(), |word| check::word(option, word))?;
                Ok(())
            }
            "locked" => {
                self.locked = self.set_and_keep(name, arguments.take(), check::locked)?;
                Ok(())
            }
            "tls" => self.set(name, arguments.take(), check::tls),
            _ => self.take_by_kind(option, arguments),
        }
    }

    fn take_by_kind(&mut self, option: &SubscriptionOption, arguments: &mut Arguments) -> Result<(), Error> {
        let name = option.name;
        match option.kind {
            Kind::Boolean => self.set(name, arguments.take(), Ok::<bool, _>),
            Kind::Integer { .. } => self.set(name, arguments.take(), |count| check::integer(option, count)),
            Kind::Number => self.set(name, arguments.take(), Ok::<AnyNumeric, _>),
            Kind::Text { .. } => self.set(name, arguments.take(), |text| check::text(option, text)),
            Kind::Word(_) => self.set(name, arguments.take(), |word| check::word(option, word)),
            Kind::Texts { .. } => self.set(name, arguments.take(), |texts| check::texts(option, texts)),
            Kind::Interval => self.set(name, arguments.take(), Ok::<Interval, _>),
            Kind::Intervals { .. } => self.set(name, arguments.take(), Ok::<Vec<Option<Interval>>, _>),
            Kind::JsonPath => {
                if let Some(path) = arguments.take_datum() {
                    // SAFETY: the argument is declared as jsonpath, and lives as long as the call.
                    self.columns.push((name, unsafe { DatumWithOid::new(path, pg_sys::JSONPATHOID) }));
                }
                Ok(())
            }
            Kind::Object => {
                let object = arguments.take_json(name)?;
                self.set(name, object.map(JsonB), Ok)
            }
            Kind::Json { .. } => {
                let json = arguments.take_json(name)?;
                self.set(name, json, |json| check::json(option, json).map(JsonB))
            }
        }
    }

    /// Reads the names of options to clear.
    ///
    /// # Errors
    /// An option cannot be cleared, or has a value in the same call.
    pub fn clear(&mut self, names: Option<Vec<Option<String>>>) -> Result<(), Error> {
        let bad = |reason: String| Error::BadOption {
            option: "clear",
            reason,
            hint: "Pass one or more of '{name,filter,rate_limit,tls,expected_response}'. Other options always have a value.",
        };
        for name in names.into_iter().flatten() {
            let name = name.ok_or_else(|| bad("must not contain a null".to_owned()))?;
            let option = subscription_options::find(&name).filter(|option| option.is_nullable);
            let Some(option) = option else {
                return Err(bad(format!("\"{name}\" cannot be cleared")));
            };
            let column = option.name;
            if self.sets(column) {
                return Err(bad(format!("{column} is set in the same call, or named twice")));
            }
            // SAFETY: null is a value of every type.
            self.columns
                .push((column, unsafe { DatumWithOid::new(None::<String>, column_type(option.kind)) }));
            self.cleared.push(column);
        }
        Ok(())
    }

    /// Reports whether this option is cleared.
    pub fn clears(&self, name: &str) -> bool {
        self.cleared.contains(&name)
    }

    /// Reports whether this option has a value.
    pub fn sets(&self, name: &str) -> bool {
        self.columns.iter().any(|(given, _)| *given == name)
    }

    /// Sets an option that the caller has not set.
    pub fn set_column<T: IntoDatum>(&mut self, name: &'static str, value: T) {
        self.columns.push((name, value.into()));
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
        let is_optional = OF_OWNER.contains(&column)
            || subscription_options::find(column).is_some_and(|option| option.is_nullable);
        if self.of == Of::New && !is_optional {
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

/// Returns the type of the column of an option that can be null.
fn column_type(kind: Kind) -> pg_sys::Oid {
    match kind {
        Kind::Text { .. } | Kind::Word(_) => pg_sys::TEXTOID,
        Kind::Texts { .. } => pg_sys::TEXTARRAYOID,
        Kind::Boolean => pg_sys::BOOLOID,
        Kind::Integer { .. } => pg_sys::INT4OID,
        Kind::Number => pg_sys::NUMERICOID,
        Kind::Interval => pg_sys::INTERVALOID,
        Kind::Intervals { .. } => pg_sys::INTERVALARRAYOID,
        Kind::JsonPath => pg_sys::JSONPATHOID,
        Kind::Object | Kind::Json { .. } => pg_sys::JSONBOID,
    }
}

//! Converts the arguments of `webhook_watch` to a [`Definition`], with all checks that need only
//! the table's columns. Pure: it does not read the system catalog.

use super::table::Table;
use crate::definition::{Column, Definition, Verbs};
use crate::error::Error;
use pgrx::pg_sys::Oid;
use serde_json::Value;

/// Names from SQL. An array may contain nulls.
pub type Names = Option<Vec<Option<String>>>;

/// The arguments of `webhook_watch` that shape events, as they were given.
pub struct Request {
    pub noun: Option<String>,
    pub verbs: Value,
    pub columns: Names,
    pub exclude: Names,
    pub on_columns: Names,
    pub key_columns: Names,
    pub owner: OwnerRequest,
}

/// The arguments of `webhook_watch` that name the source of owners, at most one of them.
pub struct OwnerRequest {
    pub column: Option<String>,
    /// Checked later, because that needs the system catalog.
    pub function: Option<Oid>,
    pub setting: Option<String>,
}

impl Request {
    /// Checks every argument against the table.
    ///
    /// # Errors
    /// The first mistake, with the name of the argument.
    pub fn define(self, table: &Table) -> Result<Definition, Error> {
        let noun = noun(self.noun, table)?;
        let verbs = verbs(&self.verbs, &noun)?;
        if self.columns.is_some() && self.exclude.is_some() {
            return Err(Error::BadOption {
                option: "columns, exclude",
                reason: "only one of the two can be set".to_owned(),
                hint: "Pass the columns to capture, or the columns to exclude.",
            });
        }
        if self.on_columns.is_some() && verbs.update.is_none() {
            return Err(Error::BadOption {
                option: "on_columns",
                reason: "requires a verb for update".to_owned(),
                hint: "Add the key update to verbs, or omit on_columns.",
            });
        }
        self.owner.check_count()?;
        let owner_column = self.owner.column.map(|name| one("owner_column", name, table)).transpose()?;
        let owner_setting = self.owner.setting.map(setting).transpose()?;
        let key = match named("key_columns", self.key_columns, table)? {
            Some(key) => key,
            None => {
                let names = table.primary_key.iter().cloned().map(Some).collect();
                named("key_columns", Some(names), table)?.unwrap_or_default()
            }
        };
        let exclude = named("exclude", self.exclude, table)?.filter(|names| !names.is_empty());
        if exclude.as_ref().is_some_and(|names| names.len() == table.columns.len()) {
            return Err(empty("exclude", "must not exclude all columns"));
        }
        Ok(Definition {
            noun,
            verbs,
            columns: not_empty("columns", named("columns", self.columns, table)?)?,
            exclude,
            on_columns: not_empty("on_columns", named("on_columns", self.on_columns, table)?)?,
            key,
            payload: None,
            owner_column: owner_column.map(|column| [column]),
            owner_function: None,
            owner_setting,
            table: Some(table.layout()),
        })
    }
}

impl OwnerRequest {
    fn check_count(&self) -> Result<(), Error> {
        let given = [self.column.is_some(), self.function.is_some(), self.setting.is_some()];
        if given.into_iter().filter(|is_given| *is_given).count() > 1 {
            return Err(Error::BadOption {
                option: "owner_column, owner_function, owner_setting",
                reason: "only one of the three can be set".to_owned(),
                hint: "Pass the one source from which each event gets its owner.",
            });
        }
        Ok(())
    }
}

/// Maximum length of the name of a setting, in bytes.
const SETTING_BYTES_MAX: usize = 200;

/// Checks the name of a setting by the rule of Postgres for settings of applications.
fn setting(name: String) -> Result<String, Error> {
    let is_part = |part: &str| {
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        part.starts_with(is_letter) && part.chars().all(|c| is_letter(c) || c.is_ascii_digit() || c == '$')
    };
    if name.len() <= SETTING_BYTES_MAX && name.contains('.') && name.split('.').all(is_part) {
        return Ok(name);
    }
    Err(Error::BadOption {
        option: "owner_setting",
        reason: if name.len() > SETTING_BYTES_MAX {
            format!("must have at most {SETTING_BYTES_MAX} bytes")
        } else {
            format!("\"{name}\" is not the name of a setting with a prefix")
        },
        hint: "Pass the name of a setting that the application sets, such as 'app.tenant_id'.",
    })
}

fn noun(given: Option<String>, table: &Table) -> Result<String, Error> {
    let noun = match given {
        Some(noun) => noun,
        None if is_segment(&table.name) => table.name.clone(),
        None => return Err(Error::NounNeeded(table.qualified())),
    };
    event_type::check_noun(&noun).map_err(|why| Error::BadOption {
        option: "noun",
        reason: format!("\"{noun}\": {}", plain(why, "must have one or two segments: noun or namespace.noun")),
        hint: "A noun has lower-case letters, digits and underscores, and optionally a namespace, as in 'order' or 'sales.order'.",
    })?;
    if event_type::is_reserved(&noun) {
        return Err(Error::Reserved(noun));
    }
    Ok(noun)
}

fn is_segment(name: &str) -> bool {
    event_type::check_verb(name).is_ok()
}

/// Returns the words of the rule. The number of segments depends on the argument.
fn plain(why: event_type::Invalid, segments: &str) -> String {
    match why {
        event_type::Invalid::Segments => segments.to_owned(),
        other => other.to_string(),
    }
}

fn verbs(given: &Value, noun: &str) -> Result<Verbs, Error> {
    let bad = |reason: String| Error::BadOption {
        option: "verbs",
        reason,
        hint: "Pass an object such as '{\"insert\":\"created\",\"update\":\"changed\"}'. Operations without a key are not watched.",
    };
    let Value::Object(given) = given else {
        return Err(bad("must be a JSON object".to_owned()));
    };
    let mut verbs = Verbs::default();
    for (key, value) in given {
        let place = match key.as_str() {
            "insert" => &mut verbs.insert,
            "update" => &mut verbs.update,
            "delete" => &mut verbs.delete,
            "truncate" => &mut verbs.truncate,
            _ => {
                return Err(bad(format!("unknown key \"{key}\"; use insert, update, delete or truncate")));
            }
        };
        let verb = match value {
            Value::Null => continue,
            Value::String(verb) => verb,
            other => return Err(bad(format!("the verb for {key} must be a string or null, not {other}"))),
        };
        event_type::check_verb(verb).map_err(|why| {
            bad(format!("\"{verb}\" for {key}: {}", plain(why, "must be a single segment")))
        })?;
        event_type::check_type(&format!("{noun}.{verb}"))
            .map_err(|why| bad(format!("invalid event type {noun}.{verb}: {why}")))?;
        *place = Some(verb.clone());
    }
    if verbs == Verbs::default() {
        return Err(bad(
            "must name a verb for at least one of insert, update, delete and truncate".to_owned()
        ));
    }
    Ok(verbs)
}

/// Returns the column of this name.
fn one(option: &'static str, name: String, table: &Table) -> Result<Column, Error> {
    match table.columns.iter().find(|column| column.name == name) {
        Some(column) => Ok(column.clone()),
        None => Err(Error::NoSuchColumn {
            option,
            hint: suggestion(&name, table),
            column: name,
            relation: table.qualified(),
        }),
    }
}

/// Returns the columns of these names, each once.
fn named(option: &'static str, names: Names, table: &Table) -> Result<Option<Vec<Column>>, Error> {
    let Some(names) = names else { return Ok(None) };
    let mut found: Vec<Column> = Vec::with_capacity(names.len());
    for name in names {
        let Some(name) = name else {
            return Err(empty(option, "must not contain a null"));
        };
        let column = one(option, name, table)?;
        if found.contains(&column) {
            return Err(empty(option, &format!("names \"{}\" twice", column.name)));
        }
        found.push(column);
    }
    Ok(Some(found))
}

fn not_empty(option: &'static str, names: Option<Vec<Column>>) -> Result<Option<Vec<Column>>, Error> {
    match names {
        Some(names) if names.is_empty() => Err(empty(option, "must name at least one column")),
        names => Ok(names),
    }
}

fn empty(option: &'static str, reason: &str) -> Error {
    Error::BadOption {
        option,
        reason: reason.to_owned(),
        hint: "Name each column once, or omit the argument.",
    }
}

/// Maximum length of a list of names in a hint.
const NAMES_MAX: usize = 20;

/// Returns the columns that the caller may have meant. If none is similar, returns all.
fn suggestion(name: &str, table: &Table) -> String {
    let wanted = name.to_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = table
        .columns
        .iter()
        .map(|column| (distance(&wanted, &column.name.to_lowercase()), column.name.as_str()))
        .filter(|(edits, _)| *edits <= allowed)
        .collect();
    near.sort();
    if near.is_empty() {
        let all = table.columns.iter().map(|column| column.name.as_str());
        let more = if table.columns.len() > NAMES_MAX { ", ..." } else { "" };
        format!("The table has the columns {}{more}.", quoted(all, ", "))
    } else {
        format!("Did you mean {}?", quoted(near.iter().map(|(_, name)| *name), " or "))
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>, separator: &str) -> String {
    names.take(NAMES_MAX).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(separator)
}

/// Returns the number of inserted, deleted and replaced characters between two texts (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

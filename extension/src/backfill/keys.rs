//! The primary key of a table under backfill: SQL over its columns, and keys as text. Locks rows as
//! the table's owner. Never waits while it holds a row lock, because a backfill must not get into a
//! deadlock with the application.

use super::from_item;
use crate::error::Error;
use crate::memory;
use crate::watch::table::Table;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use std::collections::{HashMap, HashSet};

/// A key: its columns as text in the database's encoding, which need not be UTF-8.
pub type Key = Vec<Vec<u8>>;

/// Copies a key out of an array.
pub fn key_of(array: Array<'_, &[u8]>) -> Key {
    array.iter().map(|part| part.unwrap_or_default().to_vec()).collect()
}

/// The text of bytes in the database's encoding, and the bytes of a text. Neither converts
/// anything.
fn text_of(bytes: &str) -> String {
    format!("pg_catalog.convert_from({bytes}, pg_catalog.getdatabaseencoding())")
}

fn bytes_of(text: &str) -> String {
    format!("pg_catalog.convert_to({text}, pg_catalog.getdatabaseencoding())")
}

/// A column of the primary key. Its operators come from the index, by schema and name. No other
/// operator of that name can take their place under any search path, and they sort as the index
/// does.
struct KeyColumn {
    /// Quoted name.
    name: String,
    /// Name of the type in SQL.
    type_name: String,
    /// `operator(schema.>)`
    greater: String,
    /// `operator(schema.=)`
    equal: String,
}

/// The primary key of a table.
pub struct Keys {
    from: String,
    columns: Vec<KeyColumn>,
}

impl Keys {
    /// Reads the primary key of a table.
    ///
    /// # Errors
    /// [`Error::NoPrimaryKey`].
    pub fn of(table: &Table) -> Result<Self, Error> {
        let columns = Spi::connect(|client| {
            let rows =
                client.select(include_str!("sql/backfill_key_columns.sql"), None, &[table.oid.into()])?;
            let text = |row: &pgrx::spi::SpiHeapTupleData<'_>, at| {
                row.get::<String>(at).map(Option::unwrap_or_default)
            };
            rows.map(|row| {
                Ok(KeyColumn {
                    name: text(&row, 1)?,
                    type_name: text(&row, 2)?,
                    greater: text(&row, 3)?,
                    equal: text(&row, 4)?,
                })
            })
            .collect::<Result<Vec<_>, Error>>()
        })?;
        if columns.is_empty() || columns.len() != table.primary_key.len() {
            return Err(Error::NoPrimaryKey(table.qualified()));
        }
        Ok(Self { from: from_item(table), columns })
    }

    fn list(&self, separator: &str, each: impl Fn(usize, &KeyColumn) -> String) -> String {
        let each: Vec<_> = self.columns.iter().enumerate().map(|(i, column)| each(i, column)).collect();
        each.join(separator)
    }

    /// Returns `new.a, new.b`, the columns by which rows are sorted.
    pub fn columns(&self) -> String {
        self.list(", ", |_, column| format!("new.{}", column.name))
    }

    /// Returns a condition that takes the keys of [`Keys::arguments`]. All names in it are
    /// qualified, because the query has the caller's search path.
    pub fn among(&self) -> String {
        format!(
            "exists (select from rows from ({}) as k ({}) where {})",
            self.list(", ", |i, _| format!("pg_catalog.unnest(${}::pg_catalog.bytea[])", i + 1)),
            self.list(", ", |i, _| format!("k{i}")),
            self.list(" and ", |i, c| {
                let key = text_of(&format!("k.k{i}"));
                format!("new.{} {} cast({key} as {})", c.name, c.equal, c.type_name)
            }),
        )
    }

    /// Returns a condition that takes the columns of one key, for the rows after it. Uses a row
    /// comparison where possible, because only that is a range of the index.
    fn after(&self) -> String {
        let place = |i: usize, column: &KeyColumn| {
            format!("cast({} as {})", text_of(&format!("${}", i + 1)), column.type_name)
        };
        if self.columns.iter().all(|column| column.greater == self.columns[0].greater) {
            let (names, greater) = (self.columns(), &self.columns[0].greater);
            return format!("({names}) {greater} ({})", self.list(", ", place));
        }
        let rows: Vec<_> = (0..self.columns.len())
            .map(|last| {
                let is = |(i, column): (usize, &KeyColumn)| {
                    let operator = if i == last { &column.greater } else { &column.equal };
                    format!("new.{} {operator} {}", column.name, place(i, column))
                };
                self.columns.iter().enumerate().take(last + 1).map(is).collect::<Vec<_>>().join(" and ")
            })
            .collect();
        format!("({})", rows.join(" or "))
    }

    /// Returns keys as arguments, column by column.
    pub fn arguments(&self, keys: &[Key]) -> Vec<DatumWithOid<'static>> {
        (0..self.columns.len())
            .map(|column| keys.iter().map(|key| key[column].clone()).collect::<Vec<Vec<u8>>>().into())
            .collect()
    }

    /// Reads the next keys after one, in order, as they are now.
    pub fn next(&self, after: Option<&Key>, rows_max: i32) -> Result<Vec<Key>, Error> {
        let condition = after.map_or(String::new(), |_| format!("where {}", self.after()));
        let arguments: Vec<DatumWithOid<'_>> =
            after.into_iter().flatten().map(|bytes| bytes.clone().into()).collect();
        let rest = format!("{condition} order by {} limit {rows_max}", self.columns());
        Ok(self.read("null", &rest, &arguments)?.into_iter().map(|(key, _)| key).collect())
    }

    /// Reads the keys whose rows exist and meet a condition (a text that begins with
    /// `and`), with the present version of each row. A row has another version after any change.
    pub fn versions(&self, keys: &[Key], condition: &str) -> Result<HashMap<Key, String>, Error> {
        let version = "pg_catalog.concat(new.tableoid, ' ', new.ctid, ' ', new.xmin)";
        let rest = format!("where {} {condition}", self.among());
        let rows = self.read(version, &rest, &self.arguments(keys))?;
        Ok(rows.into_iter().map(|(key, version)| (key, version.unwrap_or_default())).collect())
    }

    /// Locks rows against changes until the transaction ends, up to the first row that another
    /// transaction is changing. Returns the keys that exist, and how many of `keys` are done: at
    /// least one, unless `keys` is empty.
    pub fn lock(&self, mut keys: Vec<Key>) -> Result<(Vec<Key>, usize), Error> {
        let lock = |keys: &[Key], how: &str| {
            let rest = format!("where {} for share of new {how}", self.among());
            let rows = self.read("null", &rest, &self.arguments(keys))?;
            Ok::<_, Error>(rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>())
        };
        let Some(head) = keys.first() else { return Ok((keys, 0)) };
        // Waits for the first row while it holds no lock yet. If that row has gone meanwhile, it is
        // done.
        let mut locked = lock(core::slice::from_ref(head), "")?;
        let head_is_gone = locked.is_empty();
        if keys.len() > 1 {
            locked.extend(lock(&keys[1..], "skip locked")?);
        }
        let locked: HashSet<Key> = locked.into_iter().collect();
        let first_in_use = keys.iter().skip(1).position(|key| !locked.contains(key)).map(|at| at + 1);
        let count = first_in_use.unwrap_or(keys.len());
        keys.truncate(count);
        if head_is_gone {
            keys.remove(0);
        }
        Ok((keys, count))
    }

    /// Reads keys and one more text of each row.
    fn read(
        &self,
        text: &str,
        rest: &str,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<Vec<(Key, Option<String>)>, Error> {
        let texts = self.list(", ", |_, column| bytes_of(&format!("cast(new.{} as text)", column.name)));
        let query = format!(
            "select array[{texts}], pg_catalog.pg_column_size(array[{texts}]), {text}::pg_catalog.text from {} as new {rest}",
            self.from
        );
        // Not read-only, so it sees data that was committed meanwhile.
        Spi::connect_mut(|client| {
            let rows = client.update(query.as_str(), None, arguments)?;
            rows.map(|row| {
                let bytes = row.get::<i32>(2)?.unwrap_or_default();
                memory::room_for_input(usize::try_from(bytes).unwrap_or_default());
                let key: Option<Array<'_, &[u8]>> = row.get(1)?;
                Ok((key.map(key_of).ok_or(Error::Missing("key"))?, row.get::<String>(3)?))
            })
            .collect()
        })
    }
}

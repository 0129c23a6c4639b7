//! The catalog data of a table for a watch. Reads only. Called as the owner of the extension.

use crate::definition::{Column, Layout};
use crate::error::Error;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use pgrx::spi::{SpiResult, quote_qualified_identifier};

/// A relation, with the properties that a watch needs.
#[derive(Debug)]
pub struct Table {
    pub oid: Oid,
    pub schema: String,
    pub name: String,
    pub owner: Oid,
    /// Its composite type.
    pub row_type: Oid,
    /// `pg_class.relkind`.
    kind: u8,
    /// `pg_class.relpersistence`.
    persistence: u8,
    /// In order of numbers, without dropped columns.
    pub columns: Vec<Column>,
    /// The name of each column in order of numbers. `None` for a dropped column.
    names: Vec<Option<String>>,
    /// Names of the primary key's columns, in key order. May be empty.
    pub primary_key: Vec<String>,
}

impl Table {
    /// Looks up a table.
    ///
    /// # Errors
    /// [`Error::NoSuchRelation`] if there is none with that OID.
    pub fn find(oid: Oid) -> Result<Self, Error> {
        Spi::connect(|client| {
            let found = client.select(
                "select n.nspname::text, c.relname::text, c.relowner, c.reltype, c.relkind, c.relpersistence
                 from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1",
                Some(1),
                &[oid.into()],
            )?;
            if found.is_empty() {
                return Err(Error::NoSuchRelation(oid.to_u32()));
            }
            let row = found.first();
            let letter = |value: Option<i8>| value.map_or(b'?', i8::cast_unsigned);
            let names = names(oid)?;
            Ok(Self {
                oid,
                schema: row.get(1)?.unwrap_or_default(),
                name: row.get(2)?.unwrap_or_default(),
                owner: row.get(3)?.unwrap_or(Oid::INVALID),
                row_type: row.get(4)?.unwrap_or(Oid::INVALID),
                kind: letter(row.get(5)?),
                persistence: letter(row.get(6)?),
                columns: columns(&names),
                names,
                primary_key: primary_key(oid)?,
            })
        })
    }

    /// Returns its quoted, qualified name.
    pub fn qualified(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.name)
    }

    /// Returns what a definition records about the table of its numbers.
    pub fn layout(&self) -> Layout {
        Layout { oid: None, name: vec![self.schema.clone(), self.name.clone()], columns: self.names.clone() }
    }

    pub fn is_partitioned(&self) -> bool {
        self.kind == b'p'
    }

    /// Checks whether this kind of relation can be watched.
    ///
    /// # Errors
    /// [`Error::NotATable`], [`Error::Unwatchable`] with the kind of the relation.
    pub fn check_kind(&self) -> Result<(), Error> {
        let relation = self.qualified();
        let no_table = match self.kind {
            b'r' | b'p' => None,
            b'v' => Some("a view"),
            b'm' => Some("a materialized view"),
            b'f' => Some("a foreign table"),
            b'S' => Some("a sequence"),
            b'i' | b'I' => Some("an index"),
            b'c' => Some("a composite type"),
            b't' => Some("a TOAST table"),
            _ => Some("a relation of an unknown kind"),
        };
        if let Some(kind) = no_table {
            return Err(Error::NotATable { relation, kind });
        }
        let kind = match self.schema.as_str() {
            "webhook" => "a table of pg_webhook itself",
            "pg_catalog" | "information_schema" => "a system table",
            _ if self.persistence == b't' => "a temporary table",
            _ => return Ok(()),
        };
        Err(Error::Unwatchable { relation, kind })
    }

    /// Returns the child tables at any depth, without the table itself. Partitions are excluded:
    /// Postgres gives them the row triggers of their root.
    pub fn children(&self) -> Result<Vec<Self>, Error> {
        if self.is_partitioned() {
            return Ok(Vec::new());
        }
        self.descendants()?.into_iter().map(Self::find).collect()
    }

    /// Returns partitions and child tables at any depth.
    pub fn descendants(&self) -> Result<Vec<Oid>, Error> {
        Ok(oids(include_str!("sql/descendants.sql"), self.oid)?)
    }

    /// Returns its first watched ancestor except one.
    pub fn watched_ancestor(&self, but: &Self) -> Result<Option<Self>, Error> {
        Ok(self.watched_ancestors(but)?.into_iter().next())
    }

    /// Returns its watched ancestors except one.
    pub fn watched_ancestors(&self, but: &Self) -> Result<Vec<Self>, Error> {
        let found = oids(include_str!("sql/ancestors.sql"), self.oid)?;
        found.into_iter().filter(|&oid| oid != but.oid).map(Self::find).collect()
    }

    /// Returns its first watched descendant.
    pub fn watched_descendant(&self) -> Result<Option<Self>, Error> {
        for oid in self.descendants()? {
            if is_watched(oid)? {
                return Self::find(oid).map(Some);
            }
        }
        Ok(None)
    }

    /// Reports whether it has a watch of its own.
    pub fn is_watched(&self) -> Result<bool, Error> {
        is_watched(self.oid)
    }
}

fn is_watched(oid: Oid) -> Result<bool, Error> {
    Ok(!oids("select relation::oid from webhook.watch where relation = $1", oid)?.is_empty())
}

fn names(oid: Oid) -> SpiResult<Vec<Option<String>>> {
    Spi::connect(|client| {
        let rows = client.select(
            "select case when not attisdropped then attname::text end from pg_attribute
             where attrelid = $1 and attnum > 0 order by attnum",
            None,
            &[oid.into()],
        )?;
        rows.map(|row| row.get(1)).collect()
    })
}

fn columns(names: &[Option<String>]) -> Vec<Column> {
    let numbered = (1..).zip(names);
    numbered.filter_map(|(number, name)| Some(Column { name: name.clone()?, number })).collect()
}

fn primary_key(oid: Oid) -> SpiResult<Vec<String>> {
    Spi::connect(|client| {
        // Included columns of the index come after the key's own columns.
        let rows = client.select(include_str!("sql/primary_key.sql"), None, &[oid.into()])?;
        rows.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

fn oids(query: &str, about: Oid) -> SpiResult<Vec<Oid>> {
    Spi::connect(|client| {
        let rows = client.select(query, None, &[about.into()])?;
        rows.map(|row| Ok(row.get(1)?.unwrap_or(Oid::INVALID))).collect()
    })
}

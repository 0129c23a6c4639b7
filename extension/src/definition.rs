//! The definition of a watch in the form that its triggers carry: one JSON argument, written by
//! `watch` and read by `capture`.
//!
//! Capture reads a definition only from the trigger's argument. The argument lies in the relation
//! cache, changes with the trigger in one transaction, and is dumped and restored with it. Columns
//! carry their name and number. After ALTER TABLE … RENAME the number still finds the column; after
//! a dump and restore, which renumbers columns, the name does. `webhook.watch.numbered_for` holds
//! the OIDs of the tables that the numbers were written for, and so distinguishes the two cases.
//! The argument itself holds no OID. Equal databases therefore have equal triggers, and `pg_dump
//! --schema-only` prints the same for them.

use serde::{Deserialize, Serialize};

/// A column of the watched (root) table at the time of the `webhook_watch` call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name at that time.
    pub name: String,
    /// Its `attnum` at that time.
    pub number: i16,
}

/// The table that a definition's numbers were written for, as it was at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Its OID, in definitions of former versions. New definitions leave it to
    /// `webhook.watch.numbered_for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// Schema and name; empty in definitions of former versions. `webhook_check()` compares them
    /// with the present name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name: Vec<String>,
    /// The name of each column, in the order of their numbers from 1; `None` for a dropped column.
    pub columns: Vec<Option<String>>,
}

/// The verbs of a noun; `None` for an operation that is not watched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verbs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insert: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<String>,
}

/// A function that a watch names. It takes the table's row type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFunctionKind {
    /// Returns json or jsonb: the data of the event.
    Payload = 0,
    /// Returns text: the owner of the event.
    Owner = 1,
}

impl RowFunctionKind {
    pub const COUNT: usize = 2;

    /// Returns the types of which the function must return one.
    pub fn returns(self) -> &'static str {
        match self {
            Self::Payload => "json or jsonb",
            Self::Owner => "text",
        }
    }
}

impl core::fmt::Display for RowFunctionKind {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::Payload => "payload",
            Self::Owner => "owner",
        })
    }
}

/// The options of a watch, as each of its triggers carries them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// `noun` or `namespace.noun`.
    pub noun: String,
    pub verbs: Verbs,
    /// Only these columns are captured. `None` captures all columns, including those added later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<Column>>,
    /// These columns are not captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<Column>>,
    /// An update counts only if one of these changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_columns: Option<Vec<Column>>,
    /// The key, in order; may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Column>,
    /// Quoted, qualified name of the function from the (root) table's row type to json or jsonb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The column that holds the owner of each event. A list like the others, so that functions in
    /// SQL that follow columns find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_column: Option<[Column; 1]>,
    /// Quoted, qualified name of the function from the (root) table's row type to text that returns
    /// the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_function: Option<String>,
    /// Name of the setting that holds the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_setting: Option<String>,
    /// `None` if the version that wrote the definition did not record it. The numbers then cannot
    /// be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Layout>,
}

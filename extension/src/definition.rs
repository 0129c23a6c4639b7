//! A watch in the form its triggers carry: one JSON argument, written by `watch`, read by `capture`.
//!
//! The trigger's argument is the only thing capture reads: it lies in the relation cache, changes with the trigger in
//! one transaction, and is dumped and restored with it. Columns carry name and number: after ALTER TABLE … RENAME the
//! number still finds the column, after a dump and restore (which renumbers) the name does.
//! `webhook.watch.numbered_for` holds the OIDs of the tables that the numbers were written for, and
//! so tells the two apart. No OID stands in the argument itself: equal databases have equal
//! triggers, and `pg_dump --schema-only` of them is the same.

use serde::{Deserialize, Serialize};

/// A column of the watched (root) table, as it was when `webhook_watch` was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name then.
    pub name: String,
    /// Its `attnum` then.
    pub number: i16,
}

/// The table that a definition's numbers were written for, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Its OID, in definitions of former versions. New ones leave it to
    /// `webhook.watch.numbered_for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// Schema and name; empty in definitions of former versions. `webhook_check()` compares it with
    /// the present name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name: Vec<String>,
    /// The name of each column, in the order of their numbers from 1; `None`: one that had been dropped.
    pub columns: Vec<Option<String>>,
}

/// The verbs of a noun; `None`: not watched.
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

/// What a trigger of a watch does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// `noun` or `namespace.noun`.
    pub noun: String,
    pub verbs: Verbs,
    /// Only these columns are captured; `None`: all, those added later too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<Column>>,
    /// All but these.
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
    /// `None`: written by a version that did not note it, so that the numbers cannot be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Layout>,
}

//! Random tables: keys, columns, partitions, children, audit and watch.
//!
//! Each table has `id`, which statements address rows by; `n`, which triggers read; `p`, the
//! partition key; `v`, the number of a row's version (audit.sql); and a few columns of random
//! types.

use crate::{
    judge,
    kinds::{self, Kind},
};
use rand::{RngExt as _, rngs::StdRng};

/// What a run includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choices {
    /// Triggers that change rows of their own table.
    pub nests_in_same_table: bool,
    /// Triggers that change rows of other tables.
    pub nests_in_others: bool,
    pub changes_keys: bool,
    pub changes_schema: bool,
    /// Sessions have their own time zone and output formats.
    pub varies_settings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `id` is the primary key.
    Id,
    /// `k`, computed from `id`.
    Text,
    Uuid,
    /// `id` and `k`.
    Pair,
    /// `id`, which is not unique; the watch names it as the key.
    Named,
    /// No key.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Ordinary,
    /// Partitioned by `p`: `list`, `range` or `hash`.
    Partitioned(&'static str),
    /// Has a child table.
    Inherited,
    /// Rows reference a parent row of the same table, with an ON DELETE action.
    Cascading,
}

#[derive(Debug, Clone)]
pub struct Table {
    /// The qualified name.
    pub name: String,
    pub noun: String,
    pub key: Key,
    pub shape: Shape,
    pub is_stamped: bool,
    pub has_generated: bool,
    pub columns: Vec<(String, Kind)>,
}

/// The ids that statements use. They are few, so sessions meet on the same rows.
pub const IDS: std::ops::Range<i64> = 0..48;
const PARTITIONS: i64 = 4;

impl Table {
    pub fn random(round: u32, number: usize, choices: Choices, random: &mut StdRng) -> Self {
        let shape = match random.random_range(0..10) {
            0..4 => Shape::Ordinary,
            4..8 => Shape::Partitioned(["list", "range", "hash"][random.random_range(0..3)]),
            8 => Shape::Inherited,
            _ => Shape::Cascading,
        };
        let keys: &[Key] = match shape {
            Shape::Ordinary => &[Key::Id, Key::Id, Key::Text, Key::Uuid, Key::Pair, Key::None],
            // A unique key of a partitioned table includes p, so each move would change the key.
            Shape::Partitioned(_) => &[Key::Named, Key::Named, Key::Named, Key::None],
            Shape::Inherited => &[Key::Named],
            Shape::Cascading => &[Key::Id],
        };
        let key = keys[random.random_range(0..keys.len())];
        // Only stamps give the true order where triggers change rows in between.
        let is_plain = shape == Shape::Ordinary && key != Key::None && random.random_range(0..3) == 0;
        let is_stamped = !is_plain || (choices.nests_in_same_table && random.random_bool(0.5));
        let count = random.random_range(1..4);
        Self {
            name: format!("r{round}.t{number}"),
            noun: format!("r{round}_t{number}"),
            key,
            shape,
            is_stamped,
            has_generated: random.random_range(0..4) == 0,
            columns: (0..count).map(|i| (format!("c{i}"), kinds::any(random))).collect(),
        }
    }

    /// Describes the table to the judge.
    pub fn audit(&self) -> judge::Table {
        judge::Table {
            is_stamped: self.is_stamped,
            is_key_unique: !matches!(self.key, Key::Named | Key::None),
        }
    }

    /// Returns the expression of column `k` for an expression of `id`.
    pub fn k_of(&self, id: &str) -> Option<String> {
        match self.key {
            Key::Text | Key::Pair => Some(format!("'k \"' || ({id})")),
            Key::Uuid => Some(format!("md5(({id})::text)::uuid")),
            Key::Id | Key::Named | Key::None => None,
        }
    }

    fn key_columns(&self) -> &'static [&'static str] {
        match self.key {
            Key::Id | Key::Named => &["id"],
            Key::Text | Key::Uuid => &["k"],
            Key::Pair => &["id", "k"],
            Key::None => &[],
        }
    }

    /// Returns the columns and the expressions of an insert.
    pub fn insert(&self, id: &str, n: &str, p: &str, random: &mut StdRng) -> (String, String) {
        let mut names = vec!["id", "n", "p"];
        let mut values = vec![id.to_owned(), n.to_owned(), p.to_owned()];
        let k = self.k_of(id);
        if let Some(k) = k {
            names.push("k");
            values.push(k);
        }
        if self.shape == Shape::Cascading {
            names.push("parent");
            values.push(format!("(select min(id) from {} where id < {id} and {n} % 3 = 0)", self.name));
        }
        for (name, kind) in &self.columns {
            names.push(name);
            values.push(format!("({})::{kind}", kinds::value(kind, random)));
        }
        (names.join(", "), values.join(", "))
    }

    /// Returns random assignments for an update.
    pub fn assignments(&self, random: &mut StdRng) -> String {
        let mut parts = Vec::new();
        if random.random_range(0..4) > 0 {
            parts.push(format!("n = n + {}", random.random_range(0..3)));
        }
        for (name, kind) in &self.columns {
            if parts.is_empty() || random.random_bool(0.4) {
                parts.push(format!("{name} = ({})::{kind}", kinds::value(kind, random)));
            }
        }
        if matches!(self.shape, Shape::Partitioned(_)) && random.random_bool(0.5) {
            parts.push(format!("p = {}", random.random_range(0..PARTITIONS)));
        }
        self.with_version(parts.join(", "))
    }

    /// Adds the assignment of `v` if no trigger makes it.
    pub fn with_version(&self, assignments: String) -> String {
        if self.is_stamped { assignments } else { format!("{assignments}, v = nextval('torture.clock')") }
    }

    pub fn watch(&self) -> String {
        let keys = self.key_columns().join(",");
        format!("select webhook_watch('{}', noun => '{}', key_columns => '{{{keys}}}')", self.name, self.noun)
    }

    /// Returns the statements that create the table, its audit and its watch.
    pub fn ddl(&self, random: &mut StdRng) -> Vec<String> {
        let Self { name, .. } = self;
        let mut columns = vec!["id int not null".to_owned()];
        if matches!(self.key, Key::Text | Key::Pair) {
            columns.push("k text not null".to_owned());
        }
        if self.key == Key::Uuid {
            columns.push("k uuid not null".to_owned());
        }
        columns.extend(["p int not null default 0".to_owned(), "n int".to_owned()]);
        columns.extend(self.columns.iter().map(|(name, kind)| format!("{name} {kind}")));
        if self.has_generated {
            columns.push("g text generated always as (id || ' of ' || coalesce(n, -1)) stored".to_owned());
        }
        columns.push(
            if self.is_stamped { "v bigint" } else { "v bigint default nextval('torture.clock')" }.to_owned(),
        );
        if self.shape == Shape::Cascading {
            let action =
                ["cascade", "set null", "cascade deferrable initially deferred"][random.random_range(0..3)];
            columns.push(format!("parent int references {name} on delete {action}"));
        }
        let unique = match self.key {
            Key::Id => Some("id"),
            Key::Text | Key::Uuid => Some("k"),
            Key::Pair => Some("id, k"),
            Key::Named | Key::None => None,
        };
        let all = columns.iter().cloned().chain(unique.map(|unique| format!("primary key ({unique})")));
        let all = all.collect::<Vec<_>>().join(", ");
        let mut ddl = Vec::new();
        let mut audited = vec![(name.clone(), String::new())];
        match self.shape {
            Shape::Partitioned(by) => {
                ddl.push(format!("create table {name} ({all}) partition by {by} (p)"));
                ddl.extend((0..PARTITIONS).flat_map(|p| self.partition(p, by, &columns, random)));
                ddl.push(format!("create index on {name} (id)"));
                // The triggers' copies on partitions keep the argument.
                audited[0].1.clone_from(name);
            }
            Shape::Inherited => {
                ddl.push(format!("create table {name} ({all}, primary key (id, p))"));
                ddl.push(format!("create table {name}_child (extra text default 'child', primary key (id, p)) inherits ({name})"));
                audited.push((format!("{name}_child"), String::new()));
            }
            Shape::Ordinary | Shape::Cascading => ddl.push(format!("create table {name} ({all})")),
        }
        if unique.is_none() && self.shape == Shape::Ordinary {
            ddl.push(format!("create index on {name} (id)"));
        }
        for (table, root) in audited {
            ddl.extend(self.audit_triggers(&table, &root));
        }
        ddl.push(self.watch());
        ddl
    }

    /// Returns the audit's triggers, which sort after all others.
    fn audit_triggers(&self, table: &str, root: &str) -> Vec<String> {
        let Self { noun, .. } = self;
        let keys = self.key_columns().join(",");
        let mut ddl = vec![format!(
            "create trigger \"~~~audit\" after insert or update or delete on {table}
                     for each row execute function torture.record('{noun}', '{{{keys}}}', '{root}')"
        )];
        // TRUNCATE of a parent also empties its child, and is one event.
        if *table == self.name {
            ddl.push(format!(
                "create trigger \"~~~audit_truncate\" after truncate on {table}
                     for each statement execute function torture.record('{noun}')"
            ));
        }
        if self.is_stamped {
            ddl.push(format!(
                "create trigger \"~~~stamp\" before insert or update or delete on {table}
                     for each row execute function torture.stamp('{noun}')"
            ));
        }
        ddl
    }

    fn bounds(by: &str, p: i64) -> String {
        match by {
            "list" if p == PARTITIONS - 1 => "default".to_owned(),
            "list" => format!("for values in ({p})"),
            "range" => format!("for values from ({p}) to ({})", p + 1),
            _ => format!("for values with (modulus {PARTITIONS}, remainder {p})"),
        }
    }

    /// Returns the statements for one partition: a plain one, one attached with other column
    /// positions, or one with partitions of its own.
    fn partition(&self, p: i64, by: &str, columns: &[String], random: &mut StdRng) -> Vec<String> {
        let Self { name, .. } = self;
        let bounds = Self::bounds(by, p);
        match random.random_range(0..4) {
            0 => {
                let mut turned: Vec<_> = columns.iter().rev().cloned().collect();
                turned.insert(1, "gone int".to_owned());
                vec![
                    format!("create table {name}_{p} ({})", turned.join(", ")),
                    format!("alter table {name}_{p} drop column gone"),
                    format!("alter table {name} attach partition {name}_{p} {bounds}"),
                ]
            }
            1 => vec![
                format!("create table {name}_{p} partition of {name} {bounds} partition by hash (id)"),
                format!(
                    "create table {name}_{p}_0 partition of {name}_{p} for values with (modulus 2, remainder 0)"
                ),
                format!(
                    "create table {name}_{p}_1 partition of {name}_{p} for values with (modulus 2, remainder 1)"
                ),
            ],
            _ => vec![format!("create table {name}_{p} partition of {name} {bounds}")],
        }
    }
}

//! Random transactions of an application.

use crate::{
    kinds,
    schema::{Choices, IDS, Key, Shape, Table},
};
use rand::{RngExt as _, rngs::StdRng};

/// One step of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Run(String),
    /// Runs the statement through the extended protocol.
    Execute(String),
    /// COPY … FROM STDIN and its rows.
    Copy(String, String),
    /// The client cancels the statement after this many microseconds.
    Cancel(String, u64),
}

impl Step {
    pub fn sql(&self) -> &str {
        match self {
            Self::Run(sql) | Self::Execute(sql) | Self::Copy(sql, _) | Self::Cancel(sql, _) => sql,
        }
    }
}

/// One transaction, including BEGIN and COMMIT.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Session and count: `s2.17`.
    pub tag: String,
    /// Runs in a new connection.
    pub is_first: bool,
    pub steps: Vec<Step>,
}

pub fn transaction(tag: &str, tables: &[Table], choices: Choices, random: &mut StdRng) -> Vec<Step> {
    let mut steps = Vec::new();
    let run = |sql: &str| Step::Run(sql.to_owned());
    let isolation = match random.random_range(0..10) {
        0 => " isolation level repeatable read",
        1 => " isolation level serializable",
        _ => "",
    };
    steps.push(Step::Run(format!("begin{isolation}")));
    steps.push(Step::Run(format!("set local torture.tag = '{tag}'")));
    if random.random_range(0..15) == 0 {
        steps.push(Step::Run(format!("set local statement_timeout = {}", random.random_range(1..6))));
    }
    let mut savepoints = 0;
    for _ in 0..random.random_range(1..7) {
        match random.random_range(0..12) {
            0 | 1 => {
                savepoints += 1;
                steps.push(Step::Run(format!("savepoint s{savepoints}")));
            }
            2 if savepoints > 0 => {
                steps.push(Step::Run(format!("rollback to savepoint s{savepoints}")));
            }
            3 if savepoints > 0 => {
                steps.push(Step::Run(format!("release savepoint s{savepoints}")));
                savepoints -= 1;
            }
            4 if choices.changes_schema && random.random_range(0..4) == 0 => {
                let table = &tables[random.random_range(0..tables.len())];
                steps.extend(schema_change(table, random).into_iter().map(Step::Run));
            }
            _ => steps.push(statement(tables, choices, random)),
        }
    }
    let prepared = format!("prepare transaction '{tag}'");
    match random.random_range(0..20) {
        0 | 1 => steps.push(run("rollback")),
        2 => steps.extend([Step::Run(prepared), Step::Run(format!("commit prepared '{tag}'"))]),
        3 => steps.extend([Step::Run(prepared), Step::Run(format!("rollback prepared '{tag}'"))]),
        4 => steps.extend([run("set constraints all immediate"), run("commit")]),
        _ => steps.push(run("commit")),
    }
    steps
}

fn id(random: &mut StdRng) -> i64 {
    random.random_range(IDS)
}

fn statement(tables: &[Table], choices: Choices, random: &mut StdRng) -> Step {
    let table = &tables[random.random_range(0..tables.len())];
    let name = &table.name;
    let (one, p, n) = (
        id(random).to_string(),
        random.random_range(0..4).to_string(),
        random.random_range(0..9).to_string(),
    );
    let sql = match random.random_range(0..20) {
        0..5 => insert(table, &one, &n, &p, random),
        5 => {
            let (names, values) = table.insert("i", "i", &p, random);
            let from = id(random);
            format!(
                "insert into {name} ({names}) select {values} from generate_series({from}, {}) i
                 where not exists (select from {name} where id = i)",
                from + random.random_range(1..12)
            )
        }
        6..10 => format!("update {name} set {} where id = {one}", table.assignments(random)),
        10 | 11 => {
            let from = id(random);
            let to = from + random.random_range(1..10);
            format!("update {name} set {} where id between {from} and {to}", table.assignments(random))
        }
        12 => format!("update {name} set n = n where id < {one}"),
        13 | 14 => format!("delete from {name} where id = {one}"),
        15 => format!("delete from {name} where id between {one} and {one} + {}", random.random_range(1..6)),
        16 => upsert(table, &one, &n, &p, random),
        17 => merge(table, random),
        18 => match random.random_range(0..5) {
            0 => format!("truncate {name}"),
            1 => {
                let (names, values) = table.insert("id", "id", &p, random);
                format!(
                    "with gone as (delete from {name} where id = {one} returning id) insert into {name} ({names}) select {values} from gone"
                )
            }
            2 if choices.changes_keys => change_key(table, random),
            3 => {
                return Step::Execute(format!(
                    "update {name} set {} where id > {one}",
                    table.assignments(random)
                ));
            }
            _ => {
                let sql = format!("update {name} set {}", table.assignments(random));
                return Step::Cancel(sql, random.random_range(0..4_000));
            }
        },
        _ => return copy(table, random),
    };
    if random.random_range(0..5) == 0 { Step::Execute(sql) } else { Step::Run(sql) }
}

/// Returns an insert that does nothing if the row exists, or one that fails then.
fn insert(table: &Table, id: &str, n: &str, p: &str, random: &mut StdRng) -> String {
    let (names, values) = table.insert(id, n, p, random);
    let name = &table.name;
    if random.random_range(0..4) == 0 && !matches!(table.key, Key::Named | Key::None) {
        return format!("insert into {name} ({names}) values ({values})");
    }
    format!(
        "insert into {name} ({names}) select {values} where not exists (select from {name} where id = {id})"
    )
}

fn upsert(table: &Table, id: &str, n: &str, p: &str, random: &mut StdRng) -> String {
    let target = match table.key {
        Key::Id => "(id)",
        Key::Text | Key::Uuid => "(k)",
        Key::Pair => "(id, k)",
        Key::Named | Key::None => return insert(table, id, n, p, random),
    };
    let (names, values) = table.insert(id, n, p, random);
    let action = match random.random_range(0..3) {
        0 => "nothing".to_owned(),
        1 => format!("update set {}", table.with_version("n = excluded.n + 1".to_owned())),
        _ => format!("update set {} where t.n % 2 = 0", table.with_version("n = t.n + 1".to_owned())),
    };
    format!("insert into {} as t ({names}) values ({values}) on conflict {target} do {action}", table.name)
}

fn merge(table: &Table, random: &mut StdRng) -> String {
    let (names, values) = table.insert("s.i", "s.i", "s.i % 4", random);
    let from = id(random);
    format!(
        "merge into {} t using generate_series({from}, {}) s (i) on t.id = s.i
         when matched and t.n % 4 = 0 then delete
         when matched then update set {}
         when not matched then insert ({names}) values ({values})",
        table.name,
        from + random.random_range(1..6),
        table.assignments(random)
    )
}

fn change_key(table: &Table, random: &mut StdRng) -> String {
    let new = format!("id + {}", random.random_range(1..40));
    let k = table.k_of(&new).map_or(String::new(), |k| format!(", k = {k}"));
    let set = table.with_version(format!("id = {new}{k}, n = n + 1"));
    format!("update {} set {set} where id = {}", table.name, id(random))
}

fn copy(table: &Table, random: &mut StdRng) -> Step {
    let from = id(random);
    let rows: String = (from..from + random.random_range(1..6))
        .map(|id| {
            let k = match table.key {
                Key::Text | Key::Pair => format!("k \"{id}\t"),
                Key::Uuid => format!("00000000-0000-0000-0000-{id:012}\t"),
                _ => String::new(),
            };
            let cells: Vec<_> = table.columns.iter().map(|(_, kind)| kinds::copied(kind, random)).collect();
            format!("{id}\t{k}{}\t{}\t{}\n", id % 4, random.random_range(0..9), cells.join("\t"))
        })
        .collect();
    let k = if matches!(table.key, Key::Text | Key::Pair | Key::Uuid) { "k, " } else { "" };
    let names: Vec<_> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
    Step::Copy(format!("copy {} (id, {k}p, n, {}) from stdin", table.name, names.join(", ")), rows)
}

/// Returns DDL for a table in use. The columns it adds and drops are named `x…`.
fn schema_change(table: &Table, random: &mut StdRng) -> Vec<String> {
    let name = &table.name;
    let x = random.random_range(0..4);
    match random.random_range(0..9) {
        0 | 1 => vec![format!("alter table {name} add column if not exists x{x} {} ", kinds::any(random))],
        2 => vec![format!("alter table {name} add column if not exists x{x} text default 'new'")],
        3 => vec![format!("alter table {name} drop column if exists x{x}")],
        4 => vec![format!("alter table {name} rename column x{x} to x{}", x + 4)],
        5 => vec![format!("alter table {name} alter column x{x} type text using x{x}::text")],
        6 => vec![table.watch()],
        7 => vec![format!("create index on {name} (n)")],
        _ if matches!(table.shape, Shape::Partitioned(_)) => {
            let p = random.random_range(0..4);
            vec![format!("alter table {name} detach partition {name}_{p}"), format!("drop table {name}_{p}")]
        }
        _ => vec![format!("alter table {name} alter column n set default 3")],
    }
}

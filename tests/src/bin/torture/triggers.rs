//! Random triggers of an application. They change the row they fire for, other rows and other
//! tables, and roll changes back.

use crate::schema::{Choices, Table};
use rand::{RngExt as _, rngs::StdRng};

/// The depth at which triggers stop changing rows.
const DEPTH_MAX: u32 = 3;
/// The most deferred triggers that act in one transaction.
const DEFERRED_MAX: u32 = 20;

/// Returns the triggers of one table and their functions.
pub fn random(table: &Table, all: &[Table], choices: Choices, random: &mut StdRng) -> Vec<String> {
    let mut ddl = Vec::new();
    if !table.is_stamped || !(choices.nests_in_same_table || choices.nests_in_others) {
        return ddl;
    }
    for number in 0..random.random_range(0..4) {
        ddl.extend(trigger(number, table, all, choices, random));
    }
    ddl
}

fn trigger(number: u32, table: &Table, all: &[Table], choices: Choices, random: &mut StdRng) -> Vec<String> {
    let is_before = random.random_range(0..3) == 0;
    let is_deferred = !is_before && random.random_range(0..6) == 0;
    let by_statement = !is_before && !is_deferred && random.random_range(0..6) == 0;
    let operation = ["insert", "update", "delete", "insert or update"][random.random_range(0..4)];
    let row = if by_statement {
        ""
    } else if operation == "delete" {
        "old"
    } else {
        "new"
    };
    let function = format!("{}_f{number}", table.name);
    let mut actions = String::new();
    for _ in 0..random.random_range(1..3) {
        let what = if is_before && random.random_range(0..3) == 0 {
            before(row, operation, random)
        } else {
            nested(table, all, choices, row, random)
        };
        let what = if random.random_range(0..5) == 0 {
            // A block that always fails, or one that ignores failures.
            let end = if random.random_bool(0.5) { "raise exception 'undone';" } else { "" };
            format!(
                "begin {what} {end} exception when raise_exception or integrity_constraint_violation then null; end;"
            )
        } else {
            what
        };
        if row.is_empty() {
            actions += &what;
        } else {
            let modulus = random.random_range(2..5);
            let remainder = random.random_range(0..modulus);
            actions += &format!("if {row}.n % {modulus} = {remainder} then {what} end if; ");
        }
    }
    let result = match (is_before, row) {
        (true, row) => row,
        (false, _) => "null",
    };
    // "a" sorts before the extension's triggers webhook_…, "x" after them.
    let prefix = if random.random_bool(0.6) { "a" } else { "x" };
    let name = format!("{prefix}_{number}");
    let create = if is_deferred {
        format!(
            "create constraint trigger {name} after {operation} on {} deferrable initially deferred for each row",
            table.name
        )
    } else {
        format!(
            "create trigger {name} {} {operation} on {} for each {}",
            if is_before { "before" } else { "after" },
            table.name,
            if by_statement { "statement" } else { "row" }
        )
    };
    // A deferred trigger that another one has caused does not nest: only a count ends the chain.
    let guard = if is_deferred {
        format!(
            "if pg_trigger_depth() > {DEPTH_MAX} or coalesce(nullif(current_setting('torture.deferred', true), ''), '0')::int > {DEFERRED_MAX}
                 then return {result}; end if;
             perform set_config('torture.deferred',
                 (coalesce(nullif(current_setting('torture.deferred', true), ''), '0')::int + 1)::text, true);"
        )
    } else {
        format!("if pg_trigger_depth() > {DEPTH_MAX} then return {result}; end if;")
    };
    vec![
        format!(
            "create function {function}() returns trigger language plpgsql as $$ begin
                 {guard} {actions} return {result}; end $$"
        ),
        format!("{create} execute function {function}()"),
    ]
}

/// Returns what only a BEFORE trigger can do: change the row or suppress the operation.
fn before(row: &str, operation: &str, random: &mut StdRng) -> String {
    match random.random_range(0..3) {
        0 => "return null;".to_owned(),
        _ if operation == "delete" => "return null;".to_owned(),
        _ => format!("{row}.n := {row}.n + {};", random.random_range(1..3)),
    }
}

fn nested(table: &Table, all: &[Table], choices: Choices, row: &str, random: &mut StdRng) -> String {
    let others: Vec<_> = all.iter().filter(|other| other.name != table.name).collect();
    let in_same = choices.nests_in_same_table
        && (others.is_empty() || !choices.nests_in_others || random.random_range(0..3) > 0);
    let target = if in_same {
        table
    } else {
        others.get(random.random_range(0..others.len().max(1))).copied().unwrap_or(table)
    };
    if !in_same && target.name == table.name {
        return "null;".to_owned();
    }
    let name = &target.name;
    let id = if row.is_empty() { format!("(select min(id) from {name})") } else { format!("{row}.id") };
    let n = if row.is_empty() { "1".to_owned() } else { format!("{row}.n") };
    let other = format!("{id} + {}", random.random_range(1..3));
    let at = if random.random_bool(0.6) { id.clone() } else { other };
    match random.random_range(0..10) {
        0..4 => format!("update {name} set {} where id = {at};", target.assignments(random)),
        4 => format!(
            "update {name} set {} where id between {id} and {id} + 1;",
            target.with_version("n = n + 1".to_owned())
        ),
        5 => format!("delete from {name} where id = {at};"),
        6 => format!("delete from {name} where id = {at}; {}", insert(target, &at, &n, random)),
        7 | 8 => insert(target, &at, &n, random),
        _ => format!(
            "update {name} set {} where id = {at}; delete from {name} where id = {at};",
            target.assignments(random)
        ),
    }
}

fn insert(target: &Table, id: &str, n: &str, random: &mut StdRng) -> String {
    let p = random.random_range(0..4).to_string();
    let (names, values) = target.insert(id, &format!("{n} + 1"), &p, random);
    format!(
        "insert into {name} ({names}) select {values} where not exists (select from {name} where id = {id}) on conflict do nothing;",
        name = target.name
    )
}

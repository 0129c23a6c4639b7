//! The `condition` of a watch: must be one SQL expression over `old` and `new`, nothing that ends or extends the
//! statement it is put into. Postgres's own parser judges it, with the caller's rights and search path.
//!
//! Two parses keep the text inside its parentheses. `SELECT <condition>` must be a select of exactly one unnamed
//! value and nothing else, so no comma, semicolon, clause or second statement can hide in it; then
//! `SELECT (<condition>)` must be so too, so it is balanced and an expression by itself. Only then is it analysed as
//! CREATE TRIGGER does it.

use crate::definition::Verbs;
use crate::error::Error;
use crate::subtransaction::{self, Caught, End};
use pgrx::pg_sys::{self, AsPgCStr};
use pgrx::prelude::*;
use std::ffi::CString;

/// A condition that fits its table, and the rows it looks at.
#[derive(Debug)]
pub struct Condition {
    text: String,
    /// Whether it looks at the row as it was before.
    pub old: bool,
    /// Whether it looks at the row as it is afterwards.
    pub new: bool,
}

impl Condition {
    /// Reads a condition on a table that is locked.
    ///
    /// # Errors
    /// [`Error::ConditionSyntax`] if it is not one expression; [`Error::ConditionMeaning`] with Postgres's own
    /// SQLSTATE if it does not fit the table (unknown column, not boolean, a subquery …).
    pub fn read(text: &str, relation: pg_sys::Oid) -> Result<Self, Error> {
        check_syntax(text)?;
        let (old, new) = rows(text, relation).map_err(|caught| {
            misfit(text, caught, "The rows are named new and old, as in CREATE TRIGGER ... WHEN.")
        })?;
        Ok(Self { text: text.to_owned(), old, new })
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands in CREATE TRIGGER … WHEN.
    pub fn clause(&self) -> String {
        format!("when ({}\n)", self.text)
    }

    /// Checks that each verb's event has the rows that the condition looks at; TRUNCATE has none and no condition.
    ///
    /// # Errors
    /// [`Error::ConditionRow`] names the verb, and in its hint the verbs that can stay.
    pub fn check_verbs(&self, verbs: &Verbs) -> Result<(), Error> {
        let no_insert = self.old && verbs.insert.is_some();
        let no_delete = self.new && verbs.delete.is_some();
        let (row, event) = match (no_insert, no_delete) {
            (false, false) => return Ok(()),
            (true, _) => ("OLD", "an insert"),
            (false, true) => ("NEW", "a delete"),
        };
        let mut rest = verbs.clone();
        rest.insert = rest.insert.filter(|_| !no_insert);
        rest.delete = rest.delete.filter(|_| !no_delete);
        let hint = if rest.insert.is_some() || rest.update.is_some() || rest.delete.is_some() {
            let verbs = serde_json::to_string(&rest).unwrap_or_default();
            format!("Leave that verb out: verbs => '{verbs}'.")
        } else {
            format!("The row of {event} is {}.", if row == "OLD" { "NEW" } else { "OLD" })
        };
        Err(Error::ConditionRow { row, event, hint })
    }
}

/// Checks that a text is one SQL expression, so that it can stand in parentheses in a statement.
///
/// # Errors
/// [`Error::ConditionSyntax`].
pub fn check_syntax(text: &str) -> Result<(), Error> {
    let syntax = |reason: String| Error::ConditionSyntax { text: text.to_owned(), reason };
    if text.trim().is_empty() {
        return Err(syntax("it is empty".to_owned()));
    }
    one_expression(text).map_err(syntax)?;
    // The newline ends a comment that the condition may close with.
    one_expression(&format!("({text}\n)")).map_err(syntax)
}

/// What Postgres said of a condition that does not fit its table; `hint` for where it has none.
pub fn misfit(text: &str, caught: Caught, hint: &str) -> Error {
    Error::ConditionMeaning {
        sqlstate: caught.sqlstate,
        text: text.to_owned(),
        reason: caught.message,
        hint: caught.hint.unwrap_or_else(|| hint.to_owned()),
    }
}

/// Runs parser code in a subtransaction that is undone in any case, so that an error leaves nothing behind.
fn attempt<R>(work: impl FnOnce() -> R) -> Result<R, Caught> {
    subtransaction::attempt(End::Undo, |sqlstate| sqlstate != PgSqlErrorCode::ERRCODE_QUERY_CANCELED, work)
}

/// Checks that `SELECT <text>` selects one value and is nothing else.
fn one_expression(text: &str) -> Result<(), String> {
    match attempt(|| single_value(text).is_some()) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it must be a single expression, without a name, a comma or a clause".to_owned()),
        Err(caught) => Err(caught.message),
    }
}

/// The parse tree of the only value that `SELECT <text>` selects, if it is nothing but that.
fn single_value(text: &str) -> Option<*mut pg_sys::Node> {
    let query = CString::new(format!("SELECT {text}")).ok()?;
    // SAFETY: raw_parser returns a list of RawStmt; each node's tag is checked before it is read as that type. An
    // absent clause is a null pointer (an empty list too), and the numeric fields are plain.
    unsafe {
        let statements = pg_sys::raw_parser(query.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        if pg_sys::list_length(statements) != 1 {
            return None;
        }
        let raw = (*pg_sys::list_nth_cell(statements, 0)).ptr_value.cast::<pg_sys::RawStmt>();
        if (*(*raw).stmt).type_ != pg_sys::NodeTag::T_SelectStmt {
            return None;
        }
        let select = &*(*raw).stmt.cast::<pg_sys::SelectStmt>();
        let bare = select.op == pg_sys::SetOperation::SETOP_NONE
            && [
                select.distinctClause,
                select.fromClause,
                select.groupClause,
                select.windowClause,
                select.valuesLists,
                select.sortClause,
                select.lockingClause,
            ]
            .iter()
            .all(|clause| clause.is_null())
            && [select.whereClause, select.havingClause, select.limitOffset, select.limitCount]
                .iter()
                .all(|clause| clause.is_null())
            && select.intoClause.is_null()
            && select.withClause.is_null();
        if !bare || pg_sys::list_length(select.targetList) != 1 {
            return None;
        }
        let target = (*pg_sys::list_nth_cell(select.targetList, 0)).ptr_value.cast::<pg_sys::ResTarget>();
        ((*target).name.is_null() && (*target).indirection.is_null()).then_some((*target).val)
    }
}

/// Analyses the condition as CREATE TRIGGER does: which of the rows old and new does it look at?
fn rows(text: &str, relation: pg_sys::Oid) -> Result<(bool, bool), Caught> {
    const OLD: i32 = 1;
    const NEW: i32 = 2;
    attempt(|| {
        // SAFETY: the calls and their order are those of CreateTrigger; the table is open meanwhile, and locked by the
        // caller. Errors are caught by `attempt`, whose rollback closes the table.
        unsafe {
            let Some(expression) = single_value(&format!("({text}\n)")) else {
                pgrx::error!("condition changed its meaning between two readings");
            };
            let table = pg_sys::table_open(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            let state = pg_sys::make_parsestate(std::ptr::null_mut());
            for name in ["old", "new"] {
                let alias = pg_sys::makeAlias(name.as_pg_cstr(), std::ptr::null_mut());
                let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
                let item = pg_sys::addRangeTableEntryForRelation(state, table, lock, alias, false, false);
                pg_sys::addNSItemToQuery(state, item, false, true, true);
            }
            let condition =
                pg_sys::transformExpr(state, expression, pg_sys::ParseExprKind::EXPR_KIND_TRIGGER_WHEN);
            let condition = pg_sys::coerce_to_boolean(state, condition, c"condition".as_ptr());
            pg_sys::assign_expr_collations(state, condition);
            let seen = pg_sys::pull_varnos(std::ptr::null_mut(), condition);
            let rows = (pg_sys::bms_is_member(OLD, seen), pg_sys::bms_is_member(NEW, seen));
            pg_sys::free_parsestate(state);
            pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
            rows
        }
    })
}

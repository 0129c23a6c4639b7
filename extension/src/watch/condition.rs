//! The `condition` of a watch. It must be one SQL expression over `old` and `new`, and must not end
//! or extend the statement that it is put into. Postgres's own parser checks it, with the caller's
//! rights and search path.
//!
//! Two parses keep the text inside its parentheses. First, `SELECT <condition>` must be a select of
//! exactly one unnamed value and nothing else. So the text contains no comma, semicolon, clause or
//! second statement. Then the same must hold for `SELECT (<condition>)`. So the text is balanced
//! and an expression by itself. Only then is it analysed as in CREATE TRIGGER.

use crate::definition::Verbs;
use crate::error::Error;
use crate::subtransaction::{self, Caught, End};
use pgrx::pg_sys::{self, AsPgCStr};
use pgrx::prelude::*;
use std::ffi::CString;

/// A condition that is valid for its table, and the rows that it uses.
#[derive(Debug)]
pub struct Condition {
    text: String,
    /// Whether it uses the row before the change.
    pub old: bool,
    /// Whether it uses the row after the change.
    pub new: bool,
}

impl Condition {
    /// Parses a condition on a table that is locked.
    ///
    /// # Errors
    /// [`Error::ConditionSyntax`] if it is not one expression. [`Error::ConditionMeaning`] with
    /// Postgres's own SQLSTATE if it is not valid for the table (unknown column, not boolean, a
    /// subquery …).
    pub fn read(text: &str, relation: pg_sys::Oid) -> Result<Self, Error> {
        check_syntax(text)?;
        let (old, new) = rows(text, relation).map_err(|caught| {
            misfit(text, caught, "The rows are named new and old, as in CREATE TRIGGER ... WHEN.")
        })?;
        Ok(Self { text: text.to_owned(), old, new })
    }

    /// Returns the text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text for CREATE TRIGGER … WHEN.
    pub fn clause(&self) -> String {
        format!("when ({}\n)", self.text)
    }

    /// Checks that each verb's event has the rows that the condition uses. TRUNCATE has neither
    /// rows nor a condition.
    ///
    /// # Errors
    /// [`Error::ConditionRow`] names the verb. Its hint names the verbs that can stay.
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
            format!("Omit that verb: verbs => '{verbs}'.")
        } else {
            format!("The row of {event} is {}.", if row == "OLD" { "NEW" } else { "OLD" })
        };
        Err(Error::ConditionRow { row, event, hint })
    }
}

/// Checks that a text is one SQL expression, so that it can be put into parentheses in a statement.
///
/// # Errors
/// [`Error::ConditionSyntax`].
pub fn check_syntax(text: &str) -> Result<(), Error> {
    let syntax = |reason: String| Error::ConditionSyntax { text: text.to_owned(), reason };
    if text.trim().is_empty() {
        return Err(syntax("must not be empty".to_owned()));
    }
    one_expression(text).map_err(syntax)?;
    // The newline ends a comment at the end of the condition.
    one_expression(&format!("({text}\n)")).map_err(syntax)
}

/// Returns the error of Postgres for a condition that is not valid for its table, with `hint` if it
/// has none.
pub fn misfit(text: &str, caught: Caught, hint: &str) -> Error {
    Error::ConditionMeaning {
        sqlstate: caught.sqlstate,
        text: text.to_owned(),
        reason: caught.message,
        hint: caught.hint.unwrap_or_else(|| hint.to_owned()),
    }
}

/// Runs parser code in a subtransaction that is always rolled back, so that an error leaves nothing
/// behind.
fn attempt<R>(work: impl FnOnce() -> R) -> Result<R, Caught> {
    subtransaction::attempt(End::Undo, |sqlstate| sqlstate != PgSqlErrorCode::ERRCODE_QUERY_CANCELED, work)
}

/// Checks that `SELECT <text>` selects one value and is nothing else.
fn one_expression(text: &str) -> Result<(), String> {
    match attempt(|| single_value(text).is_some()) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it must be one expression, without an alias, a comma or a clause".to_owned()),
        Err(caught) => Err(caught.message),
    }
}

/// Returns the parse tree of the only value that `SELECT <text>` selects, or `None` if the text is
/// anything else.
fn single_value(text: &str) -> Option<*mut pg_sys::Node> {
    let query = CString::new(format!("SELECT {text}")).ok()?;
    // SAFETY: raw_parser returns a list of RawStmt. The tag of each node is checked before it is
    // read as that type. An absent clause is a null pointer (an empty list too), and the numeric
    // fields are plain.
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

/// Analyses the condition as CREATE TRIGGER does. Returns whether it uses the rows old and new.
fn rows(text: &str, relation: pg_sys::Oid) -> Result<(bool, bool), Caught> {
    const OLD: i32 = 1;
    const NEW: i32 = 2;
    attempt(|| {
        // SAFETY: the calls and their order are those of CreateTrigger. The table is open
        // meanwhile, and locked by the caller. `attempt` catches errors, and its rollback closes
        // the table.
        unsafe {
            let Some(expression) = single_value(&format!("({text}\n)")) else {
                pgrx::error!("the condition was parsed differently the second time");
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

//! Computes virtual generated columns (Postgres 18). A row does not store their values, so this
//! module evaluates the columns that an event needs.
//!
//! Postgres requires their expressions to be immutable and to call only built-in functions, so no
//! code of the application runs here. An expression that fails (a division by zero, for example)
//! fails the statement, as in a stored generated column.

use pgrx::pg_sys;

use super::values::Values;
use crate::compat;
use crate::protect::protect;

/// The expressions of a relation's columns, ready to be evaluated.
#[derive(Debug)]
pub struct Computed {
    columns: Box<[ComputedColumn]>,
    /// Holds the row under evaluation.
    slot: *mut pg_sys::TupleTableSlot,
    context: *mut pg_sys::ExprContext,
}

#[derive(Debug)]
struct ComputedColumn {
    /// Position in a row of the relation, from 0.
    at: usize,
    expression: *mut pg_sys::ExprState,
}

impl Computed {
    /// Prepares the virtual columns that are `wanted`. Returns `None` if there are none.
    ///
    /// # Safety
    /// The relation is open. `memory` and `descriptor`, the relation's row type, live as long as
    /// the result.
    pub unsafe fn new(
        relation: pg_sys::Relation,
        wanted: impl Fn(usize) -> bool,
        descriptor: pg_sys::TupleDesc,
        memory: pg_sys::MemoryContext,
    ) -> Option<Self> {
        // SAFETY: the caller's promise; everything that must outlive the call is allocated in
        // `memory`.
        unsafe {
            let count = (*descriptor).natts as usize;
            let is_virtual = |at: &usize| compat::is_virtual(compat::attribute(descriptor, *at));
            let wanted: Vec<usize> = (0..count).filter(|at| wanted(*at)).filter(is_virtual).collect();
            if wanted.is_empty() {
                return None;
            }
            let caller = pg_sys::MemoryContextSwitchTo(memory);
            let columns = wanted
                .into_iter()
                .map(|at| {
                    let expression = compat::generation_expression(relation, at);
                    let expression = pg_sys::expression_planner(expression.cast());
                    ComputedColumn { at, expression: pg_sys::ExecInitExpr(expression, core::ptr::null_mut()) }
                })
                .collect();
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsHeapTuple);
            let context = pg_sys::CreateStandaloneExprContext();
            pg_sys::MemoryContextSwitchTo(caller);
            Some(Self { columns, slot, context })
        }
    }

    /// Returns the row with its computed columns, both as values and as a tuple, in the current
    /// memory context.
    ///
    /// # Errors
    /// Raises the errors of the expressions.
    ///
    /// # Safety
    /// The tuple is a row of the relation.
    pub unsafe fn complete(&self, tuple: pg_sys::HeapTuple) -> (Values, pg_sys::HeapTuple) {
        // SAFETY: the caller's promise; the arrays have a place for each column. No code of others
        // runs while the slot is in use. After an error the slot still points to a row; the next
        // call replaces that pointer.
        unsafe {
            let descriptor = (*self.slot).tts_tupleDescriptor;
            let count = (*descriptor).natts as usize;
            pg_sys::ExecStoreHeapTuple(tuple, self.slot, false);
            pg_sys::slot_getsomeattrs_int(self.slot, count as i32);
            let datums = pg_sys::palloc(count * size_of::<pg_sys::Datum>()).cast::<pg_sys::Datum>();
            let nulls = pg_sys::palloc(count).cast::<bool>();
            datums.copy_from_nonoverlapping((*self.slot).tts_values, count);
            nulls.copy_from_nonoverlapping((*self.slot).tts_isnull, count);
            (*self.context).ecxt_scantuple = self.slot;
            for column in &self.columns {
                let (expression, context) = (column.expression, self.context);
                let is_null = nulls.add(column.at);
                if let Some(evaluate) = (*expression).evalfunc {
                    datums.add(column.at).write(protect(|| evaluate(expression, context, is_null)));
                }
            }
            let whole = pg_sys::heap_form_tuple(descriptor, datums, nulls);
            pg_sys::ExecClearTuple(self.slot);
            (Values { datums, nulls }, whole)
        }
    }
}

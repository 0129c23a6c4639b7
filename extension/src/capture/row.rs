//! A row that is captured.

use pgrx::pg_sys;

use super::plan::Plan;
use super::values::Values;

/// A row in both forms: deformed, and as a tuple for a payload function.
#[derive(Debug, Clone, Copy)]
pub struct CapturedRow<'a> {
    /// The plan of the relation that holds the row.
    pub plan: &'a Plan,
    pub values: Values,
    pub tuple: pg_sys::HeapTuple,
}

impl<'a> CapturedRow<'a> {
    /// Combines both forms of a row, and computes its virtual columns.
    ///
    /// # Errors
    /// Raises the errors of the virtual columns' expressions.
    ///
    /// # Safety
    /// Both forms are of one row of the plan's relation. The row is deformed as far as the plan
    /// needs.
    pub unsafe fn of(plan: &'a Plan, values: Values, tuple: pg_sys::HeapTuple) -> Self {
        let (values, tuple) = match &plan.computed {
            None => (values, tuple),
            // SAFETY: the caller's promise.
            Some(computed) => unsafe { computed.complete(tuple) },
        };
        Self { plan, values, tuple }
    }
}

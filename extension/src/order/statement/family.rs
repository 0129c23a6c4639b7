//! Which statements change the tables of one family: a table, its partitions, and its children.

use pgrx::pg_sys;

use super::{Kind, with};
use crate::compat;

/// Returns the innermost statement below `below` that changes rows of the family of tables that
/// `root` belongs to.
pub fn around(below: usize, root: pg_sys::Oid) -> Option<usize> {
    (0..below).rev().find(|at| concerns(*at, root))
}

fn concerns(at: usize, root: pg_sys::Oid) -> bool {
    let known = with(|stack| {
        let one = &stack[at];
        if one.kind == Kind::Part {
            return Some(false);
        }
        (one.is_of_all || one.concerns.0 == root).then_some(one.is_of_all || one.concerns.1)
    });
    known.unwrap_or_else(|| {
        let concerns = changes_family(at, root);
        with(|stack| stack[at].concerns = (root, concerns));
        concerns
    })
}

/// Reports whether a statement changes a table of the family of `root`. Holds no borrow while it
/// reads the system catalog.
fn changes_family(at: usize, root: pg_sys::Oid) -> bool {
    let family = compat::topmost(root);
    let is_of_family = |relation: pg_sys::Oid| compat::topmost(relation) == family;
    let query = with(|stack| stack[at].query);
    let relation = |i: usize| with(|stack| stack[at].relations.get(i).copied());
    // SAFETY: the query's description exists as long as the query is executed.
    (0..).map_while(relation).any(is_of_family)
        || !query.is_null() && unsafe { any_relation((*query).plannedstmt, is_of_family) }
}

/// Reports whether a planned statement changes a table that is wanted.
pub(super) unsafe fn any_relation(
    planned: *const pg_sys::PlannedStmt,
    mut is_wanted: impl FnMut(pg_sys::Oid) -> bool,
) -> bool {
    // SAFETY: a list of places in the range table; both belong to the planned statement.
    unsafe {
        let results = (*planned).resultRelations;
        (0..pg_sys::list_length(results)).any(|at| {
            let place = pg_sys::list_nth_int(results, at);
            let entry = pg_sys::list_nth((*planned).rtable, place - 1).cast::<pg_sys::RangeTblEntry>();
            is_wanted((*entry).relid)
        })
    }
}

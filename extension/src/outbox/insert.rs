//! From the buffer into webhook.event: rows straight into a partition, and every index that lies on it.
//!
//! No parser, planner, executor, routing or permission check runs: a role with rights on its own table alone emits, and
//! a row costs a fraction of an INSERT. What an INSERT would check is known to hold: the type has been validated when
//! the watch was made, the slot is the partition's. Triggers and constraints added to webhook.event by hand do not fire.
//!
//! Writes webhook.event_N and its indexes. Must not read settings or look at what the rows mean.

use core::ffi::CStr;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::buffer::{Buffer, Row};
use super::tables;
use crate::compat;

/// Columns of webhook.event, in the order of [`values`].
const COLUMNS: [(&CStr, pg_sys::Oid); 14] = [
    (c"id", pg_sys::INT8OID),
    (c"xid", pg_sys::INT8OID),
    (c"created_at", pg_sys::TIMESTAMPTZOID),
    (c"subscription_id", pg_sys::INT8OID),
    (c"slot", pg_sys::INT2OID),
    (c"truncated", pg_sys::BOOLOID),
    (c"type", pg_sys::TEXTOID),
    (c"table_name", pg_sys::TEXTOID),
    (c"key", pg_sys::TEXTOID),
    (c"actor", pg_sys::TEXTOID),
    (c"origin", pg_sys::TEXTOID),
    (c"traceparent", pg_sys::TEXTOID),
    (c"payload", pg_sys::JSONOID),
    (c"previous", pg_sys::JSONOID),
];

/// Most columns a partition may have; more than ours come from hand-made ALTER TABLEs and stay null.
const COLUMNS_MAX: usize = 64;

/// Inserts all rows of the buffer under the current subtransaction.
///
/// # Errors
/// Raises what inserting raises: a full disk, a unique index made by hand, a missing table.
pub fn insert(buffer: &Buffer) {
    let mut rest = buffer.rows();
    while let Some(first) = rest.first() {
        let same =
            rest.iter().take_while(|row| row.slot == first.slot && row.command == first.command).count();
        let (batch, tail) = rest.split_at(same);
        Partition::open(first.slot).insert(buffer, batch);
        rest = tail;
    }
}

/// An open partition. Its lock stays until the end of the transaction; the reference is given back on drop.
struct Partition {
    relation: pg_sys::Relation,
    /// For the tuples and slots of one batch.
    memory: pg_sys::MemoryContext,
    caller: pg_sys::MemoryContext,
}

impl Partition {
    fn open(slot: u8) -> Self {
        let oid = tables::partition(slot);
        // SAFETY: plain calls; the new context hangs under the subtransaction's, so an error frees it.
        unsafe {
            let relation = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as i32);
            let memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurTransactionContext,
                c"webhook outbox".as_ptr(),
                0,
                8 * 1024,
                8 * 1024 * 1024,
            );
            Self { relation, memory, caller: pg_sys::MemoryContextSwitchTo(memory) }
        }
    }

    fn insert(&self, buffer: &Buffer, rows: &[Row]) {
        // SAFETY: the relation is open and locked; tuples and slots live in this partition's memory context, which is
        // current and outlives the calls; the texts live in `buffer`.
        unsafe {
            let descriptor = (*self.relation).rd_att;
            let layout = Layout::of(descriptor);
            let xid = pg_sys::GetTopFullTransactionId().value as i64;
            // A copy is not reference-counted: no slot needs to be given back.
            let shape = pg_sys::CreateTupleDescCopy(descriptor);
            let mut slots: Vec<*mut pg_sys::TupleTableSlot> = Vec::with_capacity(rows.len());
            for row in rows {
                let tuple = layout.form(descriptor, buffer, row, xid);
                let slot = pg_sys::MakeSingleTupleTableSlot(shape, &raw const pg_sys::TTSOpsHeapTuple);
                pg_sys::ExecStoreHeapTuple(tuple, slot, true);
                slots.push(slot);
            }
            let command = rows[0].command;
            let null = core::ptr::null_mut();
            if let [slot] = slots[..] {
                pg_sys::table_tuple_insert(self.relation, slot, command, 0, null);
            } else {
                pg_sys::table_multi_insert(
                    self.relation,
                    slots.as_mut_ptr(),
                    slots.len() as i32,
                    command,
                    0,
                    null,
                );
            }
            index(self.relation, &slots);
        }
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        // While an error unwinds, Postgres's own clean-up takes the context and the reference.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: opened by `open`, and nothing made in the context is used any more.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.caller);
            pg_sys::MemoryContextDelete(self.memory);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
    }
}

/// Where our columns are in a partition.
struct Layout {
    positions: [usize; COLUMNS.len()],
}

impl Layout {
    /// # Errors
    /// Raises if a column is missing or of another type: library and tables are of different versions.
    unsafe fn of(descriptor: pg_sys::TupleDesc) -> Self {
        let mut positions = [0; COLUMNS.len()];
        // SAFETY: the caller's descriptor is valid; `i` and `found` are below its number of columns.
        unsafe {
            let count = (*descriptor).natts as usize;
            for (i, (name, kind)) in COLUMNS.iter().enumerate() {
                let fits = |at: usize| {
                    let attribute = compat::attribute(descriptor, at);
                    !attribute.attisdropped
                        && attribute.atttypid == *kind
                        && CStr::from_ptr(attribute.attname.data.as_ptr()) == *name
                };
                // Nearly always in the same place as in sql/tables.sql.
                let found = if i < count && fits(i) { Some(i) } else { (0..count).find(|at| fits(*at)) };
                let Some(found) = found.filter(|_| count <= COLUMNS_MAX) else { mismatch(name) };
                positions[i] = found;
            }
        }
        Self { positions }
    }

    /// The row as a tuple in the current memory context.
    unsafe fn form(
        &self,
        descriptor: pg_sys::TupleDesc,
        buffer: &Buffer,
        row: &Row,
        xid: i64,
    ) -> pg_sys::HeapTuple {
        let mut datums = [pg_sys::Datum::from(0usize); COLUMNS_MAX];
        let mut nulls = [true; COLUMNS_MAX];
        let mut set = |i: usize, datum: pg_sys::Datum| {
            datums[self.positions[i]] = datum;
            nulls[self.positions[i]] = false;
        };
        set(0, row.id.into());
        set(1, xid.into());
        set(2, row.created_at.into());
        if let Some(subscription) = row.subscription_id {
            set(3, subscription.into());
        }
        set(4, i16::from(row.slot).into());
        set(5, row.truncated.into());
        for (i, place) in row.texts.iter().enumerate() {
            if let Some(place) = place {
                set(6 + i, pg_sys::Datum::from(buffer.value(*place)));
            }
        }
        // SAFETY: the arrays have a place for each of the descriptor's columns (at most COLUMNS_MAX).
        unsafe { pg_sys::heap_form_tuple(descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr()) }
    }
}

fn mismatch(column: &CStr) -> ! {
    let column = column.to_string_lossy();
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("webhook.event does not have the column \"{column}\" that this version of pg_webhook writes"),
        "pg_webhook",
    )
    .set_hint("Run ALTER EXTENSION pg_webhook UPDATE, or install the library that belongs to the tables.")
    .report(pgrx::PgLogLevel::ERROR);
    unreachable!("ERROR does not return")
}

/// Puts the inserted rows into all indexes of the relation.
unsafe fn index(relation: pg_sys::Relation, slots: &[*mut pg_sys::TupleTableSlot]) {
    // SAFETY: the relation is open and locked against changes of its indexes; the list is ours; every index that is
    // opened is closed; the slots hold inserted tuples.
    unsafe {
        let oids = pg_sys::RelationGetIndexList(relation);
        let mut indexes = Vec::with_capacity(4);
        for at in 0..pg_sys::list_length(oids) {
            let oid = pg_sys::list_nth_oid(oids, at);
            let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as i32);
            indexes.push((index, pg_sys::BuildIndexInfo(index)));
        }
        if indexes.iter().all(|(_, info)| is_plain(*info)) {
            for (index, info) in &indexes {
                index_plainly(relation, *index, *info, slots);
            }
        } else {
            index_in_general(relation, slots);
        }
        for (index, _) in indexes {
            pg_sys::index_close(index, pg_sys::NoLock as i32);
        }
    }
}

/// Nothing to compute and nothing to check: the columns as they are, duplicates welcome.
unsafe fn is_plain(info: *const pg_sys::IndexInfo) -> bool {
    // SAFETY: made by BuildIndexInfo.
    let info = unsafe { &*info };
    info.ii_Expressions.is_null()
        && info.ii_Predicate.is_null()
        && info.ii_ExclusionOps.is_null()
        && !info.ii_Unique
}

unsafe fn index_plainly(
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    slots: &[*mut pg_sys::TupleTableSlot],
) {
    // SAFETY: as for `index`; the arrays hold as many values as an index can have columns.
    unsafe {
        if !(*info).ii_ReadyForInserts {
            return;
        }
        let mut values = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
        for slot in slots {
            pg_sys::FormIndexDatum(
                info,
                *slot,
                core::ptr::null_mut(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            pg_sys::index_insert(
                index,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                &raw mut (**slot).tts_tid,
                relation,
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                false,
                info,
            );
        }
        compat::index_insert_cleanup(index, info);
    }
}

/// Expressions, predicates, unique and exclusion constraints: the executor's own way.
unsafe fn index_in_general(relation: pg_sys::Relation, slots: &[*mut pg_sys::TupleTableSlot]) {
    // SAFETY: the executor state and the result relation live in the current memory context until they are freed.
    unsafe {
        let state = pg_sys::CreateExecutorState();
        let result = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
        (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
        pg_sys::InitResultRelInfo(result, relation, 1, core::ptr::null_mut(), 0);
        pg_sys::ExecOpenIndices(result, false);
        for slot in slots {
            compat::exec_insert_index_tuples(result, *slot, state);
            let per_tuple = (*state).es_per_tuple_exprcontext;
            if !per_tuple.is_null() {
                pg_sys::MemoryContextReset((*per_tuple).ecxt_per_tuple_memory);
            }
        }
        pg_sys::ExecCloseIndices(result);
        pg_sys::FreeExecutorState(state);
    }
}

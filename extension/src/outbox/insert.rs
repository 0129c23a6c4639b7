//! From the buffer into webhook.event: rows straight into a partition, and every index that lies on it.
//!
//! No parser, planner, executor, routing or permission check runs: a role with rights on its own table alone emits, and
//! a row costs a fraction of an INSERT. What an INSERT would check is known to hold: the type has been validated when
//! the watch was made, the slot is the partition's. Triggers and constraints added to webhook.event by hand do not fire.
//!
//! A batch is one [`protect`]ed call: everything below it is plain C in Rust's clothes, that owns nothing and does not
//! panic. An error of an index (a unique one made by hand) reaches the application with all its fields.
//!
//! Writes webhook.event_N and its indexes. Must not read settings or look at what the rows mean.

use core::ffi::CStr;
use core::ptr::null_mut;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::buffer::{Buffer, Row};
use super::tables;
use crate::compat::{self, unguarded};
use crate::protect::protect;

/// Columns of webhook.event, in the order of [`Batch::fill`].
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

/// The index in [`COLUMNS`] of a column that the partition lacks, or has with another type.
struct Missing(usize);

/// Inserts all rows of the buffer under the current subtransaction.
///
/// # Errors
/// Raises what inserting raises: a full disk, a unique index made by hand, a missing table or column.
pub fn insert(buffer: &Buffer) {
    let mut rest = buffer.rows();
    while let Some(first) = rest.first() {
        let same =
            rest.iter().take_while(|row| row.slot == first.slot && row.command == first.command).count();
        let (rows, tail) = rest.split_at(same);
        let partition = tables::partition(first.slot);
        // SAFETY: see the module's second paragraph. The buffer outlives the call.
        if let Err(Missing(column)) = unsafe { protect(|| insert_batch(partition, buffer, rows)) } {
            mismatch(COLUMNS[column].0);
        }
        rest = tail;
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

/// Rows of one partition and one command, one or more.
unsafe fn insert_batch(partition: pg_sys::Oid, buffer: &Buffer, rows: &[Row]) -> Result<(), Missing> {
    // SAFETY: what is opened is closed, and the lock on the partition stays until the transaction ends; tuples, slots
    // and arrays live in a context of their own, which hangs under the subtransaction's, so an error frees it.
    unsafe {
        let relation = unguarded::table_open(partition, pg_sys::RowExclusiveLock as i32);
        let positions = match positions((*relation).rd_att) {
            Ok(positions) => positions,
            Err(missing) => {
                unguarded::table_close(relation, pg_sys::NoLock as i32);
                return Err(missing);
            }
        };
        let memory = unguarded::AllocSetContextCreateInternal(
            pg_sys::CurTransactionContext,
            c"webhook outbox".as_ptr(),
            0,
            8 * 1024,
            8 * 1024 * 1024,
        );
        let caller = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = memory;

        let batch = Batch::new(relation, rows.len());
        batch.fill(&positions, buffer, rows);
        batch.write(rows);
        batch.index();

        pg_sys::CurrentMemoryContext = caller;
        unguarded::MemoryContextDelete(memory);
        unguarded::table_close(relation, pg_sys::NoLock as i32);
    }
    Ok(())
}

/// Where our columns are in a partition: nearly always where sql/tables.sql has them.
unsafe fn positions(descriptor: pg_sys::TupleDesc) -> Result<[usize; COLUMNS.len()], Missing> {
    let mut positions = [0; COLUMNS.len()];
    // SAFETY: the descriptor of an open relation; only columns that it has are looked at.
    unsafe {
        let count = (*descriptor).natts as usize;
        for (i, ((name, kind), position)) in COLUMNS.iter().zip(&mut positions).enumerate() {
            let fits = |at: usize| {
                let attribute = compat::attribute(descriptor, at);
                !attribute.attisdropped
                    && attribute.atttypid == *kind
                    && CStr::from_ptr(attribute.attname.data.as_ptr()) == *name
            };
            let found = if i < count && fits(i) { Some(i) } else { (0..count).find(|at| fits(*at)) };
            *position = found.ok_or(Missing(i))?;
        }
    }
    Ok(positions)
}

/// Arrays in the current memory context, one entry per row, and one per row and column of the partition.
struct Batch {
    relation: pg_sys::Relation,
    columns: usize,
    rows: usize,
    slots: *mut *mut pg_sys::TupleTableSlot,
    datums: *mut pg_sys::Datum,
    nulls: *mut bool,
}

impl Batch {
    unsafe fn new(relation: pg_sys::Relation, rows: usize) -> Self {
        // SAFETY: an open relation; palloc raises rather than return null.
        unsafe {
            let columns = (*(*relation).rd_att).natts as usize;
            let cells = rows * columns;
            let nulls = unguarded::palloc(cells).cast::<bool>();
            nulls.write_bytes(1, cells);
            Self {
                relation,
                columns,
                rows,
                slots: unguarded::palloc(rows * size_of::<*mut pg_sys::TupleTableSlot>()).cast(),
                datums: unguarded::palloc(cells * size_of::<pg_sys::Datum>()).cast(),
                nulls,
            }
        }
    }

    /// Makes the tuples. Columns that are not ours stay null.
    unsafe fn fill(&self, positions: &[usize; COLUMNS.len()], buffer: &Buffer, rows: &[Row]) {
        // SAFETY: row `i` has `columns` cells from `i * columns` on, and every position is below that.
        unsafe {
            let descriptor = (*self.relation).rd_att;
            // A copy is not reference-counted: no slot needs to be given back.
            let shape = unguarded::CreateTupleDescCopy(descriptor);
            let xid = unguarded::GetTopFullTransactionId().value as i64;
            for (i, row) in rows.iter().enumerate() {
                let datums = self.datums.add(i * self.columns);
                let nulls = self.nulls.add(i * self.columns);
                let set = |position: usize, datum: pg_sys::Datum| {
                    datums.add(position).write(datum);
                    nulls.add(position).write(false);
                };
                let [id, own_xid, created_at, subscription, slot, truncated, texts @ ..] = *positions;
                set(id, row.id.into());
                set(own_xid, xid.into());
                set(created_at, row.created_at.into());
                if let Some(number) = row.subscription_id {
                    set(subscription, number.into());
                }
                set(slot, i16::from(row.slot).into());
                set(truncated, row.truncated.into());
                for (position, place) in texts.into_iter().zip(row.texts) {
                    if let Some(place) = place {
                        set(position, pg_sys::Datum::from(buffer.value(place)));
                    }
                }
                let tuple = unguarded::heap_form_tuple(descriptor, datums, nulls);
                let slot = unguarded::MakeSingleTupleTableSlot(shape, &raw const pg_sys::TTSOpsHeapTuple);
                unguarded::ExecStoreHeapTuple(tuple, slot, true);
                self.slots.add(i).write(slot);
            }
        }
    }

    /// Puts the tuples into the table.
    unsafe fn write(&self, rows: &[Row]) {
        // SAFETY: the access method of an open table has both functions.
        unsafe {
            let Some(first) = rows.first() else { return };
            let method = (*self.relation).rd_tableam;
            if self.rows == 1
                && let Some(insert) = (*method).tuple_insert
            {
                insert(self.relation, *self.slots, first.command, 0, null_mut());
            } else if let Some(insert) = (*method).multi_insert {
                insert(self.relation, self.slots, self.rows as i32, first.command, 0, null_mut());
            }
        }
    }

    /// Puts the tuples into all indexes.
    unsafe fn index(&self) {
        // SAFETY: the lock on the relation keeps its indexes from changing; every index that is opened is closed.
        unsafe {
            let oids = unguarded::RelationGetIndexList(self.relation);
            let count = if oids.is_null() { 0 } else { (*oids).length as usize };
            let indexes = unguarded::palloc(count * size_of::<Index>()).cast::<Index>();
            for i in 0..count {
                let oid = (*(*oids).elements.add(i)).oid_value;
                let relation = unguarded::index_open(oid, pg_sys::RowExclusiveLock as i32);
                indexes.add(i).write(Index { relation, info: unguarded::BuildIndexInfo(relation) });
            }
            if (0..count).all(|i| (*indexes.add(i)).is_plain()) {
                for i in 0..count {
                    self.index_plainly(&*indexes.add(i));
                }
            } else {
                self.index_in_general();
            }
            for i in 0..count {
                unguarded::index_close((*indexes.add(i)).relation, pg_sys::NoLock as i32);
            }
        }
    }

    unsafe fn index_plainly(&self, index: &Index) {
        let mut datums = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
        // SAFETY: a plain index is on columns of the relation alone, by number from 1, at most INDEX_MAX_KEYS of them.
        unsafe {
            let info = &*index.info;
            if !info.ii_ReadyForInserts {
                return;
            }
            let keys = info.ii_IndexAttrNumbers.iter().take(info.ii_NumIndexAttrs as usize);
            for i in 0..self.rows {
                for ((key, datum), null) in keys.clone().zip(&mut datums).zip(&mut nulls) {
                    let cell = i * self.columns + (*key as usize - 1);
                    *datum = *self.datums.add(cell);
                    *null = *self.nulls.add(cell);
                }
                let slot = *self.slots.add(i);
                unguarded::index_insert(
                    index.relation,
                    datums.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                    &raw mut (*slot).tts_tid,
                    self.relation,
                    pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                    false,
                    index.info,
                );
            }
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            unguarded::index_insert_cleanup(index.relation, index.info);
        }
    }

    /// Expressions, predicates, unique and exclusion constraints: the executor's own way.
    unsafe fn index_in_general(&self) {
        // SAFETY: executor state and result relation live in the current memory context until they are freed.
        unsafe {
            let state = unguarded::CreateExecutorState();
            let size = size_of::<pg_sys::ResultRelInfo>();
            let result = unguarded::palloc(size).cast::<pg_sys::ResultRelInfo>();
            result.write_bytes(0, 1);
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            unguarded::InitResultRelInfo(result, self.relation, 1, null_mut(), 0);
            unguarded::ExecOpenIndices(result, false);
            for i in 0..self.rows {
                compat::exec_insert_index_tuples(result, *self.slots.add(i), state);
                let per_tuple = (*state).es_per_tuple_exprcontext;
                if !per_tuple.is_null() {
                    unguarded::MemoryContextReset((*per_tuple).ecxt_per_tuple_memory);
                }
            }
            unguarded::ExecCloseIndices(result);
            unguarded::FreeExecutorState(state);
        }
    }
}

/// An open index.
struct Index {
    relation: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
}

impl Index {
    /// Nothing to compute and nothing to check: columns as they are, duplicates welcome.
    unsafe fn is_plain(&self) -> bool {
        // SAFETY: made by BuildIndexInfo; the array has as many entries as the index has columns.
        unsafe {
            let info = &*self.info;
            info.ii_Expressions.is_null()
                && info.ii_Predicate.is_null()
                && info.ii_ExclusionOps.is_null()
                && !info.ii_Unique
                && info.ii_IndexAttrNumbers.iter().take(info.ii_NumIndexAttrs as usize).all(|key| *key > 0)
        }
    }
}

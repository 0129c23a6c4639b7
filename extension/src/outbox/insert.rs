//! Inserts rows from the buffer into a partition of webhook.event and into all its indexes.
//!
//! No parser, planner, executor, routing or check of rights runs. So a role with rights on its own
//! table alone can emit events, and a row costs a fraction of an INSERT. The checks of an INSERT
//! are known to hold: the type was validated when the watch was created, and the slot is the
//! partition's (`ring`). Triggers and constraints that someone adds to webhook.event do not fire.
//!
//! A batch is one [`protect`]ed call. Everything below it is C in Rust syntax, which owns nothing
//! and does not panic. An error of an index (a unique index of a user) reaches the application with
//! all its fields.
//!
//! The module writes webhook.event_N and its indexes. It must not read settings, or depend on the
//! meaning of rows.

use core::ptr::null_mut;
use std::cell::Cell;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::buffer::{Buffer, Row};
use super::partition::{self, ABSENT, COLUMNS, Missing, Partition, PlainIndex};
use super::{ring, tables};
use crate::compat::{self, unguarded};
use crate::protect::protect;

/// Inserts all rows of the buffer under the current subtransaction.
///
/// # Errors
/// Raises the errors of an insert: a full disk, a unique index of a user, a missing table or
/// column.
pub fn insert(buffer: &Buffer) {
    let memory = InsertMemory::take();
    let mut rest = buffer.rows();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|row| row.command == first.command).count();
        let (rows, tail) = rest.split_at(same);
        let slot = ring::present();
        let partition = tables::partition(slot);
        // SAFETY: see the second paragraph of the module. The buffer outlives the call.
        match unsafe { protect(|| insert_batch(slot, partition, memory.context, buffer, rows)) } {
            Ok(()) => rest = tail,
            // The ring has turned meanwhile.
            Err(Refused::IsOver) => {}
            Err(Refused::Lacks(Missing(i))) => mismatch(i),
        }
    }
}

fn mismatch(column: usize) -> ! {
    let column = COLUMNS[column].0.to_string_lossy();
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("webhook.event does not have the column \"{column}\" that this version of pg_webhook writes"),
        "pg_webhook",
    )
    .set_hint("Run ALTER EXTENSION pg_webhook UPDATE, or install the library that matches the extension.")
    .report(pgrx::PgLogLevel::ERROR);
    unreachable!("ERROR does not return")
}

/// A memory context for the tuples of a batch, kept from flush to flush. A user's index may run a
/// function that flushes too. The inner flush then creates a context of its own.
struct InsertMemory {
    context: pg_sys::MemoryContext,
    is_own: bool,
}

thread_local! {
    /// The kept context, while it is not in use.
    static IDLE: Cell<pg_sys::MemoryContext> = const { Cell::new(null_mut()) };
    static IS_MADE: Cell<bool> = const { Cell::new(false) };
}

impl InsertMemory {
    fn take() -> Self {
        let idle = IDLE.replace(null_mut());
        let is_own = idle.is_null() && IS_MADE.replace(true);
        // SAFETY: plain calls. The kept context lives as long as the backend. Another one belongs
        // to the subtransaction's context, which frees it.
        let context = unsafe {
            if idle.is_null() {
                pg_sys::AllocSetContextCreateInternal(
                    if is_own { pg_sys::CurTransactionContext } else { pg_sys::CacheMemoryContext },
                    c"webhook outbox".as_ptr(),
                    0,
                    8 * 1024,
                    8 * 1024 * 1024,
                )
            } else {
                // After an error, it still has its former contents.
                pg_sys::MemoryContextReset(idle);
                idle
            }
        };
        Self { context, is_own }
    }
}

impl Drop for InsertMemory {
    fn drop(&mut self) {
        // Nothing is freed here, because an error may be in progress.
        if !self.is_own {
            IDLE.set(self.context);
        }
    }
}

/// Why a batch was not inserted.
enum Refused {
    /// The slot is no longer the present one.
    IsOver,
    Lacks(Missing),
}

/// Inserts rows of one partition and one command, at least one.
unsafe fn insert_batch(
    slot: u8,
    oid: pg_sys::Oid,
    memory: pg_sys::MemoryContext,
    buffer: &Buffer,
    rows: &[Row],
) -> Result<(), Refused> {
    // SAFETY: everything that is opened is closed, and the lock on the partition stays until the
    // transaction ends. Tuples, slots and arrays are in `memory`.
    unsafe {
        let relation = unguarded::table_open(oid, pg_sys::RowExclusiveLock as i32);
        // With this lock, the slot stays open (`ring`).
        let partition = if ring::is_present(slot) {
            partition::of(relation).map_err(Refused::Lacks)
        } else {
            Err(Refused::IsOver)
        };
        let partition = match partition {
            Ok(partition) => partition,
            Err(refused) => {
                unguarded::table_close(relation, pg_sys::NoLock as i32);
                return Err(refused);
            }
        };
        let caller = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = memory;
        let batch = Batch::new(relation, rows.len());
        batch.fill(&partition, slot, buffer, rows);
        batch.write(&partition, rows);
        if partition.is_plain {
            for index in partition.indexes.iter().take(partition.index_count) {
                batch.index(index);
            }
        } else {
            batch.index_in_general();
        }
        pg_sys::CurrentMemoryContext = caller;
        unguarded::MemoryContextReset(memory);
        unguarded::table_close(relation, pg_sys::NoLock as i32);
    }
    Ok(())
}

/// Arrays in the current memory context: one entry per row, or one per row and column of the
/// partition.
struct Batch {
    relation: pg_sys::Relation,
    columns: usize,
    rows: usize,
    tuples: *mut pg_sys::HeapTuple,
    /// The positions of the inserted rows.
    places: *mut pg_sys::ItemPointer,
    datums: *mut pg_sys::Datum,
    nulls: *mut bool,
}

impl Batch {
    unsafe fn new(relation: pg_sys::Relation, rows: usize) -> Self {
        // SAFETY: the relation is open. palloc raises an error instead of returning null.
        unsafe {
            let columns = (*(*relation).rd_att).natts as usize;
            let cells = rows * columns;
            let nulls = unguarded::palloc(cells).cast::<bool>();
            nulls.write_bytes(1, cells);
            Self {
                relation,
                columns,
                rows,
                tuples: unguarded::palloc(rows * size_of::<pg_sys::HeapTuple>()).cast(),
                places: unguarded::palloc(rows * size_of::<pg_sys::ItemPointer>()).cast(),
                datums: unguarded::palloc(cells * size_of::<pg_sys::Datum>()).cast(),
                nulls,
            }
        }
    }

    /// Creates the tuples. Columns that are not ours stay null.
    unsafe fn fill(&self, partition: &Partition, at: u8, buffer: &Buffer, rows: &[Row]) {
        // SAFETY: row `i` has `columns` cells from `i * columns` on, and every position is below
        // that.
        unsafe {
            let descriptor = (*self.relation).rd_att;
            let xid = unguarded::GetTopFullTransactionId().value as i64;
            for (i, row) in rows.iter().enumerate() {
                let datums = self.datums.add(i * self.columns);
                let nulls = self.nulls.add(i * self.columns);
                let set = |position: usize, datum: pg_sys::Datum| {
                    datums.add(position).write(datum);
                    nulls.add(position).write(false);
                };
                let [id, own_xid, created_at, subscription, slot, truncated, texts @ ..] =
                    partition.positions;
                set(id, row.id.into());
                set(own_xid, xid.into());
                set(created_at, row.created_at.into());
                if let Some(number) = row.subscription_id {
                    set(subscription, number.into());
                }
                set(slot, i16::from(at).into());
                set(truncated, row.truncated.into());
                for (position, place) in texts.into_iter().zip(row.texts) {
                    if let Some(place) = place
                        && position != ABSENT
                    {
                        set(position, pg_sys::Datum::from(buffer.value(place)));
                    }
                }
                self.tuples.add(i).write(unguarded::heap_form_tuple(descriptor, datums, nulls));
            }
        }
    }

    /// Writes the tuples to the table.
    unsafe fn write(&self, partition: &Partition, rows: &[Row]) {
        let Some(first) = rows.first() else { return };
        // SAFETY: the access method of an open table has the function. The tuples were created for
        // a heap.
        unsafe {
            if self.rows == 1 && partition.is_heap {
                let tuple = *self.tuples;
                unguarded::heap_insert(self.relation, tuple, first.command, 0, null_mut());
                self.places.write(&raw mut (*tuple).t_self);
                return;
            }
            let size = self.rows * size_of::<*mut pg_sys::TupleTableSlot>();
            let slots = unguarded::palloc(size).cast::<*mut pg_sys::TupleTableSlot>();
            // A copy has no reference count, so no slot must release it.
            let shape = unguarded::CreateTupleDescCopy((*self.relation).rd_att);
            for i in 0..self.rows {
                let slot = unguarded::MakeSingleTupleTableSlot(shape, &raw const pg_sys::TTSOpsHeapTuple);
                unguarded::ExecStoreHeapTuple(*self.tuples.add(i), slot, true);
                slots.add(i).write(slot);
                self.places.add(i).write(&raw mut (*slot).tts_tid);
            }
            if let Some(insert) = (*(*self.relation).rd_tableam).multi_insert {
                insert(self.relation, slots, self.rows as i32, first.command, 0, null_mut());
            }
        }
    }

    /// Inserts the rows into a plain index.
    unsafe fn index(&self, plain: &PlainIndex) {
        let mut datums = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
        // SAFETY: the index is opened and closed here. A plain index is on columns of the relation
        // only, by number from 1, at most INDEX_MAX_KEYS of them.
        unsafe {
            let info = &*plain.info;
            let index = unguarded::index_open(plain.oid, pg_sys::RowExclusiveLock as i32);
            let keys = info.ii_IndexAttrNumbers.iter().take(info.ii_NumIndexAttrs as usize);
            for i in 0..self.rows {
                for ((key, datum), null) in keys.clone().zip(&mut datums).zip(&mut nulls) {
                    let cell = i * self.columns + (*key as usize - 1);
                    *datum = *self.datums.add(cell);
                    *null = *self.nulls.add(cell);
                }
                unguarded::index_insert(
                    index,
                    datums.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                    *self.places.add(i),
                    self.relation,
                    pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                    false,
                    plain.info,
                );
            }
            unguarded::index_close(index, pg_sys::NoLock as i32);
        }
    }

    /// Inserts the rows into all indexes of any kind, as the executor does: expressions,
    /// predicates, unique and exclusion constraints, other access methods.
    unsafe fn index_in_general(&self) {
        // SAFETY: executor state, result relation and slot are in the current memory context until
        // they are freed.
        unsafe {
            let state = unguarded::CreateExecutorState();
            let size = size_of::<pg_sys::ResultRelInfo>();
            let result = unguarded::palloc(size).cast::<pg_sys::ResultRelInfo>();
            result.write_bytes(0, 1);
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            unguarded::InitResultRelInfo(result, self.relation, 1, null_mut(), 0);
            unguarded::ExecOpenIndices(result, false);
            let shape = unguarded::CreateTupleDescCopy((*self.relation).rd_att);
            let slot = unguarded::MakeSingleTupleTableSlot(shape, &raw const pg_sys::TTSOpsHeapTuple);
            for i in 0..self.rows {
                unguarded::ExecStoreHeapTuple(*self.tuples.add(i), slot, false);
                (*slot).tts_tid = **self.places.add(i);
                (*slot).tts_tableOid = (*self.relation).rd_id;
                compat::exec_insert_index_tuples(result, slot, state);
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

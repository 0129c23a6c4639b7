//! From the buffer into webhook.event: rows straight into a partition, and every index that lies on it.
//!
//! No parser, planner, executor, routing or permission check runs: a role with rights on its own table alone emits, and
//! a row costs a fraction of an INSERT. What an INSERT would check is known to hold: the type has been validated when
//! the watch was made, the slot is the partition's (`ring`). Triggers and constraints added to webhook.event by hand do not fire.
//!
//! A batch is one [`protect`]ed call: everything below it is plain C in Rust's clothes, that owns nothing and does not
//! panic. An error of an index (a unique one made by hand) reaches the application with all its fields.
//!
//! Writes webhook.event_N and its indexes. Must not read settings or look at what the rows mean.

use core::ptr::null_mut;
use std::cell::Cell;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::buffer::{Buffer, Row};
use super::partition::{self, COLUMNS, Missing, Partition, PlainIndex};
use super::{ring, tables};
use crate::compat::{self, unguarded};
use crate::protect::protect;

/// Inserts all rows of the buffer under the current subtransaction.
///
/// # Errors
/// Raises what inserting raises: a full disk, a unique index made by hand, a missing table or column.
pub fn insert(buffer: &Buffer) {
    let memory = Memory::take();
    let mut rest = buffer.rows();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|row| row.command == first.command).count();
        let (rows, tail) = rest.split_at(same);
        let slot = ring::present(first.created_at);
        let partition = tables::partition(slot);
        // SAFETY: see the module's second paragraph. The buffer outlives the call.
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
    .set_hint("Run ALTER EXTENSION pg_webhook UPDATE, or install the library that belongs to the tables.")
    .report(pgrx::PgLogLevel::ERROR);
    unreachable!("ERROR does not return")
}

/// A memory context for the tuples of a batch, kept from flush to flush. An index made by hand may run a function that
/// flushes in its turn: the inner flush finds none to take, and makes its own.
struct Memory {
    context: pg_sys::MemoryContext,
    is_own: bool,
}

thread_local! {
    /// The kept context, when nobody has it.
    static IDLE: Cell<pg_sys::MemoryContext> = const { Cell::new(null_mut()) };
    static IS_MADE: Cell<bool> = const { Cell::new(false) };
}

impl Memory {
    fn take() -> Self {
        let idle = IDLE.replace(null_mut());
        let is_own = idle.is_null() && IS_MADE.replace(true);
        // SAFETY: plain calls. The kept context lives as long as the backend; another hangs under the subtransaction's,
        // which frees it.
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
                // After an error it still holds what was in it.
                pg_sys::MemoryContextReset(idle);
                idle
            }
        };
        Self { context, is_own }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Nothing is freed here: an error may be on its way.
        if !self.is_own {
            IDLE.set(self.context);
        }
    }
}

/// Why a batch was not inserted.
enum Refused {
    /// The slot is the present one no more.
    IsOver,
    Lacks(Missing),
}

/// Rows of one partition and one command, one or more.
unsafe fn insert_batch(
    slot: u8,
    oid: pg_sys::Oid,
    memory: pg_sys::MemoryContext,
    buffer: &Buffer,
    rows: &[Row],
) -> Result<(), Refused> {
    // SAFETY: what is opened is closed, and the lock on the partition stays until the transaction ends; tuples, slots
    // and arrays live in `memory`.
    unsafe {
        let relation = unguarded::table_open(oid, pg_sys::RowExclusiveLock as i32);
        // With the lock: from here on the slot stays open (`ring`).
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

/// Arrays in the current memory context, one entry per row, and one per row and column of the partition.
struct Batch {
    relation: pg_sys::Relation,
    columns: usize,
    rows: usize,
    tuples: *mut pg_sys::HeapTuple,
    /// Where the rows have come to lie.
    places: *mut pg_sys::ItemPointer,
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
                tuples: unguarded::palloc(rows * size_of::<pg_sys::HeapTuple>()).cast(),
                places: unguarded::palloc(rows * size_of::<pg_sys::ItemPointer>()).cast(),
                datums: unguarded::palloc(cells * size_of::<pg_sys::Datum>()).cast(),
                nulls,
            }
        }
    }

    /// Makes the tuples. Columns that are not ours stay null.
    unsafe fn fill(&self, partition: &Partition, at: u8, buffer: &Buffer, rows: &[Row]) {
        // SAFETY: row `i` has `columns` cells from `i * columns` on, and every position is below that.
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
                    if let Some(place) = place {
                        set(position, pg_sys::Datum::from(buffer.value(place)));
                    }
                }
                self.tuples.add(i).write(unguarded::heap_form_tuple(descriptor, datums, nulls));
            }
        }
    }

    /// Puts the tuples into the table.
    unsafe fn write(&self, partition: &Partition, rows: &[Row]) {
        let Some(first) = rows.first() else { return };
        // SAFETY: the access method of an open table has the function; a heap's tuples are what was made.
        unsafe {
            if self.rows == 1 && partition.is_heap {
                let tuple = *self.tuples;
                unguarded::heap_insert(self.relation, tuple, first.command, 0, null_mut());
                self.places.write(&raw mut (*tuple).t_self);
                return;
            }
            let size = self.rows * size_of::<*mut pg_sys::TupleTableSlot>();
            let slots = unguarded::palloc(size).cast::<*mut pg_sys::TupleTableSlot>();
            // A copy is not reference-counted: no slot needs to be given back.
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

    /// Puts the rows into a plain index.
    unsafe fn index(&self, plain: &PlainIndex) {
        let mut datums = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
        // SAFETY: the index is opened and closed here; a plain one is on columns of the relation alone, by number from
        // 1, at most INDEX_MAX_KEYS of them.
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

    /// Puts the rows into all indexes, whatever they are: expressions, predicates, unique and exclusion constraints,
    /// other access methods. The executor's own way.
    unsafe fn index_in_general(&self) {
        // SAFETY: executor state, result relation and slot live in the current memory context until they are freed.
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

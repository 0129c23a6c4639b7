//! What a batch needs to know of a partition of webhook.event: the positions of our columns, and
//! its indexes. It is computed once per backend and partition, and kept until Postgres reports a
//! change of the partition or of an index.
//!
//! Everything here runs within [`crate::protect::protect`]. It owns nothing that has a destructor,
//! and does not panic.

use core::ffi::CStr;
use std::cell::Cell;

use pgrx::pg_sys;

use crate::compat::{self, unguarded};

/// Columns of webhook.event, in the order in which `insert` fills them.
pub const COLUMNS: [(&CStr, pg_sys::Oid); 15] = [
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
    (c"owner", pg_sys::TEXTOID),
];

/// The column that the previous schema lacks: events have no owners there.
const OWNER: usize = COLUMNS.len() - 1;
/// The position of a column that the partition lacks.
pub const ABSENT: usize = usize::MAX;

/// Maximum number of indexes that are kept. With more, the insert uses the executor's way.
const INDEXES_MAX: usize = 8;

/// The index in [`COLUMNS`] of a column that the partition lacks, or has with another type.
pub struct Missing(pub usize);

/// A B-tree on plain columns that allows duplicates: nothing to compute, nothing to check.
#[derive(Clone, Copy)]
pub struct PlainIndex {
    pub oid: pg_sys::Oid,
    /// In `MEMORY`.
    pub info: *mut pg_sys::IndexInfo,
}

#[derive(Clone, Copy)]
pub struct Partition {
    oid: pg_sys::Oid,
    /// The positions of our columns among the partition's; [`ABSENT`] if it lacks the owner.
    pub positions: [usize; COLUMNS.len()],
    /// Whether rows are heap tuples. They are, unless another table access method was chosen.
    pub is_heap: bool,
    /// All indexes if they are plain. If not, empty, and `is_plain` is false.
    pub indexes: [PlainIndex; INDEXES_MAX],
    pub index_count: usize,
    pub is_plain: bool,
}

const NO_INDEX: PlainIndex = PlainIndex { oid: pg_sys::Oid::INVALID, info: core::ptr::null_mut() };

thread_local! {
    static KNOWN: Cell<Option<Partition>> = const { Cell::new(None) };
    /// Contains the IndexInfos of `KNOWN`.
    static MEMORY: Cell<pg_sys::MemoryContext> = const { Cell::new(core::ptr::null_mut()) };
    /// Counts invalidations. Results that were read during an invalidation are not kept.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// Handles a change of a relation (`INVALID` for any). Neither allocates, frees nor fails.
pub fn invalidate(relation: pg_sys::Oid) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    if let Some(known) = KNOWN.get() {
        let indexes = known.indexes.iter().take(known.index_count);
        if relation == pg_sys::Oid::INVALID
            || relation == known.oid
            || !known.is_plain
            || indexes.clone().any(|index| index.oid == relation)
        {
            KNOWN.set(None);
        }
    }
}

/// Returns the description of an open partition.
///
/// # Errors
/// One of our columns is missing: library and tables are of different versions.
///
/// # Safety
/// The relation is open and locked. Call it within `protect`.
pub unsafe fn of(relation: pg_sys::Relation) -> Result<Partition, Missing> {
    // SAFETY: the caller's promise.
    unsafe {
        let oid = (*relation).rd_id;
        if let Some(known) = KNOWN.get()
            && known.oid == oid
        {
            return Ok(known);
        }
        KNOWN.set(None);
        let changes = CHANGES.get();
        let mut partition = Partition {
            oid,
            positions: positions((*relation).rd_att)?,
            is_heap: (*(*relation).rd_rel).relam == pg_sys::HEAP_TABLE_AM_OID,
            indexes: [NO_INDEX; INDEXES_MAX],
            index_count: 0,
            is_plain: true,
        };
        let memory = memory();
        let caller = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = memory;
        look_at_indexes(relation, &mut partition);
        pg_sys::CurrentMemoryContext = caller;
        if CHANGES.get() == changes {
            KNOWN.set(Some(partition));
        }
        Ok(partition)
    }
}

/// Returns an empty memory context that lives as long as the backend.
unsafe fn memory() -> pg_sys::MemoryContext {
    // SAFETY: its former contents belonged to the former description.
    unsafe {
        let memory = MEMORY.get();
        if !memory.is_null() {
            unguarded::MemoryContextReset(memory);
            return memory;
        }
        let memory = unguarded::AllocSetContextCreateInternal(
            pg_sys::CacheMemoryContext,
            c"webhook partition".as_ptr(),
            0,
            1024,
            64 * 1024,
        );
        MEMORY.set(memory);
        memory
    }
}

unsafe fn look_at_indexes(relation: pg_sys::Relation, partition: &mut Partition) {
    // SAFETY: the lock on the relation keeps its indexes from changing. Every index that is opened
    // is closed.
    unsafe {
        let oids = unguarded::RelationGetIndexList(relation);
        let count = if oids.is_null() { 0 } else { (*oids).length as usize };
        partition.is_plain = count <= INDEXES_MAX;
        for (i, place) in partition.indexes.iter_mut().enumerate().take(count) {
            let oid = (*(*oids).elements.add(i)).oid_value;
            let index = unguarded::index_open(oid, pg_sys::RowExclusiveLock as i32);
            let is_btree = (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID;
            let info = unguarded::BuildIndexInfo(index);
            unguarded::index_close(index, pg_sys::NoLock as i32);
            partition.is_plain &= is_btree && is_plain(&*info);
            *place = PlainIndex { oid, info };
        }
        partition.index_count = if partition.is_plain { count } else { 0 };
    }
}

fn is_plain(info: &pg_sys::IndexInfo) -> bool {
    info.ii_Expressions.is_null()
        && info.ii_Predicate.is_null()
        && info.ii_ExclusionOps.is_null()
        && !info.ii_Unique
        && info.ii_ReadyForInserts
        && info.ii_IndexAttrNumbers.iter().take(info.ii_NumIndexAttrs as usize).all(|key| *key > 0)
}

/// Returns the positions of our columns, nearly always those of sql/tables.sql.
unsafe fn positions(descriptor: pg_sys::TupleDesc) -> Result<[usize; COLUMNS.len()], Missing> {
    let mut positions = [0; COLUMNS.len()];
    // SAFETY: the descriptor of an open relation. Only existing columns are read.
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
            *position = match found {
                None if i == OWNER => ABSENT,
                found => found.ok_or(Missing(i))?,
            };
        }
    }
    Ok(positions)
}

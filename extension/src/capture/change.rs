//! Describes a changed row for the order of events: its versions, its key, and the commands that
//! made and ended the versions.
//!
//! Reads tuple headers. Does not decide the order.

use std::hash::{DefaultHasher, Hasher};

use pgrx::pg_sys;

use super::planned::Operation;
use super::row::CapturedRow;
use crate::order::{Change, NO_COMMAND, Version};

/// Returns the physical place of a row.
///
/// # Safety
/// The row belongs to a trigger call, or is a copy of such a row.
pub unsafe fn version(row: CapturedRow<'_>) -> Version {
    // SAFETY: the caller's promise.
    let place = unsafe { (*row.tuple).t_self };
    Version {
        relation: row.plan.relation.to_u32(),
        block: (u32::from(place.ip_blkid.bi_hi) << 16) | u32::from(place.ip_blkid.bi_lo),
        offset: place.ip_posid,
    }
}

/// Returns the change of a row. `former_key` is the key of the former row if the two keys differ.
///
/// # Safety
/// As for [`version`].
pub unsafe fn of(
    operation: Operation,
    row: CapturedRow<'_>,
    former: Option<CapturedRow<'_>>,
    key: Option<&[u8]>,
    former_key: Option<&[u8]>,
) -> Change {
    let root = row.plan.root.to_u32();
    let is_deleted = operation == Operation::Delete;
    // SAFETY: the caller's promise.
    unsafe {
        let place = version(row);
        Change {
            root,
            command: if is_deleted { ended_by(row) } else { made_by(row) },
            former: if is_deleted { place } else { former.map_or(Version::NONE, |former| version(former)) },
            now: if is_deleted { Version::NONE } else { place },
            key: hash(root, key),
            former_key: hash(root, former_key),
            ended_by: if is_deleted { NO_COMMAND } else { ended_by(row) },
        }
    }
}

/// Returns the change that empties a table.
pub fn of_truncate(root: pg_sys::Oid) -> Change {
    Change {
        root: root.to_u32(),
        command: NO_COMMAND,
        former: Version::NONE,
        now: Version::NONE,
        key: 0,
        former_key: 0,
        ended_by: NO_COMMAND,
    }
}

/// Hashes a key. Returns 0 if there is no key, and never 0 for a key.
fn hash(root: u32, key: Option<&[u8]>) -> u64 {
    key.map_or(0, |key| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u32(root);
        hasher.write(key);
        hasher.finish() | 1
    })
}

/// Returns the command of this transaction that made a row version, or [`NO_COMMAND`].
unsafe fn made_by(row: CapturedRow<'_>) -> u32 {
    // SAFETY: the caller's promise; the command is read only from a version that this transaction
    // made.
    unsafe {
        let header = (*row.tuple).t_data;
        let transaction = (*header).t_choice.t_heap.t_xmin;
        if pg_sys::TransactionIdIsCurrentTransactionId(transaction) {
            pg_sys::HeapTupleHeaderGetCmin(header)
        } else {
            NO_COMMAND
        }
    }
}

/// Returns the command of this transaction that updated or deleted a row version, or
/// [`NO_COMMAND`].
unsafe fn ended_by(row: CapturedRow<'_>) -> u32 {
    // HEAP_LOCK_MASK. With it, `is_locked_only` is the same condition as HEAP_XMAX_IS_LOCKED_ONLY.
    const LOCKS: u32 = pg_sys::HEAP_XMAX_EXCL_LOCK | pg_sys::HEAP_XMAX_KEYSHR_LOCK;
    // SAFETY: the caller's promise; the command is read only from a version that this transaction
    // ended.
    unsafe {
        let header = (*row.tuple).t_data;
        let mask = u32::from((*header).t_infomask);
        let is_locked_only = mask & pg_sys::HEAP_XMAX_LOCK_ONLY != 0
            || mask & (pg_sys::HEAP_XMAX_IS_MULTI | LOCKS) == pg_sys::HEAP_XMAX_EXCL_LOCK;
        if mask & pg_sys::HEAP_XMAX_INVALID != 0 || is_locked_only {
            return NO_COMMAND;
        }
        let transaction = if mask & pg_sys::HEAP_XMAX_IS_MULTI != 0 {
            pg_sys::HeapTupleGetUpdateXid(header)
        } else {
            (*header).t_choice.t_heap.t_xmax
        };
        if pg_sys::TransactionIdIsCurrentTransactionId(transaction) {
            pg_sys::HeapTupleHeaderGetCmax(header)
        } else {
            NO_COMMAND
        }
    }
}

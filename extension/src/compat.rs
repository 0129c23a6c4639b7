//! Differences between Postgres 14 and 18, and declarations that pgrx lacks. Nothing else.
//!
//! The module stores nothing and decides nothing.

use std::time::Duration;

use pgrx::pg_sys;

use crate::protect::protect;

/// Declares functions of the server that pgrx lacks, each behind its guard: an ERROR becomes a Rust
/// panic.
macro_rules! guarded {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)?;)*) => {
        mod raw {
            use super::*;
            unsafe extern "C-unwind" {
                $($(#[$meta])* pub fn $name($($arg: $type),*) $(-> $ret)?;)*
            }
        }
        $($(#[$meta])*
        #[allow(non_snake_case)]
        pub unsafe fn $name($($arg: $type),*) $(-> $ret)? {
            // SAFETY: the closure contains only plain values. The caller promises the rest.
            unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| raw::$name($($arg),*)) }
        })*
    };
}

guarded! {
    /// Returns the next number of a sequence, with or without a check of rights
    /// (commands/sequence.h; the same in 14 to 18).
    fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
    /// The default conversion between two encodings in a schema, or `INVALID`
    /// (catalog/pg_conversion.h; the same in 14 to 18).
    fn FindDefaultConversion(schema: pg_sys::Oid, from: i32, to: i32) -> pg_sys::Oid;
    /// Returns the partitioned tables above a partition, nearest first (catalog/partition.h; the
    /// same in 14 to 18).
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
    /// Returns the process with this number (storage/sinvaladt.h; until 16).
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    fn BackendIdGetProc(backend: core::ffi::c_int) -> *mut pg_sys::PGPROC;
    /// Reports whether two values are equal, detoasted but otherwise bit by bit (utils/datum.h; the
    /// same in 14 to 18).
    fn datum_image_eq(one: pg_sys::Datum, other: pg_sys::Datum, by_value: bool, length: i32) -> bool;
    /// Returns a table and all its child tables, including partitions. Locks each before it looks
    /// up its children (catalog/pg_inherits.h; the same in 14 to 18). `parents` is null, because
    /// the counts of parents are not needed.
    fn find_all_inheritors(relation: pg_sys::Oid, lock: pg_sys::LOCKMODE, parents: *mut *mut pg_sys::List) -> *mut pg_sys::List;
}

/// The server's functions without a guard: an ERROR passes the caller's frame as Postgres throws
/// it. For hooks that call through, and within [`protect`].
pub mod unguarded {
    use super::pg_sys;

    unsafe extern "C-unwind" {
        pub fn OutputFunctionCall(
            function: *mut pg_sys::FmgrInfo,
            value: pg_sys::Datum,
        ) -> *mut core::ffi::c_char;
        pub fn OidFunctionCall1Coll(
            function: pg_sys::Oid,
            collation: pg_sys::Oid,
            argument: pg_sys::Datum,
        ) -> pg_sys::Datum;
        /// Sets a process's latch. It neither raises an error nor allocates.
        pub fn SetLatch(latch: *mut pg_sys::Latch);
        /// Begin, fill in and send a report (utils/elog.h; the same in 14 to 18).
        pub fn errstart(level: core::ffi::c_int, domain: *const core::ffi::c_char) -> bool;
        pub fn errcode(sqlstate: core::ffi::c_int) -> core::ffi::c_int;
        pub fn errmsg_internal(format: *const core::ffi::c_char, ...) -> core::ffi::c_int;
        pub fn errdetail_internal(format: *const core::ffi::c_char, ...) -> core::ffi::c_int;
        pub fn errfinish(
            file: *const core::ffi::c_char,
            line: core::ffi::c_int,
            function: *const core::ffi::c_char,
        );
        // These four neither raise an error nor allocate.
        #[cfg(not(feature = "pg14"))]
        fn GetWALInsertionTimeLine() -> pg_sys::TimeLineID;
        #[cfg(feature = "pg14")]
        static ThisTimeLineID: pg_sys::TimeLineID;
        pub fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
        pub fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
        pub fn IsInParallelMode() -> bool;
        pub fn table_open(relation: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> pg_sys::Relation;
        pub fn table_close(relation: pg_sys::Relation, lock: pg_sys::LOCKMODE);
        pub fn index_open(index: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> pg_sys::Relation;
        pub fn index_close(index: pg_sys::Relation, lock: pg_sys::LOCKMODE);
        pub fn palloc(bytes: usize) -> *mut core::ffi::c_void;
        pub fn AllocSetContextCreateInternal(
            parent: pg_sys::MemoryContext,
            name: *const core::ffi::c_char,
            bytes_min: usize,
            bytes_first: usize,
            bytes_max: usize,
        ) -> pg_sys::MemoryContext;
        pub fn MemoryContextReset(memory: pg_sys::MemoryContext);
        pub fn GetTopFullTransactionId() -> pg_sys::FullTransactionId;
        pub fn CreateTupleDescCopy(descriptor: pg_sys::TupleDesc) -> pg_sys::TupleDesc;
        pub fn heap_form_tuple(
            descriptor: pg_sys::TupleDesc,
            datums: *mut pg_sys::Datum,
            nulls: *mut bool,
        ) -> pg_sys::HeapTuple;
        pub fn heap_insert(
            relation: pg_sys::Relation,
            tuple: pg_sys::HeapTuple,
            command: pg_sys::CommandId,
            options: core::ffi::c_int,
            state: pg_sys::BulkInsertState,
        );
        pub fn MakeSingleTupleTableSlot(
            descriptor: pg_sys::TupleDesc,
            operations: *const pg_sys::TupleTableSlotOps,
        ) -> *mut pg_sys::TupleTableSlot;
        pub fn ExecStoreHeapTuple(
            tuple: pg_sys::HeapTuple,
            slot: *mut pg_sys::TupleTableSlot,
            owned: bool,
        ) -> *mut pg_sys::TupleTableSlot;
        pub fn RelationGetIndexList(relation: pg_sys::Relation) -> *mut pg_sys::List;
        pub fn BuildIndexInfo(index: pg_sys::Relation) -> *mut pg_sys::IndexInfo;
        pub fn index_insert(
            index: pg_sys::Relation,
            datums: *mut pg_sys::Datum,
            nulls: *mut bool,
            tuple: pg_sys::ItemPointer,
            relation: pg_sys::Relation,
            check: pg_sys::IndexUniqueCheck::Type,
            unchanged: bool,
            info: *mut pg_sys::IndexInfo,
        ) -> bool;
        pub fn CreateExecutorState() -> *mut pg_sys::EState;
        pub fn FreeExecutorState(state: *mut pg_sys::EState);
        pub fn InitResultRelInfo(
            result: *mut pg_sys::ResultRelInfo,
            relation: pg_sys::Relation,
            range_table_index: pg_sys::Index,
            root: *mut pg_sys::ResultRelInfo,
            instrument: core::ffi::c_int,
        );
        pub fn ExecOpenIndices(result: *mut pg_sys::ResultRelInfo, speculative: bool);
        pub fn ExecCloseIndices(result: *mut pg_sys::ResultRelInfo);
        pub fn ExecInsertIndexTuples(
            result: *mut pg_sys::ResultRelInfo,
            slot: *mut pg_sys::TupleTableSlot,
            state: *mut pg_sys::EState,
            update: bool,
            no_duplicate_error: bool,
            conflict: *mut bool,
            arbiters: *mut pg_sys::List,
            #[cfg(not(any(feature = "pg14", feature = "pg15")))] only_summarizing: bool,
        ) -> *mut pg_sys::List;
        pub fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: core::ffi::c_int);
        pub fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
        pub fn standard_ProcessUtility(
            statement: *mut pg_sys::PlannedStmt,
            source: *const core::ffi::c_char,
            read_only_tree: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            params: pg_sys::ParamListInfo,
            environment: *mut pg_sys::QueryEnvironment,
            dest: *mut pg_sys::DestReceiver,
            completion: *mut pg_sys::QueryCompletion,
        );
    }

    /// Returns the timeline that the server writes to.
    ///
    /// # Safety
    /// The server accepts writes, and this session has a transaction (which makes Postgres 14 set
    /// the variable).
    pub unsafe fn timeline() -> pg_sys::TimeLineID {
        // SAFETY: the caller's promise.
        #[cfg(not(feature = "pg14"))]
        unsafe {
            GetWALInsertionTimeLine()
        }
        // SAFETY: the caller's promise. A backend sets it when it first finds that no recovery
        // runs.
        #[cfg(feature = "pg14")]
        unsafe {
            ThisTimeLineID
        }
    }
}

/// Reports whether this session or transaction holds the lock in exactly this mode.
pub fn lock_held_by_me(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    // SAFETY: looks the tag up in the backend's own table of locks.
    unsafe {
        pg_sys::LockHeldByMe(tag, mode)
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    // SAFETY: as above.
    unsafe {
        pg_sys::LockHeldByMe(tag, mode, false)
    }
}

/// Returns the process of a transaction, or null if it has ended.
///
/// # Errors
/// Raises an error if the process holds too many lightweight locks.
pub fn process_of(transaction: &pg_sys::VirtualTransactionId) -> *mut pg_sys::PGPROC {
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    // SAFETY: every number is allowed.
    unsafe {
        BackendIdGetProc(transaction.backendId)
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    // SAFETY: as above.
    unsafe {
        pg_sys::ProcNumberGetProc(transaction.procNumber)
    }
}

/// Waits until this process's latch is set, its client has sent something or has gone, or the time
/// is over. Returns the events (`WL_…`).
///
/// # Errors
/// Raises an error if the system lacks resources for the wait. Ends the process if the postmaster
/// has gone.
pub fn wait_on_latch(timeout: Option<Duration>) -> u32 {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    // PGINVALID_SOCKET: a background worker has no client.
    let mut socket = -1;
    // SAFETY: `sock` is the first field of Port (libpq/libpq-be.h; the same in 14 to 18), which
    // pgrx does not describe.
    unsafe {
        if !pg_sys::MyProcPort.is_null() {
            socket = pg_sys::MyProcPort.cast::<core::ffi::c_int>().read();
            events |= pg_sys::WL_SOCKET_READABLE;
        }
    }
    let mut milliseconds = -1;
    if let Some(timeout) = timeout {
        events |= pg_sys::WL_TIMEOUT;
        milliseconds = core::ffi::c_long::try_from(timeout.as_millis()).unwrap_or(core::ffi::c_long::MAX);
    }
    // SAFETY: the latch is this process's own, the socket its client's.
    unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            socket,
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        ) as u32
    }
}

/// Returns the time until the alarm of this process, if one is set. Postgres keeps one alarm for
/// all its timeouts, and does not take it back when a timeout is cancelled (utils/misc/timeout.c).
/// Each alarm sets the latch. Statistics that a session has not yet reported set one of 10 s.
pub fn time_to_alarm() -> Option<Duration> {
    unsafe extern "C" {
        // POSIX. The libc crate describes its type, but not the function.
        safe fn getitimer(which: core::ffi::c_int, value: &mut libc::itimerval) -> core::ffi::c_int;
    }
    const ZERO: libc::timeval = libc::timeval { tv_sec: 0, tv_usec: 0 };
    const ITIMER_REAL: core::ffi::c_int = 0;
    let mut timer = libc::itimerval { it_interval: ZERO, it_value: ZERO };
    let found = getitimer(ITIMER_REAL, &mut timer) == 0;
    let seconds = u64::try_from(timer.it_value.tv_sec).ok()?;
    let micros = u64::try_from(timer.it_value.tv_usec).ok()?;
    let left = Duration::from_secs(seconds) + Duration::from_micros(micros);
    (found && !left.is_zero()).then_some(left)
}

/// Releases the snapshot of the procedure call that runs, so that a long wait holds back no vacuum.
/// The caller must use no snapshot afterwards.
///
/// # Errors
/// Raises an error if the call is nested in another statement.
pub fn release_snapshot() {
    // SAFETY: the portal of a CALL outside a transaction block expects that the procedure releases
    // its snapshot, as a COMMIT in the procedure would (tcop/pquery.c, PortalRunUtility). Catalog
    // look-ups get a new snapshot when they need it.
    unsafe {
        pg_sys::ForgetPortalSnapshots();
        pg_sys::InvalidateCatalogSnapshotConditionally();
    }
}

/// Sends an INFO message to the client at once, regardless of `client_min_messages`.
///
/// # Errors
/// Raises the errors of Postgres.
pub fn inform(message: &core::ffi::CStr) {
    // SAFETY: a NUL-terminated text for a format that takes one; the closure owns nothing.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            if unguarded::errstart(pg_sys::INFO as i32, core::ptr::null()) {
                unguarded::errmsg_internal(c"%s".as_ptr(), message.as_ptr());
                unguarded::errfinish(c"gate".as_ptr(), 0, c"inform".as_ptr());
            }
        });
    }
}

/// Returns column `at` (from 0) of a row type.
///
/// # Safety
/// The descriptor is valid for `'a` and has more than `at` columns.
pub unsafe fn attribute<'a>(descriptor: pg_sys::TupleDesc, at: usize) -> &'a pg_sys::FormData_pg_attribute {
    #[cfg(not(feature = "pg18"))]
    // SAFETY: the caller's promise.
    unsafe {
        &*(*descriptor).attrs.as_ptr().add(at)
    }
    #[cfg(feature = "pg18")]
    // SAFETY: the caller's promise.
    unsafe {
        &*pg_sys::TupleDescAttr(descriptor, at as i32)
    }
}

/// Inserts a tuple into all indexes of an open result relation.
///
/// # Errors
/// Raises the errors of Postgres, without a guard.
///
/// # Safety
/// As for `ExecInsertIndexTuples`. Call it within [`protect`].
pub unsafe fn exec_insert_index_tuples(
    result: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
) {
    let null = core::ptr::null_mut();
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: the caller's promise.
    unsafe {
        unguarded::ExecInsertIndexTuples(result, slot, state, false, false, null, core::ptr::null_mut());
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: the caller's promise.
    unsafe {
        unguarded::ExecInsertIndexTuples(
            result,
            slot,
            state,
            false,
            false,
            null,
            core::ptr::null_mut(),
            false,
        );
    }
}

/// Reports whether a column is computed when it is read (since 18). The row of a trigger contains
/// no value of such a column.
#[allow(unused_variables)]
pub fn is_virtual(attribute: &pg_sys::FormData_pg_attribute) -> bool {
    #[cfg(feature = "pg18")]
    return attribute.attgenerated as u8 == b'v';
    #[cfg(not(feature = "pg18"))]
    return false;
}

/// Returns the expression of the virtual column `at` (from 0), over the columns of the relation as
/// range table entry 1.
///
/// # Safety
/// The relation is open, and the column [`is_virtual`].
pub unsafe fn generation_expression(relation: pg_sys::Relation, at: usize) -> *mut pg_sys::Node {
    #[cfg(feature = "pg18")]
    // SAFETY: the caller's promise.
    return unsafe { pg_sys::build_generation_expression(relation, at as i32 + 1) };
    #[cfg(not(feature = "pg18"))]
    // SAFETY: as above. Before 18 there is no such column.
    return unsafe { pg_sys::build_column_default(relation, at as i32 + 1) };
}

/// Returns the numbers of the partition key columns, 0 for an expression. Empty if the table is not
/// partitioned.
pub fn partition_columns(table: pg_sys::Oid) -> Vec<i16> {
    // `partattrs` in pg_partitioned_table, in 14 to 18. It is never null and never compressed.
    const PARTATTRS: i16 = 5;
    // SAFETY: a look-up in the system catalog. The values are copied before the tuple is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PARTRELID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, table.into());
        if tuple.is_null() {
            return Vec::new();
        }
        let mut is_null = false;
        let vector = pg_sys::SysCacheGetAttr(cache, tuple, PARTATTRS, &mut is_null);
        let vector = vector.cast_mut_ptr::<pg_sys::int2vector>();
        let count = usize::try_from((*vector).dim1).unwrap_or(0);
        let columns = core::slice::from_raw_parts((*vector).values.as_ptr(), count).to_vec();
        pg_sys::ReleaseSysCache(tuple);
        columns
    }
}

/// Returns the table at the top of a tree of partitions. For another table, returns the table
/// itself.
pub fn topmost(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: look-ups by number; the list is a list of numbers.
    unsafe {
        if !pg_sys::get_rel_relispartition(relation) {
            return relation;
        }
        let ancestors = get_partition_ancestors(relation);
        match pg_sys::list_length(ancestors) {
            0 => relation,
            count => pg_sys::list_nth_oid(ancestors, count - 1),
        }
    }
}

/// Returns the parts of a quoted, qualified name.
///
/// # Errors
/// Raises an error if the name is not valid.
pub fn qualified_name(name: &core::ffi::CStr) -> *mut pg_sys::List {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: a NUL-terminated text.
    return unsafe { pg_sys::stringToQualifiedNameList(name.as_ptr()) };
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: as above.
    return unsafe { pg_sys::stringToQualifiedNameList(name.as_ptr(), core::ptr::null_mut()) };
}

/// # Errors
/// Raises `insufficient_privilege` if the current role may not execute the function.
pub fn check_may_execute(function: pg_sys::Oid, name: &core::ffi::CStr) {
    // SAFETY: look-ups by number; the name is NUL-terminated.
    unsafe {
        let role = pg_sys::GetUserId();
        let right = pg_sys::ACL_EXECUTE as pg_sys::AclMode;
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let result = pg_sys::pg_proc_aclcheck(function, role, right);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, right);
        if result != pg_sys::AclResult::ACLCHECK_OK {
            pg_sys::aclcheck_error(result, pg_sys::ObjectType::OBJECT_FUNCTION, name.as_ptr());
        }
    }
}

/// Calls a function of one argument that may return null.
///
/// # Errors
/// Raises the errors of the function.
///
/// # Safety
/// The function has one argument of the type of `argument`.
pub unsafe fn call_nullable(
    function: *mut pg_sys::FmgrInfo,
    argument: pg_sys::Datum,
) -> Option<pg_sys::Datum> {
    /// A call with space for one argument (LOCAL_FCINFO).
    #[repr(C)]
    struct Call {
        base: core::mem::MaybeUninit<pg_sys::FunctionCallInfoBaseData>,
        arguments: [pg_sys::NullableDatum; 1],
    }
    // SAFETY: zeroes are a valid call without collation or context. The argument is behind the
    // fixed part, where Postgres expects it. The protected closure is one C call.
    unsafe {
        let mut call: Call = core::mem::zeroed();
        let base = (&raw mut call).cast::<pg_sys::FunctionCallInfoBaseData>();
        (*base).flinfo = function;
        (*base).nargs = 1;
        (*base).args.as_mut_ptr().write(pg_sys::NullableDatum { value: argument, isnull: false });
        let address = (*function).fn_addr?;
        let result = protect(|| address(base));
        (!(*base).isnull).then_some(result)
    }
}

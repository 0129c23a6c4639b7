//! Turns a row and its plan into an event: type, key, data, and former values, within the cap.
//!
//! Writes to the outbox and reads the settings of the cap. Knows nothing of triggers.

use std::cell::Cell;
use std::mem::ManuallyDrop;

use pgrx::pg_sys;

use super::change;
use super::compare::{compare, differ};
use super::owner::{self, OwnerSource};
use super::plan::Plan;
use super::planned::{Operation, PlannedColumn};
use super::row::CapturedRow;
use super::values::Values;
use crate::error::Error;
use crate::guc::{self, OverCap};
use crate::json::{self, Form, TooLong};
use crate::memory::Bytes;
use crate::order::{self, Version};
use crate::outbox::{self, NewEvent};

/// Scratch buffers larger than this are freed after the row.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Buffers that are kept from row to row.
#[derive(Default)]
struct Scratch {
    data: Bytes,
    previous: Bytes,
    key: Bytes,
    changed: Vec<bool>,
    /// The owner of the event; empty for none.
    owner: Bytes,
    /// The owner of the row before an update.
    former_owner: Bytes,
}

thread_local! {
    static SCRATCH: Cell<ManuallyDrop<Option<Box<Scratch>>>> = const { Cell::new(ManuallyDrop::new(None)) };
}

/// Emits the event of a row if the watch has a verb for the operation. `former` is the row before
/// an update. An update that changes the row's identity becomes two events, because receivers know
/// a row by its key: one row was deleted, and another was created. So does an update that changes
/// the owner: the former owner must not see the new values, and the new owner not the former ones.
///
/// `site` is the FmgrInfo of the trigger in progress, or null.
///
/// # Errors
/// Raises the errors of output functions, the functions of the watch, and the outbox. Raises
/// `program_limit_exceeded` for an event over the cap if the setting is `strict`.
///
/// # Safety
/// The rows are of the relations of their plans, and the plans belong to the same watch.
pub unsafe fn emit(
    operation: Operation,
    row: CapturedRow<'_>,
    former: Option<CapturedRow<'_>>,
    site: *mut pg_sys::FmgrInfo,
) {
    if row.plan.event_type(operation).is_none() {
        return;
    }
    // A function of the watch may write a watched table. The cell is empty while its buffers are in
    // use, and the inner call makes its own.
    let mut scratch = ManuallyDrop::into_inner(SCRATCH.take()).unwrap_or_default();
    // SAFETY: the caller's promise.
    unsafe {
        row.plan.owner.write(&mut scratch.owner, row.values, row.tuple, site);
        match former {
            Some(former) if has_other_owner(&mut scratch, row, former, site) => {
                emit_change_of_owner(&mut scratch, row, former, site);
            }
            Some(former) if is_another_thing(row, former) => {
                emit_as(&mut scratch, Operation::Delete, former, None, site);
                emit_as(&mut scratch, Operation::Insert, row, None, site);
            }
            former => emit_as(&mut scratch, operation, row, former, site),
        }
    }
    if scratch.data.capacity() + scratch.previous.capacity() <= KEPT_BYTES_MAX {
        SCRATCH.set(ManuallyDrop::new(Some(scratch)));
    }
}

/// Emits the event of a row, whose owner is in the buffer, if the watch has a verb for the
/// operation.
unsafe fn emit_as(
    scratch: &mut Scratch,
    operation: Operation,
    row: CapturedRow<'_>,
    former: Option<CapturedRow<'_>>,
    site: *mut pg_sys::FmgrInfo,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if row.plan.event_type(operation).is_some() {
            let built = build(scratch, row, former, site);
            send(Changed { operation, row, former }, scratch, built);
        }
    }
}

/// Emits a deletion for the former owner and an insert for the new one. If the watch has no verb
/// for the deletion, the former owner gets nothing. If it has none for the insert, the new owner
/// gets the update without former values.
unsafe fn emit_change_of_owner(
    scratch: &mut Scratch,
    row: CapturedRow<'_>,
    former: CapturedRow<'_>,
    site: *mut pg_sys::FmgrInfo,
) {
    let is_insert = row.plan.event_type(Operation::Insert).is_some();
    // SAFETY: the caller's promise.
    unsafe {
        core::mem::swap(&mut scratch.owner, &mut scratch.former_owner);
        emit_as(scratch, Operation::Delete, former, None, site);
        core::mem::swap(&mut scratch.owner, &mut scratch.former_owner);
        if is_insert {
            emit_as(scratch, Operation::Insert, row, None, site);
        } else {
            let built = build(scratch, row, None, site);
            send(Changed { operation: Operation::Update, row, former: Some(former) }, scratch, built);
        }
    }
}

/// Reports whether an update has given the row another owner. The new one is in the buffer; writes
/// the former one if it may differ.
unsafe fn has_other_owner(
    scratch: &mut Scratch,
    row: CapturedRow<'_>,
    former: CapturedRow<'_>,
    site: *mut pg_sys::FmgrInfo,
) -> bool {
    let (now, then) = (&row.plan.owner, &former.plan.owner);
    // SAFETY: the caller's promise.
    unsafe {
        if let (OwnerSource::Column(now), OwnerSource::Column(then)) = (now, then) {
            let (value, former_value) =
                (row.values.get(now.compared.at), former.values.get(then.compared.at));
            if !differ(now.compared, value, former_value) {
                return false;
            }
        } else if !now.is_of_row() && !then.is_of_row() {
            return false;
        }
        then.write(&mut scratch.former_owner, former.values, former.tuple, site);
    }
    scratch.owner != scratch.former_owner
}

/// Reports whether an update has changed the row's identity and the watch has verbs for both
/// events. Without those verbs, the update is sent under the new key.
unsafe fn is_another_thing(row: CapturedRow<'_>, former: CapturedRow<'_>) -> bool {
    let plan = row.plan;
    // SAFETY: the caller's promise: both plans have the same key, each column at its own place.
    unsafe {
        let differs = |index: &usize| match (plan.key.get(*index), former.plan.key.get(*index)) {
            (Some(now), Some(then)) => {
                let (now_at, then_at) = (now.compared.at, then.compared.at);
                differ(now.compared, row.values.get(now_at), former.values.get(then_at))
            }
            _ => false,
        };
        // The partitions may lie below different tables, and more columns may place the row in one
        // than in the other.
        if !plan.identity.iter().any(differs)
            || !former.plan.identity.iter().any(differs)
            || plan.event_type(Operation::Insert).is_none()
            || plan.event_type(Operation::Delete).is_none()
        {
            return false;
        }
        // Receivers identify a row by its key's text, and two values can have the same text, such
        // as two NaNs.
        let (mut now, mut then) = (Bytes::new(), Bytes::new());
        write_key(&mut now, row) && write_key(&mut then, former) && now != then
    }
}

/// Frees the kept buffers.
pub fn free_caches() {
    drop(ManuallyDrop::into_inner(SCRATCH.take()));
}

/// Emits the event of a TRUNCATE.
pub fn emit_truncate(plan: &Plan) {
    if let Some(event_type) = plan.event_type(Operation::Truncate) {
        let mut owner = Bytes::new();
        plan.owner.write_without_row(&mut owner);
        let event = NewEvent {
            event_type,
            table_name: Some(&plan.table_name),
            payload: b"{}",
            owner: owner::text(&owner),
            ..NewEvent::default()
        };
        if order::is_nested() {
            order::emit(&event, &change::of_truncate(plan.root));
        } else {
            outbox::emit(&event);
        }
    }
}

enum Built {
    /// No relevant column has changed, or the row has no representation.
    Nothing,
    /// `data` is written. `previous` reports whether former values are written too.
    Event {
        previous: bool,
    },
    TooLong,
    /// Only the key may be sent ([`Plan::key_only`]).
    KeyOnly,
}

unsafe fn build(
    scratch: &mut Scratch,
    row: CapturedRow<'_>,
    former: Option<CapturedRow<'_>>,
    site: *mut pg_sys::FmgrInfo,
) -> Built {
    scratch.data.clear();
    scratch.previous.clear();
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(former) = former {
            compare(&row.plan.columns, row, former, &mut scratch.changed);
            let counts = match (&row.plan.on, &former.plan.on) {
                (Some(now), Some(then)) => now
                    .iter()
                    .zip(then)
                    .any(|(now, then)| differ(*now, row.values.get(now.at), former.values.get(then.at))),
                _ => row.plan.representation.is_some() || scratch.changed.contains(&true),
            };
            if !counts {
                return Built::Nothing;
            }
        }
        if row.plan.representation.is_some() {
            return represent(scratch, row, former, site);
        }
        if row.plan.key_only {
            return Built::KeyOnly;
        }
        let bytes_max = guc::payload_bytes_max();
        let Ok(()) = write_object(&mut scratch.data, &row.plan.columns, row.values, bytes_max, |_| true)
        else {
            return Built::TooLong;
        };
        if let Some(former) = former {
            let room = bytes_max - scratch.data.len();
            let changed = &scratch.changed;
            let columns = &former.plan.columns;
            let written = write_object(&mut scratch.previous, columns, former.values, room, |i| changed[i]);
            if written.is_err() {
                return Built::TooLong;
            }
        }
        Built::Event { previous: former.is_some() }
    }
}

/// Calls the payload function on both rows. Its results are sent and compared instead of the rows.
unsafe fn represent(
    scratch: &mut Scratch,
    row: CapturedRow<'_>,
    former: Option<CapturedRow<'_>>,
    site: *mut pg_sys::FmgrInfo,
) -> Built {
    // SAFETY: the caller's promise.
    let (data, then) = unsafe {
        let of = |row: CapturedRow<'_>| row.plan.representation.as_ref().and_then(|r| r.of(row.tuple, site));
        let results = json::with_settings(|| of(row).map(|data| (data, former.and_then(of))));
        let Some(results) = results else { return Built::Nothing };
        results
    };
    // With on_columns, those columns alone decide.
    if row.plan.on.is_none() && then == Some(data) {
        return Built::Nothing;
    }
    let bytes_max = guc::payload_bytes_max();
    if data.len() > bytes_max {
        return Built::TooLong;
    }
    scratch.data.extend_from_slice(data);
    let previous = then.and_then(|then| json::changed_members(then, data));
    let has_previous = previous.is_some();
    scratch.previous = previous.unwrap_or_default();
    if scratch.data.len() + scratch.previous.len() > bytes_max {
        return Built::TooLong;
    }
    Built::Event { previous: has_previous }
}

/// Raises an error if the setting for payloads over the cap is `strict`.
fn check_over_cap(row: CapturedRow<'_>) {
    if guc::payload_over_cap() == OverCap::Strict {
        let table = String::from_utf8_lossy(&row.plan.table_name).into_owned();
        Error::PayloadTooLong { table, bytes_max: guc::payload_bytes_max() }.raise();
    }
}

/// Writes the key columns instead of a payload that is over the cap or must not be sent.
unsafe fn write_key_only(scratch: &mut Scratch, row: CapturedRow<'_>) {
    let bytes_max = guc::payload_bytes_max();
    scratch.data.clear();
    // SAFETY: the caller's promise.
    let written = unsafe { write_object(&mut scratch.data, &row.plan.key, row.values, bytes_max, |_| true) };
    if written.is_err() {
        scratch.data.clear();
        scratch.data.extend_from_slice(b"{}");
    }
}

/// A changed row and its operation.
#[derive(Clone, Copy)]
struct Changed<'a> {
    operation: Operation,
    row: CapturedRow<'a>,
    former: Option<CapturedRow<'a>>,
}

/// Emits what was built.
unsafe fn send(changed: Changed<'_>, scratch: &mut Scratch, built: Built) {
    let Changed { operation, row, former } = changed;
    let Some(event_type) = row.plan.event_type(operation) else { return };
    // SAFETY: the caller's promise.
    unsafe {
        complete(event_type, row, scratch, built, |event| {
            if order::is_nested() {
                let mut former_key = Bytes::new();
                let has_other_key = former.is_some_and(|former| {
                    write_key(&mut former_key, former) && event.key != Some(former_key.as_slice())
                });
                let former_key = has_other_key.then_some(former_key.as_slice());
                order::emit(event, &change::of(operation, row, former, event.key, former_key));
            } else {
                let is_deleted = operation == Operation::Delete;
                order::note_version(if is_deleted { Version::NONE } else { change::version(row) });
                outbox::emit(event);
            }
        });
    }
}

/// Calls `take` with the event that was built, unless it is nothing.
///
/// # Errors
/// Raises `program_limit_exceeded` for an event over the cap if the setting is `strict`.
unsafe fn complete(
    event_type: &[u8],
    row: CapturedRow<'_>,
    scratch: &mut Scratch,
    built: Built,
    take: impl FnOnce(&NewEvent<'_>),
) {
    let (previous, truncated) = match built {
        Built::Nothing => return,
        Built::Event { previous } => (previous, false),
        Built::TooLong | Built::KeyOnly => (false, true),
    };
    if matches!(built, Built::TooLong) {
        check_over_cap(row);
    }
    // SAFETY: the caller's promise.
    let has_key = unsafe {
        if truncated {
            write_key_only(scratch, row);
        }
        write_key(&mut scratch.key, row)
    };
    take(&NewEvent {
        event_type,
        table_name: Some(&row.plan.table_name),
        key: has_key.then_some(scratch.key.as_slice()),
        payload: &scratch.data,
        previous: previous.then_some(scratch.previous.as_slice()),
        subscription_id: None,
        truncated,
        owner: owner::text(&scratch.owner),
    });
}

/// Calls `take` with the event that an insert of the row would emit, but of another type. Does not
/// call it if the row has no representation. An owner that a setting of the session holds is not
/// the row's, so the event has none.
///
/// # Errors
/// As for [`emit`].
///
/// # Safety
/// As for [`emit`].
pub unsafe fn represent_row(event_type: &[u8], row: CapturedRow<'_>, take: impl FnOnce(&NewEvent<'_>)) {
    let mut scratch = Scratch::default();
    // SAFETY: the caller's promise.
    unsafe {
        if row.plan.owner.is_of_row() {
            row.plan.owner.write(&mut scratch.owner, row.values, row.tuple, core::ptr::null_mut());
        }
        let built = build(&mut scratch, row, None, core::ptr::null_mut());
        complete(event_type, row, &mut scratch, built, take);
    }
}

/// Writes the key: the text of a single column, or a JSON array of several columns. Returns false
/// if there is no key, if a single column is null, or if the key is over the cap.
unsafe fn write_key(out: &mut Bytes, row: CapturedRow<'_>) -> bool {
    out.clear();
    let bytes_max = guc::payload_bytes_max();
    // SAFETY: the caller's promise.
    unsafe {
        match &row.plan.key[..] {
            [] => false,
            [only] => row
                .values
                .get(only.compared.at)
                .is_some_and(|value| only.printer.write(out, value, Form::Text, bytes_max).is_ok()),
            several => several.iter().enumerate().all(|(i, column)| {
                out.push(if i == 0 { b'[' } else { b',' });
                let written = write_value(out, column, row.values, bytes_max);
                if i + 1 == several.len() {
                    out.push(b']');
                }
                written.is_ok()
            }),
        }
    }
}

unsafe fn write_value(
    out: &mut Bytes,
    column: &PlannedColumn,
    values: Values,
    bytes_max: usize,
) -> Result<(), TooLong> {
    // SAFETY: the caller's promise.
    unsafe {
        match values.get(column.compared.at) {
            Some(value) => column.printer.write(out, value, Form::Json, bytes_max)?,
            None => out.extend_from_slice(b"null"),
        }
    }
    if out.len() > bytes_max { Err(TooLong) } else { Ok(()) }
}

/// Writes the wanted columns as `row_to_json` would. Stops with an error once the text is too long.
unsafe fn write_object(
    out: &mut Bytes,
    columns: &[PlannedColumn],
    values: Values,
    bytes_max: usize,
    wanted: impl Fn(usize) -> bool,
) -> Result<(), TooLong> {
    let mut separator = b'{';
    for (i, column) in columns.iter().enumerate() {
        if wanted(i) {
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&column.label);
            // SAFETY: the caller's promise.
            unsafe { write_value(out, column, values, bytes_max)? };
        }
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
    if out.len() > bytes_max { Err(TooLong) } else { Ok(()) }
}

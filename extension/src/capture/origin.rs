//! Checks the origin of a trigger: whether it may emit events, and whether the column numbers in
//! its definition hold.
//!
//! Reads `webhook.watch` and the system catalog, once for each plan. Without this check, a role
//! that can execute `webhook.capture()` and create triggers could emit any event type. Owners of
//! watched partitioned tables have that right, because Postgres requires it when a partition gets
//! its triggers. A trigger is trusted if a watch of its table or of a parent emits the same types.
//! A trigger without a watch (a schema-only restore, a trigger made by hand) is trusted if every
//! role that can create triggers on the table may emit events anyway.

use core::ffi::CStr;

use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};

use crate::definition::{Definition, Verbs};

/// The findings about a trigger's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub is_trusted: bool,
    /// True if `webhook_watch` wrote the definition's column numbers for this very table.
    pub has_own_numbers: bool,
}

/// Returns the origin of the triggers of `root`: the watched table, not its partition. Runs no SQL,
/// because SQL would end the statement whose rows are being captured (see `hooks`).
///
/// # Errors
/// Raises the errors of reading the catalog.
pub fn of(root: pg_sys::Oid, definition: &Definition) -> Origin {
    let Some(watches) = Watches::find() else {
        return Origin { is_trusted: is_made_by_a_publisher(root), has_own_numbers: false };
    };
    // A child table has triggers of its own, for the watch of a parent.
    let mut family = vec![root];
    let mut at = 0;
    while let Some(&relation) = family.get(at) {
        if let Some(watch) = watches.read(relation)
            && watch.emits(definition)
        {
            return Origin { is_trusted: true, has_own_numbers: watch.numbered_for.contains(&root) };
        }
        for parent in parents(relation) {
            if !family.contains(&parent) {
                family.push(parent);
            }
        }
        at += 1;
    }
    Origin { is_trusted: is_made_by_a_publisher(root), has_own_numbers: false }
}

/// Warns that a trigger emits no events. Called once for each plan.
pub fn warn(trigger: &CStr, table: &[u8]) {
    let trigger = trigger.to_string_lossy();
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "trigger \"{trigger}\" of table {} emits no events: webhook_watch() did not create it",
            String::from_utf8_lossy(table)
        ),
        "pg_webhook",
    )
    .set_hint("Call webhook_watch() for the table. webhook_check() prints the statement.")
    .report(pgrx::PgLogLevel::WARNING);
}

/// Reports whether every role that can create triggers on a table may execute `webhook_unwatch()`.
/// Only publishers have that right, and publishers may emit events by themselves.
fn is_made_by_a_publisher(relation: pg_sys::Oid) -> bool {
    let Some(right) = publishers_right() else { return false };
    let index = pg_sys::Oid::from(pg_sys::ClassOidIndexId);
    let key = (1, pg_sys::F_OIDEQ, pg_sys::Datum::from(relation));
    let owner = column(pg_sys::Anum_pg_class_relowner);
    let acl = column(pg_sys::Anum_pg_class_relacl);
    // SAFETY: columns of the catalog itself; functions of Postgres that compare rights, with
    // arguments of their types. PUBLIC is role 0.
    let found = scan(pg_sys::RelationRelationId, index, key, |datums, nulls| unsafe {
        let mut roles = vec![pg_sys::Oid::from_datum(datums[owner], false)?];
        if !nulls[acl] {
            let mut members: *mut pg_sys::Oid = core::ptr::null_mut();
            let acl = pg_sys::pg_detoast_datum(datums[acl].cast_mut_ptr());
            let count = pg_sys::aclmembers(acl.cast(), &mut members);
            roles.extend((0..usize::try_from(count).unwrap_or(0)).map(|at| *members.add(at)));
            roles.push(pg_sys::InvalidOid);
        }
        let is_granted = |function: u32, role: pg_sys::Oid, object: pg_sys::Oid, privilege: &str| {
            let privilege = privilege.into_datum().unwrap_or(pg_sys::Datum::from(0usize));
            pg_sys::OidFunctionCall3Coll(
                function.into(),
                pg_sys::InvalidOid,
                role.into(),
                object.into(),
                privilege,
            )
            .value()
                != 0
        };
        let owner = roles[0];
        Some(roles.into_iter().all(|role| {
            let can_create = role == owner
                || is_granted(pg_sys::F_HAS_TABLE_PRIVILEGE_OID_OID_TEXT, role, relation, "TRIGGER");
            !can_create || is_granted(pg_sys::F_HAS_FUNCTION_PRIVILEGE_OID_OID_TEXT, role, right, "EXECUTE")
        }))
    });
    found.unwrap_or(false)
}

/// Returns the OID of `webhook_unwatch(regclass)` in the schema of the extension.
fn publishers_right() -> Option<pg_sys::Oid> {
    let index = pg_sys::Oid::from(pg_sys::ExtensionNameIndexId);
    let key = (2, pg_sys::F_NAMEEQ, pg_sys::Datum::from(c"pg_webhook".as_ptr()));
    let at = column(pg_sys::Anum_pg_extension_extnamespace);
    // SAFETY: a column of the catalog; a look-up by name, argument types, and schema.
    unsafe {
        let schema = scan(pg_sys::ExtensionRelationId, index, key, |datums, _| {
            pg_sys::Oid::from_datum(datums[at], false)
        })?;
        let arguments = [pg_sys::REGCLASSOID];
        let function = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as i16,
            pg_sys::Datum::from(c"webhook_unwatch".as_ptr()),
            pg_sys::Datum::from(pg_sys::buildoidvector(arguments.as_ptr(), 1)),
            schema.into(),
            pg_sys::Datum::from(0usize),
        );
        (function != pg_sys::InvalidOid).then_some(function)
    }
}

/// Returns the tables that a table inherits from.
fn parents(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // pg_inherits and its index on (inhrelid, inhseqno), which pgrx does not name. Its columns are
    // (inhrelid, inhparent, ...).
    let (table, index) = (pg_sys::Oid::from(2611), pg_sys::Oid::from(2680));
    let mut parents = Vec::new();
    scan(table, index, (1, pg_sys::F_OIDEQ, pg_sys::Datum::from(relation)), |datums, nulls| {
        // SAFETY: the second column is an oid.
        parents.extend(unsafe { pg_sys::Oid::from_datum(datums[1], nulls[1]) });
        None::<()>
    });
    parents
}

/// Returns the position of a column of the system catalog, whose numbers begin with 1.
fn column(number: u32) -> usize {
    number as usize - 1
}

/// Visits the rows that have a value in an indexed column, until `visit` returns a value. Reads as
/// Postgres reads its own catalogs: with a fresh snapshot, and without checking the rights of the
/// role that writes.
fn scan<T>(
    table: pg_sys::Oid,
    index: pg_sys::Oid,
    (column, equal, value): (i16, u32, pg_sys::Datum),
    mut visit: impl FnMut(&[pg_sys::Datum], &[bool]) -> Option<T>,
) -> Option<T> {
    // SAFETY: table and index belong together. Each row is deformed by its table's descriptor into
    // arrays with a place for each column, and visited before the scan continues.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        let strategy = pg_sys::BTEqualStrategyNumber as u16;
        pg_sys::ScanKeyInit(&mut key, column, strategy, equal.into(), value);
        let scan = pg_sys::systable_beginscan(relation, index, true, core::ptr::null_mut(), 1, &mut key);
        let descriptor = (*relation).rd_att;
        let columns = usize::try_from((*descriptor).natts).unwrap_or(0);
        let (mut datums, mut nulls) = (vec![pg_sys::Datum::from(0usize); columns], vec![true; columns]);
        let mut found = None;
        while found.is_none() {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            pg_sys::heap_deform_tuple(tuple, descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr());
            found = visit(&datums, &nulls);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}

/// The table `webhook.watch`: its OIDs and the positions of the columns that are read. Reading it
/// does not check the rights of the role that writes.
struct Watches {
    table: pg_sys::Oid,
    index: pg_sys::Oid,
    noun: usize,
    verbs: usize,
    numbered_for: usize,
}

/// A row of `webhook.watch`.
struct Watch {
    noun: String,
    verbs: Verbs,
    numbered_for: Vec<pg_sys::Oid>,
}

impl Watch {
    /// Reports whether the watch emits every event type that a definition names.
    fn emits(&self, definition: &Definition) -> bool {
        let (own, other) = (&self.verbs, &definition.verbs);
        let covers = |own: &Option<String>, other: &Option<String>| other.is_none() || own == other;
        self.noun == definition.noun
            && covers(&own.insert, &other.insert)
            && covers(&own.update, &other.update)
            && covers(&own.delete, &other.delete)
            && covers(&own.truncate, &other.truncate)
    }
}

impl Watches {
    /// Returns `None` if the schema is that of an earlier version, or if the extension is being
    /// dropped.
    fn find() -> Option<Self> {
        // SAFETY: look-ups by NUL-terminated names.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"webhook".as_ptr(), true);
            let table = pg_sys::get_relname_relid(c"watch".as_ptr(), schema);
            let index = pg_sys::get_relname_relid(c"watch_pkey".as_ptr(), schema);
            let column = |name: &CStr| {
                let number = pg_sys::get_attnum(table, name.as_ptr());
                usize::try_from(number).ok()?.checked_sub(1)
            };
            (table != pg_sys::InvalidOid && index != pg_sys::InvalidOid).then_some(())?;
            Some(Self {
                table,
                index,
                noun: column(c"noun")?,
                verbs: column(c"verbs")?,
                numbered_for: column(c"numbered_for")?,
            })
        }
    }

    /// Reads the row of a table.
    fn read(&self, relation: pg_sys::Oid) -> Option<Watch> {
        let key = (1, pg_sys::F_OIDEQ, pg_sys::Datum::from(relation));
        scan(self.table, self.index, key, |datums, nulls| {
            // SAFETY: the columns have these types.
            unsafe {
                let JsonB(verbs) = JsonB::from_datum(datums[self.verbs], nulls[self.verbs])?;
                Some(Watch {
                    noun: String::from_datum(datums[self.noun], nulls[self.noun])?,
                    verbs: serde_json::from_value(verbs).ok()?,
                    numbered_for: Vec::from_datum(datums[self.numbered_for], nulls[self.numbered_for])?,
                })
            }
        })
    }
}

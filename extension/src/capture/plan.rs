//! Plans: the work of a trigger, prepared once per backend. A plan finds columns, looks up types,
//! and quotes names in advance.
//!
//! Reads the trigger's argument ([`Definition`]) and the system catalog. A bounded [`Cache`] keeps
//! a plan until Postgres reports a change of a relation that it was made from, of a schema's name,
//! or of a cast. A plan in use outlives that report until its row is done.

use core::ffi::CStr;
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use super::cache::Cache;
use super::computed::Computed;
use super::identity;
use super::origin;
use super::owner::OwnerSource;
use super::planned::{Compared, Operation, PlannedColumn};
use super::resolve::{self, Numbers, PresentColumn, ResolvedColumn};
use super::root::{NamedColumn, Root, name_of};
use super::row_function::RowFunction;
use crate::definition::{self, Definition, RowFunctionKind};
use crate::error::Error;
use crate::json::Printer;
use crate::memory::{self, Bytes};
use crate::{compat, encoding, json};

#[derive(Debug)]
pub struct Plan {
    valid: Cell<bool>,
    /// The table that holds the rows.
    pub relation: pg_sys::Oid,
    /// The watched table: the relation itself, or the partitioned table whose trigger this one
    /// copies.
    pub root: pg_sys::Oid,
    types: [Option<Box<[u8]>>; 4],
    /// Quoted and qualified name of the root.
    pub table_name: Box<[u8]>,
    /// The captured columns. They are in the root's order, so all partitions print alike.
    pub columns: Box<[PlannedColumn]>,
    /// If set, an update counts only if one of these columns changed.
    pub on: Option<Box<[Compared]>>,
    /// Empty if there is no key, or if a part of the key is excluded and must not be sent.
    pub key: Box<[PlannedColumn]>,
    /// The key columns whose change makes the row another row ([`identity::of`]).
    pub identity: Box<[usize]>,
    /// True if an excluded column cannot be found. Any column may be that one, so only the key is
    /// sent.
    pub key_only: bool,
    /// The number of columns up to the last one that is needed.
    pub attributes: usize,
    /// The needed columns whose values a row does not store.
    pub computed: Option<Computed>,
    pub representation: Option<RowFunction>,
    pub owner: OwnerSource,
    /// Row type of the relation, for rows that outlive their statement's slots.
    pub descriptor: pg_sys::TupleDesc,
    /// Owns the memory behind the pointers above. It is the last field, so it is dropped last.
    _memory: PlanMemory,
}

impl Plan {
    /// Reports whether two plans come from one watch, as far as the triggers show.
    pub fn is_of_watch(&self, other: &Self) -> bool {
        self.root == other.root && self.types == other.types && self.columns.len() == other.columns.len()
    }

    /// Returns the type of the event, if the watch has a verb for the operation.
    pub fn event_type(&self, operation: Operation) -> Option<&[u8]> {
        self.types[operation as usize].as_deref()
    }
}

/// A memory context that is deleted on drop.
#[derive(Debug)]
struct PlanMemory(pg_sys::MemoryContext);

impl PlanMemory {
    fn new() -> Self {
        // SAFETY: a plain call; the parent lives as long as the backend.
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CacheMemoryContext,
                c"webhook plan".as_ptr(),
                0,
                1024,
                1024 * 1024,
            )
        })
    }
}

impl Drop for PlanMemory {
    fn drop(&mut self) {
        // SAFETY: `new` made the context, and the owner of every pointer into it is dropped too.
        unsafe { pg_sys::MemoryContextDelete(self.0) };
    }
}

thread_local! {
    /// The plans by trigger. Never dropped: Postgres's memory is freed before that when the backend
    /// exits.
    static PLANS: RefCell<ManuallyDrop<Cache<Rc<Plan>>>> = const { RefCell::new(ManuallyDrop::new(Cache::new())) };
    /// Counts invalidations. A plan is not kept if an invalidation arrived while it was made.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// Invalidates the plans of a relation that has changed; `INVALID` stands for any relation. Does
/// not allocate, fail, or read the system catalog.
pub fn invalidate(relation: pg_sys::Oid) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    PLANS.with(|plans| {
        if let Ok(plans) = plans.try_borrow() {
            for plan in plans.values() {
                if relation == pg_sys::Oid::INVALID || relation == plan.relation || relation == plan.root {
                    plan.valid.set(false);
                }
            }
        }
    });
}

/// Returns the plan of a trigger.
///
/// # Errors
/// Raises an error if the argument is not a definition, or if an event type of it is not valid.
///
/// # Safety
/// Trigger and relation are those of a trigger call in progress.
pub unsafe fn of(trigger: *const pg_sys::Trigger, relation: pg_sys::Relation) -> Rc<Plan> {
    // SAFETY: the caller's promise.
    let oid = unsafe { (*trigger).tgoid };
    let known =
        PLANS.with_borrow(|plans| plans.get(oid.to_u32()).filter(|plan| plan.valid.get()).map(Rc::clone));
    if let Some(plan) = known {
        return plan;
    }
    let changes = CHANGES.get();
    // SAFETY: the caller's promise.
    let plan = Rc::new(unsafe { make(trigger, relation) });
    let displaced = PLANS.with_borrow_mut(|plans| {
        if CHANGES.get() == changes {
            plans.put(oid.to_u32(), Rc::clone(&plan), |kept| !kept.valid.get())
        } else {
            None
        }
    });
    // Outside the borrow: dropping calls into Postgres.
    drop(displaced);
    plan
}

/// Drops all plans. A plan in use lives on until its row is done.
pub fn free_caches() {
    let all = PLANS.with_borrow_mut(|plans| plans.take());
    // Outside the borrow: dropping calls into Postgres.
    all.for_each(drop);
}

unsafe fn make(trigger: *const pg_sys::Trigger, relation: pg_sys::Relation) -> Plan {
    // SAFETY: trigger and relation are open; the descriptors come from open relations or from the
    // plan's own memory.
    unsafe {
        make_room(trigger, relation);
        let definition = definition_of(trigger);
        let memory = PlanMemory::new();
        let own = (*relation).rd_id;
        let root =
            Root::read(if (*trigger).tgisclone { root_of((*trigger).tgoid, own) } else { own }, relation);

        let caller = pg_sys::MemoryContextSwitchTo(memory.0);
        let descriptor = pg_sys::CreateTupleDescCopyConstr((*relation).rd_att);
        pg_sys::MemoryContextSwitchTo(caller);
        let origin = origin::of(root.oid, &definition);
        if !origin.is_trusted {
            origin::warn(CStr::from_ptr((*trigger).tgname), &root.table_name);
        }
        let columns = Columns::new(&root, &definition, origin.has_own_numbers, descriptor, memory.0);

        let excluded = columns.all(definition.exclude.as_deref().unwrap_or_default());
        let key_only = excluded.iter().any(|found| found.lost);
        let excluded: Vec<i16> =
            excluded.iter().flat_map(|found| [found.meant, found.other]).flatten().collect();
        let listed: Option<Vec<i16>> = definition
            .columns
            .as_deref()
            .map(|list| columns.all(list).iter().filter_map(|found| found.meant).collect());
        let captured = root.columns.iter().filter(|column| {
            listed.as_ref().is_none_or(|list| list.contains(&column.number))
                && !excluded.contains(&column.number)
        });
        let printed: Box<[PlannedColumn]> =
            captured.filter_map(|column| columns.printed(column.number)).collect();
        let on: Option<Box<[Compared]>> = definition.on_columns.as_deref().map(|list| {
            let numbers = columns.all(list).into_iter().filter_map(|found| found.meant);
            numbers.filter_map(|number| columns.compared(number)).collect()
        });
        let numbers: Vec<i16> = columns.all(&definition.key).iter().filter_map(|found| found.meant).collect();
        let is_excluded = |part: &definition::Column| {
            definition.exclude.iter().flatten().any(|other| other.name == part.name)
        };
        let key: Box<[PlannedColumn]> = if numbers.iter().any(|number| excluded.contains(number))
            || definition.key.iter().any(is_excluded)
        {
            Box::default()
        } else {
            numbers.iter().filter_map(|number| columns.printed(*number)).collect()
        };

        let identity = identity::of(relation, &key, &root.names(&numbers));
        let mut needed: Vec<usize> = printed.iter().chain(&key).map(|column| column.compared.at).collect();
        needed.extend(on.iter().flatten().map(|column| column.at));
        let function = |kind, name: &str| {
            RowFunction::new(kind, encoding::from_utf8(name), &root, own, descriptor, memory.0)
        };
        let owner = owner_source(&definition, &columns, |name| function(RowFunctionKind::Owner, name));
        if let OwnerSource::Column(column) = &owner {
            needed.push(column.compared.at);
        }
        let attributes = needed.iter().max().map_or(0, |last| last + 1);
        let takes_row = definition.payload.is_some() || definition.owner_function.is_some();
        let is_wanted = |at| takes_row || needed.contains(&at);
        let computed = Computed::new(relation, is_wanted, descriptor, memory.0);
        let representation =
            definition.payload.as_deref().map(|name| function(RowFunctionKind::Payload, name));
        Plan {
            valid: Cell::new(true),
            relation: own,
            root: root.oid,
            types: if origin.is_trusted { event_types(&definition) } else { Default::default() },
            table_name: root.table_name,
            columns: printed,
            on,
            key,
            identity,
            key_only,
            attributes,
            computed,
            representation,
            owner,
            descriptor,
            _memory: memory,
        }
    }
}

/// Checks that there is memory for a plan, which consists of many small pieces: names, labels, and
/// the definition's data for each column.
///
/// # Errors
/// Raises `out_of_memory`.
unsafe fn make_room(trigger: *const pg_sys::Trigger, relation: pg_sys::Relation) {
    const FIXED_BYTES: usize = 64 * 1024;
    const BYTES_PER_COLUMN: usize = 1024;
    /// The shortest member of a list, `null,`, becomes a place of 24 bytes in a list that has
    /// doubled.
    const BYTES_PER_BYTE: usize = 16;
    // SAFETY: as in `definition_of`; the relation is open.
    unsafe {
        let arguments =
            if (*trigger).tgnargs == 1 { CStr::from_ptr(*(*trigger).tgargs).count_bytes() } else { 0 };
        let columns = usize::try_from((*(*relation).rd_att).natts).unwrap_or(0);
        memory::room_for(FIXED_BYTES + BYTES_PER_BYTE * arguments + BYTES_PER_COLUMN * columns);
    }
}

unsafe fn definition_of(trigger: *const pg_sys::Trigger) -> Definition {
    // SAFETY: a trigger of the relation cache, which has `tgnargs` NUL-terminated arguments.
    let (name, argument) = unsafe {
        let name = CStr::from_ptr((*trigger).tgname).to_string_lossy();
        if (*trigger).tgnargs != 1 {
            let cause = format!("the trigger has {} arguments", (*trigger).tgnargs);
            Error::NotADefinition { trigger: name.into_owned(), cause }.raise();
        }
        (name, CStr::from_ptr(*(*trigger).tgargs).to_bytes())
    };
    serde_json::from_slice(&encoding::to_utf8(argument)).unwrap_or_else(|cause| {
        Error::NotADefinition { trigger: name.into_owned(), cause: cause.to_string() }.raise()
    })
}

/// Returns the event types by operation. Checks them, because the insert does not.
fn event_types(definition: &Definition) -> [Option<Box<[u8]>>; 4] {
    let verbs = &definition.verbs;
    [&verbs.insert, &verbs.delete, &verbs.update, &verbs.truncate].map(|verb| {
        verb.as_ref().map(|verb| {
            let name = format!("{}.{verb}", definition.noun);
            let reserved = event_type::is_reserved(&name).then_some("its namespace is reserved".to_owned());
            let cause = event_type::check_type(&name).err().map(|cause| cause.to_string()).or(reserved);
            if let Some(cause) = cause {
                Error::NotAnEventType { name, cause }.raise();
            }
            name.into_bytes().into_boxed_slice()
        })
    })
}

/// Returns the source of owners that a definition names.
fn owner_source(
    definition: &Definition,
    columns: &Columns<'_>,
    function: impl FnOnce(&str) -> RowFunction,
) -> OwnerSource {
    if let Some(column) = &definition.owner_column {
        let [column] = column;
        return columns
            .certain(column)
            .and_then(|number| columns.printed(number))
            .map_or(OwnerSource::None, OwnerSource::Column);
    }
    if let Some(name) = &definition.owner_function {
        return OwnerSource::Function(function(name));
    }
    let setting = definition.owner_setting.as_deref().map(encoding::from_utf8);
    setting
        .and_then(|name| CString::new(name.into_owned()).ok())
        .map_or(OwnerSource::None, OwnerSource::Setting)
}

/// Returns the table at the top of the chain of triggers that a partition's trigger copies.
unsafe fn root_of(trigger: pg_sys::Oid, own: pg_sys::Oid) -> pg_sys::Oid {
    let mut at = (trigger, own);
    // SAFETY: a scan of the system catalog by its index on oid; the tuple is read before the scan
    // ends.
    unsafe {
        let catalogue = pg_sys::table_open(pg_sys::TriggerRelationId, pg_sys::AccessShareLock as i32);
        loop {
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut key,
                1, // oid
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::F_OIDEQ.into(),
                at.0.into(),
            );
            let index = pg_sys::Oid::from(pg_sys::TriggerOidIndexId);
            let scan = pg_sys::systable_beginscan(catalogue, index, true, core::ptr::null_mut(), 1, &mut key);
            let tuple = pg_sys::systable_getnext(scan);
            let mut parent = pg_sys::Oid::INVALID;
            if !tuple.is_null() {
                let header = (*tuple).t_data;
                let form = header.cast::<u8>().add(usize::from((*header).t_hoff));
                let form = &*form.cast::<pg_sys::FormData_pg_trigger>();
                at.1 = form.tgrelid;
                parent = form.tgparentid;
            }
            pg_sys::systable_endscan(scan);
            if parent == pg_sys::Oid::INVALID {
                break;
            }
            at.0 = parent;
        }
        pg_sys::table_close(catalogue, pg_sys::AccessShareLock as i32);
    }
    at.1
}

/// Finds the root's columns in the relation whose trigger fires.
struct Columns<'a> {
    root: &'a Root,
    present: Vec<PresentColumn<'a>>,
    numbers: Numbers,
    descriptor: pg_sys::TupleDesc,
    memory: pg_sys::MemoryContext,
}

impl<'a> Columns<'a> {
    fn new(
        root: &'a Root,
        definition: &Definition,
        has_own_numbers: bool,
        descriptor: pg_sys::TupleDesc,
        memory: pg_sys::MemoryContext,
    ) -> Self {
        let present: Vec<_> =
            root.columns.iter().map(|c| PresentColumn { name: &c.name, number: c.number }).collect();
        let numbers = match &definition.table {
            // Former versions wrote the OID into the definition itself.
            Some(then) if then.oid.map_or(has_own_numbers, |oid| oid == root.oid.to_u32()) => {
                let names: Vec<_> =
                    then.columns.iter().map(|name| name.as_deref().map(encoding::from_utf8)).collect();
                // SAFETY: the root's own copy of its descriptor.
                Numbers::of_columns(&names, &present, unsafe { (*root.descriptor).natts } as usize)
            }
            _ => Numbers::Foreign,
        };
        Self { root, present, numbers, descriptor, memory }
    }

    fn all(&self, list: &[definition::Column]) -> Vec<ResolvedColumn> {
        list.iter()
            .map(|column| {
                let name = encoding::from_utf8(&column.name);
                resolve::find(&name, column.number, self.numbers, &self.present)
            })
            .collect()
    }

    /// Returns the number of a column, if it is certain that it is this column.
    fn certain(&self, column: &definition::Column) -> Option<i16> {
        let name = encoding::from_utf8(&column.name);
        resolve::find_certain(&name, column.number, self.numbers, &self.present)
    }

    /// Returns the attribute of the relation that corresponds to a column of the root. Partitions
    /// may number their columns differently.
    fn attribute(&self, number: i16) -> Option<(&NamedColumn, usize, &pg_sys::FormData_pg_attribute)> {
        let column = self.root.columns.iter().find(|column| column.number == number)?;
        // SAFETY: the plan's own copy of the descriptor.
        unsafe {
            let count = (*self.descriptor).natts as usize;
            (0..count).map(|at| (at, compat::attribute(self.descriptor, at))).find_map(|(at, attribute)| {
                let same = !attribute.attisdropped && name_of(&attribute.attname) == column.name;
                same.then_some((column, at, attribute))
            })
        }
    }

    fn compared(&self, number: i16) -> Option<Compared> {
        let (_, at, attribute) = self.attribute(number)?;
        Some(Compared { at, by_value: attribute.attbyval, length: attribute.attlen })
    }

    fn printed(&self, number: i16) -> Option<PlannedColumn> {
        let (column, _, attribute) = self.attribute(number)?;
        let mut label = Bytes::with_capacity(column.name.len() + 3);
        json::write_string(&mut label, &column.name);
        label.push(b':');
        Some(PlannedColumn {
            compared: self.compared(number)?,
            label: label.into_boxed_slice(),
            // SAFETY: the plan holds the printer and owns the memory.
            printer: unsafe { Printer::new(attribute.atttypid, self.memory) },
        })
    }
}

//! The watched table: the relation whose trigger fires, or the table that it is a partition of.

use core::ffi::CStr;

use pgrx::pg_sys;

use crate::compat;

/// The watched table in its present form.
pub struct Root {
    pub oid: pg_sys::Oid,
    pub table_name: Box<[u8]>,
    /// Its row type: not reference-counted, in the memory context that was current.
    pub descriptor: pg_sys::TupleDesc,
    pub columns: Vec<NamedColumn>,
}

pub struct NamedColumn {
    pub name: Box<[u8]>,
    pub number: i16,
}

impl Root {
    /// Reads a table. Reads the caller's own relation if that is the table, or if the table no
    /// longer exists.
    ///
    /// The root of a partition is not locked, because a writer of a partition does not lock it
    /// either. It is read in one pass, without a look-up in between that could process a change.
    pub unsafe fn read(oid: pg_sys::Oid, own: pg_sys::Relation) -> Self {
        // SAFETY: `own` is open; another relation is closed again; a cached descriptor stays while
        // its relation is open.
        unsafe {
            let other =
                if oid == (*own).rd_id { core::ptr::null_mut() } else { pg_sys::RelationIdGetRelation(oid) };
            let relation = if other.is_null() { own } else { other };
            let descriptor = pg_sys::CreateTupleDescCopyConstr((*relation).rd_att);
            let columns = (0..(*descriptor).natts as usize)
                .map(|at| compat::attribute(descriptor, at))
                .filter(|attribute| !attribute.attisdropped)
                .map(|attribute| NamedColumn { name: name_of(&attribute.attname), number: attribute.attnum })
                .collect();
            let oid = (*relation).rd_id;
            let schema = (*(*relation).rd_rel).relnamespace;
            let name = (*(*relation).rd_rel).relname;
            if !other.is_null() {
                pg_sys::RelationClose(other);
            }
            let schema = pg_sys::get_namespace_name(schema);
            let table_name = pg_sys::quote_qualified_identifier(schema, name.data.as_ptr());
            Self { oid, table_name: CStr::from_ptr(table_name).to_bytes().into(), descriptor, columns }
        }
    }

    /// Returns the names of columns. Skips columns that do not exist.
    pub fn names(&self, numbers: &[i16]) -> Vec<&[u8]> {
        let named = |number: &i16| self.columns.iter().find(|column| column.number == *number);
        numbers.iter().filter_map(named).map(|column| &*column.name).collect()
    }
}

pub unsafe fn name_of(name: &pg_sys::NameData) -> Box<[u8]> {
    // SAFETY: a name ends with a NUL.
    unsafe { CStr::from_ptr(name.data.as_ptr()).to_bytes().into() }
}

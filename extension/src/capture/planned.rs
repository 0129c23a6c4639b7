//! The parts of a plan: the operation, and the columns that are compared or printed.

use crate::json::Printer;

/// The operation on a row or table. The numbers are those of Postgres (TRIGGER_EVENT_…).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Insert = 0,
    Delete = 1,
    Update = 2,
    Truncate = 3,
}

/// A column that is compared.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// Position in a row of this relation, from 0.
    pub at: usize,
    pub by_value: bool,
    pub length: i16,
}

/// A column that is printed.
#[derive(Debug)]
pub struct PlannedColumn {
    pub compared: Compared,
    /// `"name":`
    pub label: Box<[u8]>,
    pub printer: Printer,
}

//! JSON of column values, byte for byte what `row_to_json` prints in a session with canonical
//! settings, written into a reused buffer.
//!
//! `escape` and `members` are pure; `value` knows the types and calls their output functions. Nothing here knows what
//! an event is.

mod canonical;
mod escape;
mod influence;
mod members;
mod value;

pub use canonical::with_settings;
pub use escape::write_string;
pub use members::{changed_members, string_len};
pub use value::{Form, Printer, bytes_of};

/// The text would be longer than it may be; the buffer holds a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

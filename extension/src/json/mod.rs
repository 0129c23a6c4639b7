//! Prints column values as JSON into a reused buffer. The text equals that of `row_to_json` in a
//! session with canonical settings, byte for byte.
//!
//! `escape` and `members` are pure. `value` knows the types and calls their output functions. No
//! module here knows what an event is.

mod canonical;
mod cast;
mod escape;
mod influence;
mod members;
mod value;

pub use canonical::with_settings;
pub use escape::write_string;
pub use members::{changed_members, string_len};
pub use value::{Form, Printer, bytes_of};

/// The text would be longer than allowed. The buffer holds a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

//! Variables of the environment, as an argument.

/// Returns a variable of the environment. An empty one counts as unset.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

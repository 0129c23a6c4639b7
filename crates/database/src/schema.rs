//! The schema `webhook` of a database, by the version of its extension. Pure.
//!
//! A package installs daemon and library together. `alter extension pg_webhook update` follows
//! later, in each database at its own time. Until then, the daemon delivers from the previous
//! schema, without the features that it lacks. Minor versions number the schemas. A patch release
//! does not change the schema.

/// A schema that this daemon can deliver from. The older one comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schema {
    /// Without a procedure to sleep in. The daemon polls at an interval.
    V0_2,
    V0_3,
}

impl Schema {
    /// The schema of this daemon, and the previous one.
    pub const ACCEPTED: [(Self, &'static str); 2] = [(Self::V0_2, "0.2"), (Self::V0_3, "0.3")];

    /// Returns the schema of a version of the extension (`extversion`), or `None` if this daemon
    /// does not know it.
    pub fn of(version: &str) -> Option<Self> {
        let mut parts = version.split('.');
        let (major, minor) = (parts.next()?, parts.next()?);
        let is_it = |name: &str| name.split_once('.') == Some((major, minor));
        Self::ACCEPTED.into_iter().find_map(|(schema, name)| is_it(name).then_some(schema))
    }

    /// Reports whether this is the previous schema: `alter extension pg_webhook update` has not run
    /// yet.
    pub fn is_outdated(self) -> bool {
        self < Self::V0_3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_and_the_previous_minor_version_are_accepted() {
        assert_eq!(Schema::of("0.2.0"), Some(Schema::V0_2));
        assert_eq!(Schema::of("0.3.7"), Some(Schema::V0_3));
        for other in ["0.4.0", "0.30.0", "1.3.0", "0.1.0", "0", "", "unknown", "0.3beta.1"] {
            assert_eq!(Schema::of(other), None, "{other}");
        }
        let own = Schema::of(env!("CARGO_PKG_VERSION"));
        assert_eq!(own, Some(Schema::ACCEPTED[1].0), "raise the version and this list together");
        assert!(Schema::ACCEPTED[0].0.is_outdated() && own.is_some_and(|schema| !schema.is_outdated()));
    }
}

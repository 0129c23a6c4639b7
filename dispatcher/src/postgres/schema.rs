//! Which schema `webhook` a database has, by the version of the extension in it. Pure.
//!
//! A package brings daemon and library at once; `alter extension pg_webhook update` comes later, in each database at its own
//! time. Until then the daemon delivers from the schema before its own, without what that lacks. Minor versions number the
//! schemas: a patch release has none of its own.

/// A schema that this daemon can deliver from, the older one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schema {
    /// No retention, no word of why a subscription is held, no telling a dump from a physical copy.
    V0_1,
    V0_2,
}

impl Schema {
    /// The one that goes with this daemon, and the one before.
    pub const ACCEPTED: [(Self, &'static str); 2] = [(Self::V0_1, "0.1"), (Self::V0_2, "0.2")];

    /// That of a version of the extension (`extversion`); `None`: this daemon knows none such.
    pub fn of(version: &str) -> Option<Self> {
        let mut parts = version.split('.');
        let (major, minor) = (parts.next()?, parts.next()?);
        let is_it = |name: &str| name.split_once('.') == Some((major, minor));
        Self::ACCEPTED.into_iter().find_map(|(schema, name)| is_it(name).then_some(schema))
    }

    /// Whether it is the one before: `alter extension pg_webhook update` has not been run yet.
    pub fn is_outdated(self) -> bool {
        self < Self::V0_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_and_the_previous_minor_version_are_accepted() {
        assert_eq!(Schema::of("0.1.0"), Some(Schema::V0_1));
        assert_eq!(Schema::of("0.2.7"), Some(Schema::V0_2));
        for other in ["0.3.0", "0.20.0", "1.2.0", "0.0.9", "0", "", "unknown", "0.2beta.1"] {
            assert_eq!(Schema::of(other), None, "{other}");
        }
        let own = Schema::of(env!("CARGO_PKG_VERSION"));
        assert_eq!(own, Some(Schema::ACCEPTED[1].0), "raise the version and this list together");
        assert!(Schema::ACCEPTED[0].0.is_outdated() && own.is_some_and(|schema| !schema.is_outdated()));
    }
}

//! Whose events a subscription gets. Pure.
//!
//! `webhook.scope_mismatch` implements the same rule in SQL.

use crate::event::{EVERY_OWNER, Event};
use std::{collections::HashSet, sync::Arc};

/// Whether a subscription gets only events of its owner. The CHECK `scope_is_known` has the
/// same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Events of the subscription's owner, and announcements to every owner.
    #[default]
    Own,
    /// Events of all owners and of none.
    All,
}

impl Scope {
    /// Every scope, in the order of the CHECK.
    pub const ALL: [Self; 2] = [Self::Own, Self::All];

    /// Returns the word in `webhook.subscription.scope`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::All => "all",
        }
    }

    /// Returns the scope with this name, or `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// Event types that only subscriptions with [`Scope::All`] get.
pub type InternalTypes = HashSet<Box<str>>;

/// Whose events a subscription gets at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    pub owner: Arc<str>,
    pub scope: Scope,
}

impl Audience {
    /// Reports whether a subscription may get an event that is not meant for one subscription.
    pub fn includes(&self, event: &Event, is_internal: bool) -> bool {
        includes((&self.owner, self.scope), event, is_internal)
    }
}

/// The rule of [`Audience::includes`].
pub fn includes((owner, scope): (&str, Scope), event: &Event, is_internal: bool) -> bool {
    match scope {
        Scope::All => true,
        Scope::Own => {
            !is_internal && event.owner.as_deref().is_some_and(|of| of == owner || of == EVERY_OWNER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_constraint_knows_the_same_scopes() {
        let sql = include_str!("../../../sql/subscription.sql");
        let check = sql.split("scope_is_known check").nth(1).unwrap().split("))").next().unwrap();
        let words: Vec<_> = check.split('\'').skip(1).step_by(2).collect();
        assert_eq!(words, Scope::ALL.map(Scope::as_str));
        assert!(Scope::ALL.iter().all(|scope| Scope::parse(scope.as_str()) == Some(*scope)));
    }

    #[test]
    fn own_events_and_announcements_pass_unless_their_type_is_internal() {
        let event = |owner: Option<&str>| Event { owner: owner.map(Box::from), ..Event::sample(1) };
        for (owner, passes) in [(None, false), (Some("a"), true), (Some("b"), false), (Some("*"), true)] {
            let event = event(owner);
            assert_eq!(includes(("a", Scope::Own), &event, false), passes, "{owner:?}");
            assert!(!includes(("a", Scope::Own), &event, true), "{owner:?}, internal");
            assert!(includes(("a", Scope::All), &event, true), "{owner:?}, all");
        }
    }
}

//! Event types and the patterns that select them.
//!
//! This crate defines which texts are an event type (`noun.verb`) and which patterns match it. The
//! extension rejects invalid names with it, and the dispatcher routes events with it. The CHECK
//! constraint `type_is_noun_verb` in `sql/tables.sql` applies the same rule to rows that are
//! inserted by hand. The crate reads and writes nothing.

use thiserror::Error;

/// The namespace of the product's own events (`webhook.ping`, `webhook.subscription.updated`, …).
///
/// Other code must not emit events in it. `*` does not match it; a subscription must name it.
pub const RESERVED: &str = "webhook";

/// Maximum length of an event type or pattern, in bytes.
pub const TYPE_BYTES_MAX: usize = 200;

/// The reason why a text is not a valid event type or pattern.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Invalid {
    #[error("must not be empty")]
    Empty,
    #[error("must have at most 200 bytes")]
    TooLong,
    #[error("each segment must have only lower-case letters, digits and underscores")]
    Segment,
    #[error("must have two or three segments: noun.verb or namespace.noun.verb")]
    Segments,
    #[error("`*` must be the whole pattern or its last segment, as in `order.*`")]
    Star,
}

fn is_segment(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn segments(s: &str) -> Result<usize, Invalid> {
    match s.len() {
        0 => return Err(Invalid::Empty),
        n if n > TYPE_BYTES_MAX => return Err(Invalid::TooLong),
        _ => {}
    }
    s.split('.').try_fold(0, |n, seg| if is_segment(seg) { Ok(n + 1) } else { Err(Invalid::Segment) })
}

/// Checks a whole event type: `noun.verb` or `namespace.noun.verb`.
///
/// # Errors
/// Returns [`Invalid`], which names the broken rule.
pub fn check_type(s: &str) -> Result<(), Invalid> {
    match segments(s)? {
        2 | 3 => Ok(()),
        _ => Err(Invalid::Segments),
    }
}

/// Checks a noun as `webhook_watch` accepts it: `noun` or `namespace.noun`.
///
/// # Errors
/// Returns [`Invalid`], which names the broken rule.
pub fn check_noun(s: &str) -> Result<(), Invalid> {
    match segments(s)? {
        1 | 2 => Ok(()),
        _ => Err(Invalid::Segments),
    }
}

/// Checks a verb, which is one segment.
///
/// # Errors
/// Returns [`Invalid`], which names the broken rule.
pub fn check_verb(s: &str) -> Result<(), Invalid> {
    match segments(s)? {
        1 => Ok(()),
        _ => Err(Invalid::Segments),
    }
}

/// Reports whether a type or noun is in the product's own namespace.
pub fn is_reserved(s: &str) -> bool {
    s.split('.').next() == Some(RESERVED)
}

/// A pattern with which a subscription selects event types.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// `*`: every event outside the reserved namespace.
    All,
    /// `order.*`, stored as `order.`: every type with this prefix.
    Prefix(String),
    /// A whole type.
    Exact(String),
}

impl Pattern {
    /// Parses `*`, `order.*`, `sales.order.*`, or a whole type.
    ///
    /// # Errors
    /// Returns [`Invalid`], which names the broken rule.
    pub fn parse(s: &str) -> Result<Self, Invalid> {
        if s == "*" {
            return Ok(Self::All);
        }
        if let Some(prefix) = s.strip_suffix(".*") {
            if prefix.contains('*') {
                return Err(Invalid::Star);
            }
            check_noun(prefix)?;
            return Ok(Self::Prefix(format!("{prefix}.")));
        }
        if s.contains('*') {
            return Err(Invalid::Star);
        }
        check_type(s)?;
        Ok(Self::Exact(s.to_owned()))
    }

    /// Reports whether an event type matches this pattern.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::All => !is_reserved(event_type),
            Self::Prefix(prefix) => event_type.starts_with(prefix.as_str()),
            Self::Exact(exact) => exact == event_type,
        }
    }
}

/// Returns the prefixes that select an event type, longest first: `a.b.` and `a.` for `a.b.c`.
///
/// A router looks these up in a hash map. The cost per event therefore depends on the number of
/// segments, not on the number of subscriptions.
pub fn prefixes(event_type: &str) -> impl Iterator<Item = &str> {
    event_type.rmatch_indices('.').map(|(dot, _)| &event_type[..=dot])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn types_have_two_or_three_segments() {
        for ok in ["order.created", "sales.order.created", "a_1.b", "9.9"] {
            assert_eq!(check_type(ok), Ok(()), "{ok}");
        }
        for (bad, why) in [
            ("", Invalid::Empty),
            ("order", Invalid::Segments),
            ("a.b.c.d", Invalid::Segments),
            ("Order.created", Invalid::Segment),
            ("order..created", Invalid::Segment),
            ("order.", Invalid::Segment),
            ("order.crea ted", Invalid::Segment),
            ("bestellung.geändert", Invalid::Segment),
        ] {
            assert_eq!(check_type(bad), Err(why), "{bad}");
        }
        assert_eq!(check_type(&"a".repeat(201)), Err(Invalid::TooLong));
    }

    #[test]
    fn a_star_is_whole_or_last() {
        assert_eq!(Pattern::parse("*"), Ok(Pattern::All));
        assert_eq!(Pattern::parse("order.*"), Ok(Pattern::Prefix("order.".into())));
        for bad in ["*.created", "or*", "order.*.x", "**", "order.**", "*.*"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn star_leaves_the_reserved_namespace_alone() {
        let all = Pattern::All;
        assert!(all.matches("order.created"));
        assert!(!all.matches("webhook.ping"));
        assert!(all.matches("webhooks.created"));
        assert!(Pattern::parse("webhook.*").unwrap().matches("webhook.ping"));
    }

    proptest! {
        /// A hash-map lookup by [`prefixes`] agrees with the definition of a prefix pattern.
        #[test]
        fn prefixes_find_what_patterns_match(t in "[a-z]{1,3}(\\.[a-z]{1,3}){1,2}", p in "[a-z]{1,3}(\\.[a-z]{1,3})?") {
            let pattern = Pattern::parse(&format!("{p}.*")).unwrap();
            let Pattern::Prefix(prefix) = &pattern else { unreachable!() };
            prop_assert_eq!(prefixes(&t).any(|x| x == prefix), pattern.matches(&t));
        }
    }
}

//! Receivers that have to confirm before they get anything.

/// How a receiver confirms; the CHECK `verification_is_known` holds the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verification {
    /// Not at all.
    #[default]
    None,
    /// It answers a signed `webhook.ping` with 2xx.
    Ping,
    /// It answers the OPTIONS request of CloudEvents' abuse protection.
    Handshake,
}

impl Verification {
    /// Every kind, in the order of the CHECK.
    pub const ALL: [Self; 3] = [Self::None, Self::Ping, Self::Handshake];

    /// The word in `webhook.subscription.verification`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ping => "ping",
            Self::Handshake => "handshake",
        }
    }

    /// The kind of a word, `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_constraint_knows_the_same_words() {
        let sql = include_str!("../../sql/tables.sql");
        let check = sql.split("verification_is_known check").nth(1).unwrap().split("))").next().unwrap();
        let words: Vec<_> = check.split('\'').skip(1).step_by(2).collect();
        assert_eq!(words, Verification::ALL.map(Verification::as_str));
        for kind in Verification::ALL {
            assert_eq!(Verification::parse(kind.as_str()), Some(kind));
        }
    }
}

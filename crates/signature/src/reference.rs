//! Names of secrets that are stored elsewhere: `env:WEBHOOKD_SECRET_…` and `file:PATH`.
//!
//! This module only parses names; the daemon reads the secrets. Subscribers enter these names. If
//! they could name any variable or file, its content would become a key, and an attacker could
//! guess that content from the HMACs. A name is therefore limited to the secrets that the operator
//! provides for this purpose.

use std::path::{Component, Path};
use thiserror::Error;

/// The required prefix of a variable's name.
pub const VARIABLE_PREFIX: &str = "WEBHOOKD_SECRET_";

/// The location of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// A variable of the daemon's environment.
    Variable(&'a str),
    /// A path within the daemon's directory of secrets.
    File(&'a Path),
}

/// The reason why a text is not a valid name of a secret.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidReference {
    #[error("the name of the variable must be WEBHOOKD_SECRET_... in upper case")]
    Variable,
    #[error("the file must be a relative path within the daemon's --secrets-dir")]
    File,
}

impl<'a> Reference<'a> {
    /// Parses `env:NAME` and `file:PATH`. Returns `None` if the text has neither prefix.
    ///
    /// # Errors
    /// Returns [`InvalidReference`], which names the broken rule.
    pub fn parse(text: &'a str) -> Option<Result<Self, InvalidReference>> {
        if let Some(name) = text.strip_prefix("env:") {
            let allowed = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
            let rest = name.strip_prefix(VARIABLE_PREFIX).unwrap_or_default();
            let is_one = !rest.is_empty() && rest.bytes().all(allowed);
            return Some(if is_one { Ok(Self::Variable(name)) } else { Err(InvalidReference::Variable) });
        }
        let name = text.strip_prefix("file:")?;
        let path = Path::new(name);
        let is_within = !name.is_empty()
            && !name.chars().any(char::is_control)
            && path.components().all(|part| matches!(part, Component::Normal(_)));
        Some(if is_within { Ok(Self::File(path)) } else { Err(InvalidReference::File) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_it_can_be_named() {
        assert_eq!(
            Reference::parse("env:WEBHOOKD_SECRET_A_1"),
            Some(Ok(Reference::Variable("WEBHOOKD_SECRET_A_1")))
        );
        for name in [
            "",
            "PGPASSWORD",
            "WEBHOOKD_KEY",
            "WEBHOOKD_SECRET_",
            "WEBHOOKD_SECRET_a",
            "WEBHOOKD_SECRET_A=",
            "WEBHOOKD_SECRETS_DIR",
            " WEBHOOKD_SECRET_A",
        ] {
            let text = format!("env:{name}");
            assert_eq!(Reference::parse(&text), Some(Err(InvalidReference::Variable)), "{name}");
        }
        for name in ["a", "sub/b", "sub/..data/b", "ä b"] {
            let text = format!("file:{name}");
            assert_eq!(Reference::parse(&text), Some(Ok(Reference::File(Path::new(name)))), "{name}");
        }
        for name in ["", "/", "/etc/hostname", "..", "../a", "a/../../b", "./a", "a\nb"] {
            let text = format!("file:{name}");
            assert_eq!(Reference::parse(&text), Some(Err(InvalidReference::File)), "{name}");
        }
        for text in ["", "whsec_AAAA", "env", "ENV:WEBHOOKD_SECRET_A", "sealed:v1:x"] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}

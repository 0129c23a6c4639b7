//! The secrets of the admin server's callers: bearer tokens, the tokens in links to the page of an
//! owner, and the keys of the sessions that these links begin. This module knows their formats, and
//! the hash that the database stores.
//!
//! The module generates and parses tokens. It reads nothing except random numbers, and writes
//! nothing. `Debug` never prints a token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

const RANDOM_BYTES: usize = 32;

/// What a token is for. Each kind has its own prefix and its own column in the database, so a token
/// of one kind is never accepted as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// `webhook.token`: the API, and the page after its login.
    Bearer,
    /// `webhook.portal_link.token_sha256`: opens the page of an owner, once.
    Link,
    /// `webhook.portal_link.session_sha256`: the page of an owner.
    Session,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Bearer => "whtok_",
            Self::Link => "whlnk_",
            Self::Session => "whses_",
        }
    }
}

/// A token. It is shown once, at its creation.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    kind: TokenKind,
    text: Zeroizing<String>,
}

impl Token {
    /// Generates a token with 256 random bits.
    ///
    /// # Errors
    /// Returns an error if the operating system has no random numbers.
    pub fn generate(kind: TokenKind) -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        getrandom::fill(&mut *bytes)?;
        let text = Zeroizing::new(format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(*bytes)));
        Ok(Self { kind, text })
    }

    /// Parses a token of this kind. Returns `None` if the text cannot be one, so no query is
    /// needed.
    pub fn parse(kind: TokenKind, text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(kind.prefix())?).map(Zeroizing::new).ok()?;
        (bytes.len() == RANDOM_BYTES).then(|| Self { kind, text: Zeroizing::new(text.to_owned()) })
    }

    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Returns the hash that is stored. A plain hash is enough: 256 random bits cannot be guessed.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }

    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    //! Tokens of each kind, and texts that are none.

    use super::*;

    const KINDS: [TokenKind; 3] = [TokenKind::Bearer, TokenKind::Link, TokenKind::Session];

    #[test]
    fn a_token_is_read_again_and_shown_nowhere() {
        for kind in KINDS {
            let token = Token::generate(kind).unwrap();
            assert_eq!(Token::parse(kind, token.reveal()), Some(token.clone()));
            assert_ne!(Token::generate(kind).unwrap(), token);
            assert_eq!(format!("{token:?}"), "Token(***)");
        }
    }

    #[test]
    fn a_token_of_another_kind_is_not_accepted() {
        for kind in KINDS {
            let token = Token::generate(kind).unwrap();
            let accepted = KINDS.into_iter().filter(|other| Token::parse(*other, token.reveal()).is_some());
            assert_eq!(accepted.collect::<Vec<_>>(), [kind]);
        }
    }

    #[test]
    fn what_is_no_token_is_not_looked_up() {
        for text in
            ["", "whtok_", "whtok_AAAA", "whsec_AAAA", "whtok_%%", &format!("whtok_{}", "A".repeat(44))]
        {
            assert_eq!(Token::parse(TokenKind::Bearer, text), None, "{text}");
        }
    }
}

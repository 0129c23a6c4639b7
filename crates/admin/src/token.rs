//! Bearer tokens of the admin server: their format, and the hash that `webhook.token` stores.
//!
//! The module generates and parses tokens. It reads nothing except random numbers, and writes
//! nothing. `Debug` never prints a token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

const PREFIX: &str = "whtok_";
const RANDOM_BYTES: usize = 32;

/// A token. It is shown once, at its creation.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Generates a token with 256 random bits.
    ///
    /// # Errors
    /// Returns an error if the operating system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes)))))
    }

    /// Parses a token. Returns `None` if the text cannot be a token, so no query is needed.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).map(Zeroizing::new).ok()?;
        (bytes.len() == RANDOM_BYTES).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Returns the hash that is stored. A plain hash is enough: 256 random bits cannot be guessed.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_and_shown_nowhere() {
        let token = Token::generate().unwrap();
        assert_eq!(Token::parse(token.reveal()), Some(token.clone()));
        assert_ne!(Token::generate().unwrap(), token);
        assert_eq!(format!("{token:?}"), "Token(***)");
    }

    #[test]
    fn what_is_no_token_is_not_looked_up() {
        for text in
            ["", "whtok_", "whtok_AAAA", "whsec_AAAA", "whtok_%%", &format!("whtok_{}", "A".repeat(44))]
        {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }
}

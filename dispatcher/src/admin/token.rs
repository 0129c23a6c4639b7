//! Bearer tokens: what they look like, and what is stored of them. Pure but for randomness.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

const PREFIX: &str = "whtok_";
const RANDOM_BYTES: usize = 32;

/// A token; shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// # Errors
    /// No random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes)))))
    }

    /// `None`: it cannot be one, and nobody need be asked.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).map(Zeroizing::new).ok()?;
        (bytes.len() == RANDOM_BYTES).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// What is stored: the token has 256 random bits, so there is nothing to be guessed from it.
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

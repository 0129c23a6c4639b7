//! Symmetric secrets: `whsec_` and the base64 of the key.

use crate::signer::{self, PREFIX, Signer, keyed};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::Hmac;
use sha2::Sha256;
use std::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// Minimum and maximum length of a key, in bytes after decoding.
pub const KEY_BYTES_MIN: usize = 24;
pub const KEY_BYTES_MAX: usize = 64;

/// A symmetric key. `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The reason why a text is not a valid secret. The message never contains the text itself.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidSecret {
    #[error("must start with whsec_")]
    Prefix,
    #[error("the text after whsec_ must be padded base64")]
    Base64,
    #[error("the key has {0} bytes; it must have 24 to 64")]
    Length(usize),
}

impl Secret {
    /// Parses `whsec_` + padded standard base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// Returns [`InvalidSecret`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret::Base64)?;
        Self::of(Zeroizing::new(key))
    }

    /// Wraps raw key bytes, such as a generator's output.
    ///
    /// # Errors
    /// Returns [`InvalidSecret::Length`] outside 24 to 64 bytes.
    pub fn from_key(key: &[u8]) -> Result<Self, InvalidSecret> {
        Self::of(Zeroizing::new(key.to_vec()))
    }

    fn of(key: Zeroizing<Vec<u8>>) -> Result<Self, InvalidSecret> {
        match key.len() {
            KEY_BYTES_MIN..=KEY_BYTES_MAX => Ok(Self(key)),
            length => Err(InvalidSecret::Length(length)),
        }
    }

    /// Returns the `whsec_…` text. Show it to its owner once, and store it where it cannot be read
    /// by others.
    pub fn reveal(&self) -> String {
        signer::text(&self.0).to_string()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Prepares this secret for signing. The key schedule is computed at first use, and cloned per
    /// message.
    pub fn signer(&self) -> Signer {
        Signer::of_secret(self.bytes())
    }

    pub(crate) fn keyed(&self) -> Hmac<Sha256> {
        keyed(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_secrets_name_the_rule() {
        let longest = format!("whsec_{}", STANDARD.encode([7; 64]));
        for (text, want) in [
            ("AAEC", Err(InvalidSecret::Prefix)),
            ("WHSEC_AAEC", Err(InvalidSecret::Prefix)),
            (" whsec_AAEC", Err(InvalidSecret::Prefix)),
            ("whsec_***", Err(InvalidSecret::Base64)),
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", Err(InvalidSecret::Base64)), // no padding
            ("whsec_-_-_AwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", Err(InvalidSecret::Base64)), // url-safe
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", Err(InvalidSecret::Base64)), // bits left over
            ("whsec_AAECAwQ=", Err(InvalidSecret::Length(5))),
            ("whsec_", Err(InvalidSecret::Length(0))),
            (&format!("whsec_{}", STANDARD.encode([7; 23])), Err(InvalidSecret::Length(23))),
            (&format!("whsec_{}", STANDARD.encode([7; 65])), Err(InvalidSecret::Length(65))),
            (&longest, Ok(longest.clone())),
        ] {
            assert_eq!(Secret::parse(text).map(|secret| secret.reveal()), want, "{text}");
        }
    }
}

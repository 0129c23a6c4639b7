//! Asymmetric keys (ed25519). `whsk_` signs; `whpk_` verifies and is not secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{SigningKey, VerifyingKey};
use std::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// The prefix of a key pair: base64 of the 32-byte seed and the 32-byte public key.
pub const PAIR_PREFIX: &str = "whsk_";
/// The prefix of a public key: base64 of its 32 bytes.
pub const PUBLIC_PREFIX: &str = "whpk_";

/// A private key with its public half. `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair(pub(crate) SigningKey);

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The key with which receivers verify signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey(pub(crate) VerifyingKey);

/// The reason why a text is not a valid key pair. The message never contains the text itself.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidKeyPair {
    #[error("must start with whsk_")]
    Prefix,
    #[error("the text after whsk_ must be padded base64")]
    Base64,
    #[error("the key has {0} bytes; it must have 64: the private half, then the public half")]
    Length(usize),
    #[error("the public half does not match the private half")]
    Halves,
}

/// The reason why a text is not a valid public key.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidPublicKey {
    #[error("must start with whpk_")]
    Prefix,
    #[error("the text after whpk_ must be padded base64")]
    Base64,
    #[error("the key has {0} bytes; it must have 32")]
    Length(usize),
    #[error("invalid ed25519 key")]
    Point,
}

impl KeyPair {
    /// Derives the pair from a seed: 32 bytes from a random generator.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Parses `whsk_` + padded standard base64 of seed and public key.
    ///
    /// # Errors
    /// Returns [`InvalidKeyPair`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyPair> {
        let encoded = text.strip_prefix(PAIR_PREFIX).ok_or(InvalidKeyPair::Prefix)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| InvalidKeyPair::Base64)?);
        let bytes: &[u8; 64] = bytes[..].try_into().map_err(|_| InvalidKeyPair::Length(bytes.len()))?;
        // Signing with a public half that does not match reveals the private half.
        SigningKey::from_keypair_bytes(bytes).map(Self).map_err(|_| InvalidKeyPair::Halves)
    }

    /// Returns the `whsk_…` text. Store it where it cannot be read by others.
    pub fn reveal(&self) -> String {
        let bytes = Zeroizing::new(self.0.to_keypair_bytes());
        format!("{PAIR_PREFIX}{}", STANDARD.encode(bytes.as_slice()))
    }

    /// Returns the key with which receivers verify.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

impl PublicKey {
    /// Parses `whpk_` + padded standard base64 of the key.
    ///
    /// # Errors
    /// Returns [`InvalidPublicKey`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidPublicKey> {
        let encoded = text.strip_prefix(PUBLIC_PREFIX).ok_or(InvalidPublicKey::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidPublicKey::Base64)?;
        let bytes: &[u8; 32] = bytes[..].try_into().map_err(|_| InvalidPublicKey::Length(bytes.len()))?;
        match VerifyingKey::from_bytes(bytes) {
            // A weak key verifies nearly any message.
            Ok(key) if !key.is_weak() => Ok(Self(key)),
            _ => Err(InvalidPublicKey::Point),
        }
    }
}

/// Writes the `whpk_…` text.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: &str =
        "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";

    #[test]
    fn a_pair_has_one_text_and_one_public_key() {
        let pair = KeyPair::from_seed(&std::array::from_fn(|i| i as u8));
        assert_eq!(pair.reveal(), PAIR);
        assert_eq!(pair.public_key().to_string(), "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=");
        assert_eq!(KeyPair::parse(PAIR), Ok(pair));
    }

    #[test]
    fn bad_keys_name_the_rule() {
        let of = |bytes: &[u8]| STANDARD.encode(bytes);
        let mut other_half = STANDARD.decode(&PAIR[5..]).unwrap();
        other_half[40] ^= 1;
        for (text, want) in [
            ("AAEC".to_owned(), InvalidKeyPair::Prefix),
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(), InvalidKeyPair::Prefix),
            ("whsk_*".to_owned(), InvalidKeyPair::Base64),
            (format!("whsk_{}", of(&[7; 32])), InvalidKeyPair::Length(32)),
            (format!("whsk_{}", of(&other_half)), InvalidKeyPair::Halves),
        ] {
            assert_eq!(KeyPair::parse(&text), Err(want), "{text}");
        }
        for (text, want) in [
            (PAIR.to_owned(), InvalidPublicKey::Prefix),
            ("whpk_*".to_owned(), InvalidPublicKey::Base64),
            (format!("whpk_{}", of(&[7; 64])), InvalidPublicKey::Length(64)),
            (format!("whpk_{}", of(&[0; 32])), InvalidPublicKey::Point), // of small order
            (format!("whpk_{}", of(&[2; 32])), InvalidPublicKey::Point), // not on the curve
        ] {
            assert_eq!(PublicKey::parse(&text), Err(want), "{text}");
        }
    }
}

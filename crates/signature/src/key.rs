//! Signing keys of both kinds.

use crate::{
    InvalidKeyPair, InvalidSecret, KeyPair, Secret, key_pair,
    signer::{self, Signer},
};
use thiserror::Error;

/// A subscription's secret: a symmetric key or a key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Secret(Secret),
    Pair(KeyPair),
}

/// The reason why a text is not a valid key. The message never contains the text itself.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidKey {
    #[error("must start with whsec_ or whsk_")]
    Prefix,
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    #[error(transparent)]
    Pair(#[from] InvalidKeyPair),
}

impl Key {
    /// Parses `whsec_…` or `whsk_…`.
    ///
    /// # Errors
    /// Returns [`InvalidKey`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.starts_with(signer::PREFIX) {
            Ok(Self::Secret(Secret::parse(text)?))
        } else if text.starts_with(key_pair::PAIR_PREFIX) {
            Ok(Self::Pair(KeyPair::parse(text)?))
        } else {
            Err(InvalidKey::Prefix)
        }
    }

    /// Returns the key's text. Store it where it cannot be read by others.
    pub fn reveal(&self) -> String {
        match self {
            Self::Secret(secret) => secret.reveal(),
            Self::Pair(pair) => pair.reveal(),
        }
    }

    /// Prepares this key for signing.
    pub fn signer(&self) -> Signer {
        match self {
            Self::Secret(secret) => secret.signer(),
            Self::Pair(pair) => Signer::of_pair(&pair.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::from_key(&[7; 32]).unwrap();
        let pair = KeyPair::from_seed(&[7; 32]);
        let keys = [Key::Secret(secret.clone()), Key::Pair(pair.clone())];
        for key in &keys {
            assert_eq!(Key::parse(&key.reveal()).as_ref(), Ok(key));
            assert_eq!(format!("{:?}", key.signer()), "***");
        }
        let shown = format!("{secret:?} {pair:?} {keys:?}");
        assert_eq!(shown, "*** *** [Secret(***), Pair(***)]");
        for text in keys.map(|key| key.reveal()) {
            let broken = format!("{text}*");
            let error = Key::parse(&broken).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&text[8..16]));
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in
            ["", "whsec", "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=", "env:WEBHOOKD_SECRET_A"]
        {
            assert_eq!(Key::parse(text), Err(InvalidKey::Prefix), "{text}");
        }
    }
}

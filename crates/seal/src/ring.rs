//! The private keys that a daemon has: the one in use, and former ones until nothing is sealed for them any more.

use crate::{CannotOpen, InvalidKey, PrivateKey, Purpose, Sealed, open};
use thiserror::Error;
use zeroize::Zeroizing;

/// Private keys, the one in use first. May be empty: then nothing opens.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Vec<PrivateKey>);

/// Why a text is no list of private keys. No key is part of the message.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("key {at} cannot be read: {why}")]
pub struct InvalidRing {
    /// Counted from 1.
    pub at: usize,
    pub why: InvalidKey,
}

impl KeyRing {
    /// Reads `webhookd_private_…` keys, parted by white space or commas; the rest of a line after `#` is passed over.
    ///
    /// # Errors
    /// [`InvalidRing`] names the first that is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRing> {
        let words = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .flat_map(|line| line.split([',', ' ', '\t', '\r']))
            .filter(|word| !word.is_empty());
        let keys = words
            .enumerate()
            .map(|(i, word)| PrivateKey::parse(word).map_err(|why| InvalidRing { at: i + 1, why }));
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// The key in use.
    pub fn current(&self) -> Option<&PrivateKey> {
        self.0.first()
    }

    /// All of them, the one in use first.
    pub fn keys(&self) -> &[PrivateKey] {
        &self.0
    }

    /// Opens a text with the key that it was sealed for.
    ///
    /// # Errors
    /// [`CannotOpen`] tells whether form, key or content is what is wrong.
    pub fn open(&self, purpose: Purpose, sealed: &str) -> Result<Zeroizing<String>, CannotOpen> {
        let id = Sealed::parse(sealed)?.key_id;
        let key = self.0.iter().find(|key| key.public_key().id() == id).ok_or(CannotOpen::OtherKey(id))?;
        open(key, purpose, sealed)
    }
}

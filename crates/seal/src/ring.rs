//! The daemon's private keys: the current key, and former keys that some texts are still sealed
//! for.

use crate::{CannotOpen, InvalidKey, PrivateKey, Purpose, Sealed, open};
use thiserror::Error;
use zeroize::Zeroizing;

/// Private keys, the current one first. An empty ring opens nothing.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Vec<PrivateKey>);

/// The reason why a text is not a list of private keys. The message contains no key.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("invalid key {at}: {why}")]
pub struct InvalidRing {
    /// Position of the key in the list, counted from 1.
    pub at: usize,
    pub why: InvalidKey,
}

impl KeyRing {
    /// Parses `webhookd_private_…` keys, separated by white space or commas. Ignores the rest of a
    /// line after `#`.
    ///
    /// # Errors
    /// Returns [`InvalidRing`], which names the first invalid key.
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

    /// Returns the current key.
    pub fn current(&self) -> Option<&PrivateKey> {
        self.0.first()
    }

    /// Returns all keys, the current one first.
    pub fn keys(&self) -> &[PrivateKey] {
        &self.0
    }

    /// Opens a text with the key that it was sealed for.
    ///
    /// # Errors
    /// Returns [`CannotOpen`], which names the cause: the form, the key, or the content.
    pub fn open(&self, purpose: Purpose, sealed: &str) -> Result<Zeroizing<String>, CannotOpen> {
        let id = Sealed::parse(sealed)?.key_id;
        let key = self.0.iter().find(|key| key.public_key().id() == id).ok_or(CannotOpen::OtherKey(id))?;
        open(key, purpose, sealed)
    }
}

//! Signing keys of both kinds, and signers that are prepared from them.

use crate::{InvalidKeyPair, InvalidSecret, KeyPair, Secret, key_pair, secret};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// The message that a signature covers: one attempt of one delivery.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The same for every attempt. It contains no `.`.
    pub id: &'a str,
    /// Time of the attempt, in unix seconds.
    pub timestamp: i64,
    pub body: &'a [u8],
}

/// A subscription's secret: a symmetric key or a key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Secret(Secret),
    Pair(KeyPair),
}

/// The reason why a text is not a valid key. The message never contains the text itself.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidKey {
    #[error("it starts with neither whsec_ nor whsk_")]
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
        if text.starts_with(secret::PREFIX) {
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
            Self::Secret(secret) => Signer::of_secret(secret),
            Self::Pair(pair) => Signer(Ready::Pair(Box::new(pair.0.clone()))),
        }
    }
}

/// Signs many messages with one key.
#[derive(Clone)]
pub struct Signer(Ready);

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "the large one is the common one, and the hot one")]
enum Ready {
    Secret {
        /// Keyed with the decoded secret.
        v1: Hmac<Sha256>,
        /// Keyed with the secret's text, as GitHub and Stripe do.
        text: Hmac<Sha256>,
    },
    Pair(Box<SigningKey>),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Returns an HMAC with this key. HMAC accepts keys of any length (RFC 2104), so this cannot fail.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

impl Signer {
    pub(crate) fn of_secret(secret: &Secret) -> Self {
        let text = Zeroizing::new(secret.reveal());
        Self(Ready::Secret { v1: keyed(secret.bytes()), text: keyed(text.as_bytes()) })
    }

    /// Returns the Standard Webhooks token for one message: `v1,<base64>`, or `v1a,<base64>` for a
    /// key pair. `timestamp` is in unix seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let message = Message { id, timestamp, body };
        match &self.0 {
            Ready::Secret { v1, .. } => token_v1(v1, &message),
            Ready::Pair(pair) => token_v1a(pair, &message),
        }
    }

    /// Returns the token `v1,<base64>` if this is a symmetric key.
    pub(crate) fn v1(&self, message: &Message<'_>) -> Option<String> {
        match &self.0 {
            Ready::Secret { v1, .. } => Some(token_v1(v1, message)),
            Ready::Pair(_) => None,
        }
    }

    /// Returns the token `v1a,<base64>` if this is a key pair.
    pub(crate) fn v1a(&self, message: &Message<'_>) -> Option<String> {
        match &self.0 {
            Ready::Secret { .. } => None,
            Ready::Pair(pair) => Some(token_v1a(pair, message)),
        }
    }

    /// Returns the HMAC-SHA256 of the concatenated parts under the secret's text.
    pub(crate) fn by_text(&self, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let Ready::Secret { text, .. } = &self.0 else { return None };
        let mut mac = text.clone();
        parts.iter().for_each(|part| mac.update(part));
        Some(mac.finalize().into_bytes().into())
    }

    pub(crate) fn is_pair(&self) -> bool {
        matches!(self.0, Ready::Pair(_))
    }
}

/// Returns the HMAC over the text that Standard Webhooks signs: id "." timestamp "." body.
pub(crate) fn mac_v1(keyed: &Hmac<Sha256>, message: &Message<'_>) -> Hmac<Sha256> {
    let mut mac = keyed.clone();
    mac.update(message.id.as_bytes());
    mac.update(b".");
    mac.update(message.timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(message.body);
    mac
}

/// Returns the same text as one slice, because ed25519 reads it twice.
pub(crate) fn signed_bytes(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.id.len() + message.body.len() + 24);
    bytes.extend_from_slice(message.id.as_bytes());
    bytes.push(b'.');
    bytes.extend_from_slice(message.timestamp.to_string().as_bytes());
    bytes.push(b'.');
    bytes.extend_from_slice(message.body);
    bytes
}

fn token_v1(keyed: &Hmac<Sha256>, message: &Message<'_>) -> String {
    let tag = mac_v1(keyed, message).finalize().into_bytes();
    let mut token = String::with_capacity(3 + 44);
    token.push_str("v1,");
    STANDARD.encode_string(tag, &mut token);
    token
}

fn token_v1a(pair: &SigningKey, message: &Message<'_>) -> String {
    let signature = pair.sign(&signed_bytes(message));
    let mut token = String::with_capacity(4 + 88);
    token.push_str("v1a,");
    STANDARD.encode_string(signature.to_bytes(), &mut token);
    token
}

impl Secret {
    pub(crate) fn keyed(&self) -> Hmac<Sha256> {
        keyed(self.bytes())
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

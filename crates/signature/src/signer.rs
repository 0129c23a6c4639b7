//! Signers that are prepared from keys.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{fmt, sync::OnceLock};
use zeroize::Zeroizing;

/// How the text of a symmetric key begins.
pub(crate) const PREFIX: &str = "whsec_";

/// Returns the text of a key.
pub(crate) fn text(key: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(key)))
}

/// The message that a signature covers: one attempt of one delivery.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The same for every attempt. It contains no `.`.
    pub id: &'a str,
    /// Time of the attempt, in unix seconds.
    pub timestamp: i64,
    pub body: &'a [u8],
}

/// Signs many messages with one key.
#[derive(Clone)]
pub struct Signer(Ready);

#[derive(Clone)]
enum Ready {
    Secret(Symmetric),
    Pair(Box<SigningKey>),
}

/// A symmetric key. Most keys of a daemon with many subscriptions never sign, so the states of the
/// HMACs, which are several times as large, are made at first use.
#[derive(Clone)]
struct Symmetric {
    key: Zeroizing<Box<[u8]>>,
    states: OnceLock<Box<States>>,
}

#[derive(Clone)]
struct States {
    /// Keyed with the decoded secret.
    v1: Hmac<Sha256>,
    /// Keyed with the secret's text, as GitHub and Stripe do.
    text: OnceLock<Box<Hmac<Sha256>>>,
}

impl Symmetric {
    fn states(&self) -> &States {
        let make = || Box::new(States { v1: keyed(&self.key), text: OnceLock::new() });
        self.states.get_or_init(make)
    }

    fn v1(&self) -> &Hmac<Sha256> {
        &self.states().v1
    }

    fn text(&self) -> &Hmac<Sha256> {
        let make = || Box::new(keyed(text(&self.key).as_bytes()));
        self.states().text.get_or_init(make)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Returns an HMAC with this key. HMAC accepts keys of any length (RFC 2104), so this cannot fail.
pub(crate) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

impl Signer {
    /// Signs with a decoded secret, and with the secret's text.
    pub(crate) fn of_secret(key: &[u8]) -> Self {
        Self(Ready::Secret(Symmetric { key: Zeroizing::new(key.into()), states: OnceLock::new() }))
    }

    pub(crate) fn of_pair(pair: &SigningKey) -> Self {
        Self(Ready::Pair(Box::new(pair.clone())))
    }

    /// Returns the Standard Webhooks token for one message: `v1,<base64>`, or `v1a,<base64>` for a
    /// key pair. `timestamp` is in unix seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let message = Message { id, timestamp, body };
        match &self.0 {
            Ready::Secret(key) => token_v1(key.v1(), &message),
            Ready::Pair(pair) => token_v1a(pair, &message),
        }
    }

    /// Returns the token `v1,<base64>` if this is a symmetric key.
    pub(crate) fn v1(&self, message: &Message<'_>) -> Option<String> {
        match &self.0 {
            Ready::Secret(key) => Some(token_v1(key.v1(), message)),
            Ready::Pair(_) => None,
        }
    }

    /// Returns the token `v1a,<base64>` if this is a key pair.
    pub(crate) fn v1a(&self, message: &Message<'_>) -> Option<String> {
        match &self.0 {
            Ready::Secret(_) => None,
            Ready::Pair(pair) => Some(token_v1a(pair, message)),
        }
    }

    /// Returns the HMAC-SHA256 of the concatenated parts under the secret's text.
    pub(crate) fn by_text(&self, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let Ready::Secret(key) = &self.0 else { return None };
        let mut mac = key.text().clone();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_signer_is_small() {
        assert!(size_of::<Signer>() <= 32, "{}", size_of::<Signer>());
    }
}

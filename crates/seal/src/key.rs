//! The key pair for sealed texts, and the text form of its two halves.
//!
//! A half is written as `webhookd_public_<base64>` or `webhookd_private_<base64>`. The base64 holds
//! 32 bytes of X25519 and a checksum of four bytes. Without the checksum, a public key that lost a
//! letter would seal secrets for which no private key exists. The loss would show only when the
//! secrets are needed.
//!
//! For the same reason, a key is accepted from a person only with a [proof](crate::ProvenKey) that
//! its private half exists.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hpke::{Deserializable, Kem as _, Serializable, kem::X25519HkdfSha256};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;
use zeroize::Zeroizing;

type HpkePublic = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
type HpkePrivate = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;

const PUBLIC_PREFIX: &str = "webhookd_public_";
const PRIVATE_PREFIX: &str = "webhookd_private_";
pub const KEY_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;

/// The reason why a text is not a valid key. The message never contains the text itself.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidKey {
    #[error("must start with webhookd_public_")]
    NotPublic,
    #[error("must start with webhookd_private_")]
    NotPrivate,
    #[error("a character is missing or invalid")]
    Letters,
    #[error("the key has no proof that its private half exists")]
    Unproven,
    #[error("the proof was not made with the private half of this key")]
    FalseProof,
}

/// The fingerprint of a public key: the first 16 hex digits of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for KeyId {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let lower_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.as_bytes().iter().all(lower_hex) {
            return Err(InvalidKey::Letters);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| InvalidKey::Letters)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// The key that seals texts. It is not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(HpkePublic);

/// The key that opens texts. `Debug` prints none of it, and its memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey {
    key: HpkePrivate,
    public: PublicKey,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PublicKey {
    /// Parses `webhookd_public_…`.
    ///
    /// # Errors
    /// Returns [`InvalidKey`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let bytes = decode(text, PUBLIC_PREFIX, InvalidKey::NotPublic)?;
        HpkePublic::from_bytes(&*bytes).map(Self).map_err(|_| InvalidKey::Letters)
    }

    pub fn id(&self) -> KeyId {
        let digest = Sha256::digest(self.0.to_bytes());
        KeyId(std::array::from_fn(|i| digest[i]))
    }

    pub(crate) fn hpke(&self) -> &HpkePublic {
        &self.0
    }

    /// Returns the u-coordinate on Curve25519 (RFC 7748).
    pub(crate) fn bytes(&self) -> [u8; KEY_BYTES] {
        self.0.to_bytes().into()
    }
}

/// Writes the `webhookd_public_…` text.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(PUBLIC_PREFIX, &self.bytes()))
    }
}

impl PrivateKey {
    /// Generates a new key.
    ///
    /// # Errors
    /// Returns an error if the operating system provides no random bytes.
    pub fn generate() -> Result<Self, crate::CannotSeal> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(|_| crate::CannotSeal::NoRandomness)?;
        Self::from_bytes(&bytes).map_err(|_| crate::CannotSeal::NoRandomness)
    }

    /// Parses `webhookd_private_…`.
    ///
    /// # Errors
    /// Returns [`InvalidKey`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        Self::from_bytes(&*decode(text, PRIVATE_PREFIX, InvalidKey::NotPrivate)?)
    }

    fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<Self, InvalidKey> {
        let key = HpkePrivate::from_bytes(bytes).map_err(|_| InvalidKey::Letters)?;
        let public = PublicKey(X25519HkdfSha256::sk_to_pk(&key));
        Ok(Self { key, public })
    }

    /// Returns the `webhookd_private_…` text. Store it where only the daemon can read it.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(encode(PRIVATE_PREFIX, &self.bytes()))
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn hpke(&self) -> &HpkePrivate {
        &self.key
    }

    /// Returns the scalar, clamped (RFC 7748).
    pub(crate) fn bytes(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(self.key.to_bytes().into())
    }
}

fn checksum(prefix: &str, key: &[u8; KEY_BYTES]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::new().chain_update(prefix).chain_update(key).finalize();
    std::array::from_fn(|i| digest[i])
}

fn encode(prefix: &str, key: &[u8; KEY_BYTES]) -> String {
    let mut bytes = Zeroizing::new([0; KEY_BYTES + CHECK_BYTES]);
    bytes[..KEY_BYTES].copy_from_slice(key);
    bytes[KEY_BYTES..].copy_from_slice(&checksum(prefix, key));
    let mut text = String::with_capacity(prefix.len() + 48);
    text.push_str(prefix);
    STANDARD.encode_string(bytes.as_slice(), &mut text);
    text
}

fn decode(text: &str, prefix: &str, other: InvalidKey) -> Result<Zeroizing<[u8; KEY_BYTES]>, InvalidKey> {
    let encoded = text.strip_prefix(prefix).ok_or(other)?;
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| InvalidKey::Letters)?);
    let (key, check) = bytes.split_at_checked(KEY_BYTES).ok_or(InvalidKey::Letters)?;
    let key: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(key.try_into().map_err(|_| InvalidKey::Letters)?);
    if check == checksum(prefix, &key) { Ok(key) } else { Err(InvalidKey::Letters) }
}

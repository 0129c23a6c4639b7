//! Seals secrets so that only the daemon can read them.
//!
//! The database holds the sealed texts and the public key. Only the daemon holds the private key.
//! The scheme is HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, and
//! ChaCha20-Poly1305. Each text is sealed under a key of its own that is not kept. Neither the
//! process that sealed a text nor a later reader of the database can open it.
//!
//! A sealed text is `sealed:v1:<key id>:<base64 of encapsulated key and ciphertext>`. The key id
//! selects the private key, so keys can be changed one text at a time. The [`Purpose`] is sealed in
//! as associated data. A sealed text that is copied to another subscription therefore does not
//! open, even if the attacker may write the table.
//!
//! Anyone can invent a public key. [`ProvenKey`] is one whose private half exists.
//!
//! The crate only reads random bytes from the operating system. It prints no private key.

mod key;
mod proof;
mod ring;

pub use key::{InvalidKey, KeyId, PrivateKey, PublicKey};
pub use proof::ProvenKey;
pub use ring::{InvalidRing, KeyRing};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hpke::{
    Deserializable, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
};
use thiserror::Error;
use zeroize::Zeroizing;

/// The prefix of a sealed text, in every version of the format.
pub const PREFIX: &str = "sealed:";
const VERSION: &str = "v1:";
/// Separates these texts from other uses of the same key.
const INFO: &[u8] = b"pg_webhook sealed:v1";
/// Length of the encapsulated key.
const ENCAPPED_BYTES: usize = 32;
/// Maximum length of a sealed text, in bytes. The secrets that are sealed here have about a
/// hundred.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The purpose of a sealed text. The text does not open for any other purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A signing secret of the subscription with this id.
    SecretOf(i64),
}

impl Purpose {
    fn associated_data(self) -> Vec<u8> {
        match self {
            Self::SecretOf(id) => format!("webhook.secret of subscription {id}").into_bytes(),
        }
    }
}

/// The reason why a text cannot be sealed.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum CannotSeal {
    #[error("the operating system returned no random bytes")]
    NoRandomness,
    #[error("the public key has a small order, so anyone could open secrets that are sealed for it")]
    WeakKey,
}

/// The reason why a text cannot be opened. The message contains neither the text nor its content.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum CannotOpen {
    #[error("invalid sealed secret; it must be sealed:v1:<key id>:<base64>")]
    Form,
    #[error("it is sealed for the key {0}, which is not in the key file")]
    OtherKey(KeyId),
    #[error("it was changed, or sealed for another purpose")]
    Damaged,
}

/// Seals a text for the holder of the private key.
///
/// # Errors
/// Returns [`CannotSeal`] if the random source fails or the key is weak.
pub fn seal(key: &PublicKey, purpose: Purpose, text: &str) -> Result<String, CannotSeal> {
    // HPKE's own source panics if the system's random source fails. A source that has just worked
    // works again.
    getrandom::fill(&mut [0; 32]).map_err(|_| CannotSeal::NoRandomness)?;
    let (encapped, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        key.hpke(),
        INFO,
        text.as_bytes(),
        &purpose.associated_data(),
    )
    .map_err(|_| CannotSeal::WeakKey)?;
    let mut bytes = encapped.to_bytes().to_vec();
    bytes.extend_from_slice(&ciphertext);
    Ok(format!("{PREFIX}{VERSION}{}:{}", key.id(), STANDARD.encode(bytes)))
}

/// Opens a text that was sealed for this key and this purpose.
///
/// # Errors
/// Returns [`CannotOpen`], which names the cause: the form, the key, or the content.
pub fn open(key: &PrivateKey, purpose: Purpose, sealed: &str) -> Result<Zeroizing<String>, CannotOpen> {
    let sealed = Sealed::parse(sealed)?;
    if sealed.key_id != key.public_key().id() {
        return Err(CannotOpen::OtherKey(sealed.key_id));
    }
    let (encapped, ciphertext) = sealed.bytes.split_at_checked(ENCAPPED_BYTES).ok_or(CannotOpen::Damaged)?;
    let encapped = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(encapped)
        .map_err(|_| CannotOpen::Damaged)?;
    let bytes = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        key.hpke(),
        &encapped,
        INFO,
        ciphertext,
        &purpose.associated_data(),
    )
    .map_err(|_| CannotOpen::Damaged)?;
    let bytes = Zeroizing::new(bytes);
    let text = str::from_utf8(&bytes).map_err(|_| CannotOpen::Damaged)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reports whether a text claims to be sealed. Opening it may still fail.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The parts of a sealed text.
struct Sealed {
    key_id: KeyId,
    bytes: Vec<u8>,
}

impl Sealed {
    fn parse(text: &str) -> Result<Self, CannotOpen> {
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(VERSION));
        let parts = rest.filter(|_| text.len() <= TEXT_BYTES_MAX).and_then(|rest| rest.split_once(':'));
        let (id, encoded) = parts.ok_or(CannotOpen::Form)?;
        Ok(Self {
            key_id: id.parse().map_err(|_| CannotOpen::Form)?,
            bytes: STANDARD.decode(encoded).map_err(|_| CannotOpen::Form)?,
        })
    }
}

//! Sealed texts: the database holds them and the public key, only the daemon has the private key and can read them.
//!
//! HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305. Each text is sealed
//! under a key of its own that nobody keeps, so neither the sealer nor whoever reads the database later can open it.
//!
//! `sealed:v1:<key id>:<base64 of encapsulated key and ciphertext>`. The key id tells which private key opens it, so that
//! keys can be changed one text at a time. A [`Purpose`] is sealed in as associated data: a text copied to where it does
//! not belong does not open, though whoever copies it may write the table.
//!
//! Reads nothing and writes nothing but random bytes of the operating system; shows no private key.

mod key;
mod ring;

pub use key::{InvalidKey, KeyId, PrivateKey, PublicKey};
pub use ring::{InvalidRing, KeyRing};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hpke::{
    Deserializable, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
};
use thiserror::Error;
use zeroize::Zeroizing;

/// What every sealed text begins with, of whatever version.
pub const PREFIX: &str = "sealed:";
const VERSION: &str = "v1:";
/// Sets these texts apart from anything else that the same key may be used for.
const INFO: &[u8] = b"pg_webhook sealed:v1";
/// Of the encapsulated key.
const ENCAPPED_BYTES: usize = 32;
/// Longest text that is opened, in bytes; what is sealed here is a hundred.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What a sealed text is for, which opens nowhere else.
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

/// Why nothing was sealed.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum CannotSeal {
    #[error("the operating system gives no random bytes")]
    NoRandomness,
    #[error("the public key is of small order: anybody could open what is sealed for it")]
    WeakKey,
}

/// Why a text does not open. Neither the text nor what it holds is part of the message.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum CannotOpen {
    #[error("it is no sealed text: sealed:v1:<key id>:<base64>")]
    Form,
    #[error("it is sealed for the key {0}, which is not at hand")]
    OtherKey(KeyId),
    #[error("it was altered, or sealed for something else")]
    Damaged,
}

/// Seals a text for whoever has the private key.
///
/// # Errors
/// [`CannotSeal`]: the random source, or a key that is none.
pub fn seal(key: &PublicKey, purpose: Purpose, text: &str) -> Result<String, CannotSeal> {
    // HPKE's own source panics when the system's fails; one that has just worked works again.
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
/// [`CannotOpen`] tells whether form, key or content is what is wrong.
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

/// Whether a text says that it is sealed; it may still not open.
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

//! The proof that the private half of a public key exists.
//!
//! Any 32 bytes are an X25519 public key. Texts that are sealed for an invented key are lost. So a
//! key that a person passes on carries a proof: `webhookd_public_<base64>.<proof>`. The proof is a
//! signature of the key with its own private half. It shows that the private half existed. It
//! does not show that the file still exists.
//!
//! An X25519 key signs as XEdDSA describes (<https://signal.org/docs/specifications/xeddsa/>): the
//! point has the Edwards form with sign 0, and the scalar is negated if its own point has sign 1.
//! The signature is then an ordinary one of Ed25519 (RFC 8032). The nonce is derived from the
//! scalar, because each key signs one message only.

use crate::{InvalidKey, PrivateKey, PublicKey, key::KEY_BYTES};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use curve25519_dalek::{EdwardsPoint, MontgomeryPoint, Scalar};
use ed25519_dalek::{
    Signature, VerifyingKey,
    hazmat::{ExpandedSecretKey, raw_sign},
};
use sha2::{Digest, Sha256, Sha512};
use std::fmt;

/// Separates the signature, and its nonce, from other uses of the same key.
const CONTEXT: &[u8] = b"pg_webhook sealing key, proof v1\n";
const NONCE_CONTEXT: &[u8] = b"pg_webhook sealing key, nonce v1\n";

/// A public key, and the proof that its private half exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenKey {
    key: PublicKey,
    proof: Signature,
}

impl ProvenKey {
    /// Parses `webhookd_public_….…`, and verifies the proof.
    ///
    /// # Errors
    /// Returns [`InvalidKey`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let (key, proof) = match text.split_once('.') {
            Some((key, proof)) => (PublicKey::parse(key)?, proof),
            None => return Err(PublicKey::parse(text).map_or_else(|why| why, |_| InvalidKey::Unproven)),
        };
        let bytes = STANDARD_NO_PAD.decode(proof).map_err(|_| InvalidKey::Letters)?;
        let proof = Signature::from_slice(&bytes).map_err(|_| InvalidKey::Letters)?;
        let verifying = verifying_key(&key).ok_or(InvalidKey::FalseProof)?;
        // Strict: for a key of small order, anyone could make a signature.
        verifying.verify_strict(&message(&key), &proof).map_err(|_| InvalidKey::FalseProof)?;
        Ok(Self { key, proof })
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// Writes the `webhookd_public_….…` text.
impl fmt::Display for ProvenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.key, STANDARD_NO_PAD.encode(self.proof.to_bytes()))
    }
}

impl PrivateKey {
    /// Returns the public half with its proof.
    pub fn proven_key(&self) -> ProvenKey {
        let key = self.public_key().clone();
        let bytes = self.bytes();
        let nonce = Sha256::new().chain_update(NONCE_CONTEXT).chain_update(*bytes).finalize();
        let scalar = Scalar::from_bytes_mod_order(*bytes);
        let point = EdwardsPoint::mul_base(&scalar).compress();
        let scalar = if point.0[KEY_BYTES - 1] >> 7 == 0 { scalar } else { -scalar };
        let secret = ExpandedSecretKey { scalar, hash_prefix: nonce.into() };
        let verifying = VerifyingKey::from(EdwardsPoint::mul_base(&secret.scalar));
        let proof = raw_sign::<Sha512>(&secret, &message(&key), &verifying);
        ProvenKey { key, proof }
    }
}

/// Returns the bytes that the proof signs. They hold the key as it is written: several texts of 32
/// bytes are the same point.
fn message(key: &PublicKey) -> Vec<u8> {
    [CONTEXT, &key.bytes()].concat()
}

/// Returns the Edwards form of the key, with sign 0. `None` if the key is not on the curve.
fn verifying_key(key: &PublicKey) -> Option<VerifyingKey> {
    MontgomeryPoint(key.bytes()).to_edwards(0).map(VerifyingKey::from)
}

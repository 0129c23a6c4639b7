//! Signatures of webhooks: keys, the signed text, and the headers that carry a signature.
//!
//! Both halves of the product use this crate.
//!
//! * [`Secret`], [`KeyPair`], [`PublicKey`]: keys and their texts (`whsec_`, `whsk_`, `whpk_`).
//!   [`Key`] is one of the first two, a subscription's secret as it is stored.
//! * [`Reference`]: the name of a key that is stored elsewhere.
//! * [`Signer`]: a key that is prepared for many messages.
//! * [`Profile`]: the headers that a signature is written into. It covers receivers of Standard
//!   Webhooks and of three services that many receivers are already built for.
//! * [`Verifier`]: the receiver's side of Standard Webhooks.
//!
//! The standard is Standard Webhooks 1.0.0, "Signature scheme". The crate reads and writes nothing,
//! and prints no key.

mod key;
mod key_pair;
mod profile;
mod reference;
mod secret;
mod signer;
mod verify;

pub use key::{InvalidKey, Key};
pub use key_pair::{InvalidKeyPair, InvalidPublicKey, KeyPair, PublicKey};
pub use profile::{InvalidProfiles, NoKey, Profile, Profiles};
pub use reference::{InvalidReference, Reference};
pub use secret::{InvalidSecret, KEY_BYTES_MAX, KEY_BYTES_MIN, Secret};
pub use signer::{Message, Signer};
pub use verify::{InvalidVerifier, Rejected, TOLERANCE_SECONDS, Verifier, verify};

/// Signs one message. Returns the token `v1,<base64>`; `timestamp` is in unix seconds.
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    secret.signer().sign(id, timestamp, body)
}

//! Signatures of webhooks: keys, what is signed, and the headers it goes into. Pure; both halves use it.
//!
//! * [`Secret`], [`KeyPair`], [`PublicKey`]: keys and their texts (`whsec_`, `whsk_`, `whpk_`). [`Key`] is either of the
//!   first two, a subscription's secret as it is stored.
//! * [`Reference`]: the name of a key that is kept elsewhere.
//! * [`Signer`]: a key made ready for many messages.
//! * [`Profile`]: which headers a signature is written into, for the receivers of Standard Webhooks and of three
//!   services that people already have receivers for.
//! * [`Verifier`]: the other side, for Standard Webhooks.
//!
//! Norm: Standard Webhooks 1.0.0, "Signature scheme". Reads nothing, writes nothing, shows no key.

mod key;
mod key_pair;
mod profile;
mod reference;
mod secret;
mod verify;

pub use key::{InvalidKey, Key, Message, Signer};
pub use key_pair::{InvalidKeyPair, InvalidPublicKey, KeyPair, PublicKey};
pub use profile::{InvalidProfiles, NoKey, Profile, Profiles};
pub use reference::{InvalidReference, Reference};
pub use secret::{InvalidSecret, KEY_BYTES_MAX, KEY_BYTES_MIN, Secret};
pub use verify::{InvalidVerifier, Rejected, TOLERANCE_SECONDS, Verifier, verify};

/// Signs one message: the token `v1,<base64>`; `timestamp` in unix seconds.
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    secret.signer().sign(id, timestamp, body)
}

//! The receiver's side of Standard Webhooks: checks a signature and reports why it does not match.

use crate::{
    InvalidKeyPair, InvalidPublicKey, InvalidSecret, KeyPair, Message, PublicKey, Secret, key_pair,
    signer::{self, mac_v1, signed_bytes},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::Signature;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use thiserror::Error;

/// Maximum distance of a timestamp from the verifier's clock, in seconds. The official libraries
/// use the same limit.
pub const TOLERANCE_SECONDS: i64 = 300;

/// The reason why a signature is rejected.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Rejected {
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    #[error("the timestamp is too old")]
    TooOld,
    #[error("the timestamp is in the future")]
    TooNew,
    #[error("no v1 signature matches")]
    Mismatch,
}

/// The reason why a text cannot be used for verification. The message never contains the text
/// itself.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidVerifier {
    #[error("must start with whsec_ or whpk_ (or whsk_)")]
    Prefix,
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    #[error(transparent)]
    Pair(#[from] InvalidKeyPair),
    #[error(transparent)]
    Public(#[from] InvalidPublicKey),
}

/// A receiver's key: the secret, or the public key of a pair. `Debug` prints none of it.
#[derive(Clone)]
pub struct Verifier(With);

#[derive(Clone)]
enum With {
    /// Verifies tokens of version v1.
    Secret(Hmac<Sha256>),
    /// Verifies tokens of version v1a.
    Public(PublicKey),
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&Secret> for Verifier {
    fn from(secret: &Secret) -> Self {
        Self(With::Secret(secret.keyed()))
    }
}

impl From<PublicKey> for Verifier {
    fn from(key: PublicKey) -> Self {
        Self(With::Public(key))
    }
}

impl Verifier {
    /// Parses `whsec_…`, `whpk_…`, or `whsk_…`. Of the last, only the public half is kept.
    ///
    /// # Errors
    /// Returns [`InvalidVerifier`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidVerifier> {
        if text.starts_with(signer::PREFIX) {
            Ok((&Secret::parse(text)?).into())
        } else if text.starts_with(key_pair::PUBLIC_PREFIX) {
            Ok(PublicKey::parse(text)?.into())
        } else if text.starts_with(key_pair::PAIR_PREFIX) {
            Ok(KeyPair::parse(text)?.public_key().into())
        } else {
            Err(InvalidVerifier::Prefix)
        }
    }

    /// Returns the prefix of the tokens that this key can verify.
    pub fn version(&self) -> &'static str {
        match &self.0 {
            With::Secret(_) => "v1,",
            With::Public(_) => "v1a,",
        }
    }

    /// Checks a `webhook-signature` header in constant time per token.
    ///
    /// The header holds one or more tokens, separated by spaces. Tokens of other versions are
    /// ignored. `now` is in unix seconds.
    ///
    /// # Errors
    /// Returns [`Rejected`] with the reason.
    pub fn verify(&self, message: &Message<'_>, header: &str, now: i64) -> Result<(), Rejected> {
        match now.saturating_sub(message.timestamp) {
            age if age > TOLERANCE_SECONDS => return Err(Rejected::TooOld),
            age if age < -TOLERANCE_SECONDS => return Err(Rejected::TooNew),
            _ => {}
        }
        let fits = match &self.0 {
            With::Secret(keyed) => {
                let mac = mac_v1(keyed, message);
                tokens(header, self.version()).any(|tag| mac.clone().verify_slice(&tag).is_ok())
            }
            With::Public(key) => {
                let bytes = signed_bytes(message);
                tokens(header, self.version())
                    .filter_map(|tag| Signature::from_slice(&tag).ok())
                    .any(|signature| key.0.verify_strict(&bytes, &signature).is_ok())
            }
        };
        if fits { Ok(()) } else { Err(Rejected::Mismatch) }
    }
}

fn tokens<'a>(header: &'a str, version: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
    header
        .split(' ')
        .filter_map(move |token| token.strip_prefix(version))
        .filter_map(|tag| STANDARD.decode(tag).ok())
}

/// Checks a header against one secret; see [`Verifier::verify`].
///
/// # Errors
/// Returns [`Rejected`] with the reason.
pub fn verify(
    secret: &Secret,
    id: &str,
    timestamp: i64,
    body: &[u8],
    header: &str,
    now: i64,
) -> Result<(), Rejected> {
    Verifier::from(secret).verify(&Message { id, timestamp, body }, header, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn old_future_and_foreign_are_rejected() {
        for key in [Key::Secret(Secret::from_key(&[7; 32]).unwrap()), Key::Pair(KeyPair::from_seed(&[7; 32]))]
        {
            let token = key.signer().sign("msg_1", 1000, b"{}");
            let verifier = Verifier::parse(&key.reveal()).unwrap();
            let check = |id, now, header: &str| {
                verifier.verify(&Message { id, timestamp: 1000, body: b"{}" }, header, now)
            };
            assert_eq!(check("msg_1", 1300, &token), Ok(()));
            assert_eq!(check("msg_1", 1301, &token), Err(Rejected::TooOld));
            assert_eq!(check("msg_1", i64::MAX, &token), Err(Rejected::TooOld));
            assert_eq!(check("msg_1", 699, &token), Err(Rejected::TooNew));
            assert_eq!(check("msg_1", i64::MIN, &token), Err(Rejected::TooNew));
            assert_eq!(check("msg_2", 1000, &token), Err(Rejected::Mismatch));
            assert_eq!(check("msg_1", 1000, &format!("v1,AAAA v1a,AAAA v2,x {token}")), Ok(()));
            assert_eq!(check("msg_1", 1000, &token[..token.len() - 4]), Err(Rejected::Mismatch));
            assert_eq!(check("msg_1", 1000, ""), Err(Rejected::Mismatch));
        }
    }

    #[test]
    fn a_token_of_one_kind_is_nothing_to_the_other() {
        let (secret, pair) = (Secret::from_key(&[7; 32]).unwrap(), KeyPair::from_seed(&[7; 32]));
        let message = Message { id: "msg_1", timestamp: 1000, body: b"{}" };
        let by_secret = secret.signer().sign("msg_1", 1000, b"{}");
        let by_pair = Key::Pair(pair.clone()).signer().sign("msg_1", 1000, b"{}");
        let (of_secret, of_pair) = (Verifier::from(&secret), Verifier::from(pair.public_key()));
        assert_eq!(of_secret.verify(&message, &by_pair, 1000), Err(Rejected::Mismatch));
        assert_eq!(of_pair.verify(&message, &by_secret, 1000), Err(Rejected::Mismatch));
        let both = format!("{by_secret} {by_pair}");
        assert_eq!(of_secret.verify(&message, &both, 1000), Ok(()));
        assert_eq!(of_pair.verify(&message, &both, 1000), Ok(()));
        assert_eq!(format!("{of_secret:?} {of_pair:?}"), "*** ***");
        assert_eq!(Verifier::parse("hunter2").unwrap_err(), InvalidVerifier::Prefix);
    }
}

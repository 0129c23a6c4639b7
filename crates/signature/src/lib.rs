//! Standard Webhooks v1 (symmetric) signatures.
//!
//! `v1,` + base64(HMAC-SHA256(key, id "." timestamp "." body)), where the key is the base64 part of a `whsec_` secret.
//! Norm: Standard Webhooks 1.0.0, "Signature scheme". Reads nothing, writes nothing; both halves call it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use thiserror::Error;

/// The prefix of a symmetric secret.
pub const PREFIX: &str = "whsec_";
/// Shortest and longest key, in bytes after decoding.
pub const KEY_BYTES_MIN: usize = 24;
pub const KEY_BYTES_MAX: usize = 64;
/// How far a timestamp may be from the verifier's clock, in seconds: what the official libraries allow.
pub const TOLERANCE_SECONDS: i64 = 300;

/// A signing key. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a text is not a secret. The text itself is never part of the message.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidSecret {
    #[error("it does not start with whsec_")]
    Prefix,
    #[error("what follows whsec_ is not base64 with its padding")]
    Base64,
    #[error("the key has {0} bytes; 24 to 64 are allowed")]
    Length(usize),
}

/// Why a signature does not hold.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Rejected {
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    #[error("the timestamp is too old")]
    TooOld,
    #[error("the timestamp lies in the future")]
    TooNew,
    #[error("no signature of version v1 fits")]
    Mismatch,
}

impl Secret {
    /// Reads `whsec_` + padded standard base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// [`InvalidSecret`] tells which rule is broken.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret::Base64)?;
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(InvalidSecret::Length(key.len()));
        }
        Ok(Self(key))
    }

    /// Wraps raw key bytes (a generator's output).
    ///
    /// # Errors
    /// [`InvalidSecret::Length`] outside 24 to 64 bytes.
    pub fn from_key(key: &[u8]) -> Result<Self, InvalidSecret> {
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(InvalidSecret::Length(key.len()));
        }
        Ok(Self(key.to_vec()))
    }

    /// The `whsec_…` text: for the one moment it is shown to its owner.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The HMAC state keyed with this secret: the key schedule is paid once, then cloned for every message.
    pub fn signer(&self) -> Signer {
        // HMAC takes keys of any length (RFC 2104), so this cannot fail.
        Signer(Hmac::new_from_slice(&self.0).expect("HMAC takes a key of any length"))
    }
}

/// Signs many messages under one secret.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Signer {
    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        mac
    }

    /// The token `v1,<base64>` for one message; `timestamp` in unix seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let tag = self.mac(id, timestamp, body).finalize().into_bytes();
        let mut token = String::with_capacity(3 + 44);
        token.push_str("v1,");
        STANDARD.encode_string(tag, &mut token);
        token
    }
}

/// Signs one message: see [`Signer::sign`].
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    secret.signer().sign(id, timestamp, body)
}

/// Checks a `webhook-signature` header (one or more tokens, separated by spaces) in constant time per token.
///
/// `now` and `timestamp` are unix seconds; tokens of other versions are passed over.
///
/// # Errors
/// [`Rejected`] tells why.
pub fn verify(
    secret: &Secret,
    id: &str,
    timestamp: i64,
    body: &[u8],
    header: &str,
    now: i64,
) -> Result<(), Rejected> {
    match now.saturating_sub(timestamp) {
        age if age > TOLERANCE_SECONDS => return Err(Rejected::TooOld),
        age if age < -TOLERANCE_SECONDS => return Err(Rejected::TooNew),
        _ => {}
    }
    let signer = secret.signer();
    let fits = header
        .split(' ')
        .filter_map(|token| token.strip_prefix("v1,"))
        .filter_map(|tag| STANDARD.decode(tag).ok())
        .any(|tag| signer.mac(id, timestamp, body).verify_slice(&tag).is_ok());
    if fits { Ok(()) } else { Err(Rejected::Mismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COUNTING: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    /// Known answers, recomputed with other languages' HMAC.
    const VECTORS: [(&str, &str, i64, &str, &str); 4] = [
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            COUNTING,
            "msg_1",
            1_700_000_000,
            r#"{"name":"Zoë 🚀"}"#,
            "v1,h4wM0iJBg86tjddY9w57S2oGX7vmhxNSYAqdgUYnv2c=",
        ),
        (COUNTING, "msg_1", 1_700_000_000, "{}", "v1,fhksJF5ElKjlPoT/jtefCO5XjQPvhf7Dhf/8R1ad9yU="),
    ];

    #[test]
    fn known_answers() {
        for (secret, id, ts, body, want) in VECTORS {
            let secret = Secret::parse(secret).unwrap();
            assert_eq!(sign(&secret, id, ts, body.as_bytes()), want);
            assert_eq!(verify(&secret, id, ts, body.as_bytes(), want, ts), Ok(()));
        }
    }

    #[test]
    fn the_key_is_the_decoded_secret_not_its_text() {
        let secret = Secret::parse(COUNTING).unwrap();
        assert_ne!(
            sign(&secret, "msg_1", 1_700_000_000, b"{}"),
            "v1,0nhPPVTAyNIQw6D2QBJpoji6wC9Jrb7eRf8/j+yvhK0="
        );
    }

    #[test]
    fn bad_secrets_name_the_rule() {
        assert_eq!(Secret::parse("AAEC"), Err(InvalidSecret::Prefix));
        assert_eq!(Secret::parse("whsec_***"), Err(InvalidSecret::Base64));
        assert_eq!(Secret::parse("whsec_AAECAwQ="), Err(InvalidSecret::Length(5)));
        assert_eq!(
            Secret::parse(&format!("whsec_{}", STANDARD.encode([7; 65]))),
            Err(InvalidSecret::Length(65))
        );
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::parse(COUNTING).unwrap();
        assert_eq!(format!("{secret:?} {:?}", secret.signer()), "*** ***");
        assert_eq!(secret.reveal(), COUNTING);
    }

    #[test]
    fn old_future_and_foreign_are_rejected() {
        let secret = Secret::parse(COUNTING).unwrap();
        let token = sign(&secret, "msg_1", 1000, b"{}");
        let check = |id, now, header: &str| verify(&secret, id, 1000, b"{}", header, now);
        assert_eq!(check("msg_1", 1300, &token), Ok(()));
        assert_eq!(check("msg_1", 1301, &token), Err(Rejected::TooOld));
        assert_eq!(check("msg_1", 699, &token), Err(Rejected::TooNew));
        assert_eq!(check("msg_2", 1000, &token), Err(Rejected::Mismatch));
        assert_eq!(check("msg_1", 1000, &format!("v1,AAAA v1a,zzz {token}")), Ok(()));
        assert_eq!(check("msg_1", 1000, ""), Err(Rejected::Mismatch));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_noticed(body in proptest::collection::vec(any::<u8>(), 1..64), at in 0usize..512) {
            let secret = Secret::parse(COUNTING).unwrap();
            let token = sign(&secret, "evt_1", 5, &body);
            let mut other = body.clone();
            other[(at / 8) % body.len()] ^= 1 << (at % 8);
            prop_assert_eq!(verify(&secret, "evt_1", 5, &other, &token, 5), Err(Rejected::Mismatch));
        }
    }
}

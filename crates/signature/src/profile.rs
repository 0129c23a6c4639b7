//! Profiles: which headers the signatures of a request are written into.
//!
//! `webhook-id` and `webhook-timestamp` go with every request, whatever its profiles: receivers tell duplicates by the id.
//! What is here comes beside them.
//!
//! | Profile | Header | Signed | Key |
//! | --- | --- | --- | --- |
//! | `standard` | `webhook-signature: v1,<base64>` for each secret | id `.` timestamp `.` body | what `whsec_` encodes |
//! | `standard-v1a` | `webhook-signature: v1a,<base64>` for each key pair | the same | `whsk_` |
//! | `svix` | `svix-id`, `svix-timestamp`, `svix-signature` as `standard` | the same | what `whsec_` encodes |
//! | `github` | `x-hub-signature-256: sha256=<hex>` of the newest secret | body | the secret's text |
//! | `stripe` | `stripe-signature: t=…,v1=<hex>` for each secret | timestamp `.` body | the secret's text |
//! | `none` | | | |
//!
//! GitHub's header holds a single signature, so an old secret cannot sign beside a new one; and with nothing but the body
//! signed, whoever has seen a request can send it again. Its older header with SHA-1 is not written: every library that
//! reads it reads this one, and SHA-1 should not be what a new receiver is built on.

use crate::key::{Message, Signer};
use thiserror::Error;

/// A way of writing signatures down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Standard Webhooks, symmetric.
    Standard,
    /// Standard Webhooks, ed25519.
    StandardV1a,
    /// Standard Webhooks under Svix's names.
    Svix,
    /// As GitHub signs.
    Github,
    /// As Stripe signs.
    Stripe,
    /// Unsigned.
    None,
}

/// Several profiles at once, never none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Profiles(u8);

/// Why words are no profiles.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum InvalidProfiles {
    #[error("at least one is needed; `none` leaves requests unsigned")]
    Empty,
    #[error("`none` goes with no other")]
    NoneAmongOthers,
    #[error("`{0}` is none of standard, standard-v1a, svix, github, stripe, none")]
    Unknown(String),
}

/// A profile for which no live key is fit: nothing may be sent without the signature that was asked for.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("no key is left to sign with as `{}`", .0.as_str())]
pub struct NoKey(pub Profile);

impl Profile {
    /// Every profile, in the order of the table above.
    pub const ALL: [Self; 6] =
        [Self::Standard, Self::StandardV1a, Self::Svix, Self::Github, Self::Stripe, Self::None];

    /// The word in `webhook.subscription.signature`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::StandardV1a => "standard-v1a",
            Self::Svix => "svix",
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::None => "none",
        }
    }

    /// The profile of a word, `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == word)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether a key of a pair is what it needs; else a secret.
    fn is_by_pair(self) -> bool {
        self == Self::StandardV1a
    }
}

impl From<Profile> for Profiles {
    fn from(profile: Profile) -> Self {
        Self(profile.bit())
    }
}

/// Standard Webhooks, symmetric.
impl Default for Profiles {
    fn default() -> Self {
        Profile::Standard.into()
    }
}

impl Profiles {
    /// Reads words such as `standard` and `github`; naming one twice changes nothing.
    ///
    /// # Errors
    /// [`InvalidProfiles`] tells which rule is broken.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidProfiles> {
        let mut bits = 0;
        for word in words {
            let profile = Profile::parse(word).ok_or_else(|| InvalidProfiles::Unknown(word.to_owned()))?;
            bits |= profile.bit();
        }
        match bits {
            0 => Err(InvalidProfiles::Empty),
            bits if bits & Profile::None.bit() != 0 && bits != Profile::None.bit() => {
                Err(InvalidProfiles::NoneAmongOthers)
            }
            bits => Ok(Self(bits)),
        }
    }

    pub fn contains(self, profile: Profile) -> bool {
        self.0 & profile.bit() != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Profile> {
        Profile::ALL.into_iter().filter(move |profile| self.contains(*profile))
    }

    /// Whether a profile among them needs a secret (`whsec_`).
    pub fn need_secret(self) -> bool {
        self.iter().any(|profile| profile != Profile::None && !profile.is_by_pair())
    }

    /// Whether a profile among them needs a key pair (`whsk_`).
    pub fn need_pair(self) -> bool {
        self.contains(Profile::StandardV1a)
    }

    /// Whether these keys suffice for every profile.
    pub fn can_sign(self, signers: &[Signer]) -> bool {
        (!self.need_secret() || signers.iter().any(|signer| !signer.is_pair()))
            && (!self.need_pair() || signers.iter().any(Signer::is_pair))
    }

    /// Writes the headers of one message, names in lower case; `signers` are the live keys, the newest first.
    ///
    /// # Errors
    /// [`NoKey`] names a profile that none of the keys is fit for; what was written is not to be sent.
    pub fn headers(
        self,
        signers: &[Signer],
        message: &Message<'_>,
        mut put: impl FnMut(&'static str, String),
    ) -> Result<(), NoKey> {
        let (standard, svix) = (self.contains(Profile::Standard), self.contains(Profile::Svix));
        if standard || svix {
            let v1 = tokens(signers.iter().filter_map(|signer| signer.v1(message)));
            if v1.is_empty() {
                return Err(NoKey(if standard { Profile::Standard } else { Profile::Svix }));
            }
            if svix {
                put("svix-id", message.id.to_owned());
                put("svix-timestamp", message.timestamp.to_string());
                put("svix-signature", v1.clone());
            }
            if standard && !self.contains(Profile::StandardV1a) {
                put("webhook-signature", v1);
            } else if standard {
                put("webhook-signature", tokens([v1, v1a(signers, message)?]));
            }
        }
        if self.contains(Profile::StandardV1a) && !standard {
            put("webhook-signature", v1a(signers, message)?);
        }
        if self.contains(Profile::Github) {
            let newest = signers.iter().find_map(|signer| signer.by_text(&[message.body]));
            let mut value = "sha256=".to_owned();
            push_hex(&mut value, &newest.ok_or(NoKey(Profile::Github))?);
            put("x-hub-signature-256", value);
        }
        if self.contains(Profile::Stripe) {
            put("stripe-signature", stripe(signers, message)?);
        }
        Ok(())
    }
}

/// Tokens with exactly one space between: the Python library trips over anything else.
fn tokens(tokens: impl IntoIterator<Item = String>) -> String {
    let mut tokens = tokens.into_iter();
    let mut value = tokens.next().unwrap_or_default();
    for token in tokens {
        value.push(' ');
        value.push_str(&token);
    }
    value
}

fn v1a(signers: &[Signer], message: &Message<'_>) -> Result<String, NoKey> {
    let value = tokens(signers.iter().filter_map(|signer| signer.v1a(message)));
    if value.is_empty() { Err(NoKey(Profile::StandardV1a)) } else { Ok(value) }
}

fn stripe(signers: &[Signer], message: &Message<'_>) -> Result<String, NoKey> {
    let timestamp = message.timestamp.to_string();
    let parts = [timestamp.as_bytes(), b".", message.body];
    let mut value = format!("t={timestamp}");
    let length = value.len();
    for tag in signers.iter().filter_map(|signer| signer.by_text(&parts)) {
        value.push_str(",v1=");
        push_hex(&mut value, &tag);
    }
    if value.len() == length { Err(NoKey(Profile::Stripe)) } else { Ok(value) }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    text.reserve(2 * bytes.len());
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 0xf)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_profiles_are_one_to_one() {
        for profile in Profile::ALL {
            assert_eq!(Profile::parse(profile.as_str()), Some(profile));
            assert_eq!(Profiles::parse([profile.as_str()]), Ok(profile.into()));
        }
        assert_eq!(Profiles::default().iter().collect::<Vec<_>>(), [Profile::Standard]);
    }

    #[test]
    fn unsigned_is_said_alone_and_aloud() {
        assert_eq!(Profiles::parse([]), Err(InvalidProfiles::Empty));
        assert_eq!(Profiles::parse(["none", "standard"]), Err(InvalidProfiles::NoneAmongOthers));
        assert_eq!(Profiles::parse(["Standard"]), Err(InvalidProfiles::Unknown("Standard".into())));
        let several = Profiles::parse(["stripe", "standard", "stripe", "standard-v1a"]).unwrap();
        assert_eq!(
            several.iter().collect::<Vec<_>>(),
            [Profile::Standard, Profile::StandardV1a, Profile::Stripe]
        );
    }
}

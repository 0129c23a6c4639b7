//! Profiles: the headers that carry the signatures of a request.
//!
//! Every request carries `webhook-id` and `webhook-timestamp`, with any profile: receivers
//! recognize duplicates by the id. A profile adds these headers:
//!
//! | Profile | Header | Signed | Key |
//! | --- | --- | --- | --- |
//! | `standard` | `webhook-signature: v1,<base64>` per secret | `id.timestamp.body` | decoded |
//! | `standard-v1a` | `webhook-signature: v1a,<base64>` per key pair | the same | `whsk_` |
//! | `svix` | `svix-id`, `svix-timestamp`, `svix-signature` as `standard` | the same | decoded |
//! | `github` | `x-hub-signature-256: sha256=<hex>`, newest secret | `body` | text |
//! | `stripe` | `stripe-signature: t=…,v1=<hex>` per secret | `timestamp.body` | text |
//! | `none` | | | |
//!
//! The key is the secret's text, or its decoded form: the bytes that the base64 after `whsec_`
//! encodes.
//!
//! GitHub's header holds one signature, so it cannot carry the old and the new secret during a
//! rotation. It covers only the body, so an eavesdropper can replay a request. The older header
//! with SHA-1 is not written: every library that reads it also reads this one, and new receivers
//! should not depend on SHA-1.

use crate::signer::{Message, Signer};
use thiserror::Error;

/// A convention for the signature headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Standard Webhooks, symmetric.
    Standard,
    /// Standard Webhooks, ed25519.
    StandardV1a,
    /// Standard Webhooks with Svix's header names.
    Svix,
    /// GitHub's signatures.
    Github,
    /// Stripe's signatures.
    Stripe,
    /// Unsigned.
    None,
}

/// A set of profiles. It is never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Profiles(u8);

/// The reason why a list of words is not a set of profiles.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum InvalidProfiles {
    #[error("must have at least one profile; use `none` for unsigned requests")]
    Empty,
    #[error("`none` cannot be combined with other profiles")]
    NoneAmongOthers,
    #[error("unknown profile `{0}`; use standard, standard-v1a, svix, github, stripe or none")]
    Unknown(String),
}

/// A profile that no live key can sign. The request must not be sent without the signature that the
/// subscription asks for.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("the subscription has no key for the signature `{}`", .0.as_str())]
pub struct NoKey(pub Profile);

impl Profile {
    /// Every profile, in the order of the table above.
    pub const ALL: [Self; 6] =
        [Self::Standard, Self::StandardV1a, Self::Svix, Self::Github, Self::Stripe, Self::None];

    /// Returns the word in `webhook.subscription.signature`.
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

    /// Returns the profile with this name, or `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == word)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Reports whether the profile needs a key pair. Otherwise it needs a secret.
    fn is_by_pair(self) -> bool {
        self == Self::StandardV1a
    }
}

impl From<Profile> for Profiles {
    fn from(profile: Profile) -> Self {
        Self(profile.bit())
    }
}

/// The default is Standard Webhooks, symmetric.
impl Default for Profiles {
    fn default() -> Self {
        Profile::Standard.into()
    }
}

impl Profiles {
    /// Parses words such as `standard` and `github`. Naming a profile twice has no effect.
    ///
    /// # Errors
    /// Returns [`InvalidProfiles`], which names the broken rule.
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

    /// Reports whether one of the profiles needs a secret (`whsec_`).
    pub fn need_secret(self) -> bool {
        self.iter().any(|profile| profile != Profile::None && !profile.is_by_pair())
    }

    /// Reports whether one of the profiles needs a key pair (`whsk_`).
    pub fn need_pair(self) -> bool {
        self.contains(Profile::StandardV1a)
    }

    /// Reports whether these keys suffice for every profile.
    pub fn can_sign(self, signers: &[Signer]) -> bool {
        (!self.need_secret() || signers.iter().any(|signer| !signer.is_pair()))
            && (!self.need_pair() || signers.iter().any(Signer::is_pair))
    }

    /// Passes the headers of one message to `put`, with names in lower case. `signers` are the live
    /// keys, newest first.
    ///
    /// # Errors
    /// Returns [`NoKey`] with a profile that none of the keys can sign. The caller must then
    /// discard the headers that were written before.
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

/// Joins tokens with exactly one space, because the Python library fails on any other separator.
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

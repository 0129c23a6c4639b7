//! The signing keys of a subscription. Writes `webhook.secret`. An answer contains a secret only if
//! the secret is new.
//!
//! A subscription has a key for each kind that its profiles need: a symmetric secret, a key pair,
//! or both. A reference (`env:`, `file:`) names a key of either kind, which the daemon looks up.

use super::check;
use crate::error::Error;
use crate::sealing;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use signature::{Key, KeyPair, Profiles, Reference, Secret};

/// Size of a generated key, in bytes.
const KEY_BYTES: usize = 32;
/// Maximum number of keys of one subscription that sign at the same time.
const KEYS_MAX: i64 = 10;

/// A key that the caller gives, or that is generated here.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there are at most two of them, for the time of a call")]
pub enum Material {
    Key(Key),
    /// The place where the daemon finds it.
    Elsewhere(String),
}

impl Material {
    /// Parses a key from the caller.
    ///
    /// # Errors
    /// [`Error::BadSecret`], [`Error::BadReference`]. They name the rule and not the text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match Reference::parse(text).transpose()? {
            Some(_) => Ok(Self::Elsewhere(text.to_owned())),
            None => Key::parse(text).map(Self::Key).map_err(Error::BadSecret),
        }
    }

    /// Returns what the owner must know: the secret, the public half of a pair, or the reference.
    fn shown(&self) -> String {
        match self {
            Self::Key(Key::Secret(secret)) => secret.reveal(),
            Self::Key(Key::Pair(pair)) => pair.public_key().to_string(),
            Self::Elsewhere(text) => text.clone(),
        }
    }

    /// Stores it as the newest key of the subscription.
    fn add(&self, subscription: i64) -> Result<(), Error> {
        let (text, public) = match self {
            Self::Elsewhere(text) => (text.clone(), None),
            Self::Key(key) => (sealing::for_storage(subscription, key)?, public_half(key)),
        };
        Spi::run_with_args(
            "insert into webhook.secret (subscription_id, secret, public_key) values ($1, $2, $3)",
            &[subscription.into(), text.into(), public.into()],
        )?;
        Ok(())
    }
}

fn public_half(key: &Key) -> Option<String> {
    match key {
        Key::Secret(_) => None,
        Key::Pair(pair) => Some(pair.public_key().to_string()),
    }
}

/// Generates a symmetric secret from the server's strong random source.
fn new_secret() -> Result<Material, Error> {
    let secret = Secret::from_key(&random()?).map_err(|why| Error::BadSecret(why.into()))?;
    Ok(Material::Key(Key::Secret(secret)))
}

/// Generates a key pair from the same source.
fn new_pair() -> Result<Material, Error> {
    Ok(Material::Key(Key::Pair(KeyPair::from_seed(&random()?))))
}

fn random() -> Result<[u8; KEY_BYTES], Error> {
    let mut key = [0_u8; KEY_BYTES];
    // SAFETY: the buffer is ours and has that length.
    let filled = unsafe { pg_sys::pg_strong_random(key.as_mut_ptr().cast(), KEY_BYTES) };
    if filled { Ok(key) } else { Err(Error::NoRandomness) }
}

/// The valid keys of a subscription, by kind.
#[derive(Debug, Default, Clone, Copy)]
struct InForce {
    secret: bool,
    pair: bool,
    elsewhere: bool,
}

impl InForce {
    fn of(subscription: i64) -> Result<Self, Error> {
        Spi::connect(|client| {
            let row =
                client.select(include_str!("sql/kinds_of_secrets.sql"), Some(1), &[subscription.into()])?;
            let row = row.first();
            let is = |at| row.get::<bool>(at).map(|is| is == Some(true));
            Ok(Self { secret: is(1)?, pair: is(2)?, elsewhere: is(3)? })
        })
    }
}

/// Rejects a key that no profile would sign with.
fn check_use(given: &Material, profiles: Profiles) -> Result<(), Error> {
    let (is_used, reason) = match given {
        Material::Key(Key::Secret(_)) => {
            (profiles.need_secret(), "whsec_ is a symmetric secret, which these signatures cannot use")
        }
        Material::Key(Key::Pair(_)) => {
            (profiles.need_pair(), "whsk_ is a key pair, which only standard-v1a can use")
        }
        Material::Elsewhere(_) => (
            profiles.need_secret() || profiles.need_pair(),
            "requests are not signed with signature => '{none}'",
        ),
    };
    if is_used {
        return Ok(());
    }
    let hint = "Pass whsec_... for standard, svix, github and stripe, and whsk_... for standard-v1a, or omit the secret to generate one.";
    Err(Error::BadOption { option: "secret, signature", reason: reason.to_owned(), hint })
}

/// Gives a new subscription a key of each kind that it needs. Returns what its owner must know: the
/// secret, or the public half of a pair if there is no secret, or nothing.
pub fn begin(
    subscription: i64,
    profiles: Profiles,
    given: Option<Material>,
) -> Result<Option<String>, Error> {
    if let Some(given) = &given {
        check_use(given, profiles)?;
    }
    let mut shown = None;
    for material in complete(profiles, given, InForce::default())? {
        material.add(subscription)?;
        shown.get_or_insert(material.shown());
    }
    Ok(shown)
}

/// Returns the given key and the keys to generate in addition, the secret before the pair.
fn complete(profiles: Profiles, given: Option<Material>, has: InForce) -> Result<Vec<Material>, Error> {
    let is_pair = matches!(given, Some(Material::Key(Key::Pair(_))));
    let is_elsewhere = matches!(given, Some(Material::Elsewhere(_))) || has.elsewhere;
    let mut lacks_secret = profiles.need_secret() && !has.secret && (given.is_none() || is_pair);
    let mut lacks_pair = profiles.need_pair() && !has.pair && !is_pair;
    // A reference is a secret if one is needed, and otherwise a pair.
    if is_elsewhere && lacks_secret {
        lacks_secret = false;
    } else if is_elsewhere && !profiles.need_secret() {
        lacks_pair = false;
    }
    let secret = if lacks_secret { Some(new_secret()?) } else { None };
    let pair = if lacks_pair { Some(new_pair()?) } else { None };
    Ok(secret.into_iter().chain(given).chain(pair).collect())
}

/// Changes the keys as `webhook_alter` requires. A given key replaces all others of its kind at
/// once. A pair that is needed is generated. Keys that no profile uses are deleted.
///
/// # Errors
/// A secret is needed and there is none. A generated one could not be shown.
pub fn alter(subscription: i64, profiles: Profiles, given: Option<Material>) -> Result<(), Error> {
    if let Some(given) = &given {
        check_use(given, profiles)?;
        let replaced = match given {
            Material::Key(Key::Pair(_)) => "public_key is not null",
            Material::Key(Key::Secret(_)) => "public_key is null",
            Material::Elsewhere(_) if profiles.need_secret() => "public_key is null",
            Material::Elsewhere(_) => "true",
        };
        let delete = format!("delete from webhook.secret where subscription_id = $1 and {replaced}");
        Spi::run_with_args(delete.as_str(), &[subscription.into()])?;
    }
    Spi::run_with_args(
        "delete from webhook.secret
         where subscription_id = $1
           and case when public_key is not null then not $3 when secret ~ '^(env|file):' then not ($2 or $3) else not $2 end",
        &[subscription.into(), profiles.need_secret().into(), profiles.need_pair().into()],
    )?;
    let has = InForce::of(subscription)?;
    let brings_secret = matches!(given, Some(Material::Key(Key::Secret(_)) | Material::Elsewhere(_)));
    if profiles.need_secret() && !has.secret && !has.elsewhere && !brings_secret {
        return Err(Error::BadOption {
            option: "signature",
            reason: "the subscription has no secret to sign with".to_owned(),
            hint: "Pass secret => 'whsec_...' in the same call.",
        });
    }
    complete(profiles, given, has)?.iter().try_for_each(|material| material.add(subscription))
}

/// Gives the subscription new keys of the kinds that it signs with. The former keys sign until the
/// end of the overlap, or no longer if it is zero. Returns what its owner must know.
///
/// # Errors
/// [`Error::TooManySecrets`] if too many others are still valid; [`Error::Unsigned`]; the range of
/// the overlap.
pub fn rotate(subscription: i64, overlap: Interval) -> Result<String, Error> {
    let overlap = check::overlap(overlap)?;
    let profiles = profiles_of(subscription)?;
    let materials = complete(profiles, None, InForce::default())?;
    let Some(first) = materials.first() else { return Err(Error::Unsigned(subscription)) };
    Spi::run_with_args(
        "delete from webhook.secret
         where subscription_id = $1 and (expires_at <= clock_timestamp() or $2 = interval '0')",
        &[subscription.into(), overlap.into()],
    )?;
    let in_force = Spi::get_one_with_args::<i64>(
        "select count(*) from webhook.secret where subscription_id = $1",
        &[subscription.into()],
    )?;
    if in_force.unwrap_or(0) + materials.len() as i64 > KEYS_MAX {
        return Err(Error::TooManySecrets(subscription));
    }
    Spi::run_with_args(
        "update webhook.secret set expires_at = clock_timestamp() + $2
         where subscription_id = $1 and (expires_at is null or expires_at > clock_timestamp() + $2)",
        &[subscription.into(), overlap.into()],
    )?;
    materials.iter().try_for_each(|material| material.add(subscription))?;
    // A caller with If-Match has not seen this state.
    Spi::run_with_args(
        "update webhook.subscription set updated_at = now() where id = $1",
        &[subscription.into()],
    )?;
    Ok(first.shown())
}

/// Returns the signature profiles of a subscription.
pub fn profiles_of(subscription: i64) -> Result<Profiles, Error> {
    let words = Spi::get_one_with_args::<Vec<Option<String>>>(
        "select signature from webhook.subscription where id = $1",
        &[subscription.into()],
    )?;
    check::signature(words.unwrap_or_default()).map(|(profiles, _)| profiles)
}

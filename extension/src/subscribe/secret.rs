//! The signing secrets of a subscription. Writes `webhook.secret`; a secret is in an answer only when it is new.

use super::check;
use crate::error::Error;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use signature::Secret;

/// Bytes of a generated key.
const KEY_BYTES: usize = 32;
/// Most secrets of one subscription that sign at the same time.
const SECRETS_MAX: i64 = 10;

/// Makes a new secret from the server's strong random source.
///
/// # Errors
/// [`Error::NoRandomness`] if there is none.
pub fn generate() -> Result<Secret, Error> {
    let mut key = [0_u8; KEY_BYTES];
    // SAFETY: the buffer is ours and has that length.
    let filled = unsafe { pg_sys::pg_strong_random(key.as_mut_ptr().cast(), KEY_BYTES) };
    if !filled {
        return Err(Error::NoRandomness);
    }
    Secret::from_key(&key).map_err(Error::BadSecret)
}

/// Reads a secret that the caller brings.
///
/// # Errors
/// [`Error::BadSecret`] names the rule, not the text.
pub fn parse(text: &str) -> Result<Secret, Error> {
    Secret::parse(text).map_err(Error::BadSecret)
}

/// Stores a secret as the subscription's newest.
pub fn add(subscription: i64, secret: &Secret) -> Result<(), Error> {
    Spi::run_with_args(
        "insert into webhook.secret (subscription_id, secret) values ($1, $2)",
        &[subscription.into(), secret.reveal().into()],
    )?;
    Ok(())
}

/// Stores a secret and ends all others at once.
pub fn replace(subscription: i64, secret: &Secret) -> Result<(), Error> {
    Spi::run_with_args("delete from webhook.secret where subscription_id = $1", &[subscription.into()])?;
    add(subscription, secret)
}

/// Gives the subscription a new secret; those it has go on signing for the overlap, or end now if that is zero.
///
/// # Errors
/// [`Error::NoSuchSubscription`]; [`Error::TooManySecrets`] if ten others are still in force; the overlap's range.
pub fn rotate(subscription: i64, overlap: Interval) -> Result<String, Error> {
    let overlap = check::overlap(overlap)?;
    let secret = generate()?;
    super::lock(subscription)?;
    Spi::run_with_args(
        "delete from webhook.secret
         where subscription_id = $1 and (expires_at <= clock_timestamp() or $2 = interval '0')",
        &[subscription.into(), overlap.into()],
    )?;
    let in_force = Spi::get_one_with_args::<i64>(
        "select count(*) from webhook.secret where subscription_id = $1",
        &[subscription.into()],
    )?;
    if in_force.unwrap_or(0) >= SECRETS_MAX {
        return Err(Error::TooManySecrets(subscription));
    }
    Spi::run_with_args(
        "update webhook.secret set expires_at = clock_timestamp() + $2
         where subscription_id = $1 and (expires_at is null or expires_at > clock_timestamp() + $2)",
        &[subscription.into(), overlap.into()],
    )?;
    add(subscription, &secret)?;
    Ok(secret.reveal())
}

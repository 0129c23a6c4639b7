//! `webhook_seal`: from then on, secrets are stored so that only the daemon can read them.
//!
//! Reads and writes `webhook.sealing_key` and `webhook.secret`. The database has the public half of
//! the daemon's key, so it can write secrets that it cannot read.

use crate::error::{Error, answer, given};
use crate::memory;
use pgrx::prelude::*;
use seal::{ProvenKey, PublicKey, Purpose};
use signature::Key;

#[pg_extern(sql = false)]
fn webhook_seal(public_key: Option<&str>) -> i64 {
    answer(|| seal_all(given(public_key, "public_key")?))
}

/// Returns the text that a key is stored as: sealed, or in clear while there is no sealing key.
pub fn for_storage(subscription: i64, key: &Key) -> Result<String, Error> {
    match sealing_key()? {
        Some(sealing) => Ok(seal::seal(&sealing, Purpose::SecretOf(subscription), &key.reveal())?),
        None => Ok(key.reveal()),
    }
}

fn sealing_key() -> Result<Option<PublicKey>, Error> {
    // This lock makes webhook_seal() wait. It would otherwise miss a secret that is being stored in
    // clear.
    Spi::run("lock table webhook.sealing_key in row share mode")?;
    let text = Spi::get_one::<String>("select (select public_key from webhook.sealing_key where singleton)")?;
    text.map(|text| PublicKey::parse(&text).map_err(Error::BadSealingKey)).transpose()
}

fn seal_all(text: &str) -> Result<i64, Error> {
    memory::room_for_input(text.len());
    // Secrets that are sealed for a key without a private half are lost. So the key must come with
    // a proof. The table holds the key without it.
    let proven = ProvenKey::parse(text.trim()).map_err(Error::BadSealingKey)?;
    let key = proven.key();
    // A transaction that is storing a secret has already read the key. This lock waits for it, and
    // makes the next one wait for us.
    Spi::run("lock table webhook.sealing_key in exclusive mode")?;
    Spi::run_with_args(
        include_str!("sql/set_sealing_key.sql"),
        &[key.to_string().into(), key.id().to_string().into()],
    )?;
    let in_clear = Spi::connect(|client| {
        let found = client.select(
            "select id, subscription_id, secret from webhook.secret where secret ~ '^whs' order by id",
            None,
            &[],
        )?;
        let rows = found.map(|row| Ok((row.get::<i64>(1)?, row.get::<i64>(2)?, row.get::<String>(3)?)));
        rows.collect::<Result<Vec<_>, pgrx::spi::SpiError>>()
    })?;
    let count = in_clear.len();
    for (id, subscription, secret) in in_clear {
        let (Some(subscription), Some(secret)) = (subscription, secret) else { continue };
        let sealed = seal::seal(key, Purpose::SecretOf(subscription), &secret)?;
        Spi::run_with_args(
            "update webhook.secret set secret = $2 where id = $1",
            &[id.into(), sealed.into()],
        )?;
    }
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}

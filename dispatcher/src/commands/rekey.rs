//! `webhookd rekey`: seals every secret of the database for the present key, including secrets in
//! clear text and those of former keys.
//!
//! It reads and writes `webhook.secret`, and stores the key for future secrets in
//! `webhook.sealing_key`. This is one transaction: either all secrets are sealed for the new key,
//! or none is. Secrets that are kept elsewhere (`env:`, `file:`) stay there. A running daemon needs
//! both keys until the command has finished. It reads the secrets again as they change.

use crate::{
    cli::Rekey,
    commands::{Error, exit, output::tell},
};
use database::{self, Purpose, Target, Transaction, Watch};
use seal::{KeyRing, PrivateKey, Purpose as For};
use signature::Key;
use std::process::ExitCode;
use tokio_postgres::Row;
use zeroize::Zeroizing;

/// A secret that is added meanwhile would be missed.
const LOCK: &str = "lock table webhook.secret in share row exclusive mode";
const SECRETS: &str = "
    select id, subscription_id, secret, coalesce(expires_at <= now(), false) from webhook.secret order by id";
const REPLACE: &str = "
    update webhook.secret s set secret = r.secret
    from unnest($1::bigint[], $2::text[]) as r (id, secret) where s.id = r.id";

/// The result for a secret.
enum Fate {
    /// The text that replaces it.
    Seal(String),
    /// It is already sealed for the present key, and can be opened.
    IsSealed,
    /// It is not in the database.
    IsElsewhere,
    /// Why it cannot be read.
    Unreadable(String),
}

/// Counts the results.
#[derive(Debug, Default, PartialEq, Eq)]
struct RekeyCounts {
    sealed: usize,
    were_sealed: usize,
    elsewhere: usize,
    /// Expired secrets that cannot be read. They no longer sign.
    left: usize,
}

/// Seals the secrets, and prints the results. The exit code is 1 if a secret that still signs
/// cannot be read. Then nothing has changed.
///
/// # Errors
/// No key, and the errors of the database.
pub async fn run(flags: &Rekey, database: Target, keys: KeyRing) -> Result<ExitCode, Error> {
    let Some(key) = keys.current() else {
        return Err(Error::Usage("no key is set; use --key-file, or set WEBHOOKD_KEY".to_owned()));
    };
    let mut client = database::open_session(&database, Purpose::Command, Watch::default()).await?;
    let transaction = client.transaction().await.map_err(database::Error::of_statement)?;
    let in_clear = seal_in_clear(&transaction, key).await?;
    transaction.batch_execute(LOCK).await.map_err(database::Error::of_statement)?;
    let rows = transaction.query(SECRETS, &[]).await.map_err(database::Error::of_statement)?;
    let (mut counts, mut replaced, mut unreadable) = (RekeyCounts::default(), Vec::new(), Vec::new());
    for row in &rows {
        let Stored { id, subscription, text, expired } =
            Stored::of(row).map_err(database::Error::of_statement)?;
        match fate(&keys, key, subscription, &text)? {
            Fate::Seal(sealed) => replaced.push((id, sealed)),
            Fate::IsSealed => counts.were_sealed += 1,
            Fate::IsElsewhere => counts.elsewhere += 1,
            Fate::Unreadable(_) if expired => counts.left += 1,
            Fate::Unreadable(why) => unreadable.push((subscription, why)),
        }
    }
    let were_in_clear = usize::try_from(in_clear).unwrap_or_default();
    counts.were_sealed = counts.were_sealed.saturating_sub(were_in_clear);
    counts.sealed = replaced.len() + were_in_clear;
    for (subscription, why) in &unreadable {
        eprintln!("webhookd: the secret of subscription {subscription}: {why}");
    }
    if !unreadable.is_empty() {
        eprintln!("webhookd: nothing has been changed");
        return Ok(exit(false));
    }
    if !flags.dry_run {
        let (ids, texts): (Vec<i64>, Vec<String>) = replaced.into_iter().unzip();
        transaction.execute(REPLACE, &[&ids, &texts]).await.map_err(database::Error::of_statement)?;
        transaction.commit().await.map_err(database::Error::of_statement)?;
    }
    tell(&format!("{}\n", counts.describe(key, flags.dry_run)))?;
    Ok(exit(true))
}

/// Stores the key for future secrets, and lets Postgres seal the secrets in clear text. Returns
/// their number.
async fn seal_in_clear(transaction: &Transaction<'_>, key: &PrivateKey) -> Result<i64, database::Error> {
    let of_statement = database::Error::of_statement;
    let found = transaction.query_opt(database::EXTENSION_SCHEMA, &[]).await.map_err(of_statement)?;
    let schema: String = found.ok_or(database::Error::ExtensionMissing)?.try_get(0).map_err(of_statement)?;
    let seal = format!("select {schema}.webhook_seal($1)");
    let row = transaction.query_one(&seal, &[&key.proven_key().to_string()]).await.map_err(of_statement)?;
    row.try_get(0).map_err(of_statement)
}

/// A row of `webhook.secret`.
struct Stored {
    id: i64,
    subscription: i64,
    text: Zeroizing<String>,
    expired: bool,
}

impl Stored {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            subscription: row.try_get(1)?,
            text: Zeroizing::new(row.try_get(2)?),
            expired: row.try_get(3)?,
        })
    }
}

fn fate(keys: &KeyRing, key: &PrivateKey, subscription: i64, text: &str) -> Result<Fate, Error> {
    if text.starts_with("env:") || text.starts_with("file:") {
        return Ok(Fate::IsElsewhere);
    }
    let purpose = For::SecretOf(subscription);
    let clear = if seal::is_sealed(text) {
        if seal::open(key, purpose, text).is_ok() {
            return Ok(Fate::IsSealed);
        }
        match keys.open(purpose, text) {
            Ok(clear) => clear,
            Err(why) => return Ok(Fate::Unreadable(why.to_string())),
        }
    } else {
        Zeroizing::new(text.to_owned())
    };
    if let Err(why) = Key::parse(&clear) {
        return Ok(Fate::Unreadable(why.to_string()));
    }
    Ok(Fate::Seal(seal::seal(key.public_key(), purpose, &clear)?))
}

impl RekeyCounts {
    fn describe(&self, key: &PrivateKey, is_dry: bool) -> String {
        let Self { sealed, were_sealed, elsewhere, left } = self;
        let verb = if is_dry { "would be sealed" } else { "sealed" };
        format!(
            "{sealed} {verb} for key {}; {were_sealed} were already sealed, {elsewhere} are kept elsewhere, \
             {left} have expired and cannot be read",
            key.public_key().id()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn each_form_has_its_fate() {
        let [new, old, stranger] = std::array::from_fn(|_| PrivateKey::generate().unwrap());
        let keys = KeyRing::parse(&format!("{} {}", *new.reveal(), *old.reveal())).unwrap();
        let sealed = |key: &PrivateKey, id| seal::seal(key.public_key(), For::SecretOf(id), SECRET).unwrap();
        let fate = |text: &str| fate(&keys, &new, 7, text).unwrap();
        for text in [SECRET.to_owned(), sealed(&old, 7)] {
            let Fate::Seal(again) = fate(&text) else { panic!("{text} is not sealed again") };
            assert_eq!(seal::open(&new, For::SecretOf(7), &again).unwrap().as_str(), SECRET);
        }
        assert!(matches!(fate(&sealed(&new, 7)), Fate::IsSealed));
        for text in ["env:WEBHOOKD_SECRET_A", "file:a"] {
            assert!(matches!(fate(text), Fate::IsElsewhere));
        }
        for text in [sealed(&stranger, 7), sealed(&old, 8), sealed(&new, 8), "hunter2".to_owned()] {
            let Fate::Unreadable(why) = fate(&text) else { panic!("{text} was read") };
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}

//! The highest event number that this process has read.
//!
//! If the server starts from a snapshot of its disk, its sequence is at an earlier value, and no
//! new timeline shows it. The next session then finds a lower number.

use database::{Client, preflight::Identity};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};
use tokio_postgres::Error;
use tracing::warn;

/// See the module.
#[derive(Debug, Default)]
pub struct HighestNumber {
    identity: Mutex<Option<Identity>>,
    number: AtomicI64,
}

impl HighestNumber {
    /// Records the number of an event.
    pub fn note(&self, number: i64) {
        self.number.fetch_max(number, Ordering::Relaxed);
    }

    /// Compares the server's last number with the highest known one. If the server's is lower, the
    /// server skips numbers.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn compare(&self, client: &Client, identity: Identity) -> Result<(), Error> {
        let last: i64 = client.query_one("select webhook.last_number()", &[]).await?.try_get(0)?;
        if self.has_gone_back(identity, last) {
            let highest = self.number.load(Ordering::Relaxed);
            warn!(last, highest, "numbers.skipped; the server has returned to an earlier state");
            client.execute("select webhook.skip_numbers($1)", &[&highest]).await?;
        }
        Ok(())
    }

    fn has_gone_back(&self, identity: Identity, last: i64) -> bool {
        let former = self.identity.lock().unwrap_or_else(PoisonError::into_inner).replace(identity);
        if former.is_some_and(|former| former != identity) {
            self.number.store(0, Ordering::Relaxed);
        }
        last < self.number.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_database_can_go_back() {
        let highest = HighestNumber::default();
        let identity = Identity { system_identifier: 1, database_oid: 2 };
        assert!(!highest.has_gone_back(identity, 0), "nothing is known");
        highest.note(70);
        highest.note(60);
        assert!(!highest.has_gone_back(identity, 70));
        assert!(highest.has_gone_back(identity, 69));
        let other = Identity { database_oid: 3, ..identity };
        assert!(!highest.has_gone_back(other, 5), "another database has its own numbers");
        assert!(!highest.has_gone_back(other, 5));
    }
}

//! Every mistake a user can make, with its SQLSTATE, a short message and a hint that is a sentence.

use pgrx::{PgSqlErrorCode, prelude::*};
use thiserror::Error;

/// What is reported to the SQL caller.
#[derive(Debug, Error)]
pub enum Error {
    #[error("subscription {0} does not exist")]
    NoSuchSubscription(i64),
}

impl Error {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            Self::NoSuchSubscription(_) => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchSubscription(_) => {
                Some("See the table webhook.subscription for those that do.".to_owned())
            }
        }
    }

    /// Raises it as a Postgres error; the statement's work is undone.
    pub fn raise(self) -> ! {
        let message = self.to_string();
        let mut report = pgrx::pg_sys::panic::ErrorReport::new(self.sqlstate(), message, "pg_webhook");
        if let Some(hint) = self.hint() {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("ERROR does not return")
    }
}

//! Every mistake a user can make, with its SQLSTATE, a short message and a hint that is a sentence.

use pgrx::{PgSqlErrorCode, prelude::*};
use thiserror::Error;

/// What is reported to the SQL caller.
#[derive(Debug, Error)]
pub enum Error {
    #[error("subscription {0} does not exist")]
    NoSuchSubscription(i64),
    #[error("webhook.capture() can only be called as an AFTER trigger, for each row or on TRUNCATE")]
    NotATrigger,
    #[error("the argument of trigger \"{trigger}\" does not define a watch: {cause}")]
    NotADefinition { trigger: String, cause: String },
    #[error("\"{name}\" is not an event type: {cause}")]
    NotAnEventType { name: String, cause: String },
    #[error("payload function {function} does not exist for the row type of the watched table")]
    NoPayloadFunction { function: String },
    #[error("payload function {function} does not return one json or jsonb value")]
    NotAPayloadFunction { function: String },
    #[error("an event of table {table} is over {bytes_max} bytes")]
    PayloadTooLong { table: String, bytes_max: usize },
}

impl Error {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            Self::NoSuchSubscription(_) => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            Self::NotATrigger => PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            Self::NotADefinition { .. } => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::NotAnEventType { .. } => PgSqlErrorCode::ERRCODE_INVALID_NAME,
            Self::NoPayloadFunction { .. } => PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
            Self::NotAPayloadFunction { .. } => PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION,
            Self::PayloadTooLong { .. } => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchSubscription(_) => {
                Some("See the table webhook.subscription for those that do.".to_owned())
            }
            Self::NotATrigger | Self::NotADefinition { .. } | Self::NotAnEventType { .. } => {
                Some("Make the triggers of a table with webhook_watch().".to_owned())
            }
            Self::NoPayloadFunction { .. } | Self::NotAPayloadFunction { .. } => {
                Some("Call webhook_watch() again with a function that takes the table's row type.".to_owned())
            }
            Self::PayloadTooLong { .. } => Some(
                "Leave the large columns out with webhook_watch(…, exclude => …), raise webhook.payload_bytes_max, \
                 or set webhook.payload_over_cap to thin."
                    .to_owned(),
            ),
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

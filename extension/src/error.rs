//! Every mistake that a user can make, with its SQLSTATE, a short message, and a hint that is a
//! sentence.
//!
//! Functions return these errors as values. The outermost `#[pg_extern]` turns them into Postgres
//! errors, which undo the statement. No message ever holds a secret or a URL, because a URL may
//! hold a secret.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use thiserror::Error;

use crate::definition::RowFunctionKind;
use crate::memory;

/// An error that is reported to the SQL caller.
#[derive(Debug, Error)]
pub enum Error {
    // ── any function ──
    #[error("{0} must not be null")]
    Null(&'static str),
    #[error("{0} must not be null")]
    NullForDefault(&'static str),
    #[error("{option}: {reason}")]
    BadOption { option: &'static str, reason: String, hint: &'static str },
    #[error("the library of pg_webhook is newer than the extension in this database")]
    Outdated,

    // ── watching ──
    #[error("relation with OID {0} does not exist")]
    NoSuchRelation(u32),
    #[error("{relation} is {kind}, which cannot be watched")]
    NotATable { relation: String, kind: &'static str },
    #[error("{relation} is {kind}, which cannot be watched")]
    Unwatchable { relation: String, kind: &'static str },
    #[error("must be owner of table {0}")]
    NotOwner(String),
    #[error("permission denied to create triggers of pg_webhook")]
    NotAPublisher,
    #[error("{0} is not watched")]
    NotWatched(String),
    #[error("{relation} is already watched through {root}")]
    WatchedThrough { relation: String, root: String },
    #[error("{child}, a child table of {relation}, is already watched through {root}")]
    ChildWatched { relation: String, child: String, root: String },
    #[error("{member}, which belongs to {relation}, already has a watch of its own")]
    MemberWatched { relation: String, member: String },
    #[error("trigger {trigger} of {relation} does not belong to pg_webhook")]
    TriggerNameTaken { relation: String, trigger: String },
    #[error("the name of table {0} is not a valid noun")]
    NounNeeded(String),
    #[error("the namespace \"webhook\" is reserved: {0}")]
    Reserved(String),
    #[error("column \"{column}\" in {option} does not exist in {relation}")]
    NoSuchColumn { option: &'static str, column: String, relation: String, hint: String },
    #[error("condition ({text}) is not a single SQL expression: {reason}")]
    ConditionSyntax { text: String, reason: String },
    #[error("condition ({text}) is not valid for the table: {reason}")]
    ConditionMeaning { sqlstate: PgSqlErrorCode, text: String, reason: String, hint: String },
    #[error("condition refers to {row}, which {event} does not have")]
    ConditionRow { row: &'static str, event: &'static str, hint: String },
    #[error("{kind} function {function} {reason}")]
    BadRowFunction { kind: RowFunctionKind, function: String, reason: &'static str, row_type: String },
    #[error("permission denied for {kind} function {function}")]
    RowFunctionDenied { kind: RowFunctionKind, function: String },

    // ── capture ──
    #[error("webhook.capture() can only be called as an AFTER trigger, for each row or on TRUNCATE")]
    NotATrigger,
    #[error("the argument of trigger \"{trigger}\" is not a valid watch definition: {cause}")]
    NotADefinition { trigger: String, cause: String },
    #[error("\"{name}\" is not a valid event type: {cause}")]
    NotAnEventType { name: String, cause: String },
    #[error("{kind} function {function} does not exist for the row type of the watched table")]
    NoRowFunction { kind: RowFunctionKind, function: String },
    #[error("{kind} function {function} does not return a single {} value", .kind.returns())]
    NotARowFunction { kind: RowFunctionKind, function: String },
    #[error("an event of table {table} has more than {bytes_max} bytes")]
    PayloadTooLong { table: String, bytes_max: usize },

    // ── events and deliveries ──
    #[error("the payload has {bytes} bytes; the maximum is {bytes_max}")]
    EmittedTooLong { bytes: usize, bytes_max: usize },
    #[error("invalid event type \"{text}\": {reason}")]
    BadEventType { text: String, reason: event_type::Invalid },
    #[error("\"{0}\" is not a valid event id")]
    MalformedEventId(String),
    #[error("event {0} does not exist")]
    NoSuchEvent(String),
    #[error("event {event_id} is only for subscription {subscription_id}")]
    ForAnother { event_id: String, subscription_id: i64 },
    #[error("event {0} cannot be delivered: it is a request to the daemon")]
    NeverDelivered(String),
    #[error("event {0} does not match the subscription, and the daemon has not routed it yet")]
    NotRouted(String),
    #[error("event {event_id} cannot be delivered to the subscription: {reason}")]
    OutOfScope { event_id: String, reason: String },
    #[error("event {event_id} was never delivered to the subscription: {reason}")]
    NeverMatched { event_id: String, reason: String },
    #[error("subscription {0} is paused")]
    Paused(i64),

    // ── backfills ──
    #[error("permission denied to read table {0}")]
    NoSelect(String),
    #[error("table {0} has no primary key")]
    NoPrimaryKey(String),
    #[error("{relation} is already being backfilled for subscription {subscription_id}")]
    BackfillRunning { relation: String, subscription_id: i64 },
    #[error("role \"{0}\", which requested the backfill, no longer exists")]
    RequesterGone(String),
    #[error("backfill {0} does not exist")]
    NoSuchBackfill(i64),
    #[error("a backfill requires the isolation level read committed")]
    NotReadCommitted,

    // ── subscriptions ──
    #[error("subscription {0} does not exist")]
    NoSuchSubscription(i64),
    #[error("subscription \"{0}\" already exists")]
    NameTaken(String),
    #[error("owner: permission denied to assign a subscription to \"{0}\"")]
    NotTheirs(String),
    #[error("{option}: {reason}")]
    LimitExceeded { option: String, reason: String },
    #[error("{option}: {reason}")]
    OptionDenied { option: String, reason: &'static str, hint: &'static str },
    #[error("secret: {0}")]
    BadSecret(signature::InvalidKey),
    #[error("secret: {0}")]
    BadReference(#[from] signature::InvalidReference),
    #[error("subscription {0} is not signed")]
    Unsigned(i64),
    #[error("public_key: {0}")]
    BadSealingKey(seal::InvalidKey),
    #[error("cannot seal the secret: {0}")]
    Unsealed(#[from] seal::CannotSeal),
    #[error("subscription {0} already has 10 keys that have not expired")]
    TooManySecrets(i64),
    #[error("could not generate random bytes for a secret")]
    NoRandomness,

    // ── ours ──
    #[error("an internal query of pg_webhook failed: {0}")]
    Spi(#[from] pgrx::spi::SpiError),
    #[error("an internal query of pg_webhook returned no {0}")]
    Missing(&'static str),
}

impl Error {
    fn sqlstate(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode as S;
        match self {
            Self::Null(_) | Self::NullForDefault(_) => S::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::BadOption { .. }
            | Self::NounNeeded(_)
            | Self::BadEventType { .. }
            | Self::MalformedEventId(_)
            | Self::ForAnother { .. }
            | Self::NeverDelivered(_)
            | Self::BadSecret(_)
            | Self::BadReference(_)
            | Self::BadSealingKey(_) => S::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::Unsigned(_) | Self::Paused(_) | Self::NotRouted(_) => {
                S::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            Self::NoSuchRelation(_) => S::ERRCODE_UNDEFINED_TABLE,
            Self::NotATable { .. } | Self::Unwatchable { .. } => S::ERRCODE_WRONG_OBJECT_TYPE,
            Self::NotOwner(_)
            | Self::NotTheirs(_)
            | Self::OptionDenied { .. }
            | Self::OutOfScope { .. }
            | Self::NeverMatched { .. }
            | Self::NotAPublisher
            | Self::RowFunctionDenied { .. }
            | Self::NoSelect(_) => S::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::NotWatched(_)
            | Self::NoSuchEvent(_)
            | Self::NoSuchSubscription(_)
            | Self::NoSuchBackfill(_) => S::ERRCODE_UNDEFINED_OBJECT,
            Self::WatchedThrough { .. }
            | Self::ChildWatched { .. }
            | Self::MemberWatched { .. }
            | Self::BackfillRunning { .. } => S::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::NoPrimaryKey(_) => S::ERRCODE_WRONG_OBJECT_TYPE,
            Self::RequesterGone(_) => S::ERRCODE_UNDEFINED_OBJECT,
            Self::NotReadCommitted => S::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::TriggerNameTaken { .. } => S::ERRCODE_DUPLICATE_OBJECT,
            Self::Outdated => S::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::NotATrigger => S::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            Self::NotADefinition { .. } => S::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::NotAnEventType { .. } => S::ERRCODE_INVALID_NAME,
            Self::NoRowFunction { .. } => S::ERRCODE_UNDEFINED_FUNCTION,
            Self::NotARowFunction { .. } => S::ERRCODE_INVALID_FUNCTION_DEFINITION,
            Self::PayloadTooLong { .. } | Self::EmittedTooLong { .. } => S::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::Reserved(_) => S::ERRCODE_RESERVED_NAME,
            Self::NoSuchColumn { .. } => S::ERRCODE_UNDEFINED_COLUMN,
            Self::ConditionSyntax { .. } => S::ERRCODE_SYNTAX_ERROR,
            Self::ConditionMeaning { sqlstate, .. } => *sqlstate,
            Self::ConditionRow { .. } => S::ERRCODE_INVALID_OBJECT_DEFINITION,
            Self::BadRowFunction { .. } => S::ERRCODE_INVALID_FUNCTION_DEFINITION,
            Self::NameTaken(_) => S::ERRCODE_UNIQUE_VIOLATION,
            Self::TooManySecrets(_) | Self::LimitExceeded { .. } => S::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::NoRandomness | Self::Unsealed(_) | Self::Spi(_) | Self::Missing(_) => {
                S::ERRCODE_INTERNAL_ERROR
            }
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Outdated => {
                "Run ALTER EXTENSION pg_webhook UPDATE. Events are captured and delivered until then."
            }
            Self::Null("payload") => "For an event without data, pass '{}' or 'null'::json.",
            Self::Null(_) => "The argument is required.",
            Self::NullForDefault(_) => "Omit the argument to use its default.",
            Self::BadOption { hint, .. } | Self::OptionDenied { hint, .. } => hint,
            Self::NoSuchRelation(_) => "The relation may have been dropped concurrently.",
            Self::NotATable { .. } => "Only ordinary and partitioned tables can be watched.",
            Self::Unwatchable { .. } => "Only permanent tables of your own application can be watched.",
            Self::NotOwner(_) => {
                "Only the table's owner, a member of the owning role, or a superuser can watch it."
            }
            Self::NotAPublisher => "Ask the extension's owner to run webhook_grant('...', 'publisher').",
            Self::NotWatched(_) => "The table webhook.watch lists the watched tables.",
            Self::WatchedThrough { .. } => "Call webhook_unwatch() for that table first, or keep its watch.",
            Self::ChildWatched { .. } => {
                "A table can have only one watch. Call webhook_unwatch() for that parent first, or keep its watch."
            }
            Self::MemberWatched { .. } => "Call webhook_unwatch() for that table first.",
            Self::TriggerNameTaken { .. } => {
                "Rename the trigger. webhook_watch() needs the names webhook_insert, webhook_update, webhook_delete and webhook_truncate."
            }
            Self::NounNeeded(_) => {
                "Pass a noun of lower-case letters, digits and underscores, as in noun => 'order'."
            }
            Self::Reserved(_) => {
                "Only pg_webhook itself emits events in this namespace. Choose another namespace or noun."
            }
            Self::NoSuchColumn { hint, .. }
            | Self::ConditionRow { hint, .. }
            | Self::ConditionMeaning { hint, .. } => hint,
            Self::ConditionSyntax { .. } => {
                "Pass an expression as in CREATE TRIGGER ... WHEN (...), such as 'new.total > 100'."
            }
            Self::BadRowFunction { kind, row_type, .. } => {
                return Some(format!(
                    "Pass a function that takes one {row_type} and returns {}.",
                    kind.returns()
                ));
            }
            Self::RowFunctionDenied { .. } => {
                "The caller of webhook_watch() must have the privilege EXECUTE on it."
            }
            Self::NotATrigger | Self::NotADefinition { .. } | Self::NotAnEventType { .. } => {
                "Use webhook_watch() to create the triggers of a table."
            }
            Self::NoRowFunction { .. } | Self::NotARowFunction { .. } => {
                "Call webhook_watch() again with a function that takes the table's row type."
            }
            Self::PayloadTooLong { .. } => {
                "Exclude the large columns with webhook_watch(..., exclude => ...), raise webhook.payload_bytes_max, or set webhook.payload_over_cap to thin."
            }
            Self::EmittedTooLong { .. } => {
                "Send a smaller payload, raise webhook.payload_bytes_max, or set webhook.payload_over_cap to thin."
            }
            Self::BadEventType { .. } => {
                "An event type has the form noun.verb or namespace.noun.verb, as in 'order.paid'."
            }
            Self::MalformedEventId(_) => {
                "An event id is evt_ followed by hexadecimal digits, as in webhook.delivery.event_id and the header webhook-id."
            }
            Self::NoSuchEvent(_) => {
                "Retention may have removed the event, or it may belong to another database."
            }
            Self::ForAnother { .. } => "Call webhook_ping() to reach this subscription.",
            Self::NeverDelivered(_) => "Redeliver the event that the request names.",
            Self::NotRouted(_) => "Try again in a few seconds. webhook.health shows whether a daemon runs.",
            Self::OutOfScope { .. } => {
                "A subscription with scope own gets only events of its owner. Only a role that can read every event can choose scope => 'all'."
            }
            Self::NeverMatched { .. } => {
                "Change the options of the subscription and replay the event, or ask a role that can read every event to redeliver it."
            }
            Self::Paused(_) => "Call webhook_resume() to deliver its events again.",
            Self::NoSelect(_) => "The caller must own the table or have the privilege SELECT on it.",
            Self::NoPrimaryKey(_) => "A backfill reads the table in the order of its primary key.",
            Self::BackfillRunning { .. } => {
                "Wait until that backfill ends (see webhook.backfill), or call webhook_backfill_cancel() first."
            }
            Self::RequesterGone(_) => "Start the backfill again.",
            Self::NotReadCommitted => "Run the transaction at isolation level read committed.",
            Self::NoSuchSubscription(_) => "The table webhook.subscription lists the subscriptions.",
            Self::NameTaken(_) => "Choose another name, or change that subscription with webhook_alter().",
            Self::NotTheirs(_) => "Omit owner, or ask an admin or a member of that role to make the call.",
            Self::LimitExceeded { .. } => {
                "The table webhook.owner_limit has the limits of owners. An admin can change them, and may exceed them."
            }
            Self::BadSecret(_) => {
                "Pass whsec_ followed by the padded base64 of 24 to 64 random bytes (for a key pair: whsk_ and 64 bytes), or omit the secret to generate one."
            }
            Self::BadReference(_) => {
                "Pass env:WEBHOOKD_SECRET_NAME or file:NAME. The daemon reads the secret from there."
            }
            Self::Unsigned(_) => "Choose a signature with webhook_alter(..., signature => ...).",
            Self::BadSealingKey(_) => {
                "Pass the whole text that webhookd keygen has printed. For a key file that exists, webhookd keygen --public FILE prints it."
            }
            Self::NoSuchBackfill(_) => "The table webhook.backfill lists the backfills.",
            Self::TooManySecrets(_) => {
                "Wait until a key expires, or rotate with overlap => '0' to expire all others at once."
            }
            Self::NoRandomness | Self::Unsealed(_) | Self::Spi(_) | Self::Missing(_) => return None,
        };
        Some(hint.to_owned())
    }
}

impl Error {
    /// Raises this as a Postgres error, which undoes the statement's work.
    pub fn raise(self) -> ! {
        let report = ErrorReport::new(self.sqlstate(), self.to_string(), "pg_webhook");
        let report = match self.hint() {
            Some(hint) => report.set_hint(hint),
            None => report,
        };
        report.report(PgLogLevel::ERROR);
        unreachable!("ERROR does not return")
    }
}

/// Runs the outermost step of every `#[pg_extern]`: returns the answer, or raises the error.
pub fn answer<T>(work: impl FnOnce() -> Result<T, Error>) -> T {
    memory::settle();
    work().unwrap_or_else(|error| error.raise())
}

/// Warns of a problem that does not stop the statement.
pub fn warn(message: String, hint: String) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "pg_webhook")
        .set_hint(hint)
        .report(PgLogLevel::WARNING);
}

/// Returns a required argument that has no meaning when it is null.
///
/// # Errors
/// [`Error::Null`] with the argument's name.
pub fn given<T>(value: Option<T>, argument: &'static str) -> Result<T, Error> {
    value.ok_or(Error::Null(argument))
}

/// Returns an argument with a default that has no meaning when it is null.
///
/// # Errors
/// [`Error::NullForDefault`] with the argument's name.
pub fn not_null<T>(value: Option<T>, argument: &'static str) -> Result<T, Error> {
    value.ok_or(Error::NullForDefault(argument))
}

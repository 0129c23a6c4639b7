//! Sessions with Postgres: opens them, sets their session settings, and says what a failure means.
//!
//! # The problem
//!
//! A server may be away, starting, a standby, a former primary, a copy of another cluster, or
//! behind a pooler. A link may stay open and carry nothing. The daemon must deliver from the right
//! database only, and must notice within seconds when a session is of no use.
//!
//! # The nouns
//!
//! * A [`Target`] is a connection string with its files and variables. [`connect`] opens a
//!   [`Client`] to one of its servers, for a [`Purpose`].
//! * [`survey`] finds out which server accepts writes.
//! * [`preflight`] checks what the daemon needs, and [`schema`] which versions it can serve.
//! * An [`instance`] tells a database from its physical copies.
//! * [`Error`] says why the daemon does not deliver, and what to do.

mod cannot_connect;
mod client;
mod encoding;
mod error;
mod failure;
mod foreign_role;
pub mod instance;
mod locks;
mod machine;
mod passfile;
mod phase;
pub mod preflight;
mod private_file;
pub mod schema;
mod servers;
mod settings;
mod survey;
pub mod target;
mod tls;
pub mod value;
mod variables;

pub use cannot_connect::CannotConnect;
pub use client::{Client, Rows, Transaction};
pub use delivery::causes::chain;
pub use encoding::{Encoding, Text};
pub use error::Error;
pub use foreign_role::{Advice, ForeignRole, Lack};
pub use locks::Lock;
pub use phase::Phase;
pub use private_file::is_open_to_others;
pub use survey::{Seen, Server, is_former, survey};
pub use target::Target;

use std::{
    error::Error as _,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Connection, SimpleQueryMessage,
    error::{Severity, SqlState},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, trace, warn};

/// The purpose of a connection. Each purpose has a session of its own, so that none waits for
/// another's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The leader's lock and the gate. While the daemon sleeps, this session executes the statement
    /// that sleeps.
    Control,
    /// Reads the outbox.
    Reader,
    /// Evaluates filters that the daemon cannot decide.
    Filters,
    /// Writes results and the checkpoint.
    Ledger,
    /// Reads the queue.
    Queue,
    /// Executes steps of backfills.
    Backfill,
    /// Empties slots of the ring.
    Maintenance,
    /// Serves requests of the admin server.
    Admin,
    /// Reads the figures that the admin server shows.
    Sampler,
    /// Executes a command of the command line, or writes that a receiver has confirmed.
    Command,
}

impl Purpose {
    /// The time for a statement of a session that has a limit in the server: a little more than
    /// that limit (`SESSION` in `admin/database.rs` and `admin/sampler.rs`).
    fn answers_within(self) -> Option<Duration> {
        match self {
            Self::Admin | Self::Sampler => Some(Duration::from_secs(7)),
            _ => None,
        }
    }
}

/// Both ends check the connection with keepalives. Ours stops sending when the server is out of
/// reach. The server releases the lock of a leader that is out of reach. Both need 15 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);

/// The application name of this process's sessions. Delivering sessions append their number
/// ([`Target::for_life`]), so that a new leader can terminate exactly these.
static NAME: LazyLock<String> = LazyLock::new(|| format!("webhookd {:016x}", fastrand::u64(..)));

/// Returns the schema of the extension's functions, quoted.
pub const EXTENSION_SCHEMA: &str = "
    select quote_ident(n.nspname) from pg_extension x join pg_namespace n on n.oid = x.extnamespace
    where x.extname = 'pg_webhook'";

/// The message of `webhook.gate_sleep()` (extension/src/gate).
const ASLEEP: &str = "pg_webhook: asleep";

/// Receives what happens on a session without a request.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// A notification has come.
    pub notified: Arc<Notify>,
    /// `webhook.gate_sleep()` has reported that the gate is shut.
    pub asleep: Arc<Notify>,
    /// The connection has ended.
    pub ended: CancellationToken,
    /// The server is silent. Cancelling this ends the connection, and all others with this watch.
    pub silent: CancellationToken,
}

/// Returns a LIKE pattern for the application names of all sessions of this process.
pub fn names_of_all_lives() -> String {
    format!("{} %", *NAME)
}

impl Target {
    /// Returns the same target for one session of the daemon.
    pub fn for_life(mut self, life: u64) -> Self {
        self.config.application_name(format!("{} {life}", *NAME));
        self
    }
}

/// Opens a session. If the target has several servers, it chooses one that accepts writes and is
/// not a former primary.
///
/// If there are only standbys, the session is with a standby. Its statements then show what is
/// wrong.
///
/// # Errors
/// The errors of the last server's connection, and of the settings. If the only server that accepts
/// writes is a former primary, the error says so.
pub async fn connect(
    target: &Target,
    purpose: Purpose,
    watch: Watch,
) -> Result<Client, tokio_postgres::Error> {
    if target.is_single() {
        return open_within(target, purpose, watch).await;
    }
    if let Some(server) = target.known_primary()
        && let Ok(client) = open_within(&server, purpose, watch.clone()).await
    {
        return Ok(client);
    }
    let (mut last, mut standby) = (None, None);
    for Seen { server, answer } in survey(target).await {
        match answer {
            Err(error) => last = Some(error),
            Ok(state) if state.is_standby => standby = standby.or(Some(server)),
            Ok(state) if is_former(target, &state) => {
                let why = format!("the server is a former primary, on timeline {}", state.timeline);
                last = Some(failure::failure(std::io::ErrorKind::Other, why).await);
            }
            Ok(_) => match open_within(&server, purpose, watch.clone()).await {
                Ok(client) => {
                    target.note_primary(&server);
                    return Ok(client);
                }
                Err(error) => last = Some(error),
            },
        }
    }
    match (standby, last) {
        (Some(server), _) => open_within(&server, purpose, watch).await,
        (None, Some(error)) => Err(error),
        // tokio-postgres has an error message for a target without a server.
        (None, None) => open(target, purpose, watch).await,
    }
}

/// Like [`connect`], with an error that names the servers.
///
/// # Errors
/// [`Error::Connect`](Error::Connect).
pub async fn open_session(target: &Target, purpose: Purpose, watch: Watch) -> Result<Client, Error> {
    connect(target, purpose, watch).await.map_err(|cause| target.cannot_connect(cause))
}

async fn open_within(
    server: &Target,
    purpose: Purpose,
    watch: Watch,
) -> Result<Client, tokio_postgres::Error> {
    match timeout(server.connect_timeout(), open(server, purpose, watch)).await {
        Ok(opened) => opened,
        Err(_) => Err(failure::expired().await),
    }
}

async fn open(server: &Target, purpose: Purpose, watch: Watch) -> Result<Client, tokio_postgres::Error> {
    let mut config = server.connection_config();
    if config.get_application_name().is_none_or(|name| !name.starts_with(NAME.as_str())) {
        config.application_name(NAME.as_str());
    }
    config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
    config.keepalives_retries(KEEPALIVE_RETRIES).tcp_user_timeout(UNACKNOWLEDGED_MAX);
    let (client, connection) = config.connect(server.tls()).await?;
    let server_encoding = connection.parameter("server_encoding").map(str::to_owned);
    let connection = AbortOnDropHandle::new(tokio::spawn(attend(connection, purpose, watch.clone())));
    settings::apply(&client, purpose).await?;
    let encoding = Encoding::prepare(&client, server_encoding.as_deref()).await?;
    let backend_pid = backend_pid(&client.simple_query("select pg_catalog.pg_backend_pid()").await?);
    // The stream is in use from here on, and ends with its client.
    drop(connection.detach());
    Ok(Client::new(client, server.clone(), purpose, (backend_pid, encoding), watch))
}

/// Reads the answer to `select pg_backend_pid()`, sent as a simple query: a prepared statement
/// would fail in a transaction pooler.
pub fn backend_pid(answer: &[SimpleQueryMessage]) -> i32 {
    let pid = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).and_then(|pid| pid.parse().ok()),
        _ => None,
    });
    pid.unwrap_or_default()
}

/// Processes a session's messages until it ends.
async fn attend<S, T>(mut connection: Connection<S, T>, purpose: Purpose, watch: Watch)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = tokio::select! {
            biased;
            message = std::future::poll_fn(|cx| connection.poll_message(cx)) => message,
            () = watch.silent.cancelled() => break,
        };
        match message {
            Some(Ok(AsyncMessage::Notification(_))) => {
                watch.notified.notify_one();
            }
            Some(Ok(AsyncMessage::Notice(notice))) if notice.message() == ASLEEP => watch.asleep.notify_one(),
            Some(Ok(AsyncMessage::Notice(notice))) => match notice.parsed_severity() {
                Some(Severity::Warning) => warn!(message = notice.message(), "postgres.notice"),
                // Messages that `client_min_messages` allows before we set it ourselves.
                _ => trace!(message = notice.message(), "postgres.notice"),
            },
            Some(Ok(_)) => {}
            // The caller of the client gets this error too. Here it only means the end of the
            // connection.
            Some(Err(error)) => {
                debug!(error = %chain(&error), ?purpose, "postgres.connection_ended");
                break;
            }
            None => break,
        }
    }
    watch.ended.cancel();
}

/// Reports whether the same statement may succeed later, or on a new connection.
pub fn passes(error: &tokio_postgres::Error) -> bool {
    if error.is_closed() {
        return true;
    }
    let Some(code) = error.code() else {
        // The server did not answer: refused, reset, timed out, or name not found.
        return error.source().is_some_and(|cause| cause.is::<std::io::Error>());
    };
    // Connection exception, insufficient resources (disk, memory, connections), operator
    // intervention (including a cancelled statement), serialization failure and deadlock.
    ["08", "53", "57", "40"].iter().any(|class| code.code().starts_with(class))
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        // "cached plan must not change result type": the extension was updated meanwhile.
        || *code == SqlState::FEATURE_NOT_SUPPORTED
}

//! Connections to Postgres: opening them, their session settings, and which errors pass by themselves.

mod expired;
pub mod instance;
mod machine;
mod passfile;
pub mod preflight;
pub mod schema;
mod servers;
mod settings;
pub mod target;
mod tls;
pub mod value;

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
    AsyncMessage, Client, Connection, Error,
    error::{Severity, SqlState},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, trace, warn};

/// What a connection is for; each has a session of its own, so that none waits behind another's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The active lock, the gate, LISTEN. While the daemon sleeps, it does so in a statement of this session.
    Control,
    /// Reads the outbox.
    Reader,
    /// Writes results and the checkpoint.
    Ledger,
    /// Reads the queue.
    Queue,
    /// Takes steps of backfills.
    Backfill,
    /// Empties slots of the ring.
    Maintenance,
    /// Answers requests of the admin server.
    Admin,
}

/// Both ends look after the connection: ours, to stop sending when the server is out of reach, and the server, to free the
/// active lock of a daemon that is (15 s in either direction).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);

/// What the sessions of this process are called: whoever takes over from it can end them all.
static NAME: LazyLock<String> = LazyLock::new(|| format!("webhookd {:016x}", fastrand::u64(..)));

/// What `webhook.gate_sleep()` says (extension/src/gate).
const ASLEEP: &str = "pg_webhook: asleep";

/// Who is told what happens on a session without having been asked for.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// A notification has come.
    pub rung: Arc<Notify>,
    /// `webhook.gate_sleep()` has said that the gate is shut.
    pub asleep: Arc<Notify>,
    /// The connection has ended.
    pub ended: CancellationToken,
}

/// Opens a session with the first of the target's servers that takes writes.
///
/// If none of them does, the session is with the first standby: what is asked of it then says what
/// is wrong.
///
/// # Errors
/// Those of the last server's connection and of the settings.
pub async fn connect(target: &Target, purpose: Purpose, watch: Watch) -> Result<Client, Error> {
    let mut last = None;
    let mut standby = None;
    let servers = target.servers();
    // With another target_session_attrs the driver itself passes over servers.
    let is_choice = servers.len() > 1 && target.takes_any_server();
    for server in servers {
        // The watch ends with the session that it came with, so a standby gets one of its own.
        let watched = if is_choice { Watch::default() } else { watch.clone() };
        match timeout(server.connect_timeout(), open(&server, purpose, watched)).await {
            Ok(Ok(client)) if !is_choice => return Ok(client),
            Ok(Ok(client)) => match is_standby(&client).await {
                Ok(false) => return open(&server, purpose, watch).await,
                Ok(true) => standby = standby.or(Some(server)),
                Err(error) => last = Some(error),
            },
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(expired::expired().await),
        }
    }
    match (standby, last) {
        (Some(server), _) => open(&server, purpose, watch).await,
        (None, Some(error)) => Err(error),
        // Without a server tokio-postgres has the words for it.
        (None, None) => open(target, purpose, watch).await,
    }
}

async fn is_standby(client: &Client) -> Result<bool, Error> {
    client.query_one("select pg_is_in_recovery()", &[]).await?.try_get(0)
}

async fn open(server: &Target, purpose: Purpose, watch: Watch) -> Result<Client, Error> {
    let mut config = server.config.clone();
    config.application_name(NAME.as_str());
    config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
    config.keepalives_retries(KEEPALIVE_RETRIES).tcp_user_timeout(UNACKNOWLEDGED_MAX);
    let (client, connection) = config.connect(server.tls.clone()).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(attend(connection, purpose, watch)));
    settings::apply(&client, purpose).await?;
    // It is in use from here on, and ends with its client.
    drop(connection.detach());
    Ok(client)
}

/// Carries a session's messages until it ends.
async fn attend<S, T>(mut connection: Connection<S, T>, purpose: Purpose, watch: Watch)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(_))) => {
                watch.rung.notify_one();
            }
            Some(Ok(AsyncMessage::Notice(notice))) if notice.message() == ASLEEP => watch.asleep.notify_one(),
            Some(Ok(AsyncMessage::Notice(notice))) => match notice.parsed_severity() {
                Some(Severity::Warning) => warn!(message = notice.message(), "postgres.notice"),
                // What `client_min_messages` lets through before our own setting of it.
                _ => trace!(message = notice.message(), "postgres.notice"),
            },
            Some(Ok(_)) => {}
            // Whoever uses the client gets the error too; here it is only the end of the connection.
            Some(Err(error)) => {
                debug!(error = %chain(&error), ?purpose, "postgres.connection_ended");
                break;
            }
            None => break,
        }
    }
    watch.ended.cancel();
}

/// Whether the same statement may succeed on a new connection or a little later.
pub fn passes(error: &Error) -> bool {
    if error.is_closed() {
        return true;
    }
    let Some(code) = error.code() else {
        // No answer from a server at all: refused, reset, timed out, name not found.
        return error.source().is_some_and(|cause| cause.is::<std::io::Error>());
    };
    // Connection exception, insufficient resources (the disk, memory, connections), operator intervention (a statement
    // that somebody has cancelled, too), serialization failure and deadlock.
    ["08", "53", "57", "40"].iter().any(|class| code.code().starts_with(class))
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        // "cached plan must not change result type": the extension has been updated under us.
        || *code == SqlState::FEATURE_NOT_SUPPORTED
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

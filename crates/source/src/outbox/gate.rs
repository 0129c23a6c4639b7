//! The gate. While it is shut, a commit with events wakes the daemon. While it is open, commits do
//! nothing.
//!
//! The module owns the control connection. The daemon sleeps in the server: `webhook.gate_sleep()`
//! shuts the gate, reports that, and returns when a commit has set the latch of its backend. The
//! backend itself opens the gate, so a frozen daemon costs the server nothing. The reader polls
//! when the gate is shut, and finds everything that committed without a wake-up. While the daemon
//! sleeps, the reader continues with the safety poll.

use futures_util::{FutureExt, future::BoxFuture};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_postgres::{Error, Statement};
use tracing::warn;

use crate::liveness::BEAT_INTERVAL;
use database::{Client, Watch};

/// The longest sleep. After this time, the session learns that its backend still sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// Sleeps while the reader polls so often that its silence shows a frozen daemon. `leadership` and
/// the view `webhook.health` look for the end of this text.
const SLEEP_POLLED: &str = "call webhook.gate_sleep($1) -- polls";
const SLEEP: &str = "call webhook.gate_sleep($1)";

/// The daemon's side of the gate.
#[derive(Debug)]
pub struct Gate {
    client: Arc<Client>,
    /// The reader has other work.
    notified: Arc<Notify>,
    /// The server has shut the gate for our sleep.
    shut: Arc<Notify>,
    /// `None`: there is no gate, so no commit wakes the daemon.
    sleep: Option<Sleep>,
}

/// The statements of a sleep.
#[derive(Debug)]
struct Sleep {
    plain: Statement,
    polled: Statement,
}

impl Gate {
    /// Prepares the control connection. Its `watch` receives messages.
    ///
    /// If the role may not sleep in the server, or the procedure is missing, logs this once. The
    /// reader then polls at an interval.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn open(client: Arc<Client>, watch: &Watch) -> Result<Self, Error> {
        let sleep = match Self::prepare(&client).await {
            Ok(sleep) => Some(sleep),
            Err(error) if error.is_closed() || error.code().is_none() => return Err(error),
            Err(error) => {
                let error = database::chain(&error);
                warn!(error, "gate.unavailable; only the safety poll reads the outbox");
                None
            }
        };
        Ok(Self { client, notified: Arc::clone(&watch.notified), shut: Arc::clone(&watch.asleep), sleep })
    }

    async fn prepare(client: &Client) -> Result<Sleep, Error> {
        let sleep =
            Sleep { plain: client.prepare(SLEEP).await?, polled: client.prepare(SLEEP_POLLED).await? };
        // Postgres checks the right to a procedure at the call, and not when it is prepared.
        client.execute(&sleep.plain, &[&1_i32]).await?;
        Ok(sleep)
    }

    /// Reports whether commits wake a sleeping daemon.
    pub fn is_available(&self) -> bool {
        self.sleep.is_some()
    }

    /// Sleeps in the server until a commit, another cause, or [`wake`](Self::wake) ends the sleep.
    /// After [`shut`](Self::shut) has returned, each commit with events ends it, and events of
    /// earlier commits are visible. If a commit is in progress, returns at once.
    ///
    /// `polls` is the interval at which the caller polls meanwhile.
    ///
    /// # Errors
    /// The errors of the connection.
    pub fn sleep(self: Arc<Self>, polls: Option<Duration>) -> BoxFuture<'static, Result<(), Error>> {
        async move {
            let Some(Sleep { plain, polled }) = &self.sleep else { return Ok(()) };
            let (statement, longest) = match polls {
                Some(interval) if interval <= BEAT_INTERVAL => (polled, SLEEP_MAX),
                // A standby sees that the daemon is frozen when this sleep ends.
                Some(interval) => (plain, interval.min(SLEEP_MAX)),
                None => (plain, SLEEP_MAX),
            };
            let timeout_ms = i32::try_from(longest.as_millis()).unwrap_or(i32::MAX);
            self.client.execute_sleep(statement, &[&timeout_ms], longest).await
        }
        .boxed()
    }

    /// Waits until the server has shut the gate for [`sleep`](Self::sleep). If it reports that
    /// again during the same sleep, a commit may have set its latch, and the caller must poll.
    pub async fn shut(&self) {
        self.shut.notified().await;
    }

    /// Ends our sleep in the server, by a message of the client.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn wake(&self) -> Result<(), Error> {
        self.client.batch_execute("").await
    }

    /// Forgets earlier signals.
    pub fn forget_signals(&self) {
        // At most one of each is stored.
        let _ = self.notified.notified().now_or_never();
        let _ = self.shut.notified().now_or_never();
    }

    /// Waits for other work of the reader.
    pub async fn notified(&self) {
        self.notified.notified().await;
    }
}

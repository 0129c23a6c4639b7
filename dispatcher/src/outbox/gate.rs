//! The gate. While it is shut, a commit with events wakes the daemon. While it is open, commits do
//! nothing.
//!
//! The module owns the control connection. The daemon sleeps in the server: `webhook.gate_sleep()`
//! shuts the gate, reports that, and returns when a commit has set the latch of its backend. The
//! backend itself opens the gate, so a frozen daemon costs the server nothing. The reader polls
//! again between the report and the sleep. Everything that committed without a wake-up is
//! visible by then.
//!
//! A schema of version 0.1 lacks that function. There, the session takes the gate, the reader polls
//! again, commits send NOTIFY, and the awake daemon releases the gate.

use futures_util::{FutureExt, future::BoxFuture};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_postgres::{Error, Statement};
use tracing::warn;

use crate::postgres::{Client, Watch};

/// A sleep without a timeout. Only after this time does the session check that its backend still
/// sleeps.
const UNTIL_WOKEN: Duration = Duration::from_secs(600);

/// The daemon's side of the gate.
#[derive(Debug)]
pub struct Gate {
    client: Arc<Client>,
    /// A notification has come, or the reader has other work.
    rung: Arc<Notify>,
    /// The server has shut the gate for our sleep.
    shut: Arc<Notify>,
    way: Way,
}

/// How the daemon sleeps with this database.
#[derive(Debug)]
enum Way {
    Server {
        sleep: Statement,
    },
    Session {
        take: Statement,
        release: Statement,
    },
    /// There is no gate, so no commit wakes the daemon.
    Clock,
}

/// How a sleep in the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The sleep did not begin, because a commit is in progress.
    Busy,
    /// A commit has woken the backend, or another cause.
    Rung,
    /// The time is over, or the client has sent a message.
    Over,
}

impl Gate {
    /// Listens on the control connection. Its `watch` receives notifications and messages.
    ///
    /// If the role may not listen, or the functions are missing, logs this once. The reader then
    /// polls at an interval.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn open(client: Arc<Client>, watch: &Watch) -> Result<Self, Error> {
        let is_lost = |error: &Error| error.is_closed() || error.code().is_none();
        let way = match Self::in_server(&client).await {
            Ok(way) => way,
            Err(error) if is_lost(&error) => return Err(error),
            Err(_) => match Self::in_session(&client).await {
                Ok(way) => way,
                Err(error) if is_lost(&error) => return Err(error),
                Err(error) => {
                    let error = crate::postgres::chain(&error);
                    warn!(error, "gate.unavailable; the outbox is looked at by the safety poll alone");
                    Way::Clock
                }
            },
        };
        Ok(Self { client, rung: Arc::clone(&watch.rung), shut: Arc::clone(&watch.asleep), way })
    }

    // Postgres checks the right to a function at the call, and not when it is prepared.

    async fn in_server(client: &Client) -> Result<Way, Error> {
        // A backend that loaded the library before its replacement sends NOTIFY, which sets our
        // backend's latch too.
        client.batch_execute("listen pg_webhook").await?;
        let sleep = client.prepare("select webhook.gate_sleep($1)").await?;
        client.query_one(&sleep, &[&1_i32]).await?;
        Ok(Way::Server { sleep })
    }

    async fn in_session(client: &Client) -> Result<Way, Error> {
        client.batch_execute("listen pg_webhook").await?;
        let take = client.prepare("select webhook.gate_take()").await?;
        let release = client.prepare("select webhook.gate_release()").await?;
        client.execute(&take, &[]).await?;
        client.execute(&release, &[]).await?;
        Ok(Way::Session { take, release })
    }

    /// Reports whether commits wake a sleeping daemon.
    pub fn is_available(&self) -> bool {
        !matches!(self.way, Way::Clock)
    }

    /// Reports whether to use [`sleep`](Self::sleep), and not [`take`](Self::take) and
    /// [`release`](Self::release).
    pub fn is_in_server(&self) -> bool {
        matches!(self.way, Way::Server { .. })
    }

    /// Sleeps in the server, for `timeout` at most. After [`shut`](Self::shut) has returned, each
    /// commit with events ends the sleep. Events of earlier commits are visible.
    ///
    /// # Errors
    /// The errors of the connection.
    pub fn sleep(self: Arc<Self>, timeout: Option<Duration>) -> BoxFuture<'static, Result<Woken, Error>> {
        async move {
            let Way::Server { sleep } = &self.way else { return Ok(Woken::Busy) };
            // Zero means no timeout.
            let timeout =
                timeout.map_or(0, |time| i32::try_from(time.as_millis().max(1)).unwrap_or(i32::MAX));
            let longest = match timeout {
                0 => UNTIL_WOKEN,
                ms => Duration::from_millis(ms.unsigned_abs().into()),
            };
            let row = self.client.query_one_of_sleep(sleep, &[&timeout], longest).await?;
            Ok(match row.try_get(0)? {
                "busy" => Woken::Busy,
                "rung" => Woken::Rung,
                _ => Woken::Over,
            })
        }
        .boxed()
    }

    /// Waits until the server has shut the gate for [`sleep`](Self::sleep).
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

    /// Waits for the gate. From then on, each commit with events sends a notification. Events of
    /// earlier commits are visible.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn take(self: Arc<Self>) -> Result<(), Error> {
        if let Way::Session { take, .. } = &self.way {
            self.client.execute(take, &[]).await?;
        }
        Ok(())
    }

    /// Releases the gate, so commits send no notification. This must be complete before the next
    /// [`take`](Self::take).
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn release(&self) -> Result<(), Error> {
        if let Way::Session { release, .. } = &self.way {
            self.client.execute(release, &[]).await?;
        }
        Ok(())
    }

    /// Forgets earlier notifications. The next poll finds their events.
    pub fn forget_rings(&self) {
        // At most one of each is stored.
        let _ = self.rung.notified().now_or_never();
        let _ = self.shut.notified().now_or_never();
    }

    /// Waits for a notification, or for other work of the reader.
    pub async fn rung(&self) {
        self.rung.notified().await;
    }
}

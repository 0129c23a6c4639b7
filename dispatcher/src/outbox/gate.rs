//! The gate: while it is shut, a commit with events wakes the daemon; while it is open, commits do nothing.
//!
//! Owns the control session. The daemon sleeps in the server: `webhook.gate_sleep()` shuts the gate, says so, and returns
//! when a commit has set the latch of its backend. The backend opens the gate by itself, so a daemon that is frozen costs
//! the server nothing. Between the word that the gate is shut and the sleep proper the reader polls once more: what
//! committed without waking anybody is visible by then.
//!
//! A schema of version 0.1 does not have that function: the session takes the gate, the reader polls once more, commits
//! ring with NOTIFY, and whoever wakes gives the gate back.

use futures_util::{FutureExt, future::BoxFuture};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_postgres::{Error, Statement};
use tracing::warn;

use crate::postgres::{Client, Watch};

/// A sleep without a timeout: the session asks only now and then whether its backend still sleeps.
const UNTIL_WOKEN: Duration = Duration::from_secs(600);

/// The daemon's side of the gate.
#[derive(Debug)]
pub struct Gate {
    client: Arc<Client>,
    /// A notification has come, or the reader is wanted for something else.
    rung: Arc<Notify>,
    /// The server has shut the gate for our sleep.
    shut: Arc<Notify>,
    way: Way,
}

/// How this database lets the daemon sleep.
#[derive(Debug)]
enum Way {
    Server {
        sleep: Statement,
    },
    Session {
        take: Statement,
        release: Statement,
    },
    /// There is no gate to be had, so no commit wakes us.
    Clock,
}

/// How a sleep in the server has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// It has not begun: a commit is under way.
    Busy,
    /// A commit, or something else that concerns the backend.
    Rung,
    /// The time is over, or we have spoken.
    Over,
}

impl Gate {
    /// Listens on the control session, whose notifications and messages come by its `watch`.
    ///
    /// A session that may not listen, or lacks the functions, is told so once; the outbox is then looked at by the clock.
    ///
    /// # Errors
    /// Those of the connection.
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

    // Rights are checked when a function is called, not when it is prepared.

    async fn in_server(client: &Client) -> Result<Way, Error> {
        // A backend that loaded the library before it was replaced rings with NOTIFY, which sets our backend's latch too.
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

    /// Whether commits wake a sleeper.
    pub fn is_available(&self) -> bool {
        !matches!(self.way, Way::Clock)
    }

    /// Whether [`sleep`](Self::sleep) is the way, and not [`take`](Self::take) and [`release`](Self::release).
    pub fn is_in_server(&self) -> bool {
        matches!(self.way, Way::Server { .. })
    }

    /// Sleeps in the server, no longer than `timeout`. Once [`shut`](Self::shut) has come, every commit with events ends
    /// it; those that do not are visible.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn sleep(self: Arc<Self>, timeout: Option<Duration>) -> BoxFuture<'static, Result<Woken, Error>> {
        async move {
            let Way::Server { sleep } = &self.way else { return Ok(Woken::Busy) };
            // Nought is no timeout.
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

    /// Until the server has shut the gate for [`sleep`](Self::sleep).
    pub async fn shut(&self) {
        self.shut.notified().await;
    }

    /// Ends our sleep in the server: it ends when the client says something.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn wake(&self) -> Result<(), Error> {
        self.client.batch_execute("").await
    }

    /// Waits for the gate. From then on every commit with events rings; those that did not are visible.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn take(self: Arc<Self>) -> Result<(), Error> {
        if let Way::Session { take, .. } = &self.way {
            self.client.execute(take, &[]).await?;
        }
        Ok(())
    }

    /// Gives it back: commits are silent again. Must be complete before the next [`take`](Self::take) begins.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn release(&self) -> Result<(), Error> {
        if let Way::Session { release, .. } = &self.way {
            self.client.execute(release, &[]).await?;
        }
        Ok(())
    }

    /// Forgets what came before now: what it was for is visible to the next look.
    pub fn forget_rings(&self) {
        // At most one of each is remembered.
        let _ = self.rung.notified().now_or_never();
        let _ = self.shut.notified().now_or_never();
    }

    /// Until a notification comes, or the reader is wanted for something else.
    pub async fn rung(&self) {
        self.rung.notified().await;
    }
}

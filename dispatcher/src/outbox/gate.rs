//! The gate: while the daemon holds it, a commit with events rings with NOTIFY; while it does not, commits are silent.
//!
//! Owns the control session: LISTEN and the two gate functions. Whoever sleeps takes the gate first, looks once more, and
//! only then waits; whoever wakes releases it before relying on its own looking.

use std::sync::Arc;
use tokio::sync::Notify;
use tokio_postgres::{Client, Error, Statement};
use tracing::warn;

/// The daemon's side of the gate.
#[derive(Debug)]
pub struct Gate {
    client: Arc<Client>,
    rung: Arc<Notify>,
    /// `None`: there is no gate to be had, so nobody rings.
    functions: Option<Functions>,
}

#[derive(Debug)]
struct Functions {
    take: Statement,
    release: Statement,
}

impl Gate {
    /// Listens on the control session, whose notifications wake `rung`.
    ///
    /// A session that may not listen, or lacks the functions, is told so once; the outbox is then looked at by the clock.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(client: Arc<Client>, rung: Arc<Notify>) -> Result<Self, Error> {
        let functions = match Self::functions(&client).await {
            Ok(functions) => Some(functions),
            Err(error) if error.is_closed() || error.code().is_none() => return Err(error),
            Err(error) => {
                let error = crate::postgres::chain(&error);
                warn!(error, "gate.unavailable; the outbox is looked at by the safety poll alone");
                None
            }
        };
        Ok(Self { client, rung, functions })
    }

    async fn functions(client: &Client) -> Result<Functions, Error> {
        client.batch_execute("listen pg_webhook").await?;
        let take = client.prepare("select webhook.gate_take()").await?;
        let release = client.prepare("select webhook.gate_release()").await?;
        // Rights are checked when a function is called, not when it is prepared.
        client.execute(&take, &[]).await?;
        client.execute(&release, &[]).await?;
        Ok(Functions { take, release })
    }

    /// Whether commits ring for a sleeper.
    pub fn is_available(&self) -> bool {
        self.functions.is_some()
    }

    /// Waits for the gate. From then on every commit with events rings; those that did not are visible.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn take(self: Arc<Self>) -> Result<(), Error> {
        if let Some(functions) = &self.functions {
            self.client.execute(&functions.take, &[]).await?;
        }
        Ok(())
    }

    /// Gives it back: commits are silent again. Must be complete before the next [`take`](Self::take) begins.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn release(&self) -> Result<(), Error> {
        if let Some(functions) = &self.functions {
            self.client.execute(&functions.release, &[]).await?;
        }
        Ok(())
    }

    /// Forgets rings that came before now: what they were for is visible to the next look.
    pub fn forget_rings(&self) {
        use futures_util::FutureExt;
        // At most one ring is remembered.
        let _ = self.rung.notified().now_or_never();
    }

    /// Until a commit rings.
    pub async fn rung(&self) {
        self.rung.notified().await;
    }
}

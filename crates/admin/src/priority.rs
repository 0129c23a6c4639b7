//! Lowers the priority of the admin server's sessions, so that delivering and writing sessions get
//! the processor first.

use database::Client;
use tokio_postgres::Error;

/// Whether the priority of a session has been lowered.
#[derive(Debug, Default)]
pub struct Priority {
    is_lowered: bool,
}

impl Priority {
    /// Lowers the priority of a session's process in Postgres, once. If the kernel rejects it, the
    /// session works with its usual priority, and the next call tries again.
    ///
    /// # Errors
    /// The errors of the statement.
    pub async fn lower(&mut self, client: &Client) -> Result<(), Error> {
        if !self.is_lowered {
            let row = client.query_one("select webhook.lower_priority()", &[]).await?;
            self.is_lowered = row.try_get(0)?;
        }
        Ok(())
    }
}

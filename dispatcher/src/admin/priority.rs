//! The admin server's sessions leave the processor to others that want it: those that deliver, and those that write.

use crate::postgres::Client;
use tokio_postgres::Error;

/// Whether a session has stood back already.
#[derive(Debug, Default)]
pub struct Priority {
    is_lowered: bool,
}

impl Priority {
    /// Lowers the priority of a session's process in Postgres, once. The kernel may put that off; then the session works as it is, and
    /// the next call asks again.
    ///
    /// # Errors
    /// The statement's.
    pub async fn lower(&mut self, client: &Client) -> Result<(), Error> {
        if !self.is_lowered {
            let row = client.query_one("select webhook.lower_priority()", &[]).await?;
            self.is_lowered = row.try_get(0)?;
        }
        Ok(())
    }
}

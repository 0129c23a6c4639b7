//! Makes sure that visible commits are on the server's disk, for applications that commit with
//! `synchronous_commit = off`.
//!
//! It checks first, because mostly they are. If not, a synchronous commit flushes the log up to its
//! own position. To wait for the WAL writer would delay all events behind the ledger's own
//! asynchronous commits.

use database::Client;
use tokio_postgres::Error;

/// Every commit that a snapshot sees has a position in the log before the insert position. At the
/// start of a page, the insert position is behind the page header of 24 or 40 bytes, and there is
/// nothing to flush before it.
const IS_FLUSHED: &str = include_str!("sql/durable_is_flushed.sql");

/// Postgres does not flush for a transaction that has written nothing to the log, so this one logs
/// a message. With `local`, the commit does not wait for a standby that is away.
const FLUSH: &str = "
    begin; set local synchronous_commit = local; select pg_logical_emit_message(true, 'webhookd', ''); commit";

/// Returns when everything that is visible now would survive a crash of the server.
///
/// # Errors
/// The errors of the connection.
pub async fn flush(client: &Client) -> Result<(), Error> {
    if client.query_one(IS_FLUSHED, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    client.batch_execute(FLUSH).await
}

//! Sees to it that what is visible is on the server's disk, for applications that commit with `synchronous_commit = off`.
//!
//! Asks first: mostly it is. If not, a synchronous commit puts it there, with all that lies before
//! it in the log; waiting for the WAL writer would hold up everybody's events behind the ledger's own asynchronous commits.

use crate::postgres::Client;
use tokio_postgres::Error;

/// The commit of whatever a snapshot sees lies before the place where the log goes on. At the start of a page that place is
/// behind the page's header, of 24 bytes or of 40, and there is nothing in front of it to be flushed.
const IS_FLUSHED: &str = "
    select pg_current_wal_flush_lsn() >= l.lsn - case when l.at in (24, 40) then l.at else 0 end
    from (select i.lsn, (i.lsn - pg_lsn '0/0') % current_setting('wal_block_size')::numeric as at
          from pg_current_wal_insert_lsn() as i (lsn)) l";

/// The message is there to be logged: a transaction that has written nothing to the log is not flushed, whatever it was set to.
/// `local`: a standby that is away holds up nobody here.
const FLUSH: &str = "
    begin; set local synchronous_commit = local; select pg_logical_emit_message(true, 'webhookd', ''); commit";

/// Returns when everything that is visible now would survive a crash of the server.
///
/// # Errors
/// Those of the connection.
pub async fn flush(client: &Client) -> Result<(), Error> {
    if client.query_one(IS_FLUSHED, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    client.batch_execute(FLUSH).await
}

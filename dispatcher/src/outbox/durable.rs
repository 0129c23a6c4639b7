//! Waits until what is visible is on the server's disk, for applications that commit with `synchronous_commit = off`.
//!
//! Forces nothing: a transaction that commits synchronously, or the WAL writer within three times `wal_writer_delay`, does it.

use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::{Client, Error};

/// Between two looks at how far the log has been flushed.
const INTERVAL: Duration = Duration::from_millis(2);

/// The commit of whatever a snapshot sees lies before the place where the log goes on. At the start of a page that place is
/// behind the page's header, of 24 bytes or of 40, and there is nothing in front of it to be flushed.
const UPTO: &str = "
    select (l.lsn - case when l.at in (24, 40) then l.at else 0 end)::text
    from (select i.lsn, (i.lsn - pg_lsn '0/0') % current_setting('wal_block_size')::numeric as at
          from pg_current_wal_insert_lsn() as i (lsn)) l";

const IS_FLUSHED: &str = "select pg_current_wal_flush_lsn() >= $1::text::pg_lsn";

/// Returns when everything that is visible now would survive a crash of the server.
///
/// # Errors
/// Those of the connection.
pub async fn flushed(client: &Client) -> Result<(), Error> {
    let row = client.query_one(UPTO, &[]).await?;
    let upto: &str = row.try_get(0)?;
    let is_flushed = client.prepare(IS_FLUSHED).await?;
    while !client.query_one(&is_flushed, &[&upto]).await?.try_get::<_, bool>(0)? {
        sleep(INTERVAL).await;
    }
    Ok(())
}

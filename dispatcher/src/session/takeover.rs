//! How a session becomes the leader: it waits for the locks of the former leader, and acquires the
//! cursor.

use crate::{leadership, session::Session, settings::Settings};
use database::{
    Client, Error, Lock, Phase, chain,
    instance::Instance,
    is_lock,
    preflight::{Identity, check_instance},
};
use delivery::snapshot::Snapshot;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tracing::{debug, error, info, warn};

/// Time between two attempts to become the leader.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);

const WRITE_LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a former leader may take for its last writes (`LOST_DRAIN_TIMEOUT` and
/// `LAST_WRITES_TIMEOUT`). One that takes longer does not know that it has lost the lock.
const FORMER_WRITER_TIMEOUT: Duration = Duration::from_secs(8);
const END_WRITER: &str = concat!(
    "select pg_terminate_backend(l.pid, 2000) from pg_locks l where l.pid <> pg_backend_pid() and ",
    is_lock!(writer)
);

/// The first daemon of a database creates the cursor. Each takeover raises the epoch.
const ADOPT: &str = "
    insert into webhook.cursor (snapshot, system_identifier, database_oid) values ($1::text::pg_snapshot, $2, $3)
    on conflict (singleton) do nothing";
const ARMED: &str = "
    select instance from webhook.cursor where system_identifier = $1 and database_oid = $2 and restored_at is null";
const TAKE_OVER: &str = include_str!("sql/take_over.sql");
/// For `webhook.health`. If another daemon delivers, nothing is wrong with the database.
const REFUSED: &str = concat!(
    "update webhook.cursor set refused_instance = $1
     where instance is not null and refused_instance is distinct from $1
       and not exists (select from pg_locks l where l.pid <> pg_backend_pid() and ",
    is_lock!(leader),
    ")"
);

/// The values that a new leader gets.
#[derive(Debug)]
pub(super) struct Takeover {
    pub epoch: i64,
    pub checkpoint: Snapshot,
}

impl Takeover {
    fn read(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let text: &str = row.try_get(1)?;
        let checkpoint = text.parse().unwrap_or_else(|error| {
            // Events that are read again cost time. Events that are not read would be lost.
            error!(%error, "checkpoint.unreadable; starting from the oldest event");
            Snapshot::beginning()
        });
        Ok(Self { epoch: row.try_get(0)?, checkpoint })
    }
}

impl Session {
    /// Acquires the leader's lock, and then the cursor. Waits while another daemon has the lock.
    pub(super) async fn become_active(&self, settings: &Settings) -> Result<Takeover, Error> {
        let (mut is_told, mut is_first) = (false, true);
        while !self
            .control
            .query_one(Lock::Leader.try_statement(self.schema), &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(Error::of_statement)?
        {
            // If the link is dead, the server does not notice that we have closed a session.
            if std::mem::take(&mut is_first) && leadership::end_former_lives(&self.control).await? {
                continue;
            }
            if !is_told {
                info!("daemon.stands_by; another daemon is the leader");
                settings.phase.send_replace(Phase::Standby);
                leadership::warn_if_hidden(&self.control).await?;
                is_told = true;
            }
            leadership::end_frozen(&self.control).await?;
            sleep(STANDBY_INTERVAL).await;
        }
        self.become_writer().await?;
        let Identity { system_identifier, database_oid } = self.history.identity;
        let beginning = Snapshot::beginning().to_string();
        self.ledger
            .execute(ADOPT, &[&beginning, &system_identifier, &database_oid])
            .await
            .map_err(Error::of_statement)?;
        let row = match self.take_over(&self.server.instance).await {
            Err(error @ Error::OtherInstance { .. }) => return Err(refused(&self.control, error).await),
            row => row?,
        };
        let takeover = Takeover::read(&row).map_err(Error::of_statement)?;
        settings.phase.send_replace(Phase::Active { epoch: takeover.epoch });
        let instance = &self.server.instance;
        info!(epoch = takeover.epoch, checkpoint = %takeover.checkpoint, %instance, "daemon.active");
        Ok(takeover)
    }

    /// Acquires the cursor, and adopts a database that is not armed for an instance yet. Another
    /// daemon may have adopted it since the preflight, and `webhook_arm()` may be called at any
    /// moment. So the update repeats the condition that was checked.
    async fn take_over(&self, instance: &Instance) -> Result<tokio_postgres::Row, Error> {
        let Identity { system_identifier, database_oid } = self.history.identity;
        loop {
            let row = self.ledger.query_opt(ARMED, &[&system_identifier, &database_oid]).await;
            let row = row.map_err(Error::of_statement)?.ok_or(Error::OtherCluster)?;
            let armed: Option<&str> = row.try_get(0).map_err(Error::of_statement)?;
            check_instance(instance, armed)?;
            let ours = instance.as_str();
            let taken =
                self.ledger.query_opt(TAKE_OVER, &[&system_identifier, &database_oid, &armed, &ours]).await;
            let Some(taken) = taken.map_err(Error::of_statement)? else { continue };
            if armed.is_none() {
                info!(%instance, "database.adopted");
                if instance.rests_on_host_name() {
                    warn!(%instance, "instance.rests_on_host_name; set --instance if the host name can change");
                }
            }
            return Ok(taken);
        }
    }

    /// Waits until the ledger of the former leader can no longer write.
    async fn become_writer(&self) -> Result<(), Error> {
        let mut since = Instant::now();
        let is_granted = |row: tokio_postgres::Row| row.try_get::<_, bool>(0);
        while !self
            .ledger
            .query_one(Lock::Writer.try_statement(self.schema), &[])
            .await
            .and_then(is_granted)
            .map_err(Error::of_statement)?
        {
            if since.elapsed() > FORMER_WRITER_TIMEOUT {
                warn!("daemon.ends_former_writer; it is no longer the leader, but still has its session");
                match self.control.query(END_WRITER, &[]).await {
                    Ok(_) => {}
                    Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                        warn!(
                            error = chain(&error),
                            "daemon.cannot_end_another; run both daemons as the same role"
                        );
                    }
                    Err(error) => return Err(Error::of_statement(error)),
                }
                since = Instant::now();
            }
            sleep(WRITE_LOCK_INTERVAL).await;
        }
        Ok(())
    }
}

/// Stores our instance as the refused one, and returns the error. It returns the same error if the
/// statement fails.
pub(super) async fn refused(control: &Client, error: Error) -> Error {
    if let Error::OtherInstance { ours, .. } = &error
        && let Err(error) = control.execute(REFUSED, &[ours]).await
    {
        debug!(error = chain(&error), "session.refusal_unwritten");
    }
    error
}

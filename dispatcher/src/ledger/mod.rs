//! The ledger writes results in batches: attempts, changes of the queue, and the checkpoint.
//!
//! It writes one transaction per 5 ms or per 500 results. Commits of this session are
//! asynchronous. So a crash of the server may lose the last commits. It never loses an attempt and
//! keeps a checkpoint that covers it, because the log is in order. While the daemon lives, it loses
//! nothing: the ledger returns the results that a broken connection did not confirm, and the next
//! session writes them again.

pub mod batch;
mod copy;
mod statements;
use delivery::{
    record::{Confirmed, Entry, Observer, ReceiverEvent, ReceiverHealth, Record, summary},
    snapshot::Snapshot,
};

use batch::Batch;
use database::{Client, chain, passes, schema::Schema, value::Micros};
use source::outbox::ring::Present;
use statements::Statements;
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Maximum number of results in one transaction, and how long the first of them waits for others.
///
/// The cost of a COPY grows with the square of its rows: Postgres counts a reference to the row
/// type for each of up to 1000 buffered rows, and searches among equal references. With 1000 rows,
/// this took a fifth of the session's processor time.
const BATCH_ENTRIES_MAX: usize = 500;
const BATCH_WAIT: Duration = Duration::from_millis(5);

/// Why the ledger stopped before its end.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot write results")]
    Database(#[from] tokio_postgres::Error),
    #[error("another daemon has taken over")]
    Superseded,
}

/// How the ledger ended: the records that it could not write, in order, and the reason.
#[derive(Debug, Default)]
pub struct LedgerEnd {
    pub unwritten: Vec<Record>,
    pub error: Option<Error>,
}

/// Writes over one connection, for one takeover.
pub struct Ledger {
    client: Client,
    statements: Statements,
    epoch: i64,
    schema: Schema,
    /// The slot for new attempts.
    present: Arc<Present>,
    observer: Option<Arc<dyn Observer>>,
}

impl Ledger {
    /// Prepares its statements.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn open(
        client: Client,
        epoch: i64,
        present: Arc<Present>,
        schema: Schema,
    ) -> Result<Self, tokio_postgres::Error> {
        let statements = Statements::prepare(&client, schema).await?;
        Ok(Self { client, statements, epoch, schema, present, observer: None })
    }

    /// Sets the observer of the batches that follow.
    pub fn observed_by(self, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { observer, ..self }
    }

    /// Writes records until the senders are gone. After an error or `give_up`, it only collects
    /// them, so that none is lost. It reports an error through `failed` at once.
    pub async fn run(
        mut self,
        mut records: mpsc::UnboundedReceiver<Vec<Record>>,
        confirmed: mpsc::UnboundedSender<Confirmed>,
        failed: CancellationToken,
        give_up: CancellationToken,
    ) -> LedgerEnd {
        let mut waiting: VecDeque<Record> = VecDeque::new();
        let error = loop {
            if waiting.is_empty() {
                match records.recv().await {
                    Some(more) => waiting.extend(more),
                    None => return LedgerEnd::default(),
                }
            }
            // Entries are written together. Each other record is a statement of its own.
            if matches!(waiting.front(), Some(Record::Entry(_))) {
                gather(&mut records, &mut waiting).await;
            }
            tokio::select! {
                written = self.write(&mut waiting, &confirmed) => match written {
                    Ok(()) => {}
                    Err(error) => break Some(error),
                },
                () = give_up.cancelled() => break None,
            }
        };
        failed.cancel();
        // The scheduler sees that no further confirmation comes.
        drop(confirmed);
        while let Some(more) = records.recv().await {
            waiting.extend(more);
        }
        LedgerEnd { unwritten: waiting.into(), error }
    }

    /// Writes the entries at the front, or the one other record at the front.
    async fn write(
        &mut self,
        waiting: &mut VecDeque<Record>,
        confirmed: &mpsc::UnboundedSender<Confirmed>,
    ) -> Result<(), Error> {
        let entries =
            waiting.iter().take(BATCH_ENTRIES_MAX).take_while(|record| matches!(record, Record::Entry(_)));
        let count = entries.count();
        if count > 0 {
            let entries: Vec<&Entry> = waiting.iter().take(count).filter_map(Record::entry).collect();
            self.write_entries(&entries, false).await?;
            if let Some(observer) = &self.observer {
                observer.written(&entries);
            }
            let summary = summary(&entries);
            waiting.drain(..count);
            // The scheduler may have ended already.
            let _ = confirmed.send(summary);
            return Ok(());
        }
        let Some(record) = waiting.front() else { return Ok(()) };
        if let Record::Checkpoint(snapshot) = record {
            self.checkpoint(snapshot).await?;
        } else {
            let _ = confirmed.send(self.write_alone(record).await?);
        }
        waiting.pop_front();
        Ok(())
    }

    /// Writes a record that is not an entry. If Postgres rejects its data, deliveries continue.
    async fn write_alone(&mut self, record: &Record) -> Result<Confirmed, Error> {
        let client = &self.client;
        let mut confirmed = Confirmed::default();
        let written = match record {
            Record::Forget { subscription_id } => {
                statements::execute(client, statements::FORGET, &[subscription_id]).await
            }
            Record::ReceiverHealth { subscription_id, health, event } => {
                let change =
                    HealthChange { subscription_id: *subscription_id, health, event: event.as_ref() };
                change.write(client, self.schema).await
            }
            Record::Disable { subscription_id, reason } => {
                confirmed.disabled = Some(*subscription_id);
                match statements::execute(client, statements::DISABLE, &[subscription_id, reason]).await {
                    Ok(()) => statements::execute(client, statements::PARK, &[subscription_id]).await,
                    Err(error) => Err(error),
                }
            }
            Record::Unblock { subscription_id } => {
                confirmed.unblocked = Some(*subscription_id);
                statements::execute(client, statements::UNBLOCK, &[subscription_id]).await
            }
            Record::Entry(_) | Record::Checkpoint(_) => Ok(()),
        };
        match written {
            Ok(()) => Ok(confirmed),
            Err(error) if passes(&error) => Err(error.into()),
            Err(error) => {
                error!(?record, error = %chain(&error), "ledger.record_refused");
                Ok(Confirmed::default())
            }
        }
    }

    /// Returns the deliveries of the records, as subscription and event, that have an attempt or a
    /// queue row.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn known(&self, records: &[Record]) -> Result<HashSet<(i64, i64)>, Error> {
        let entries = records.iter().filter_map(Record::entry);
        let (subscriptions, events): (Vec<i64>, Vec<i64>) =
            entries.map(|entry| (entry.subscription_id, entry.event_id)).unzip();
        let rows = self.client.query(statements::KNOWN, &[&subscriptions, &events]).await?;
        Ok(rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, tokio_postgres::Error>>()?)
    }

    /// Writes the records that an earlier session could not write. Existing attempts are not
    /// written twice.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn write_again(&mut self, records: &[Record]) -> Result<(), Error> {
        let entries: Vec<&Entry> = records.iter().filter_map(Record::entry).collect();
        for entries in entries.chunks(BATCH_ENTRIES_MAX) {
            self.write_entries(entries, true).await?;
        }
        // These follow the results, although they were between them. None of them undoes a result.
        for record in records.iter().filter(|record| record.entry().is_none()) {
            if !matches!(record, Record::Checkpoint(_)) {
                self.write_alone(record).await?;
            }
        }
        Ok(())
    }

    /// Writes all entries in one transaction. If Postgres rejects the data, bisects to isolate the
    /// bad entry.
    async fn write_entries(&mut self, entries: &[&Entry], is_again: bool) -> Result<(), Error> {
        let mut parts = vec![entries.to_vec()];
        while let Some(part) = parts.pop() {
            let Err(error) =
                self.statements.write(&self.client, &Batch::of(&part, &self.present), is_again).await
            else {
                continue;
            };
            if passes(&error) {
                return Err(error.into());
            }
            if part.len() > 1 {
                warn!(entries = part.len(), error = %chain(&error), "ledger.batch_refused");
                let (first, second) = part.split_at(part.len() / 2);
                parts.push(second.to_vec());
                parts.push(first.to_vec());
                continue;
            }
            for entry in part {
                let (subscription_id, sequence) = (entry.subscription_id, entry.event_id);
                error!(subscription_id, sequence, error = %chain(&error), "ledger.entry_refused");
                let bare = entry.without_texts();
                self.statements.write(&self.client, &Batch::of(&[&bare], &self.present), is_again).await?;
            }
        }
        Ok(())
    }

    async fn checkpoint(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&snapshot.to_string(), &self.epoch];
        match self.client.execute(&self.statements.checkpoint, &params).await? {
            1 => Ok(()),
            _ => Err(Error::Superseded),
        }
    }
}

/// A change of the health of a receiver, and the event about it.
struct HealthChange<'a> {
    subscription_id: i64,
    health: &'a ReceiverHealth,
    event: Option<&'a ReceiverEvent>,
}

impl HealthChange<'_> {
    /// Writes both in one transaction.
    async fn write(&self, client: &Client, schema: Schema) -> Result<(), tokio_postgres::Error> {
        client.batch_execute("begin").await?;
        let mut written = self.put(client, schema).await;
        if written.is_ok() {
            written = self.tell(client).await;
        }
        client.batch_execute(if written.is_ok() { "commit" } else { "rollback" }).await.and(written)
    }

    async fn put(&self, client: &Client, schema: Schema) -> Result<(), tokio_postgres::Error> {
        let ReceiverHealth {
            is_open,
            consecutive_failures,
            failing_since_us,
            warned_at_us,
            probe_interval_us,
        } = self.health;
        let (since, warned) = (failing_since_us.map(Micros), warned_at_us.map(Micros));
        let params: [&(dyn ToSql + Sync); 6] =
            [&self.subscription_id, is_open, consecutive_failures, &since, &warned, probe_interval_us];
        match schema.is_outdated() {
            true => statements::execute(client, statements::HEALTH_0_2, &params[..5]).await,
            false => statements::execute(client, statements::HEALTH, &params).await,
        }
    }

    async fn tell(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        match self.event {
            None => Ok(()),
            Some(ReceiverEvent::Failing { failing_since_us, failures, status, error }) => {
                let since = Micros(*failing_since_us);
                let params: [&(dyn ToSql + Sync); 5] =
                    [&self.subscription_id, &since, failures, status, error];
                statements::execute(client, statements::FAILING, &params).await
            }
            Some(ReceiverEvent::Recovered { failing_since_us }) => {
                let since = Micros(*failing_since_us);
                statements::execute(client, statements::RECOVERED, &[&self.subscription_id, &since]).await
            }
        }
    }
}

/// Waits until the batch is large enough for a statement.
async fn gather(records: &mut mpsc::UnboundedReceiver<Vec<Record>>, waiting: &mut VecDeque<Record>) {
    let deadline = Instant::now() + BATCH_WAIT;
    while waiting.len() < BATCH_ENTRIES_MAX {
        match timeout_at(deadline, records.recv()).await {
            Ok(Some(more)) => waiting.extend(more),
            Ok(None) | Err(_) => return,
        }
    }
}

//! The ledger writes results in batches: attempts, changes of the queue, and the checkpoint.
//!
//! It writes one transaction per 5 ms or per 500 results. Commits of this session are
//! asynchronous. So a crash of the server may lose the last commits. It never loses an attempt and
//! keeps a checkpoint that covers it, because the log is in order. While the daemon lives, it loses
//! nothing: the ledger returns the results that a broken connection did not confirm, and the next
//! session writes them again.
//!
//! The ledger never waits for a lock that a user can hold ([`aside`]).

mod aside;
pub mod batch;
mod copy;
mod receiver_health;
mod statements;
use delivery::{
    record::{Confirmed, Entry, Observer, Record, late_summary, summary},
    snapshot::Snapshot,
};

use aside::{Aside, Locker};
use batch::Batch;
use database::{Client, chain, passes, schema::Schema};
use receiver_health::HealthChange;
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
    time::{Instant, sleep_until, timeout_at},
};
use tokio_postgres::Row;
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
    /// The records of subscriptions that another session has locked.
    pub locked: Vec<Record>,
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
    aside: Aside,
}

/// The channel for confirmations. The scheduler may have ended already, so errors do not count.
type Confirmations = mpsc::UnboundedSender<Confirmed>;

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
        if !schema.is_outdated() {
            client.execute(statements::REPORT_NONE_LOCKED, &[]).await?;
        }
        let aside = Aside::default();
        Ok(Self { client, statements, epoch, schema, present, observer: None, aside })
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
        confirmed: Confirmations,
        failed: CancellationToken,
        give_up: CancellationToken,
    ) -> LedgerEnd {
        let mut waiting: VecDeque<Record> = VecDeque::new();
        let locked = self.aside.ids();
        let _ = confirmed.send(Confirmed { locked, ..Confirmed::default() });
        let error = loop {
            let mut is_end = false;
            if waiting.is_empty() {
                tokio::select! {
                    more = records.recv() => match more {
                        Some(more) => waiting.extend(more),
                        None => is_end = true,
                    },
                    () = wait_until(self.aside.retry_at()) => {}
                }
            }
            // Entries are written together. Each other record is a statement of its own.
            if matches!(waiting.front(), Some(Record::Entry(_))) {
                gather(&mut records, &mut waiting).await;
            }
            let written = async {
                self.write(&mut waiting, &confirmed).await?;
                if is_end || self.aside.retry_at().is_some_and(|at| at <= Instant::now()) {
                    self.retry(&confirmed).await?;
                }
                Ok(())
            };
            tokio::select! {
                written = written => match written {
                    Ok(()) if is_end => {
                        return LedgerEnd { locked: self.aside.into_records(), ..LedgerEnd::default() };
                    }
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
        LedgerEnd { unwritten: waiting.into(), locked: self.aside.into_records(), error }
    }

    /// Writes the entries at the front, or the one other record at the front. Puts those aside that
    /// another session has locked.
    async fn write(
        &mut self,
        waiting: &mut VecDeque<Record>,
        confirmed: &Confirmations,
    ) -> Result<(), Error> {
        let entries =
            waiting.iter().take(BATCH_ENTRIES_MAX).take_while(|record| matches!(record, Record::Entry(_)));
        let count = entries.count();
        if count == 0 {
            return self.write_front(waiting, confirmed).await;
        }
        let mut entries: Vec<&Entry> = waiting.iter().take(count).filter_map(Record::entry).collect();
        entries.retain(|entry| !self.aside.holds_entry(entry, false));
        let locked = self.write_entries(&mut entries, false).await?;
        if let Some(observer) = &self.observer {
            observer.written(&entries);
        }
        let _ = confirmed.send(Confirmed { entries: count as u64, locked, ..summary(&entries) });
        for record in waiting.drain(..count).filter(|record| self.aside.holds(record)).collect::<Vec<_>>() {
            self.aside.push(record);
        }
        Ok(())
    }

    async fn write_front(
        &mut self,
        waiting: &mut VecDeque<Record>,
        confirmed: &Confirmations,
    ) -> Result<(), Error> {
        let Some(record) = waiting.front() else { return Ok(()) };
        if let Record::Checkpoint(snapshot) = record {
            self.checkpoint(snapshot).await?;
        } else if !self.aside.holds(record) {
            match self.write_alone(record).await? {
                Written::Done(done) => drop(confirmed.send(done)),
                Written::Locked(ids) => {
                    let locked = self.lock(ids);
                    let _ = confirmed.send(Confirmed { locked, ..Confirmed::default() });
                }
            }
        }
        if let Some(record) = waiting.pop_front().filter(|record| self.aside.holds(record)) {
            self.aside.push(record);
        }
        Ok(())
    }

    /// Writes a record that is not an entry. If Postgres rejects its data, deliveries continue.
    async fn write_alone(&self, record: &Record) -> Result<Written, Error> {
        let mut confirmed = Confirmed::default();
        let execute = async |id: &i64, statements: &[_]| {
            self.statements.execute_locked(&self.client, *id, statements).await
        };
        let written = match record {
            Record::Forget { subscription_id } => {
                statements::execute(&self.client, statements::FORGET, &[subscription_id]).await
            }
            Record::ReceiverHealth { subscription_id, health, event } => {
                let change =
                    HealthChange { subscription_id: *subscription_id, health, event: event.as_ref() };
                change.write(&self.statements, &self.client, self.schema).await
            }
            Record::Disable { subscription_id: id, reason } => {
                confirmed.disabled = Some(*id);
                execute(id, &[(statements::DISABLE, &[id, reason]), (statements::PARK, &[id])]).await
            }
            Record::Unblock { subscription_id: id } => {
                confirmed.unblocked = Some(*id);
                execute(id, &[(statements::UNBLOCK, &[id])]).await
            }
            Record::Entry(_) | Record::Checkpoint(_) => Ok(()),
        };
        match written {
            Ok(()) => Ok(Written::Done(confirmed)),
            Err(error) => match statements::locked(&error) {
                Some(ids) => Ok(Written::Locked(ids)),
                None if passes(&error) => Err(error.into()),
                None => {
                    error!(?record, error = %chain(&error), "ledger.record_refused");
                    Ok(Written::Done(Confirmed::default()))
                }
            },
        }
    }

    /// Begins to put records of these subscriptions aside. Returns those that are new.
    fn lock(&mut self, ids: Vec<i64>) -> Vec<i64> {
        let now = Instant::now();
        ids.into_iter().filter(|id| self.aside.lock(*id, now)).collect()
    }

    /// Writes the records of subscriptions that are no longer locked, and reports the others.
    async fn retry(&mut self, confirmed: &Confirmations) -> Result<(), Error> {
        let ids = self.aside.ids();
        if ids.is_empty() {
            return Ok(());
        }
        let lockers = self.client.query(statements::LOCKERS, &[&ids]).await?;
        let lockers = lockers.iter().map(locker).collect::<Result<Vec<_>, _>>()?;
        let still: HashSet<i64> = lockers.iter().map(|(id, _)| *id).collect();
        let (mut unlocked, mut reported) = (Vec::new(), Vec::new());
        for id in ids.into_iter().filter(|id| !still.contains(id)) {
            if self.write_aside(id, confirmed).await? {
                unlocked.push(id);
                reported.extend(self.aside.unlock(id).then_some(id));
            }
        }
        let _ = confirmed.send(Confirmed { unlocked, ..Confirmed::default() });
        if !reported.is_empty() {
            self.client.execute(statements::REPORT_UNLOCKED, &[&reported]).await?;
            aside::log_unlocked(&reported);
        }
        let now = Instant::now();
        let (ids, lockers): (Vec<i64>, Vec<Locker>) = self.aside.report(lockers, now).into_iter().unzip();
        if !ids.is_empty() {
            let pids: Vec<Option<i32>> = lockers.iter().map(|locker| locker.pid).collect();
            let roles: Vec<Option<&str>> = lockers.iter().map(|locker| locker.role.as_deref()).collect();
            let names: Vec<Option<&str>> =
                lockers.iter().map(|locker| locker.application.as_deref()).collect();
            self.client.execute(statements::REPORT_LOCKED, &[&ids, &pids, &roles, &names]).await?;
        }
        self.aside.wait(now);
        Ok(())
    }

    /// Writes the records of one subscription that were put aside. Returns `false` if another
    /// session has locked it again.
    async fn write_aside(&mut self, id: i64, confirmed: &Confirmations) -> Result<bool, Error> {
        while let Some(locked) = self.aside.get(id) {
            let (count, done) = self.write_some(&locked.records, locked.is_again).await?;
            if count == 0 {
                return Ok(locked.records.is_empty());
            }
            self.aside.written(id, count);
            let _ = confirmed.send(done);
        }
        Ok(true)
    }

    /// Writes the first of these records: entries together, or one other record. Returns their
    /// number, which is 0 if the subscription is locked.
    async fn write_some(
        &self,
        records: &VecDeque<Record>,
        is_again: bool,
    ) -> Result<(usize, Confirmed), Error> {
        let entries: Vec<&Entry> = records.iter().take(BATCH_ENTRIES_MAX).map_while(Record::entry).collect();
        if let (true, Some(record)) = (entries.is_empty(), records.front()) {
            return Ok(match self.write_alone(record).await? {
                Written::Done(done) => (1, done),
                Written::Locked(_) => (0, Confirmed::default()),
            });
        }
        let Part { written, .. } = self.write_part(&entries, is_again).await?;
        if let Some(observer) = &self.observer {
            observer.written(&entries[..written]);
        }
        let later = records.iter().skip(written).filter_map(Record::entry);
        Ok((written, late_summary(&entries[..written], later)))
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
    /// written twice. Those of locked subscriptions are put aside.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn write_again(&mut self, records: &[Record]) -> Result<(), Error> {
        let entries: Vec<&Entry> = records.iter().filter_map(Record::entry).collect();
        for chunk in entries.chunks(BATCH_ENTRIES_MAX) {
            let mut written = chunk.to_vec();
            written.retain(|entry| !self.aside.holds_entry(entry, true));
            self.write_entries(&mut written, true).await?;
            let held: Vec<&&Entry> =
                chunk.iter().filter(|entry| self.aside.holds_entry(entry, true)).collect();
            for entry in held {
                self.aside.adopt(Record::Entry((*entry).clone()), entry.subscription_id);
            }
        }
        // These follow the results, although they were between them. None of them undoes a result.
        for record in records.iter().filter(|record| record.entry().is_none()) {
            if matches!(record, Record::Checkpoint(_)) {
                continue;
            }
            if !self.aside.holds(record)
                && let Written::Locked(ids) = self.write_alone(record).await?
            {
                self.lock(ids);
            }
            if let Some(id) = record.locks().filter(|_| self.aside.holds(record)) {
                self.aside.adopt(record.clone(), id);
            }
        }
        Ok(())
    }

    /// Writes the entries, and leaves out those of subscriptions that another session has locked.
    /// Returns these subscriptions.
    async fn write_entries(&mut self, entries: &mut Vec<&Entry>, is_again: bool) -> Result<Vec<i64>, Error> {
        let (mut locked, mut done) = (Vec::new(), 0);
        while let Part { written, locked: Some(ids) } = self.write_part(&entries[done..], is_again).await? {
            locked.extend(self.lock(ids));
            done += written;
            let rest = entries.split_off(done);
            entries.extend(rest.into_iter().filter(|entry| !self.aside.holds_entry(entry, is_again)));
        }
        Ok(locked)
    }

    /// Writes the entries in one transaction. If Postgres rejects the data, bisects to isolate the
    /// bad entry.
    async fn write_part(&self, entries: &[&Entry], is_again: bool) -> Result<Part, Error> {
        let (mut parts, mut written) = (vec![entries], 0);
        while let Some(part) = parts.pop() {
            let mut result = self.write_once(part, is_again).await;
            if let (Err(error), [entry]) = (&result, part)
                && !passes(error)
                && statements::locked(error).is_none()
            {
                let (subscription_id, sequence) = (entry.subscription_id, entry.event_id);
                error!(subscription_id, sequence, error = %chain(error), "ledger.entry_refused");
                result = self.write_once(&[&entry.without_texts()], is_again).await;
            }
            match result {
                Ok(()) => written += part.len(),
                Err(error) => match statements::locked(&error) {
                    Some(ids) => return Ok(Part { written, locked: Some(ids) }),
                    None if passes(&error) || part.len() <= 1 => return Err(error.into()),
                    None => {
                        warn!(entries = part.len(), error = %chain(&error), "ledger.batch_refused");
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
            }
        }
        Ok(Part { written, locked: None })
    }

    async fn write_once(&self, entries: &[&Entry], is_again: bool) -> Result<(), tokio_postgres::Error> {
        if entries.is_empty() {
            return Ok(());
        }
        self.statements.write(&self.client, &Batch::of(entries, &self.present, is_again), is_again).await
    }

    async fn checkpoint(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&snapshot.to_string(), &self.epoch];
        match self.client.execute(&self.statements.checkpoint, &params).await? {
            1 => Ok(()),
            _ => Err(Error::Superseded),
        }
    }
}

/// The result of writing entries: how many of the first are written, and the subscriptions that
/// another session has locked.
struct Part {
    written: usize,
    locked: Option<Vec<i64>>,
}

/// The result of writing a record.
enum Written {
    Done(Confirmed),
    /// Nothing is written: another session has locked these subscriptions.
    Locked(Vec<i64>),
}

fn locker(row: &Row) -> Result<(i64, Locker), tokio_postgres::Error> {
    let locker = Locker { pid: row.try_get(1)?, role: row.try_get(2)?, application: row.try_get(3)? };
    Ok((row.try_get(0)?, locker))
}

/// Sleeps until then, or forever.
async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
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

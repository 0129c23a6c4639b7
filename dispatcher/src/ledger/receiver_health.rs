//! Writes changes of the health of receivers.

use crate::ledger::statements::{self, Statements};
use database::{Client, schema::Schema, value::Micros};
use delivery::record::{ReceiverEvent, ReceiverHealth};
use tokio_postgres::{Error, types::ToSql};

/// A change of the health of a receiver, and the event about it.
pub struct HealthChange<'a> {
    pub subscription_id: i64,
    pub health: &'a ReceiverHealth,
    pub event: Option<&'a ReceiverEvent>,
}

impl HealthChange<'_> {
    /// Writes both in one transaction.
    pub async fn write(&self, statements: &Statements, client: &Client, schema: Schema) -> Result<(), Error> {
        let id = &self.subscription_id;
        let ReceiverHealth {
            is_open,
            consecutive_failures,
            failing_since_us,
            warned_at_us,
            probe_interval_us,
        } = self.health;
        let (since, warned) = (failing_since_us.map(Micros), warned_at_us.map(Micros));
        let params: [&(dyn ToSql + Sync); 6] =
            [id, is_open, consecutive_failures, &since, &warned, probe_interval_us];
        let put = match schema.is_outdated() {
            true => (statements::HEALTH_0_2, &params[..5]),
            false => (statements::HEALTH, &params[..]),
        };
        match self.event {
            None => statements.execute_locked(client, *id, &[put]).await,
            Some(ReceiverEvent::Failing { failing_since_us, failures, status, error }) => {
                let since = Micros(*failing_since_us);
                let failing: [&(dyn ToSql + Sync); 5] = [id, &since, failures, status, error];
                statements.execute_locked(client, *id, &[put, (statements::FAILING, &failing)]).await
            }
            Some(ReceiverEvent::Recovered { failing_since_us }) => {
                let since = Micros(*failing_since_us);
                let recovered: [&(dyn ToSql + Sync); 2] = [id, &since];
                statements.execute_locked(client, *id, &[put, (statements::RECOVERED, &recovered)]).await
            }
        }
    }
}

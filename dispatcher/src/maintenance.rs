//! Empties slots of the ring whose time is over (`webhook.retire_slot`), which decides by itself what may go.
//!
//! Waits for nobody and keeps nobody waiting: what is in use is tried again. Never sees a row; no delivery depends on it.

use crate::postgres::{Purpose, Target, Watch, chain, connect, schema::Schema};
use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::{Client, Error, Statement};
use tracing::{debug, info, warn};

/// Between two rounds: a slot's turn is 2.5 days.
pub const RETIRE_INTERVAL: Duration = Duration::from_secs(600);

/// After a round in which a slot was in use.
const IN_USE_INTERVAL: Duration = Duration::from_secs(60);

const SLOTS: std::ops::Range<i32> = 0..16;

const RETIRE: &str = "select webhook.retire_slot($1::integer)";

/// A slot with tens of millions of rows is looked through before it goes; nothing of that needs more.
const SESSION: &str = "set statement_timeout = '10min'";

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Retired,
    /// Part of what is too old has been given up; there is more.
    Exhausting,
    InUse,
    /// Its time is not over, or there is nothing in it.
    Stays,
}

impl Slot {
    fn of(word: &str) -> Self {
        match word {
            "retired" => Self::Retired,
            "exhausting" => Self::Exhausting,
            "in use" => Self::InUse,
            _ => Self::Stays,
        }
    }
}

/// Goes round until it is aborted, with a connection for each round. A schema without retention grows until it is updated.
pub async fn run(database: Target, interval: Duration, schema: Schema) {
    if schema < Schema::V0_2 {
        return;
    }
    loop {
        let in_use = match round(&database).await {
            Ok(in_use) => in_use,
            Err(error) => {
                warn!(error = chain(&error), "maintenance.interrupted");
                true
            }
        };
        sleep(if in_use { interval.min(IN_USE_INTERVAL) } else { interval }).await;
    }
}

/// Looks at each slot once; tells whether one was in use.
async fn round(database: &Target) -> Result<bool, Error> {
    let client = connect(database, Purpose::Maintenance, Watch::default()).await?;
    client.batch_execute(SESSION).await?;
    let statement = client.prepare(RETIRE).await?;
    let mut in_use = false;
    for slot in SLOTS {
        let became = loop {
            match retire(&client, &statement, slot).await? {
                Slot::Exhausting => {}
                became => break became,
            }
        };
        match became {
            Slot::Retired => info!(slot, "ring.slot_retired"),
            Slot::InUse => debug!(slot, "ring.slot_in_use"),
            Slot::Exhausting | Slot::Stays => {}
        }
        in_use |= became == Slot::InUse;
    }
    Ok(in_use)
}

async fn retire(client: &Client, statement: &Statement, slot: i32) -> Result<Slot, Error> {
    let row = client.query_one(statement, &[&slot]).await?;
    let became = Slot::of(row.try_get(0)?);
    if became == Slot::Exhausting {
        warn!(slot, "ring.deliveries_exhausted; they were older than max_age (webhook.setting)");
    }
    Ok(became)
}

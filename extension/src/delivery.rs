//! `webhook_redeliver`: one event to one subscription once more, under the same id.
//!
//! Writes the delivery's row in `webhook.queue` and asks the daemon, through the outbox, to load it.

use crate::emit;
use crate::error::{Error, answer, given};
use crate::subscribe;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn webhook_redeliver(event_id: Option<&str>, subscription_id: Option<i64>) {
    answer(|| redeliver(given(event_id, "event_id")?, given(subscription_id, "subscription_id")?))
}

/// The event of a public id.
struct Found {
    sequence: i64,
    slot: i16,
}

fn redeliver(event_id: &str, subscription_id: i64) -> Result<(), Error> {
    let event = find(event_id, subscription_id)?;
    subscribe::lock(subscription_id)?;
    // Its present schedule begins anew: attempts go on counting, retries are counted from here.
    Spi::run_with_args(
        "insert into webhook.queue as q
             (subscription_id, event_id, event_slot, attempts, retry_from, state, next_at, last_status, last_error)
         select $1, $2, $3, coalesce(max(a.attempt), 0), coalesce(max(a.attempt), 0), 'waiting', clock_timestamp(),
                (array_agg(a.status order by a.attempt desc))[1], (array_agg(a.error order by a.attempt desc))[1]
         from webhook.attempt a where a.event_id = $2 and a.subscription_id = $1
         on conflict (subscription_id, event_id) do update set
             attempts = greatest(q.attempts, excluded.attempts), retry_from = greatest(q.attempts, excluded.attempts),
             state = excluded.state, next_at = excluded.next_at",
        &[subscription_id.into(), event.sequence.into(), event.slot.into()],
    )?;
    emit::delivery_requested(subscription_id, event.sequence);
    Ok(())
}

fn find(event_id: &str, subscription_id: i64) -> Result<Found, Error> {
    let sequence = Spi::get_one_with_args::<i64>("select webhook.event_sequence($1)", &[event_id.into()])?
        .ok_or_else(|| Error::MalformedEventId(event_id.to_owned()))?;
    Spi::connect(|client| {
        // The number alone is not enough: after a point-in-time restore it may have been given out twice.
        let found = client.select(
            "select slot, type, subscription_id from webhook.event
             where id = $1 and webhook.public_id(id, created_at) = $2",
            Some(1),
            &[sequence.into(), event_id.into()],
        )?;
        if found.is_empty() {
            return Err(Error::NoSuchEvent(event_id.to_owned()));
        }
        let row = found.first();
        if row.get::<&str>(2)? == Some("webhook.delivery.requested") {
            return Err(Error::NeverDelivered(event_id.to_owned()));
        }
        match row.get::<i64>(3)? {
            Some(only) if only != subscription_id => {
                Err(Error::ForAnother { event_id: event_id.to_owned(), subscription_id: only })
            }
            _ => Ok(Found { sequence, slot: row.get(1)?.unwrap_or_default() }),
        }
    })
}

//! Collects the evidence after a run, from the outbox, the ledger and the receiver.

use crate::{
    RETRIES, SUBSCRIPTIONS,
    judge::{Attempts, Delivered, Evidence, Happened},
};
use e2e::{cluster::Database, receiver::Receiver, traffic::Changes};

const EVENTS: &str =
    "select webhook.public_id(id, created_at), type, key from webhook.event where type like 'order.%'";

const ATTEMPTS: &str = "
    select webhook.public_id(e.id, e.created_at), count(*) filter (where a.status is not null),
        count(*) filter (where a.outcome = 'succeeded')
    from webhook.attempt a join webhook.event e on e.xid = a.event_xid and e.id = a.event_id
    join webhook.subscription s on s.id = a.subscription_id where s.name = $1 group by 1";

pub async fn collect(
    database: &Database,
    receiver: &Receiver,
    committed: Changes,
    faults: Vec<Happened>,
) -> Evidence {
    let client = database.client().await;
    let rows = client.query(EVENTS, &[]).await.expect("the outbox can be read");
    let events = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let rejected = receiver.look(|record| record.rejected.len());
    let mut evidence = Evidence { committed, events, rejected, faults, ..Evidence::default() };
    for (path, _, is_ordered) in SUBSCRIPTIONS {
        let rows = client.query(ATTEMPTS, &[&path]).await.expect("the ledger can be read");
        let attempts = rows
            .iter()
            .map(|row| (row.get(0), Attempts { answered: row.get(1), succeeded: row.get(2) }))
            .collect();
        let ordered_attempts_max = is_ordered.then_some(RETRIES + 1);
        evidence.delivered.push(Delivered { requests: receiver.at(path), attempts, ordered_attempts_max });
    }
    evidence
}

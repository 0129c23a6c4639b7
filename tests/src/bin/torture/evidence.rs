//! Reads the audit and the outbox after a round.

use crate::judge::{Event, Kind, Note};
use tokio_postgres::Client;

/// Returns the audit's notes and the outbox's events since the last [`clear`].
pub async fn read(client: &Client) -> Result<(Vec<Note>, Vec<Event>), tokio_postgres::Error> {
    let query = "select at, xid, coalesce(tag, ''), noun, phase = 'a', operation, former_v, given_v, v, former_key, key, former, data
                 from torture.change order by at";
    let note = |row: &tokio_postgres::Row| Note {
        at: row.get(0),
        xid: row.get(1),
        tag: row.get(2),
        noun: row.get(3),
        is_made: row.get(4),
        operation: row.get::<_, String>(5).chars().next().unwrap_or('?'),
        former_v: row.get(6),
        given_v: row.get(7),
        v: row.get(8),
        former_key: row.get(9),
        key: row.get(10),
        former: row.get(11),
        data: row.get(12),
    };
    let notes = client.query(query, &[]).await?.iter().map(note).collect();
    let query = "select id, xid, type, key, payload::text, previous::text from webhook.event
                 where table_name is not null order by id";
    let event = |row: &tokio_postgres::Row| {
        let of: String = row.get(2);
        let (noun, verb) = of.rsplit_once('.').unwrap_or((&of, ""));
        Event {
            id: row.get(0),
            xid: row.get(1),
            noun: noun.to_owned(),
            kind: Kind::of_verb(verb),
            key: row.get(3),
            data: row.get(4),
            previous: row.get(5),
        }
    };
    let events = client.query(query, &[]).await?.iter().map(event).collect();
    Ok((notes, events))
}

/// Drops the tables of a round and empties audit and outbox.
pub async fn clear(client: &Client, schema: &str) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&format!(
            "set client_min_messages = error; drop schema if exists {schema} cascade; truncate torture.change; truncate webhook.event"
        ))
        .await
}

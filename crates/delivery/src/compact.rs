//! Merges several changes of one row into one event. Pure.
//!
//! The receiver sees one change: the row after the last change, and its values before the first.

use crate::{event::Event, members};
use bytes::Bytes;

/// Reports whether two events have the same subject and can be merged.
pub fn is_same_thing(one: &Event, other: &Event) -> bool {
    one.key.is_some()
        && one.key == other.key
        && one.order_key == other.order_key
        && one.table_name == other.table_name
        && one.subscription_id.is_none()
        && other.subscription_id.is_none()
}

/// Merges changes of one subject, in their order. Returns `None` if there are none.
///
/// Id, time, actor, and `data` come from the last change. `previous` holds the oldest former value
/// of each column. A creation followed by updates remains a creation. A subject that was deleted
/// last is deleted.
pub fn merge(changes: &[&Event]) -> Option<Event> {
    let (first, rest) = changes.split_first()?;
    Some(rest.iter().fold((*first).clone(), |sum, next| then(&sum, next)))
}

/// Adds a change. An event with former values is an update; every other event replaces the sum.
fn then(sum: &Event, next: &Event) -> Event {
    let mut event = next.clone();
    if let Some(newer) = &next.previous {
        match &sum.previous {
            Some(older) => event.previous = Some(oldest(older, newer)),
            None => {
                event.event_type = sum.event_type.clone();
                event.previous = None;
            }
        }
    }
    event
}

/// Returns the members of both objects. If both have a member, the older one is kept.
fn oldest(older: &Bytes, newer: &Bytes) -> Bytes {
    // The application's own representation may not be an object. The oldest one is then kept.
    members::union(older, newer).map_or_else(|| older.clone(), Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn change(id: i64, verb: &str, payload: &'static str, previous: Option<&'static str>) -> Event {
        Event {
            event_type: format!("order.{verb}").into(),
            table_name: Some("public.orders".into()),
            key: Some("17".into()),
            payload: Bytes::from_static(payload.as_bytes()),
            previous: previous.map(|text| Bytes::from_static(text.as_bytes())),
            ..Event::sample(id)
        }
    }

    fn merged(changes: &[Event]) -> Event {
        merge(&changes.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn updates_keep_the_oldest_former_values_as_they_were_written() {
        let sum = merged(&[
            change(1, "updated", r#"{"a":2,"b":1}"#, Some(r#"{"a": 1.50}"#)),
            change(2, "updated", r#"{"a":3,"b":2}"#, Some(r#"{"b":1,"a":2}"#)),
        ]);
        let last = change(2, "updated", r#"{"a":3,"b":2}"#, Some(r#"{"a":1.50,"b":1}"#));
        assert_eq!(sum, last);
    }

    #[test]
    fn what_came_into_being_has_come_into_being() {
        let created = change(1, "created", r#"{"a":1}"#, None);
        let updated = change(2, "updated", r#"{"a":2}"#, Some(r#"{"a":1}"#));
        assert_eq!(merged(&[created, updated]), change(2, "created", r#"{"a":2}"#, None));
    }

    #[test]
    fn what_is_deleted_in_the_end_is_deleted() {
        let created = change(1, "created", r#"{"a":1}"#, None);
        let updated = change(2, "updated", r#"{"a":2}"#, Some(r#"{"a":1}"#));
        let deleted = change(3, "deleted", r#"{"a":2}"#, None);
        assert_eq!(merged(&[created.clone(), updated.clone(), deleted.clone()]), deleted);
        assert_eq!(merged(&[updated.clone(), deleted.clone()]), deleted);
        let again = change(4, "created", r#"{"a":9}"#, None);
        assert_eq!(merged(&[updated, deleted, again.clone()]), again);
    }

    #[test]
    fn a_representation_that_is_no_object_is_not_taken_apart() {
        let one = change(1, "updated", "2", Some("[1]"));
        let two = change(2, "updated", "3", Some(r#"{"a":1}"#));
        assert_eq!(merged(&[one, two]).previous, Some(Bytes::from_static(b"[1]")));
        assert_eq!(merge(&[]), None);
    }

    #[test]
    fn only_changes_of_one_thing_become_one() {
        let one = change(1, "updated", "{}", None);
        assert!(is_same_thing(&one, &change(2, "deleted", "{}", None)));
        assert!(!is_same_thing(&one, &Event { key: Some("18".into()), ..one.clone() }));
        assert!(!is_same_thing(&one, &Event { table_name: Some("public.other".into()), ..one.clone() }));
        assert!(!is_same_thing(&one, &Event { subscription_id: Some(1), ..one.clone() }), "a ping");
        let without_key = Event { key: None, ..one.clone() };
        assert!(!is_same_thing(&without_key, &without_key), "nothing says that it is the same");
    }

    proptest! {
        /// A row is changed at random. The sum must lead from its first state to its last.
        #[test]
        fn the_sum_leads_from_the_first_state_to_the_last(
            first in proptest::collection::btree_map("[a-d]|ä\"", 0u8..4, 1..5),
            steps in proptest::collection::vec(proptest::collection::btree_map("[a-d]|ä\"", 0u8..4, 0..3), 1..6),
        ) {
            let mut state = first.clone();
            let mut changes = Vec::new();
            for (id, step) in (1..).zip(steps) {
                let step: Vec<_> = step.into_iter().filter(|(name, _)| state.contains_key(name)).collect();
                let previous: Map<String, Value> =
                    step.iter().map(|(name, _)| (name.clone(), json!(state[name]))).collect();
                state.extend(step);
                changes.push(Event {
                    payload: json!(state).to_string().into(),
                    previous: Some(Value::Object(previous).to_string().into()),
                    ..change(id, "updated", "", None)
                });
            }
            let sum = merged(&changes);
            let before: Map<String, Value> = serde_json::from_slice(&sum.previous.unwrap()).unwrap();
            let mut undone: Map<String, Value> = serde_json::from_slice(&sum.payload).unwrap();
            undone.extend(before);
            prop_assert_eq!(Value::Object(undone), json!(first));
            prop_assert_eq!(sum.id, changes.len() as i64);
        }
    }
}

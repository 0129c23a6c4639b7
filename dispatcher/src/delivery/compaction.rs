//! Several changes of one thing as one event. Pure.
//!
//! Each step takes what there is so far and the next change. Which kind of change an event is shows in its `previous`, for
//! the names of the verbs are the user's: an update has one, a creation and a deletion have none.

use super::body::members_union;
use crate::event::Event;

/// Both changes as one: id, type, time and `data` of the latter; for each column the oldest `previous`; and a thing that
/// was created and then updated was created.
///
/// An update whose payload was over the cap has no `previous` and passes for a change of its own kind.
pub fn fold(former: &Event, latter: &Event) -> Event {
    let mut folded = latter.clone();
    match (&former.previous, &latter.previous) {
        (_, None) => {}
        (None, Some(_)) => {
            folded.event_type.clone_from(&former.event_type);
            folded.previous = None;
        }
        (Some(oldest), Some(newer)) => {
            // What is no object has no columns: then it is the whole that is older.
            folded.previous = Some(members_union(oldest, newer).map_or_else(|| oldest.clone(), Into::into));
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn change(id: i64, verb: &str, data: &Value, previous: Option<&Value>) -> Event {
        Event {
            event_type: format!("order.{verb}").into(),
            table_name: Some("public.orders".into()),
            key: Some("1".into()),
            payload: Bytes::from(data.to_string()),
            previous: previous.map(|previous| Bytes::from(previous.to_string())),
            ..Event::sample(id)
        }
    }

    #[test]
    fn verbs_fold() {
        let none = None::<&Value>;
        let (row, old) = (json!({"a": 2}), json!({"a": 1}));
        let created = change(1, "created", &row, none);
        let updated = change(2, "updated", &row, Some(&old));
        let deleted = change(3, "deleted", &row, none);
        for (former, latter, verb, has_previous) in [
            (&created, &updated, "order.created", false),
            (&created, &deleted, "order.deleted", false),
            (&updated, &updated, "order.updated", true),
            (&updated, &deleted, "order.deleted", false),
            (&deleted, &created, "order.created", false),
        ] {
            let folded = fold(former, latter);
            assert_eq!((&*folded.event_type, folded.previous.is_some()), (verb, has_previous));
            assert_eq!((folded.id, &folded.payload), (latter.id, &latter.payload));
        }
        let all = [&updated, &deleted]
            .into_iter()
            .fold(fold(&created, &updated), |so_far, next| fold(&so_far, next));
        assert_eq!((&*all.event_type, all.id), ("order.deleted", 3));
    }

    #[test]
    fn a_previous_that_is_no_object_gives_way_to_the_older() {
        let text =
            |previous: &'static str| Event { previous: Some(Bytes::from(previous)), ..Event::sample(1) };
        assert_eq!(fold(&text("1"), &text("{}")).previous.unwrap(), "1");
    }

    proptest! {
        /// Updates of a row, folded: undoing what `previous` says leads from the last state back to the first.
        #[test]
        fn updates_fold_to_the_difference_of_their_ends(
            states in proptest::collection::vec(proptest::collection::vec(0u8..3, 4), 2..7),
        ) {
            let row = |state: &[u8]| -> Map<String, Value> {
                state.iter().enumerate().map(|(at, value)| (format!("c{at}"), json!(value))).collect()
            };
            let updates: Vec<Event> = states.windows(2).zip(1..).map(|(pair, id)| {
                let (then, now) = (row(&pair[0]), row(&pair[1]));
                let previous = then.into_iter().filter(|(name, value)| now[name] != *value).collect();
                change(id, "updated", &Value::Object(now), Some(&Value::Object(previous)))
            }).collect();
            let folded = updates[1..].iter().fold(updates[0].clone(), |so_far, next| fold(&so_far, next));
            let mut back: Map<String, Value> = serde_json::from_slice(&folded.payload).unwrap();
            prop_assert_eq!(&back, &row(states.last().unwrap()));
            back.extend(serde_json::from_slice::<Map<String, Value>>(folded.previous.as_ref().unwrap()).unwrap());
            prop_assert_eq!(back, row(&states[0]));
        }
    }
}

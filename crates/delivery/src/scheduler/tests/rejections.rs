//! Receivers that reject single events: batches are split, and the circuit stays closed.

use super::*;

/// Answers every request until nothing is in flight: 422 if it contains an event that is rejected.
/// Returns the events of each request.
fn answer_all(world: &mut World, status: u16, is_rejected: impl Fn(&[i64]) -> bool) -> Vec<Vec<i64>> {
    let mut requests = Vec::new();
    while let Some((key, pairs)) = world.under_way.first().cloned() {
        let events: Vec<i64> = pairs.iter().map(|(_, event)| *event).collect();
        let ended = match is_rejected(&events) {
            true => Outcome { status: Some(status), ..outcome(Class::HttpError) },
            false => outcome(Class::Succeeded),
        };
        world.end(key, ended);
        requests.push(events);
        world.catch_up();
        world.pass(Duration::from_millis(1), Duration::from_millis(1));
        world.catch_up();
    }
    requests
}

#[test]
fn one_bad_event_of_a_batch_ends_alone_and_the_others_are_delivered() {
    for ordering in Ordering::ALL {
        let options = Options { ordering, batch_size: 64, ..PLAIN };
        let mut world = World::new(Plan { subscriptions: vec![options], keys: 200, ..Plan::plain(1) });
        world.hand_on((0..64).map(|event| (event, vec![1])).collect());
        world.catch_up();
        let requests = answer_all(&mut world, 422, |events| events.contains(&20));
        let with_bad: Vec<usize> =
            requests.iter().filter(|events| events.contains(&20)).map(Vec::len).collect();
        assert_eq!(with_bad.last(), Some(&1), "{ordering:?}: {requests:?}");
        assert!(with_bad.len() <= 7, "{ordering:?}: it is halved each time: {with_bad:?}");
        let delivered = (0..64).filter(|event| {
            world.attempts.get(&(1, *event)).is_some_and(|made| made.contains(&Class::Succeeded))
        });
        let want = if ordering == Ordering::Strict { 20 } else { 63 };
        assert_eq!(delivered.count(), want, "{ordering:?}: only a strict order waits behind it");
        let row = world.queue[&(1, 20)];
        assert!(matches!(row.state, State::Waiting { .. }), "it is retried on its schedule: {row:?}");
        assert_eq!(row.attempts - row.retry_from, 1, "splits use up nothing of the schedule: {row:?}");
        assert!(!world.scheduler.send_queues[&1].breaker.is_open());
    }
}

#[test]
fn a_limit_of_the_receiver_is_learnt() {
    let options = Options { batch_size: 64, ..PLAIN };
    let mut world = World::new(Plan { subscriptions: vec![options], ..Plan::plain(1) });
    let too_many = |events: &[i64]| events.len() > 20;
    world.hand_on((0..64).map(|event| (event, vec![1])).collect());
    world.catch_up();
    let first = answer_all(&mut world, 413, too_many);
    assert!(first.iter().any(|events| too_many(events)));
    world.hand_on((64..192).map(|event| (event, vec![1])).collect());
    world.catch_up();
    let later = answer_all(&mut world, 413, too_many);
    assert!(later.iter().all(|events| !too_many(events)), "no request is too large again: {later:?}");
    assert!(world.queue.is_empty());
}

#[test]
fn events_that_are_rejected_do_not_open_the_circuit() {
    let mut world = World::new(Plan { subscriptions: vec![PLAIN], ..Plan::plain(1) });
    world.hand_on((1..=200).map(|event| (event, vec![1])).collect());
    world.catch_up();
    answer_all(&mut world, 422, |events| events[0] != 200);
    assert!(!world.scheduler.send_queues[&1].breaker.is_open());
    assert_eq!(world.attempts[&(1, 200)], [Class::Succeeded]);
    assert_eq!(world.queue.len(), 199, "each is retried on its schedule");
}

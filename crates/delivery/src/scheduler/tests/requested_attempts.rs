//! Attempts that a user requests behind an open circuit, and failures that a user resets.

use super::*;
use crate::feed::TryNow;

/// Fails all attempts until the circuit is open and nothing is in flight.
pub(super) fn opened(options: Options) -> World {
    let mut world = with_events(options, 50);
    while !world.scheduler.send_queues[&1].breaker.is_open() || !world.under_way.is_empty() {
        end_all(&mut world, &outcome(Class::Timeout));
        world.pass(STEP, STEP);
    }
    world.catch_up();
    world
}

fn try_now(world: &mut World, ignore_retry_after: bool) {
    world.try_now(TryNow { subscription_id: 1, ignore_retry_after });
    world.catch_up();
    world.pass(STEP, STEP);
}

#[test]
fn one_call_makes_one_attempt_behind_an_open_circuit() {
    for ordering in Ordering::ALL {
        let mut world = opened(Options { ordering, ..PLAIN });
        assert_eq!(world.under_way.len(), 0, "{ordering:?}");
        try_now(&mut world, false);
        assert_eq!(world.under_way.len(), 1, "{ordering:?}: one, and at once");
        end_all(&mut world, &outcome(Class::Timeout));
        world.pass(STEP * 20, STEP);
        assert_eq!(world.under_way.len(), 0, "{ordering:?}: it has failed, and the circuit stays open");
        try_now(&mut world, false);
        end_all(&mut world, &outcome(Class::Succeeded));
        world.pass(STEP, STEP);
        assert!(!world.under_way.is_empty(), "{ordering:?}: all others follow at once");
        world.settle();
        world.check_end();
    }
}

#[test]
fn retries_that_wait_for_their_time_are_made_at_once() {
    for ordering in Ordering::ALL {
        let mut world = with_events(Options { ordering, ..PLAIN }, 3);
        end_all(&mut world, &answer(503, None));
        world.pass(STEP, STEP);
        end_all(&mut world, &answer(503, None));
        world.pass(STEP, STEP);
        let waits = |row: &Row| matches!(row.state, State::Waiting { .. });
        let waiting = world.queue.values().filter(|row| waits(row)).count();
        assert!(waiting > 0 && world.under_way.is_empty(), "{ordering:?}: {:?}", world.queue);
        try_now(&mut world, false);
        assert_eq!(world.under_way.len(), waiting, "{ordering:?}");
        world.settle();
        world.check_end();
    }
}

/// The user may see the rows, and call the function, before the scheduler gets the confirmation.
#[test]
fn retries_are_made_at_once_before_the_ledger_has_confirmed_them() {
    for ordering in Ordering::ALL {
        let mut world = with_events(Options { ordering, ..PLAIN }, 3);
        for (key, _) in std::mem::take(&mut world.under_way) {
            world.end(key, answer(503, None));
        }
        assert!(!world.records.is_empty() && world.under_way.is_empty(), "{ordering:?}");
        world.try_now(TryNow { subscription_id: 1, ignore_retry_after: false });
        world.catch_up();
        world.pass(STEP, STEP);
        assert!(!world.under_way.is_empty(), "{ordering:?}: {:?}", world.queue);
        world.settle();
        world.check_end();
    }
}

#[test]
fn a_pause_that_the_receiver_asked_for_ends_only_on_request() {
    let mut world = with_events(PLAIN, 5);
    end_all(&mut world, &answer(429, Some(seconds(600))));
    try_now(&mut world, false);
    world.pass(seconds(3), STEP);
    assert!(world.under_way.is_empty());
    try_now(&mut world, true);
    // The answers with 429 have also lowered the rate.
    world.pass(seconds(3), STEP);
    assert!(!world.under_way.is_empty());
    world.settle();
    world.check_end();
}

#[test]
fn a_paused_subscription_is_not_tried() {
    let mut world = opened(PLAIN);
    world.pause(1);
    try_now(&mut world, true);
    assert!(world.under_way.is_empty());
    world.settle();
    world.check_end();
}

#[test]
fn a_pause_and_a_resume_in_one_transaction_reset_the_failures() {
    for ordering in Ordering::ALL {
        let mut world = opened(Options { ordering, ..PLAIN });
        world.pause_and_resume(1);
        world.catch_up();
        assert_eq!(*world.scheduler.send_queues[&1].breaker.health(), ReceiverHealth::default());
        world.pass(seconds(6), STEP);
        assert!(!world.under_way.is_empty(), "{ordering:?}");
        world.settle();
        world.check_end();
    }
}

#[test]
fn deliveries_that_such_a_resume_discards_are_not_sent() {
    let mut world = with_events(PLAIN, 50);
    end_all(&mut world, &outcome(Class::Timeout));
    world.pass(seconds(6), STEP);
    assert!(world.scheduler.send_queues[&1].queued_len() > 0 || !world.under_way.is_empty());
    let discarded: Vec<Pair> = world.queue.keys().copied().collect();
    let in_flight: Vec<Pair> = world.under_way.iter().flat_map(|(_, pairs)| pairs.clone()).collect();
    world.queue.clear();
    world.called_off.extend(&discarded);
    world.pause_and_resume(1);
    end_all(&mut world, &outcome(Class::Succeeded));
    world.pass(seconds(20), STEP);
    for (_, pairs) in &world.under_way {
        assert!(pairs.iter().all(|pair| !discarded.contains(pair) || in_flight.contains(pair)));
    }
}

/// Feeds event 1000, a ping of the first subscription.
pub(super) fn ping(world: &mut World) {
    let ping = Event { subscription_id: Some(1), event_type: "webhook.ping".into(), ..Event::sample(1000) };
    let window = world.routed.len() as u64;
    world.routed.push(vec![(1, 1000)]);
    let message = Arc::new(Message::new(ping, &world.budget));
    let (events, targets) = (vec![(message, 1)], vec![1]);
    world.feed(Feed::Batch(Batch { window, events, targets, end: Some(end(window)), ..Batch::default() }));
}

#[test]
fn a_ping_and_a_redelivery_are_the_next_probe() {
    let mut world = opened(PLAIN);
    ping(&mut world);
    world.pass(STEP, STEP);
    assert_eq!(world.under_way.iter().map(|(_, pairs)| pairs[0]).collect::<Vec<_>>(), [(1, 1000)]);
    end_all(&mut world, &outcome(Class::Timeout));
    world.queue.remove(&(1, 1000));
    world.called_off.insert((1, 1000));
    // Not the first of the backlog.
    let last = *world.queue.keys().next_back().expect("deliveries wait");
    ask_again(&mut world, last);
    world.catch_up();
    assert_eq!(world.under_way.iter().map(|(_, pairs)| pairs[0]).collect::<Vec<_>>(), [last]);
    world.settle();
    world.check_end();
}

#[test]
fn a_retry_that_is_put_off_by_hand_waits() {
    let mut world = with_events(PLAIN, 1);
    end_all(&mut world, &outcome(Class::Timeout));
    let next_at_us = WALL_US + 60_000_000;
    world.queue.get_mut(&(1, 1)).expect("a row").state = State::Waiting { next_at_us };
    world.pass(seconds(50), STEP);
    assert!(world.under_way.is_empty());
    world.pass(seconds(20), STEP);
    assert_eq!(world.under_way.len(), 1);
    world.settle();
    world.check_end();
}

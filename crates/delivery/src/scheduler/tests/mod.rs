//! Tests of the scheduler against a simulated world.
//!
//! In this world, tables change when the ledger commits, answers come late, receivers fail, and
//! subscriptions pause. The tests check at each step and at the end what must hold in every order
//! of events.

mod backlogs;
mod fair_shares;
mod locked_subscriptions;
mod owners;
mod rejections;
mod requested_attempts;
mod shortages;
mod world;

use crate::{
    event::Event,
    feed::{Batch, Feed, Request},
    outcome::{Class, Outcome},
    queue_rows::{Loaded, Ordered, OrderedPlace, QueuedRow, RowState},
    record::{self, Attempt, QueueChange, ReceiverEvent, ReceiverHealth, State},
    scheduler::*,
    snapshot::Snapshot,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use world::{Options, PLAIN, Pair, Plan, Row, WALL_US, World, end, outcome};

fn options() -> impl Strategy<Value = Options> {
    let ordering = prop_oneof![Just(Ordering::None), Just(Ordering::Key), Just(Ordering::Strict)];
    let rate_limit = prop_oneof![4 => Just(None), 1 => Just(Some(20.0)), 1 => Just(Some(3.0))];
    let batch = prop_oneof![2 => Just((1, 0)), 1 => Just((3, 0)), 1 => Just((4, 700))];
    let owner = prop_oneof![Just("a"), Just("b")];
    (ordering, batch, any::<bool>(), rate_limit, owner).prop_map(
        |(ordering, (batch_size, batch_window_ms), compact, rate_limit, owner)| {
            let compact = compact && ordering != Ordering::Strict;
            Options { ordering, batch_size, batch_window_ms, compact, rate_limit, owner, ..PLAIN }
        },
    )
}

prop_compose! {
    fn plans()(
        seed in any::<u64>(),
        success_percent in prop_oneof![0u8..=100, 60u8..=100],
        memory_bytes_max in prop_oneof![Just(1 << 20), Just(8_000usize)],
        timers_max in prop_oneof![Just(1000usize), 2usize..6],
        order_groups_max in prop_oneof![Just(1000usize), 1usize..4],
        keys in 1u64..5,
        subscriptions in proptest::collection::vec(options(), 3),
        (gone_percent, quiet_percent) in prop_oneof![Just((0u8, 0u8)), (0u8..3, 0u8..40)],
        max_in_flight_per_host in prop_oneof![Just(512usize), 1usize..5],
        rejects in prop_oneof![2 => Just(None), 1 => (2i64..30).prop_map(Some)],
    ) -> Plan {
        Plan {
            seed,
            max_in_flight: 6,
            max_in_flight_per_host,
            memory_bytes_max, timers_max, order_groups_max, keys, subscriptions, success_percent, gone_percent, quiet_percent, rejects }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Without a crash, every delivery succeeds exactly once or is exhausted. No checkpoint passes
    /// a delivery without a row. In the end nothing is left, in spite of failures, pauses, and late
    /// answers.
    #[test]
    fn every_delivery_ends_once(plan in plans()) {
        let mut world = World::new(Plan { subscriptions: vec![PLAIN; 3], ..plan });
        for _ in 0..1500 {
            world.step();
        }
        world.settle();
        world.check_end();
    }

    /// The same holds for every combination of order, batches, compaction, and rate limits. Also,
    /// no later event of a group starts before an earlier one is final.
    #[test]
    fn order_is_kept_and_no_line_gets_stuck(plan in plans()) {
        let mut world = World::new(plan);
        for _ in 0..1500 {
            world.step();
        }
        world.settle();
        world.check_end();
    }

    /// The same holds through crashes.
    #[test]
    fn order_outlives_a_crash(plan in plans(), crashes in proptest::collection::vec(0usize..600, 1..4)) {
        let mut world = World::new(plan);
        for steps in crashes {
            for _ in 0..steps {
                world.step();
            }
            world.crash();
        }
        for _ in 0..300 {
            world.step();
        }
        world.settle();
        world.check_end();
    }

    /// An operator deletes some or all rows of the queue. No row comes back, no checkpoint waits
    /// for one, and no other delivery is delayed.
    #[test]
    fn a_deleted_row_stays_deleted(plan in plans()) {
        let mut world = World::new(Plan { timers_max: 1000, order_groups_max: 1000, ..plan });
        for step in 0..1500 {
            world.step();
            if step % 20 == 19 {
                world.call_off();
            }
        }
        world.settle();
        world.check_end();
    }

    /// A user locks a subscription for a while, and may delete its rows. Nothing is lost or gets
    /// stuck, and no other delivery is delayed.
    #[test]
    fn a_locked_subscription_goes_on_afterwards(plan in plans()) {
        let mut world = World::new(plan);
        for step in 0..1500 {
            world.step();
            if step % 40 == 39 {
                world.lock_or_unlock();
            }
        }
        world.settle();
        world.check_end();
    }

    /// A change of order loses no delivery.
    #[test]
    fn nothing_is_lost_when_the_order_changes(plan in plans()) {
        let mut world = World::new(plan);
        for step in 0..1500 {
            world.step();
            if step % 150 == 149 {
                world.alter();
            }
        }
        world.settle();
        world.check_end();
    }
}

/// Creates a world with one delivery in flight.
fn one_under_way() -> (World, Pair) {
    let mut world = World::new(Plan::plain(1));
    world.hand_on(vec![(1, vec![1])]);
    assert_eq!(world.under_way.len(), 1);
    (world, (1, 1))
}

fn ask_again(world: &mut World, (subscription_id, event_id): Pair) {
    let window = world.routed.len() as u64;
    world.routed.push(Vec::new());
    *world.asked_again.entry((subscription_id, event_id)).or_default() += 1;
    let requests = vec![Request { subscription_id, event_id }];
    world.feed(Feed::Batch(Batch { window, requests, end: Some(end(window)), ..Batch::default() }));
}

#[test]
fn a_redelivery_asked_for_during_an_attempt_is_a_second_attempt() {
    let (mut world, pair) = one_under_way();
    // The row that webhook_redeliver() has written.
    world.queue.insert(
        pair,
        Row { state: State::Waiting { next_at_us: WALL_US }, attempts: 0, retry_from: 0, order_key: None },
    );
    ask_again(&mut world, pair);
    world.read();
    world.read();
    world.read();
    world.answer();
    world.answer();
    world.answer();
    world.settle();
    assert_eq!(world.attempts[&pair], [Class::Succeeded, Class::Succeeded]);
    world.check_end();
}

#[test]
fn a_redelivery_of_a_delivered_event_goes_out_though_its_row_is_gone() {
    let (mut world, pair) = one_under_way();
    world.settle();
    ask_again(&mut world, pair);
    world.settle();
    assert_eq!(world.attempts[&pair], [Class::Succeeded, Class::Succeeded]);
    world.check_end();
}

#[test]
fn what_is_under_way_for_long_gets_a_row_and_the_checkpoint_moves() {
    let (mut world, pair) = one_under_way();
    for _ in 0..12 {
        world.now_us += 500_000;
        world.advance();
        world.commit();
        world.confirm();
    }
    assert_eq!(world.queue[&pair].state, State::Backlog);
    assert_eq!(world.scheduler.shared.progress.oldest_since(), None);
    assert_eq!(world.under_way.len(), 1, "it is still under way, once");
    world.settle();
    assert_eq!(world.attempts[&pair], [Class::Succeeded]);
    world.check_end();
}

#[test]
fn closing_leaves_a_row_for_everything() {
    let mut world = World::new(Plan::plain(7));
    (0..20).for_each(|_| world.new_batch());
    assert!(!world.under_way.is_empty());
    world.scheduler.close();
    world.scheduler.spill();
    world.scheduler.spill_flights();
    world.advance();
    while !world.records.is_empty() || !world.confirmations.is_empty() {
        world.commit();
        world.confirm();
    }
    assert_eq!(world.scheduler.shared.progress.oldest_since(), None);
    for pair in world.routed.iter().flatten() {
        assert!(world.queue.contains_key(pair), "{pair:?}");
    }
}

#[test]
fn a_row_that_is_deleted_during_a_retry_does_not_come_back() {
    let mut world = with_events(PLAIN, 1);
    end_all(&mut world, &outcome(Class::Timeout));
    world.pass(seconds(2), STEP);
    assert_eq!(world.under_way.len(), 1, "the retry");
    world.queue.clear();
    world.called_off.insert((1, 1));
    end_all(&mut world, &outcome(Class::Timeout));
    assert_eq!(world.attempts[&(1, 1)].len(), 2, "the attempt was made");
    assert!(world.queue.is_empty(), "{:?}", world.queue);
    world.settle();
    assert_eq!(world.attempts[&(1, 1)].len(), 2, "no other follows");
    world.check_end();
}

/// Creates a world with one subscription, and with this many events for it.
fn with_events(options: Options, events: i64) -> World {
    let mut world = World::new(Plan { subscriptions: vec![options], ..Plan::plain(3) });
    world.hand_on((1..=events).map(|id| (id, vec![1])).collect());
    world
}

const STEP: Duration = Duration::from_millis(20);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ends all requests in flight with this outcome.
fn end_all(world: &mut World, ended: &Outcome) {
    for (key, _) in std::mem::take(&mut world.under_way) {
        world.end(key, ended.clone());
    }
    world.catch_up();
}

fn answer(status: u16, retry_after: Option<Duration>) -> Outcome {
    Outcome { status: Some(status), retry_after, ..outcome(Class::HttpError) }
}

#[test]
fn a_receiver_that_is_gone_gets_nothing_more_and_what_waits_is_kept() {
    let mut world = with_events(PLAIN, 20);
    let (key, _) = world.under_way.remove(0);
    world.end(key, outcome(Class::Timeout));
    let (key, _) = world.under_way.remove(0);
    world.end(key, answer(410, None));
    assert!(world.records.iter().any(|record| matches!(record, Record::Disable { subscription_id: 1, .. })));
    let under_way = world.under_way.len();
    for _ in 0..100 {
        world.now_us += 100_000;
        world.advance();
    }
    assert_eq!(world.under_way.len(), under_way, "closed before it is confirmed");
    end_all(&mut world, &outcome(Class::Succeeded));
    world.pass(seconds(30), STEP);
    assert!(world.under_way.is_empty());
    assert!(world.queue.values().all(|row| row.state == State::Backlog), "{:?}", world.queue);
    assert_eq!(world.queue.len(), 20 - under_way, "with the failed and the answered delivery");
    world.settle();
    world.check_end();
}

/// The receiver does not answer, and nothing else happens.
#[test]
fn a_pace_needs_no_answer_to_go_on() {
    let mut world = with_events(Options { rate_limit: Some(10.0), ..PLAIN }, 20);
    world.pass(Duration::from_millis(600), STEP);
    assert_eq!(world.under_way.len(), PLAIN.max_in_flight, "after 0.6 s at 10/s");
}

#[test]
fn another_url_is_another_receiver() {
    let mut world = with_events(PLAIN, 50);
    end_all(&mut world, &answer(429, Some(seconds(3600))));
    world.pass(seconds(2), STEP);
    assert!(world.under_way.is_empty(), "it said so");
    world.move_receiver(1, "https://elsewhere.example/");
    world.pass(seconds(1), STEP);
    let started = world.under_way.len();
    assert!(started > 0, "the other one has said nothing");
    // The same holds for an open circuit, and for the time since which the former receiver has
    // failed.
    let mut world = with_events(PLAIN, 50);
    while !world.scheduler.send_queues[&1].breaker.is_open() {
        end_all(&mut world, &outcome(Class::Timeout));
        world.pass(seconds(1), STEP);
    }
    world.move_receiver(1, "https://elsewhere.example/");
    assert_eq!(*world.scheduler.send_queues[&1].breaker.health(), ReceiverHealth::default());
}

/// During a pause of an hour, deliveries must not wait only in memory, where users cannot see them.
#[test]
fn what_waits_for_its_receiver_is_soon_in_the_queue() {
    let mut world = with_events(PLAIN, 1);
    end_all(&mut world, &answer(503, Some(seconds(3600))));
    world.next_event = 10;
    world.hand_on((10..15).map(|id| (id, vec![1])).collect());
    let until = world.now_us + 10_000_000;
    while world.now_us < until {
        let now = world.now();
        let next = world
            .scheduler
            .deadline(now)
            .map_or(until, |at| world.now_us + (at.saturating_sub(now.at)).as_micros() as i64);
        world.now_us = next.clamp(world.now_us + 1000, until);
        world.advance();
        world.catch_up();
    }
    assert_eq!(world.queue.len(), 6, "{:?}", world.queue);
}

#[test]
fn not_before_is_said_to_the_whole_queue() {
    let mut world = with_events(PLAIN, 50);
    end_all(&mut world, &answer(503, Some(seconds(30))));
    let said_us = world.now_us;
    world.pass(seconds(29), STEP);
    assert!(world.under_way.is_empty());
    world.pass(seconds(2), STEP);
    assert!(!world.under_way.is_empty());
    // This is longer than the send queue waits. Only the delivery itself waits for the full time.
    end_all(&mut world, &answer(429, Some(seconds(20 * 3600))));
    world.pass(seconds(3590), seconds(1));
    assert!(world.under_way.is_empty());
    world.pass(seconds(60), seconds(1));
    assert!(!world.under_way.is_empty(), "an hour is the most");
    assert!(world.queue.values().any(|row| matches!(row.state,
        State::Waiting { next_at_us } if next_at_us > WALL_US + said_us + 19 * 3600 * 1_000_000)));
}

#[test]
fn an_open_circuit_lets_one_through_at_a_time_and_costs_nothing_in_between() {
    let mut world = with_events(PLAIN, 200);
    let mut failed = 0;
    while !world.scheduler.send_queues[&1].breaker.is_open() {
        failed += world.under_way.len();
        end_all(&mut world, &outcome(Class::Connect));
        world.pass(STEP, STEP);
    }
    assert!((10..20).contains(&failed), "{failed}");
    assert!(world.health[&1].is_open, "it is written");
    end_all(&mut world, &outcome(Class::Connect));
    world.pass(Duration::from_millis(2900), STEP);
    assert!(world.under_way.is_empty());
    assert_eq!(
        (world.scheduler.shared.owners.fresh(), world.scheduler.send_queues[&1].queued.len()),
        (0, 0),
        "all of it is in the table"
    );
    for _ in 0..5 {
        world.pass(seconds(3), STEP);
        assert_eq!(world.under_way.len(), 1, "a probe");
        let deadline = world.scheduler.deadline(world.now()).unwrap();
        assert!(deadline > world.now().at, "nothing to do meanwhile");
        end_all(&mut world, &outcome(Class::Connect));
    }
    world.pass(seconds(3), STEP);
    end_all(&mut world, &outcome(Class::Succeeded));
    assert!(!world.health[&1].is_open);
    world.pass(STEP, STEP);
    assert!(world.under_way.len() > 1, "open to all again");
    world.settle();
    world.check_end();
}

#[test]
fn a_receiver_that_fails_for_long_is_told_once_and_then_given_up() {
    let mut world = with_events(PLAIN, 200);
    let mut is_disabled = false;
    while !is_disabled {
        assert!(world.now_us < 100_000_000, "a minute was agreed");
        end_all(&mut world, &outcome(Class::Timeout));
        world.pass(Duration::from_millis(500), STEP);
        is_disabled = !world.subscriptions[&1].enabled;
    }
    let [ReceiverEvent::Failing { failures, .. }] = &world.event[..] else { panic!("{:?}", world.event) };
    assert!(*failures >= 10);
    world.settle();
    world.check_end();
    assert_eq!(world.event.len(), 1, "a subscription that is enabled again has no failures");
}

#[test]
fn who_recovers_after_a_warning_is_told_of() {
    let mut world = with_events(PLAIN, 200);
    while world.event.is_empty() {
        end_all(&mut world, &outcome(Class::Timeout));
        world.pass(Duration::from_millis(500), STEP);
    }
    world.settle();
    assert!(
        matches!(world.event[..], [ReceiverEvent::Failing { .. }, ReceiverEvent::Recovered { .. }]),
        "{:?}",
        world.event
    );
    world.check_end();
}

/// Sends 200 events a second to a receiver that answers as `answer` says. With answers of 1.5 s,
/// 300 requests in flight are needed. The scheduler must reach this within seconds.
fn keeps_up(mut answer: impl FnMut() -> (Duration, Outcome)) {
    let plan = Plan {
        subscriptions: vec![Options { max_in_flight: 512, ..PLAIN }],
        max_in_flight: 2048,
        memory_bytes_max: 32 << 20,
        ..Plan::plain(3)
    };
    let mut world = World::new(plan);
    let mut busy: BTreeMap<(i64, usize), Outcome> = BTreeMap::new();
    let mut most = 0;
    for _ in 0..30 * 50 {
        world.now_us += 20_000;
        if world.scheduler.is_hungry() {
            let first = world.next_event;
            world.hand_on((first..first + 4).map(|id| (id, vec![1])).collect());
        }
        for (key, _) in std::mem::take(&mut world.under_way) {
            let (duration, ended) = answer();
            busy.insert((world.now_us + duration.as_micros() as i64, key), Outcome { duration, ..ended });
        }
        while let Some(entry) = busy.first_entry()
            && entry.key().0 <= world.now_us
        {
            let ((_, key), ended) = entry.remove_entry();
            world.end(key, ended);
        }
        world.advance();
        world.catch_up();
        if world.now_us > 12_000_000 {
            most = most.max(world.scheduler.shared.owners.fresh() + world.queue.len());
        }
    }
    let made = world.attempts.len() as i64;
    assert!(made >= world.next_event - 1 - 200 * 2, "{made} of {}", world.next_event);
    assert!(most < 1000, "{most} waited after it had settled");
}

#[test]
fn a_slow_receiver_keeps_up_within_seconds() {
    keeps_up(|| (Duration::from_millis(1500), outcome(Class::Succeeded)));
}

#[test]
fn answers_of_any_length_and_instant_refusals_do_not_hold_it_up() {
    let mut rng = fastrand::Rng::with_seed(3);
    keeps_up(|| match rng.u64(0..20) {
        0 => (Duration::from_millis(1), answer(500, None)),
        _ => (Duration::from_millis(rng.u64(500..2000)), outcome(Class::Succeeded)),
    });
}

//! The board against a world that is made up: tables that change when the ledger commits, answers that are late, receivers
//! that fail, subscriptions that pause. What must hold in every order of things is checked as it goes and at the end.

mod world;

use super::*;
use crate::{
    delivery::outcome::{Class, Outcome},
    event::Event,
    lane::lane::RowState,
    ledger::{
        batch,
        entry::{Attempt, News, Standing},
    },
    outbox::{Batch, Feed, Request, snapshot::Snapshot},
    queue::{Loaded, Ordered, OrderedPlace, QueuedRow},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use world::{Options, PLAIN, Pair, Plan, Row, WALL_US, World, end};

fn options() -> impl Strategy<Value = Options> {
    let ordering = prop_oneof![Just(Ordering::None), Just(Ordering::Key), Just(Ordering::Strict)];
    let rate_limit = prop_oneof![4 => Just(None), 1 => Just(Some(20.0)), 1 => Just(Some(3.0))];
    let batch = prop_oneof![2 => Just((1, 0)), 1 => Just((3, 0)), 1 => Just((4, 700))];
    (ordering, batch, any::<bool>(), rate_limit).prop_map(
        |(ordering, (batch_size, batch_window_ms), compact, rate_limit)| {
            let compact = compact && ordering != Ordering::Strict;
            Options { ordering, batch_size, batch_window_ms, compact, rate_limit }
        },
    )
}

prop_compose! {
    fn plans()(
        seed in any::<u64>(),
        success_percent in prop_oneof![0u8..=100, 60u8..=100],
        memory_bytes_max in prop_oneof![Just(1 << 20), Just(8_000usize)],
        timers_max in prop_oneof![Just(1000usize), 2usize..6],
        lines_max in prop_oneof![Just(1000usize), 1usize..4],
        keys in 1u64..5,
        subscriptions in proptest::collection::vec(options(), 3),
        (gone_percent, quiet_percent) in prop_oneof![Just((0u8, 0u8)), (0u8..3, 0u8..40)],
    ) -> Plan {
        Plan { seed, memory_bytes_max, timers_max, lines_max, keys, subscriptions, success_percent, gone_percent, quiet_percent }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Without a crash every delivery succeeds exactly once or is exhausted, no checkpoint passes one without a row, and in
    /// the end nothing is left behind: whatever fails, pauses, or comes late.
    #[test]
    fn every_delivery_ends_once(plan in plans()) {
        let mut world = World::new(Plan { subscriptions: vec![PLAIN; 3], ..plan });
        for _ in 0..1500 {
            world.step();
        }
        world.settle();
        world.check_end();
    }

    /// The same for every combination of order, batches, compaction and pace; and never is a later event of a line started
    /// before an earlier one is final.
    #[test]
    fn order_is_kept_and_no_line_gets_stuck(plan in plans()) {
        let mut world = World::new(plan);
        for _ in 0..1500 {
            world.step();
        }
        world.settle();
        world.check_end();
    }

    /// Through crashes, too.
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

    /// Whoever changes his mind about the order loses nothing.
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

/// A world with one delivery under way.
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
    // What webhook_redeliver() has written.
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
    assert_eq!(world.board.progress.oldest_since(), None);
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
    world.board.close();
    world.board.spill();
    world.board.spill_flights();
    world.advance();
    while !world.records.is_empty() || !world.confirmations.is_empty() {
        world.commit();
        world.confirm();
    }
    assert_eq!(world.board.progress.oldest_since(), None);
    for pair in world.routed.iter().flatten() {
        assert!(world.queue.contains_key(pair), "{pair:?}");
    }
}

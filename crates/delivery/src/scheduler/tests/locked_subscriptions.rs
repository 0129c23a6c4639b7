//! Subscriptions that another session has locked.

use super::{
    requested_attempts::{opened, ping},
    *,
};
use crate::feed::TryNow;

const WANTED: TryNow = TryNow { subscription_id: 1, ignore_retry_after: false };

/// The result of the first redelivery waits for the lock, and must not delete the row of the second
/// one, which comes later.
#[test]
fn a_redelivery_asked_for_while_a_result_waits_is_made() {
    let (mut world, pair) = one_under_way();
    world.settle();
    ask_again(&mut world, pair);
    world.catch_up();
    assert_eq!(world.under_way.len(), 1, "the first redelivery");
    world.locks.insert(pair.0);
    world.finish(100);
    world.catch_up();
    // What the transaction of the second webhook_redeliver() has written.
    world.queue.insert(
        pair,
        Row { state: State::Waiting { next_at_us: WALL_US }, attempts: 1, retry_from: 1, order_key: None },
    );
    ask_again(&mut world, pair);
    world.catch_up();
    world.settle();
    assert_eq!(world.attempts[&pair], [Class::Succeeded; 3]);
    world.check_end();
}

/// Its retry would wait for the lock. The other subscription's retry, and the checkpoint, do not.
#[test]
fn a_locked_subscription_holds_up_nobody_else() {
    let mut world = World::new(Plan::plain(1));
    world.hand_on(vec![(1, vec![1, 2])]);
    world.finish(0);
    world.finish(0);
    world.catch_up();
    world.locks.insert(1);
    world.pass(Duration::from_secs(2), Duration::from_millis(100));
    assert_eq!(world.under_way.len(), 2, "the lock has not been noticed");
    world.finish(0);
    world.finish(0);
    world.catch_up();
    world.hand_on(vec![(2, vec![1, 2])]);
    world.catch_up();
    assert_eq!((world.attempts[&(1, 1)].len(), world.attempts[&(2, 1)].len()), (1, 2));
    assert_eq!(world.under_way.iter().map(|(_, pairs)| pairs[0]).collect::<Vec<_>>(), [(2, 2)]);
    world.finish(100);
    world.pass(Duration::from_secs(4), Duration::from_millis(100));
    assert_eq!(world.scheduler.shared.progress.oldest_since(), None, "the checkpoint moves");
    assert_eq!(world.queue[&(1, 2)].state, State::Backlog);
    world.settle();
    assert_eq!(world.attempts[&(1, 1)], [Class::Timeout, Class::Timeout, Class::Succeeded]);
    world.check_end();
}

/// Opens the circuit, and lets the result of a probe wait for a lock.
fn locked_behind_an_open_circuit(options: Options) -> World {
    let mut world = opened(options);
    world.try_now(WANTED);
    world.catch_up();
    world.pass(STEP, STEP);
    world.locks.insert(1);
    end_all(&mut world, &outcome(Class::Timeout));
    world.pass(STEP, STEP);
    assert!(world.scheduler.send_queues[&1].is_locked);
    world
}

/// The transaction that requests the attempt may have held the lock. So may that of a ping.
#[test]
fn an_attempt_asked_for_while_a_result_waits_is_made() {
    let ask: [fn(&mut World); 2] = [|world| world.try_now(WANTED), ping];
    for (ordering, ask) in Ordering::ALL.into_iter().flat_map(|ordering| ask.map(|ask| (ordering, ask))) {
        let mut world = locked_behind_an_open_circuit(Options { ordering, ..PLAIN });
        ask(&mut world);
        world.pass(STEP, STEP);
        assert!(world.under_way.is_empty(), "{ordering:?}");
        world.unlock_all();
        world.catch_up();
        world.pass(STEP, STEP);
        assert_eq!(world.under_way.len(), 1, "{ordering:?}: one, and at once");
        world.settle();
        world.check_end();
    }
}

//! Deliveries stay with the owner of their event, wherever they wait at the time of a change.

use super::*;
use crate::scope::Scope;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Owners, scopes and internal types change all the time, with deliveries in memory, in the
    /// queue, in the overflow, and in flight. No request has an event that its subscription may not
    /// get. Every other delivery ends as usual, and nothing is left.
    #[test]
    fn no_delivery_reaches_another_owner(plan in plans(), crashes in any::<bool>()) {
        let mut world = World::new(plan);
        for step in 0..1500 {
            world.step();
            if step % 25 == 24 {
                world.change_an_owner();
            }
            if crashes && step % 500 == 499 {
                world.crash();
            }
        }
        world.settle();
        world.check_end();
    }
}

/// Creates a world in which subscription 1 gets events 1 to `count`, which are of several owners.
fn of_everybody(count: i64) -> World {
    let mut world = with_events(PLAIN, count);
    world.catch_up();
    world
}

/// Checks events 1 to `count`: each event of `b` was delivered, and every other event had at most
/// `most` attempts.
fn check(mut world: World, count: i64, most: usize) {
    world.settle();
    for id in 1..=count {
        let made = world.attempts.get(&(1, id)).map_or(&[][..], Vec::as_slice);
        if id % 2 == 0 {
            assert_eq!(made.last(), Some(&Class::Succeeded), "{id}");
        } else {
            assert!(made.len() <= most, "{id}: {made:?}");
        }
    }
    world.check_end();
}

#[test]
fn what_waits_in_memory_is_dropped() {
    let mut world = of_everybody(9);
    let in_flight = world.under_way.len();
    assert_eq!(world.scheduler.shared.owners.fresh(), 9 - in_flight);
    world.give(1, "b", Scope::Own);
    check(world, 9, 1);
}

#[test]
fn an_attempt_in_flight_is_not_repeated() {
    let mut world = of_everybody(2);
    world.give(1, "b", Scope::Own);
    end_all(&mut world, &outcome(Class::Timeout));
    assert_eq!(world.attempts[&(1, 1)].len(), 1);
    assert!(!world.queue.contains_key(&(1, 1)) && world.queue.contains_key(&(1, 2)), "{:?}", world.queue);
    assert!(world.told.is_empty(), "nothing is exhausted");
    check(world, 2, 1);
}

#[test]
fn a_retry_is_dropped() {
    let mut world = of_everybody(2);
    end_all(&mut world, &outcome(Class::Timeout));
    assert_eq!(world.queue.len(), 2);
    world.give(1, "b", Scope::Own);
    check(world, 2, 1);
}

#[test]
fn what_waits_in_the_queue_is_dropped() {
    let mut world = with_events(PLAIN, 0);
    world.pause(1);
    world.hand_on((1..=9).map(|id| (id, vec![1])).collect());
    world.catch_up();
    assert_eq!(world.queue.len(), 9);
    world.give(1, "b", Scope::Own);
    check(world, 9, 0);
}

#[test]
fn what_waits_for_the_share_of_its_owner_is_dropped() {
    let slow = Options { owner: "a", max_in_flight: 1, ..PLAIN };
    let mut world = World::new(Plan { subscriptions: vec![slow, PLAIN], ..Plan::plain(5) });
    world.give(2, "b", Scope::All);
    let owner = world.scheduler.shared.owners.number(&"a".into());
    world.scheduler.shared.owners.add_fresh(owner, FRESH_SUM_MAX - 1);
    world.hand_on((1..=9).map(|id| (id, vec![1])).collect());
    assert!(world.scheduler.overflow.len(owner) > 0);
    world.give(1, "b", Scope::Own);
    world.scheduler.shared.owners.remove_fresh(owner, FRESH_SUM_MAX - 1);
    check(world, 9, 1);
}

//! Tests of the shares of owners: what one of them does with many subscriptions, slow receivers and
//! bursts, and the effect on the others.

use super::{world::BACKLOG_RATE, *};

const MANY: i64 = 50;

/// Returns a world in which one owner has many subscriptions and another has the last one. All lead
/// to one host.
fn world(plan: Plan) -> World {
    let crowd = Options { owner: "crowd", max_in_flight: 512, ..PLAIN };
    let mut subscriptions = vec![crowd; MANY as usize];
    subscriptions.push(Options { owner: "other", ..crowd });
    World::new(Plan { subscriptions, memory_bytes_max: 1 << 30, ..plan })
}

/// Returns the number of requests under way to the subscriptions of the crowd, and to the other.
fn under_way(world: &World) -> (usize, usize) {
    let is_other = |(_, pairs): &&(usize, Vec<Pair>)| pairs[0].0 > MANY;
    let others = world.under_way.iter().filter(is_other).count();
    (world.under_way.len() - others, others)
}

fn to_all_of_the_crowd(first: i64, count: i64) -> Vec<(i64, Vec<i64>)> {
    (first..first + count).map(|id| (id, (1..=MANY).collect())).collect()
}

#[test]
fn requests_in_flight_leave_a_share_for_others() {
    let mut world = world(Plan { max_in_flight: 100, ..Plan::plain(1) });
    world.hand_on(to_all_of_the_crowd(1, 100));
    for _ in 0..50 {
        world.advance();
    }
    assert_eq!(under_way(&world).0, 80);
    world.hand_on(vec![(101, vec![MANY + 1])]);
    assert_eq!(under_way(&world), (80, 1), "at once");
    world.settle();
    world.check_end();
}

#[test]
fn one_host_gets_few_requests_at_once_from_each_owner() {
    let mut world = world(Plan { max_in_flight: 1000, max_in_flight_per_host: 10, ..Plan::plain(1) });
    world.hand_on(to_all_of_the_crowd(1, 4));
    assert_eq!(under_way(&world).0, 10);
    world.hand_on((5..35).map(|id| (id, vec![MANY + 1])).collect());
    assert_eq!(under_way(&world), (10, 10), "each owner has a limit of its own");
    for _ in 0..30 {
        end_all(&mut world, &outcome(Class::Succeeded));
        world.advance();
        assert!(under_way(&world).0 <= 10);
    }
    world.settle();
    world.check_end();
}

#[test]
fn one_stalled_subscription_leaves_places_at_its_host() {
    let mut world = world(Plan { max_in_flight: 1000, max_in_flight_per_host: 100, ..Plan::plain(1) });
    world.hand_on((1..400).map(|id| (id, vec![1])).collect());
    for _ in 0..50 {
        // Its answers show that more at once is possible, and then they end.
        if world.under_way.len() < 40 {
            end_all(&mut world, &outcome(Class::Succeeded));
        }
        world.pass(STEP, STEP);
    }
    let stalled = world.under_way.len();
    assert!(stalled <= 64, "{stalled}");
    world.hand_on((400..405).map(|id| (id, vec![2])).collect());
    assert!(world.under_way.len() > stalled, "another subscription to that host goes on");
    world.settle();
    world.check_end();
}

#[test]
fn a_crowd_has_a_rate_while_others_have_events() {
    let mut world = world(Plan { max_in_flight: 1000, ..Plan::plain(1) });
    let mut made = |others: bool| {
        let first = world.next_event;
        world.hand_on(to_all_of_the_crowd(first, 40));
        let before = world.attempts.len();
        for step in 0..50 {
            if others && step % 10 == 0 {
                world.hand_on(vec![(world.next_event, vec![MANY + 1])]);
            }
            end_all(&mut world, &outcome(Class::Succeeded));
            world.pass(STEP, STEP);
        }
        world.attempts.len() - before
    };
    assert_eq!(made(false), 2000, "in a second");
    let slowly = made(true);
    assert!((90..1000).contains(&slowly), "{slowly} in a second; the rate is {BACKLOG_RATE}");
    world.settle();
    world.check_end();
}

#[test]
fn a_burst_to_many_subscriptions_does_not_wait_before_an_event_to_another() {
    let mut world = world(Plan { max_in_flight: 100, max_in_flight_per_host: 10, ..Plan::plain(1) });
    // 30 000 deliveries: more than fit into memory.
    let mut events = to_all_of_the_crowd(1, 600);
    events.push((601, vec![MANY + 1]));
    world.hand_on(events);
    assert_eq!(under_way(&world), (10, 1), "in the same step");
    assert!(world.scheduler.is_hungry(), "the reader goes on");
    assert!(world.records.is_empty(), "nothing had to be written");
    world.hand_on(vec![(602, vec![MANY + 1]), (603, vec![1])]);
    assert_eq!(under_way(&world), (10, 2));
    // A delivery that waits too long gets a row, so that the checkpoint can move.
    world.pass(Duration::from_secs(60), Duration::from_millis(100));
    assert_eq!(world.scheduler.shared.progress.oldest_since(), None);
    assert!(world.scheduler.overflow.fullest().is_none() && world.queue.len() > 20_000);
}

#[test]
fn the_reader_waits_for_many_owners_with_few_deliveries_as_long_as_they_move() {
    let mut world = world(Plan { max_in_flight: 100, ..Plan::plain(1) });
    world.pass(seconds(2), seconds(1));
    let crowd = world.scheduler.shared.owners.number(&"crowd".into());
    world.scheduler.shared.owners.add_fresh(crowd, FRESH_SUM_MAX);
    world.hand_on(vec![(1, vec![MANY + 1])]);
    assert!(!world.scheduler.is_hungry(), "it waits in the reader");
    world.pass(Duration::from_millis(100), STEP);
    assert!(world.scheduler.is_hungry(), "nothing was started meanwhile");
    let other = world.scheduler.shared.owners.number(&"other".into());
    assert_eq!(world.scheduler.overflow.len(other), 1);
    world.hand_on(vec![(2, vec![1])]);
    assert_eq!(world.scheduler.overflow.len(crowd), 1, "an owner with many waits for its share");
    world.scheduler.shared.owners.remove_fresh(crowd, FRESH_SUM_MAX);
    world.settle();
    world.check_end();
}

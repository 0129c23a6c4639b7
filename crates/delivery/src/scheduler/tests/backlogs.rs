//! Tests of backlogs: their pace, and new events beside them.

use crate::scheduler::tests::{
    world::{BACKLOG_RATE, Options, PLAIN, Plan, World, outcome},
    *,
};

#[test]
fn a_backlog_behind_a_rate_limit_is_bounded_in_memory_and_wakes_nobody() {
    let options = Options { rate_limit: Some(5.0), ..PLAIN };
    let mut world = with_events(options, 1);
    world.find_backlogs(&[1], 2..20_000);
    let mut looks = 0;
    let mut started = 0;
    while world.now_us < 20_000_000 {
        let now = world.now();
        let next = world
            .scheduler
            .deadline(now)
            .unwrap_or(now.at + seconds(1))
            .max(now.at + Duration::from_millis(1));
        world.now_us += (next - now.at).as_micros() as i64;
        world.advance();
        looks += 1;
        started += world.under_way.len();
        end_all(&mut world, &outcome(Class::Succeeded));
        assert!(world.scheduler.send_queues[&1].queued.len() <= 1000);
    }
    assert!((90..=100).contains(&started), "{started}");
    assert!(looks < 500, "{looks} looks in 20 s");
}

#[test]
fn new_events_go_out_beside_a_backlog() {
    let mut world = with_events(Options { max_in_flight: 1, ..PLAIN }, 1);
    world.find_backlogs(&[1], 2..5_000);
    world.next_event = 10_000;
    world.hand_on((10_000..10_010).map(|id| (id, vec![1])).collect());
    for _ in 0..40 {
        world.pass(STEP, STEP);
        end_all(&mut world, &outcome(Class::Succeeded));
    }
    let is_new = |pair: &&Pair| pair.1 >= 10_000;
    assert_eq!(world.attempts.keys().filter(is_new).count(), 10, "none waits for all of the backlog");
    let old: Vec<i64> = world.attempts.keys().map(|pair| pair.1).filter(|id| *id < 10_000).collect();
    assert!(old.len() >= 20 && old.is_sorted() && old[old.len() - 1] as usize <= old.len() + 1, "{old:?}");
}

/// Lets 10 s pass with two large backlogs, and a new event of a third subscription whenever
/// `is_time` says so of the step. Returns how many rows of each backlog have started.
fn beside_two_backlogs(is_time: impl Fn(i64) -> bool) -> [usize; 2] {
    let subscriptions = vec![Options { max_in_flight: 32, ..PLAIN }; 3];
    let mut world = World::new(Plan { subscriptions, max_in_flight: 100, ..Plan::plain(3) });
    world.find_backlogs(&[1, 2], 1..10_000);
    world.next_event = 10_000;
    for step in 0..500 {
        if is_time(step) {
            world.hand_on(vec![(world.next_event, vec![3])]);
        }
        world.pass(STEP, STEP);
        end_all(&mut world, &outcome(Class::Succeeded));
    }
    [1, 2].map(|id| world.attempts.keys().filter(|pair| pair.0 == id).count())
}

#[test]
fn backlogs_share_a_rate_while_others_have_new_events() {
    let rows = beside_two_backlogs(|step| step % 5 == 0);
    let sum = rows[0] + rows[1];
    let most = 10.0 * BACKLOG_RATE;
    assert!((0.5 * most..=1.1 * most).contains(&(sum as f64)), "{rows:?}");
    assert!(rows[0].abs_diff(rows[1]) <= sum / 10, "{rows:?}");
}

#[test]
fn backlogs_have_the_whole_machine_while_others_have_none() {
    assert_eq!(beside_two_backlogs(|_| false), [9_999; 2]);
    let rows = beside_two_backlogs(|step| step == 0);
    assert!(rows[0] + rows[1] > 10 * BACKLOG_RATE as usize, "the limit ends: {rows:?}");
}

#[test]
fn the_backlog_of_a_paused_subscription_raises_no_rate() {
    let subscriptions = vec![Options { max_in_flight: 32, ..PLAIN }; 3];
    let mut world = World::new(Plan { subscriptions, max_in_flight: 100, ..Plan::plain(3) });
    world.pause(2);
    world.find_backlogs(&[1], 1..10_000);
    world.next_event = 10_000;
    // 500 events a second are kept for the paused subscription.
    for _ in 0..500 {
        let first = world.next_event;
        world.hand_on((first..first + 10).map(|id| (id, vec![2])).chain([(first + 10, vec![3])]).collect());
        world.pass(STEP, STEP);
        end_all(&mut world, &outcome(Class::Succeeded));
    }
    let rows = world.attempts.keys().filter(|pair| pair.0 == 1).count();
    assert!((500..=1_100).contains(&rows), "{rows} in 10 s");
}

#[test]
fn a_send_queue_that_waits_for_the_rate_is_listed_once() {
    let subscriptions = vec![Options { max_in_flight: 32, ..PLAIN }; 2];
    let mut world = World::new(Plan { subscriptions, max_in_flight: 100, ..Plan::plain(3) });
    world.find_backlogs(&[1], 1..10_000);
    world.next_event = 10_000;
    for _ in 0..100 {
        world.hand_on(vec![(world.next_event, vec![1, 2])]);
        world.pass(STEP, STEP);
        end_all(&mut world, &outcome(Class::Succeeded));
        assert!(world.scheduler.shared.agenda.ready.len() <= 2, "{:?}", world.scheduler.shared.agenda.ready);
    }
}

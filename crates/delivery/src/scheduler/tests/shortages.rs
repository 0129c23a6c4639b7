//! Attempts that this machine could not make.

use super::*;
use crate::scheduler::outcomes::SHORTAGE_WAIT;

#[test]
fn a_shortage_uses_up_no_retry_and_is_not_charged() {
    let mut world = with_events(PLAIN, 1);
    let shortage = Outcome { is_shortage: true, ..outcome(Class::Refused) };
    // The schedule has three retries.
    for attempts in 1..=20 {
        end_all(&mut world, &shortage);
        let row = world.queue[&(1, 1)];
        assert!(matches!(row.state, State::Waiting { .. }), "{row:?}");
        assert_eq!((row.attempts, row.retry_from), (attempts, attempts));
        world.pass(SHORTAGE_WAIT.mul_f64(0.7), STEP);
        assert!(world.under_way.is_empty(), "the machine is given time");
        world.pass(SHORTAGE_WAIT.mul_f64(0.6), STEP);
        assert_eq!(world.under_way.len(), 1, "also after many");
    }
    let queue = &world.scheduler.send_queues[&1];
    assert!(!queue.breaker.is_open() && *queue.breaker.health() == ReceiverHealth::default());
    assert_eq!(queue.pacing.limit(), 1, "fewer at once");
    end_all(&mut world, &outcome(Class::Refused));
    let row = world.queue[&(1, 1)];
    assert_eq!(row.attempts - row.retry_from, 1, "other refusals follow the schedule: {row:?}");
    world.settle();
    world.check_end();
}

//! Tests of one send queue: its capacity, and what it may start.

use super::*;
use crate::{
    event::Event,
    message::{Budget, Message},
    queue_rows::RowState,
};

const SHARES: Shares = Shares { owner: 0, destination: 0, waits_for_host: false };

fn full_send_queue() -> SendQueue {
    let mut send_queue = SendQueue::new(Arc::new(Subscription::sample(1)), SHARES, 10, Duration::ZERO);
    let budget = Arc::new(Budget::default());
    for id in 0..FRESH_MAX as i64 {
        let message = Arc::new(Message::new(Event::sample(id), &budget));
        let row = RowState::None { window: 0, since: Duration::ZERO };
        send_queue.fresh.push_back(Item { message, attempts: 0, retry_from: 0, row });
    }
    send_queue
}

#[test]
fn a_full_queue_that_moves_is_waited_for_and_one_that_does_not_spills() {
    let mut send_queue = full_send_queue();
    let at = Duration::from_millis;
    assert_eq!(send_queue.capacity(at(0)), Capacity::Soon);
    for _ in 0..STALL_CAPACITY {
        send_queue.begin(1, 1, Duration::ZERO);
    }
    assert_eq!(send_queue.capacity(at(100)), Capacity::Soon);
    // A slow send queue has capacity now and then, but not for a tenth of itself in 100 ms.
    for _ in 0..10 {
        send_queue.begin(1, 1, Duration::ZERO);
    }
    let one = send_queue.fresh.pop_front();
    assert_eq!(send_queue.capacity(at(150)), Capacity::Yes);
    send_queue.fresh.extend(one);
    assert_eq!(send_queue.capacity(at(200)), Capacity::No);
    send_queue.fresh.clear();
    assert_eq!(
        send_queue.capacity(at(300)),
        Capacity::No,
        "it spills until what it spilled has been taken back"
    );
}

#[test]
fn a_queue_that_fills_slowly_spills_at_once_when_it_is_full() {
    let at = Duration::from_millis;
    let mut send_queue = full_send_queue();
    let last = send_queue.fresh.pop_back();
    assert_eq!(send_queue.capacity(at(0)), Capacity::Yes);
    assert_eq!(send_queue.capacity(at(500)), Capacity::Yes, "it has started nothing since, and has capacity");
    send_queue.fresh.extend(last);
    assert_eq!(send_queue.capacity(at(505)), Capacity::No);

    let mut send_queue = full_send_queue();
    let last = send_queue.fresh.pop_back();
    assert_eq!(send_queue.capacity(at(0)), Capacity::Yes);
    for _ in 0..5 * STALL_CAPACITY {
        send_queue.begin(1, 1, Duration::ZERO);
    }
    assert_eq!(send_queue.capacity(at(500)), Capacity::Yes);
    send_queue.fresh.extend(last);
    assert_eq!(send_queue.capacity(at(505)), Capacity::Soon, "it is fast");
}

#[test]
fn large_messages_count_against_what_is_under_way() {
    let mut send_queue = full_send_queue();
    assert_eq!(send_queue.allowance(100), 32);
    send_queue.begin(1000, 1, Duration::ZERO);
    assert_eq!(send_queue.allowance(100), 0);
    assert!(!send_queue.end(1000));
    assert_eq!(send_queue.allowance(100), 32);
}

#[test]
fn a_paused_queue_takes_and_starts_nothing() {
    let mut send_queue = full_send_queue();
    send_queue.fresh.clear();
    send_queue.subscription = Arc::new(Subscription { enabled: false, ..Subscription::sample(1) });
    assert_eq!(send_queue.capacity(Duration::ZERO), Capacity::No);
    assert_eq!(send_queue.allowance(100), 0);
}

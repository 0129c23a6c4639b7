//! What must hold at the end.

use crate::scheduler::tests::world::*;

impl World {
    /// Describes the first row that is left, and its send queue.
    pub(super) fn left(&self) -> String {
        let Some((pair, row)) = self.queue.first_key_value() else { return String::new() };
        let Some(send_queue) = self.scheduler.send_queues.get(&pair.0) else {
            return format!("{pair:?} {row:?}, no send_queue");
        };
        let options = self.plan.subscriptions[pair.0 as usize - 1];
        format!(
            "{} of them, {pair:?} {row:?}; {options:?}; {:?}; {:?}; {:?}; fresh {} queued {} spilling {} asking {} held {} \
             page_after {} of {} wake {:?} now {:?} paused until {:?} disabled {:?}",
            self.queue.len(),
            send_queue.groups,
            send_queue.backlog,
            send_queue.breaker,
            send_queue.fresh.len(),
            send_queue.queued.len(),
            send_queue.is_spilling(),
            send_queue.listed.asking,
            send_queue.is_claimed(pair.1),
            send_queue.page_after,
            self.scheduler.shared.effects.confirmed(),
            send_queue.wake_at,
            self.now(),
            send_queue.paused_until,
            send_queue.disabling,
        )
    }

    pub fn check_end(&self) {
        let scheduler = &self.scheduler;
        assert!(self.queue.is_empty(), "rows are left: {}", self.left());
        assert!(scheduler.shared.owners.use_nothing() && scheduler.overflow.fullest().is_none());
        assert_eq!(
            (scheduler.in_flight(), scheduler.unconfirmed(), scheduler.shared.owners.fresh()),
            (0, 0, 0)
        );
        assert_eq!(scheduler.shared.progress.oldest_since(), None, "all windows are resolved");
        for pair in self.everything() {
            let made = self.attempts.get(pair).map_or(&[][..], Vec::as_slice);
            let successes = made.iter().filter(|class| **class == Class::Succeeded).count();
            let again = self.asked_again.get(pair).copied().unwrap_or(0);
            let is_exhausted = made.len() >= 4 && successes == 0;
            let told = self.told.iter().filter(|told| *told == pair).count();
            // Attempts in batches that were split use up nothing of the schedule. So a deleted
            // delivery may have had that many, and more to come.
            let can_split = self.plan.subscriptions[pair.0 as usize - 1].batch_size > 1;
            let is_open = can_split && self.called_off.contains(pair) && told == 0;
            let is_withheld = self.withheld.contains(pair);
            let is_told = told == usize::from(is_exhausted) || (is_withheld && told == 0);
            assert!(is_open || is_told, "{pair:?} has {told} reports: {made:?}");
            if again == 0 && !self.called_off.contains(pair) && !is_withheld {
                assert!(
                    is_exhausted || (successes == 1 && made.last() == Some(&Class::Succeeded)),
                    "{pair:?}: {made:?}"
                );
            }
        }
        for send_queue in scheduler.send_queues.values() {
            assert!(send_queue.claims_nothing(), "rows are still held: {send_queue:?}");
            assert!(
                send_queue.groups.as_ref().is_none_or(|groups| groups.is_empty()),
                "groups are left: {:?}",
                send_queue.groups
            );
        }
        assert_eq!(self.budget.bytes_held(), 0, "messages are still held");
    }
}

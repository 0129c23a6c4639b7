//! Changes of subscriptions.

use super::{World, subscription};
use crate::subscription::Ordering;
use std::sync::Arc;

impl World {
    pub(super) fn pause_or_resume(&mut self) {
        if self.scheduler.is_hungry() {
            let id = self.rng.i64(1..=self.plan.subscriptions.len() as i64);
            let enabled = !self.subscriptions[&id].enabled;
            self.replace(id, enabled);
            self.reload();
        }
    }

    /// Pauses a subscription.
    pub fn pause(&mut self, id: i64) {
        self.replace(id, false);
        self.reload();
    }

    /// Changes the order, the batch size, and compaction of one subscription.
    pub fn alter(&mut self) {
        if self.scheduler.is_hungry() {
            let at = self.rng.usize(0..self.plan.subscriptions.len());
            self.checks_order = false;
            let options = &mut self.plan.subscriptions[at];
            options.ordering = Ordering::ALL[self.rng.usize(0..3)];
            options.batch_size = self.rng.usize(1..4);
            options.compact = self.rng.bool() && options.ordering != Ordering::Strict;
            let id = at as i64 + 1;
            self.replace(id, self.subscriptions[&id].enabled);
            self.reload();
        }
    }

    /// Changes the URL of a subscription.
    pub fn move_receiver(&mut self, id: i64, url: &str) {
        let mut moved = subscription(id, self.plan.subscriptions[id as usize - 1], true);
        Arc::get_mut(&mut moved).expect("it has one owner").url = Some(Arc::new(url.parse().expect("a URL")));
        self.subscriptions.insert(id, moved);
        self.reload();
        self.advance();
    }

    pub(super) fn replace(&mut self, id: i64, enabled: bool) {
        let options = self.plan.subscriptions[id as usize - 1];
        self.subscriptions.insert(id, subscription(id, options, enabled));
    }
}

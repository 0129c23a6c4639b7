//! Changes of subscriptions.

use super::{World, end, subscription};
use crate::{
    feed::{Batch, Feed, TryNow},
    subscription::Ordering,
};
use std::sync::Arc;

impl World {
    pub(super) fn pause_or_resume(&mut self) {
        if self.scheduler.is_hungry() {
            let id = self.rng.i64(1..=self.plan.subscriptions.len() as i64);
            if self.rng.u8(0..4) == 0 {
                self.pause_and_resume(id);
                return;
            }
            let enabled = !self.subscriptions[&id].enabled;
            self.replace(id, enabled);
            self.reload();
        }
    }

    /// Pauses and resumes a subscription in one transaction.
    pub fn pause_and_resume(&mut self, id: i64) {
        let mut resumed = subscription(id, self.plan.subscriptions[id as usize - 1], true);
        Arc::get_mut(&mut resumed).expect("it has one owner").failures_reset_us = Some(self.now_us);
        self.subscriptions.insert(id, resumed);
        self.reload();
        self.advance();
    }

    pub(super) fn try_one_now(&mut self) {
        if self.scheduler.is_hungry() && self.recovering.is_empty() {
            let subscription_id = self.rng.i64(1..=self.plan.subscriptions.len() as i64);
            let ignore_retry_after = self.rng.bool();
            self.try_now(TryNow { subscription_id, ignore_retry_after });
        }
    }

    /// Feeds the request of a user for an attempt now.
    pub fn try_now(&mut self, wanted: TryNow) {
        let window = self.routed.len() as u64;
        self.routed.push(Vec::new());
        let tries = vec![wanted];
        self.feed(Feed::Batch(Batch { window, end: Some(end(window)), tries, ..Batch::default() }));
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

//! Owners of events, and changes of whose events a subscription gets.

use crate::{
    event::EVERY_OWNER,
    scheduler::tests::world::*,
    scope::{InternalTypes, Scope},
};

const OWNERS: [&str; 2] = ["a", "b"];

/// The event with this number. Odd events are of the owner `a`, and even ones of `b`. Every tenth
/// is for all owners, and every 17th is of none.
pub fn event(id: i64) -> Event {
    let owner = match id {
        _ if id % 17 == 0 => None,
        _ if id % 10 == 0 => Some(EVERY_OWNER),
        _ => Some(OWNERS[usize::from(id % 2 == 0)]),
    };
    Event { owner: owner.map(Box::from), ..Event::sample(id) }
}

impl World {
    /// Reports whether the subscription as the scheduler knows it may get the event.
    pub(super) fn is_covered(&self, (subscription_id, event_id): Pair) -> bool {
        self.fed[&subscription_id].may_get(&event(event_id), &self.internal)
    }

    /// Notes the deliveries that are not allowed now. The scheduler may drop them.
    pub(super) fn note_withheld(&mut self) {
        if self.fed.values().all(|subscription| subscription.scope == Scope::All) {
            return;
        }
        let withheld: Vec<Pair> =
            self.everything().filter(|pair| !self.is_covered(**pair)).copied().collect();
        self.withheld.extend(withheld);
    }

    /// Gives one subscription another owner or scope, or makes the type of all events internal or
    /// not.
    pub fn change_an_owner(&mut self) {
        if !self.scheduler.is_hungry() {
            return;
        }
        if self.rng.u8(0..5) == 0 {
            return self.change_internal();
        }
        let id = self.rng.i64(1..=self.plan.subscriptions.len() as i64);
        let (owner, scope) = (OWNERS[self.rng.usize(0..2)], Scope::ALL[self.rng.usize(0..2)]);
        self.give(id, owner, scope);
    }

    /// Gives a subscription to an owner.
    pub fn give(&mut self, id: i64, owner: &'static str, scope: Scope) {
        let options = &mut self.plan.subscriptions[id as usize - 1];
        (options.owner, options.scope) = (owner, scope);
        self.replace(id, self.subscriptions[&id].enabled);
        self.reload();
    }

    fn change_internal(&mut self) {
        let types = match self.internal.is_empty() {
            true => InternalTypes::from([event(1).event_type]),
            false => InternalTypes::new(),
        };
        self.internal = Arc::new(types);
        self.note_withheld();
        self.feed(Feed::InternalTypes(Arc::clone(&self.internal)));
    }
}

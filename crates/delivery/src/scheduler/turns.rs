//! Fair turns: owners take turns, and the send queues of an owner take turns among themselves.
//! Pure.
//!
//! Each step costs the same, however many owners and send queues there are.

use std::collections::{HashMap, VecDeque};

/// Lists of send queues, one for each owner. Owners are numbers of
/// [`Owners`](super::owners::Owners).
#[derive(Debug, Default)]
pub struct Turns {
    /// Lists that are not empty.
    by_owner: HashMap<usize, List>,
    /// The owners in `by_owner`, in order of their turns, without those on hold.
    order: VecDeque<usize>,
    /// Owners that get no turn for now.
    on_hold: Vec<usize>,
    len: usize,
}

#[derive(Debug, Default)]
struct List {
    ids: VecDeque<i64>,
    is_on_hold: bool,
}

impl Turns {
    /// Returns the number of listed send queues.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a send queue behind the others of its owner.
    pub fn push_back(&mut self, owner: usize, id: i64) {
        let (list, begins) = self.list(owner);
        list.ids.push_back(id);
        if begins {
            self.order.push_back(owner);
        }
    }

    /// Adds a send queue before the others of its owner. The owner's turn is the next one if it had
    /// no send queue here.
    pub fn push_front(&mut self, owner: usize, id: i64) {
        let (list, begins) = self.list(owner);
        list.ids.push_front(id);
        if begins {
            self.order.push_front(owner);
        }
    }

    /// Returns the list for one more send queue, and whether the owner must be put in order.
    fn list(&mut self, owner: usize) -> (&mut List, bool) {
        self.len += 1;
        let list = self.by_owner.entry(owner).or_default();
        let begins = list.ids.is_empty() && !list.is_on_hold;
        (list, begins)
    }

    /// Takes the next send queue, and its owner.
    pub fn pop(&mut self) -> Option<(usize, i64)> {
        let owner = self.order.pop_front()?;
        let list = self.by_owner.get_mut(&owner)?;
        let id = list.ids.pop_front()?;
        self.len -= 1;
        if list.ids.is_empty() {
            self.by_owner.remove(&owner);
        } else {
            self.order.push_back(owner);
        }
        Some((owner, id))
    }

    /// Puts back what [`pop`](Self::pop) has just returned. The owner gets no turn until
    /// [`release`](Self::release).
    pub fn hold(&mut self, owner: usize, id: i64) {
        self.order.pop_back_if(|last| *last == owner);
        let (list, _) = self.list(owner);
        list.ids.push_front(id);
        list.is_on_hold = true;
        self.on_hold.push(owner);
    }

    /// Ends all holds.
    pub fn release(&mut self) {
        let Self { by_owner, order, on_hold, .. } = self;
        for owner in on_hold.drain(..) {
            if let Some(list) = by_owner.get_mut(&owner) {
                list.is_on_hold = false;
                order.push_back(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(turns: &mut Turns) -> Vec<i64> {
        std::iter::from_fn(|| turns.pop()).map(|(_, id)| id).collect()
    }

    #[test]
    fn many_send_queues_of_one_owner_are_one_turn_each_time() {
        let mut turns = Turns::default();
        (0..5).for_each(|id| turns.push_back(0, id));
        turns.push_back(1, 10);
        turns.push_back(1, 11);
        assert_eq!(turns.len(), 7);
        assert_eq!(all(&mut turns), [0, 10, 1, 11, 2, 3, 4]);
        assert_eq!(turns.len(), 0);
        assert!(turns.by_owner.is_empty());
    }

    #[test]
    fn an_owner_on_hold_keeps_its_list() {
        let mut turns = Turns::default();
        turns.push_back(0, 1);
        turns.push_back(0, 2);
        turns.push_back(1, 3);
        turns.push_back(2, 4);
        for wanted in [(0, 1), (1, 3)] {
            assert_eq!(turns.pop(), Some(wanted));
            turns.hold(wanted.0, wanted.1);
        }
        turns.push_front(0, 0);
        turns.push_back(1, 5);
        assert_eq!(all(&mut turns), [4]);
        assert_eq!(turns.len(), 5);
        turns.release();
        assert_eq!(all(&mut turns), [0, 3, 1, 5, 2]);
        turns.push_front(3, 5);
        assert_eq!(all(&mut turns), [5]);
    }
}

//! Fair turns: owners take turns, and the send queues of an owner take turns among themselves.
//! Pure.

use std::collections::VecDeque;

/// Lists of send queues, one for each owner. Owners are numbers of
/// [`Owners`](super::owners::Owners).
#[derive(Debug, Default)]
pub struct Turns {
    by_owner: Vec<VecDeque<i64>>,
    /// Owners with a list that is not empty, in order of their turns, without those on hold.
    order: VecDeque<usize>,
    /// Owners that get no turn for now.
    on_hold: Vec<usize>,
    len: usize,
}

impl Turns {
    /// Returns the number of listed send queues.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a send queue behind the others of its owner.
    pub fn push_back(&mut self, owner: usize, id: i64) {
        if self.begins(owner) {
            self.order.push_back(owner);
        }
        self.by_owner[owner].push_back(id);
    }

    /// Adds a send queue before the others of its owner. The owner's turn is the next one if it had
    /// no send queue here.
    pub fn push_front(&mut self, owner: usize, id: i64) {
        if self.begins(owner) {
            self.order.push_front(owner);
        }
        self.by_owner[owner].push_front(id);
    }

    /// Makes room for one more send queue. Reports whether the owner must be put in order.
    fn begins(&mut self, owner: usize) -> bool {
        if self.by_owner.len() <= owner {
            self.by_owner.resize_with(owner + 1, VecDeque::new);
        }
        self.len += 1;
        self.by_owner[owner].is_empty() && !self.on_hold.contains(&owner)
    }

    /// Takes the next send queue, and its owner.
    pub fn pop(&mut self) -> Option<(usize, i64)> {
        let owner = self.order.pop_front()?;
        let id = self.by_owner[owner].pop_front()?;
        self.len -= 1;
        if !self.by_owner[owner].is_empty() {
            self.order.push_back(owner);
        }
        Some((owner, id))
    }

    /// Gives an owner no turn until [`release`](Self::release).
    pub fn hold(&mut self, owner: usize) {
        self.order.retain(|other| *other != owner);
        self.on_hold.push(owner);
    }

    /// Ends all holds.
    pub fn release(&mut self) {
        let Self { by_owner, order, on_hold, .. } = self;
        order.extend(on_hold.drain(..).filter(|owner| !by_owner[*owner].is_empty()));
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
    }

    #[test]
    fn an_owner_on_hold_keeps_its_list() {
        let mut turns = Turns::default();
        turns.push_back(0, 1);
        turns.push_back(1, 2);
        turns.hold(0);
        turns.push_front(0, 0);
        assert_eq!(all(&mut turns), [2]);
        turns.release();
        assert_eq!(all(&mut turns), [0, 1]);
        turns.push_front(3, 5);
        assert_eq!(all(&mut turns), [5]);
    }
}

//! The connections that the server has, and which of them ends when there are too many.
//!
//! A client that sends half of a request, or that only listens, keeps a place. If all places are
//! taken, a new connection takes the place of the oldest one without a request in progress. So a
//! client that sends its request at once gets an answer.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::task::AbortHandle;

/// The number of requests in progress of one connection.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<AtomicUsize>);

/// A request in progress.
#[derive(Debug)]
pub struct InProgress(Busy);

impl Busy {
    /// Counts a request until the result is dropped.
    pub fn begin(&self) -> InProgress {
        self.0.fetch_add(1, Ordering::Relaxed);
        InProgress(self.clone())
    }

    fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A limited number of connections, the oldest first.
#[derive(Debug)]
pub struct Places {
    max: usize,
    taken: Vec<(AbortHandle, Busy)>,
}

impl Places {
    pub fn of_at_most(max: usize) -> Self {
        Self { max, taken: Vec::new() }
    }

    /// Makes room for a connection. Returns `false` if all places have a request in progress.
    pub fn make_room(&mut self) -> bool {
        if self.taken.len() < self.max {
            return true;
        }
        self.taken.retain(|(task, _)| !task.is_finished());
        if self.taken.len() < self.max {
            return true;
        }
        let Some(at) = self.taken.iter().position(|(_, busy)| busy.is_idle()) else { return false };
        self.taken.remove(at).0.abort();
        true
    }

    pub fn take(&mut self, task: AbortHandle, busy: Busy) {
        self.taken.push((task, busy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_without_a_request_makes_room() {
        let mut places = Places::of_at_most(2);
        let connection = || tokio::spawn(std::future::pending::<()>());
        let (first, second) = ((connection(), Busy::default()), (connection(), Busy::default()));
        for (task, busy) in [&first, &second] {
            assert!(places.make_room());
            places.take(task.abort_handle(), busy.clone());
        }
        let request = first.1.begin();
        assert!(places.make_room());
        assert!(second.0.await.unwrap_err().is_cancelled());
        let third = connection();
        let busy = Busy::default();
        places.take(third.abort_handle(), busy.clone());
        let other = busy.begin();
        assert!(!places.make_room());
        drop((request, other));
        third.abort();
        assert!(third.await.is_err());
        assert!(places.make_room());
        assert_eq!(places.taken.len(), 1, "one that has ended needs no place");
        assert!(!first.0.is_finished());
    }
}

//! The slots of the ring that the transactions of a snapshot may have written to
//! (`webhook.ring_head`).

use std::sync::atomic::{AtomicI16, Ordering};

/// If more slots are open, the whole ring is read. This is rare, and needs one statement only.
const SLOTS_MAX: usize = 3;

/// `webhook.ring_head` in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// The text of [`Ring::COLUMN`]. Equal texts mean the same row.
    text: String,
    present: Option<i16>,
    /// In ascending order. Empty for the whole ring.
    slots: Vec<i16>,
}

impl Ring {
    /// The row as one text, for a statement: number of changes, present slot, open slots.
    pub const COLUMN: &'static str = "(select concat_ws(':', h.changes, h.present, array_to_string(h.open, ',')) from webhook.ring_head h)";

    /// Parses the row. `None` means that there is no row, so nothing is known.
    pub fn of(text: Option<&str>) -> Self {
        let text = text.unwrap_or_default();
        let mut parts = text.split(':').skip(1);
        let present = parts.next().and_then(|part| part.parse().ok());
        let open = parts.next().map(|part| part.split(',').map(str::parse).collect::<Result<Vec<i16>, _>>());
        let mut slots =
            open.and_then(Result::ok).filter(|slots| slots.len() <= SLOTS_MAX).unwrap_or_default();
        slots.sort_unstable();
        slots.dedup();
        Self { text: text.to_owned(), present, slots }
    }

    /// Returns the slots to read, or none for the whole ring.
    pub fn slots(&self) -> &[i16] {
        &self.slots
    }

    /// Returns the slot that is written to.
    pub fn present(&self) -> Option<i16> {
        self.present
    }
}

/// The present slot as the reader last saw it, for writers of attempts. Without a row in
/// `webhook.ring_head`, it is slot 0: then the whole ring is read.
#[derive(Debug, Default)]
pub struct Present(AtomicI16);

impl Present {
    pub fn set(&self, ring: &Ring) {
        self.0.store(ring.present().unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the slot for an attempt.
    pub fn slot(&self) -> i16 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_tells_which_slots_are_open() {
        let ring = Ring::of(Some("7:4:4"));
        assert_eq!((ring.present(), ring.slots()), (Some(4), &[4][..]));
        let ring = Ring::of(Some("8:0:15,0"));
        assert_eq!((ring.present(), ring.slots()), (Some(0), &[0, 15][..]));
        assert!(Ring::of(Some("9:3:0,1,2,3")).slots().is_empty(), "the whole ring");
        assert_eq!(Ring::of(None), Ring::of(Some("")));
        assert!(Ring::of(None).slots().is_empty());
        assert_ne!(Ring::of(Some("7:4:4")), Ring::of(Some("9:4:4")), "it has been round");
    }

    #[test]
    fn attempts_go_where_events_go() {
        let present = Present::default();
        assert_eq!(present.slot(), 0);
        present.set(&Ring::of(Some("1:9:9")));
        assert_eq!(present.slot(), 9);
    }
}

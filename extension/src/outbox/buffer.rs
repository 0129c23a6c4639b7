//! Events that have been captured and are not in the table yet: a stack of rows by subtransaction.
//! Pure.
//!
//! The subtransaction that captured a row must insert it, so that the row shares its fate.
//! Subtransactions nest, so the rows of the innermost are always on top. An abort truncates the
//! stack, and a flush inserts the top level only.
//!
//! The memory is kept from one transaction to the next, and does not belong to Postgres. So a
//! commit or abort callback can empty the buffer without freeing or allocating. A failed allocation
//! is returned as an error and never ends the process.

use std::collections::TryReserveError;

use crate::memory;

/// Maximum number of rows of a level. A full level is flushed.
pub const ROWS_MAX: usize = 128;
/// Maximum number of bytes of text of a level.
pub const BYTES_MAX: usize = 64 * 1024;
/// More memory than this is freed after a flush.
const KEPT_BYTES_MAX: usize = 4 * BYTES_MAX;

/// Number of text columns of webhook.event, in the order of [`Row::texts`].
pub const TEXTS: usize = 9;

/// The position of a text in the buffer.
#[derive(Debug, Clone, Copy)]
pub struct Place(u32);

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub id: i64,
    /// Postgres time: microseconds since 2000-01-01 UTC.
    pub created_at: i64,
    pub subscription_id: Option<i64>,
    pub truncated: bool,
    /// The command that captured it. Later commands of the transaction see the row.
    pub command: u32,
    /// type, table_name, key, actor, origin, traceparent, payload, previous, owner.
    pub texts: [Option<Place>; TEXTS],
    subtransaction: u32,
    /// Index of the first row of its level.
    first: u32,
    /// Where its texts begin.
    begin: u32,
}

/// The arguments of [`Buffer::push`] besides the texts.
#[derive(Debug, Clone, Copy)]
pub struct BufferHead {
    pub id: i64,
    pub created_at: i64,
    pub subscription_id: Option<i64>,
    pub truncated: bool,
    pub command: u32,
    pub subtransaction: u32,
}

#[derive(Debug, Default)]
pub struct Buffer {
    rows: Vec<Row>,
    /// Texts as Postgres values: a four-byte length, then the bytes. Each begins at a word, as
    /// Postgres aligns them.
    words: Vec<u64>,
}

/// Returns the length word of a Postgres value of `bytes` bytes (SET_VARSIZE).
fn length_word(bytes: usize) -> u32 {
    let total = bytes as u32 + 4;
    if cfg!(target_endian = "little") { total << 2 } else { total }
}

impl Buffer {
    pub const fn new() -> Self {
        Self { rows: Vec::new(), words: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns the subtransaction of the topmost level, or 0 if the buffer is empty.
    pub fn top(&self) -> u32 {
        self.rows.last().map_or(0, |top| top.subtransaction)
    }

    /// Returns the Postgres value at a position. It is valid until the buffer is changed or
    /// dropped.
    pub fn value(&self, place: Place) -> *const u64 {
        &raw const self.words[place.0 as usize]
    }

    /// Adds an event on top. Returns true if the level is full and must be flushed.
    ///
    /// # Errors
    /// Out of memory. The buffer is then unchanged.
    pub fn push(
        &mut self,
        head: &BufferHead,
        texts: &[Option<&[u8]>; TEXTS],
    ) -> Result<bool, TryReserveError> {
        let begin = self.words.len();
        let wanted: usize = texts.iter().flatten().map(|text| (4 + text.len()).div_ceil(8)).sum();
        memory::fallible(|| {
            // Doubles the space if there is memory for it, so that appending stays cheap.
            self.words.try_reserve(wanted).or_else(|_| self.words.try_reserve_exact(wanted))?;
            self.rows.try_reserve(1)
        })?;
        let places = texts.map(|text| text.map(|text| self.store(text)));
        let first = match self.rows.last() {
            Some(top) if top.subtransaction == head.subtransaction => top.first,
            _ => self.rows.len() as u32,
        };
        self.rows.push(Row {
            id: head.id,
            created_at: head.created_at,
            subscription_id: head.subscription_id,
            truncated: head.truncated,
            command: head.command,
            texts: places,
            subtransaction: head.subtransaction,
            first,
            begin: begin as u32,
        });
        let level = &self.rows[first as usize..];
        let bytes = (self.words.len() - level[0].begin as usize) * 8;
        Ok(level.len() >= ROWS_MAX || bytes >= BYTES_MAX)
    }

    /// The caller has reserved the space.
    fn store(&mut self, text: &[u8]) -> Place {
        let place = Place(self.words.len() as u32);
        let words = (4 + text.len()).div_ceil(8);
        self.words.resize(self.words.len() + words, 0);
        let target = self.words[place.0 as usize..].as_mut_ptr().cast::<u8>();
        // SAFETY: `words` words begin at `target`, which is 4 + text.len() bytes or more. The
        // source is another allocation, because `self` is borrowed mutably.
        unsafe {
            target.cast::<u32>().write(length_word(text.len()));
            core::ptr::copy_nonoverlapping(text.as_ptr(), target.add(4), text.len());
        }
        place
    }

    /// Removes and returns the rows of the topmost level, if it belongs to `subtransaction`.
    ///
    /// # Errors
    /// Out of memory. This cannot happen with one level, which is the usual case. The buffer is
    /// then unchanged.
    pub fn take(&mut self, subtransaction: u32) -> Result<Option<Self>, TryReserveError> {
        let Some(top) = self.rows.last().filter(|top| top.subtransaction == subtransaction) else {
            return Ok(None);
        };
        let first = top.first as usize;
        if first == 0 {
            return Ok(Some(core::mem::take(self)));
        }
        let begin = self.rows[first].begin;
        let mut taken = Self::new();
        memory::fallible(|| {
            taken.rows.try_reserve(self.rows.len() - first)?;
            taken.words.try_reserve(self.words.len() - begin as usize)
        })?;
        taken.words.extend_from_slice(&self.words[begin as usize..]);
        taken.rows.extend(self.rows[first..].iter().map(|row| Row {
            texts: row.texts.map(|place| place.map(|Place(word)| Place(word - begin))),
            first: 0,
            begin: row.begin - begin,
            ..*row
        }));
        self.cut(first);
        Ok(Some(taken))
    }

    /// Reuses the memory of a flushed level for the next rows.
    pub fn reuse(&mut self, mut flushed: Self) {
        if self.is_empty() && flushed.words.capacity() * 8 <= KEPT_BYTES_MAX {
            flushed.clear();
            *self = flushed;
        }
    }

    /// Discards the rows of a subtransaction that was rolled back, and of subtransactions in it.
    /// Their numbers are higher than its own, and lower levels have lower numbers. Neither
    /// allocates nor frees.
    pub fn abort(&mut self, subtransaction: u32) {
        while let Some(top) = self.rows.last() {
            if top.subtransaction < subtransaction {
                break;
            }
            self.cut(top.first as usize);
        }
    }

    /// Moves the rows of a subtransaction that was released to its parent. Neither allocates nor
    /// frees.
    pub fn release(&mut self, subtransaction: u32, parent: u32) {
        let Some(top) = self.rows.last().filter(|top| top.subtransaction == subtransaction) else { return };
        let level = top.first as usize;
        let first = match level.checked_sub(1).map(|below| self.rows[below]) {
            Some(below) if below.subtransaction == parent => below.first,
            _ => level as u32,
        };
        for row in &mut self.rows[level..] {
            row.subtransaction = parent;
            row.first = first;
        }
    }

    /// Removes all rows. Neither allocates nor frees.
    pub fn clear(&mut self) {
        self.cut(0);
    }

    fn cut(&mut self, first: usize) {
        if let Some(row) = self.rows.get(first) {
            self.words.truncate(row.begin as usize);
            self.rows.truncate(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(id: i64, subtransaction: u32) -> BufferHead {
        BufferHead { id, created_at: 0, subscription_id: None, truncated: false, command: 0, subtransaction }
    }

    fn push(buffer: &mut Buffer, id: i64, subtransaction: u32) -> bool {
        let text = format!("text of {id}");
        let mut texts = [None; TEXTS];
        texts[6] = Some(text.as_bytes());
        buffer.push(&head(id, subtransaction), &texts).unwrap()
    }

    fn ids(buffer: &Buffer) -> Vec<i64> {
        for row in buffer.rows() {
            let value = buffer.value(row.texts[6].unwrap()).cast::<u8>();
            // SAFETY: a stored value: four bytes of length, then the text.
            let text = unsafe {
                let total = value.cast::<u32>().read() >> 2;
                core::slice::from_raw_parts(value.add(4), total as usize - 4)
            };
            assert_eq!(text, format!("text of {}", row.id).as_bytes());
        }
        buffer.rows().iter().map(|row| row.id).collect()
    }

    #[test]
    fn an_abort_removes_exactly_the_levels_within() {
        let mut buffer = Buffer::new();
        for (id, subtransaction) in [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3)] {
            push(&mut buffer, id, subtransaction);
        }
        buffer.abort(3);
        assert_eq!(ids(&buffer), [1, 2, 3]);
        push(&mut buffer, 6, 2);
        buffer.abort(4);
        assert_eq!(ids(&buffer), [1, 2, 3, 6]);
        buffer.abort(2);
        assert_eq!(ids(&buffer), [1, 2]);
        push(&mut buffer, 7, 1);
        assert_eq!(ids(&buffer.take(1).unwrap().unwrap()), [1, 2, 7]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn only_the_top_level_is_taken() {
        let mut buffer = Buffer::new();
        push(&mut buffer, 1, 1);
        push(&mut buffer, 2, 5);
        push(&mut buffer, 3, 5);
        assert!(buffer.take(1).unwrap().is_none());
        let taken = buffer.take(5).unwrap().unwrap();
        assert_eq!(ids(&taken), [2, 3]);
        assert_eq!(ids(&buffer), [1]);
        buffer.reuse(taken);
        assert_eq!(ids(&buffer), [1]);
    }

    #[test]
    fn a_release_hands_the_rows_to_the_parent() {
        let mut buffer = Buffer::new();
        push(&mut buffer, 1, 1);
        push(&mut buffer, 2, 4);
        buffer.release(4, 1);
        push(&mut buffer, 3, 1);
        assert_eq!(ids(&buffer.take(1).unwrap().unwrap()), [1, 2, 3]);
        push(&mut buffer, 4, 7);
        buffer.release(7, 6);
        assert_eq!(ids(&buffer.take(6).unwrap().unwrap()), [4]);
    }

    #[test]
    fn a_level_is_full_by_rows_or_by_bytes() {
        let mut buffer = Buffer::new();
        for id in 1..ROWS_MAX as i64 {
            assert!(!push(&mut buffer, id, 1));
        }
        assert!(push(&mut buffer, ROWS_MAX as i64, 1));
        assert!(!push(&mut buffer, 1000, 2));
        let long = vec![b'x'; BYTES_MAX];
        let mut texts = [None; TEXTS];
        texts[6] = Some(long.as_slice());
        assert!(buffer.push(&head(1001, 2), &texts).unwrap());
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Push,
        Flush,
        Begin,
        Release,
        Abort,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            1 => Just(Step::Flush),
            2 => Just(Step::Begin),
            1 => Just(Step::Release),
            1 => Just(Step::Abort),
        ]
    }

    proptest! {
        /// Compares with a model in which each level has a list of its own. Some flushes at a
        /// release are left out, as happens during a flush.
        #[test]
        fn every_row_shares_the_fate_of_its_subtransaction(steps in prop::collection::vec(step(), 0..200)) {
            let mut buffer = Buffer::new();
            let mut model = vec![(1, Vec::new())];
            let mut next = 1;
            for (id, step) in steps.into_iter().enumerate() {
                let id = id as i64;
                let depth = model.len();
                let level = model[depth - 1].0;
                match step {
                    Step::Push => {
                        push(&mut buffer, id, level);
                        model[depth - 1].1.push(id);
                    }
                    Step::Flush => {
                        let taken = buffer.take(level).unwrap();
                        let expected = core::mem::take(&mut model[depth - 1].1);
                        prop_assert_eq!(taken.as_ref().map(ids).unwrap_or_default(), expected);
                        taken.into_iter().for_each(|taken| buffer.reuse(taken));
                    }
                    Step::Begin => {
                        next += 1;
                        model.push((next, Vec::new()));
                    }
                    Step::Release if depth > 1 => {
                        let rows = model.pop().unwrap().1;
                        buffer.release(level, model[depth - 2].0);
                        model[depth - 2].1.extend(rows);
                    }
                    Step::Abort if depth > 1 => {
                        model.pop();
                        buffer.abort(level);
                    }
                    Step::Release | Step::Abort => {}
                }
                let expected: Vec<i64> = model.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
                prop_assert_eq!(ids(&buffer), expected);
            }
        }
    }
}

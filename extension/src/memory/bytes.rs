//! A byte text that grows with the data: a `Vec<u8>` whose growth raises Postgres's error and does
//! not end the process.

use core::ops::Deref;

/// Offers the methods of `Vec<u8>` that writers of text need.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// # Errors
    /// Raises `out_of_memory`.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut new = Self::new();
        new.reserve(bytes);
        new
    }

    /// Makes room for this many additional bytes.
    ///
    /// # Errors
    /// Raises `out_of_memory`.
    #[inline]
    pub fn reserve(&mut self, bytes: usize) {
        super::reserve(&mut self.0, bytes);
    }

    /// # Errors
    /// Raises `out_of_memory`.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.reserve(1);
        self.0.push(byte);
    }

    /// # Errors
    /// Raises `out_of_memory`.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    pub fn into_boxed_slice(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

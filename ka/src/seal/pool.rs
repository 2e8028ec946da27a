//! Recycled memory: for blocks, and for bytes on their way to a reader.
//!
//! The piece returned last is the next one taken: it is still in the processor's cache, and its pages need
//! not be found and cleared like new memory. A member that keeps up with its chain needs a handful of them.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// How many bytes are kept for reuse.
const KEPT: usize = 2 * 1024 * 1024;
/// Smaller pieces are cheap to allocate.
const SMALL: usize = 8 * 1024;

/// The memory for pieces of one origin, such as a link or a sealer; they return to it.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    spare: Mutex<Vec<Vec<u8>>>,
    /// How many bytes are kept.
    most: usize,
}

/// Bytes from a pool: a [`Vec`] that returns to the pool on drop.
#[derive(Default)]
pub struct Bytes {
    bytes: Vec<u8>,
    pool: Option<Pool>,
}

impl Default for Pool {
    fn default() -> Self {
        Self::keeping(KEPT)
    }
}

impl Pool {
    /// Creates a pool that keeps at most this many bytes, but at least one piece.
    #[must_use]
    pub fn keeping(most: usize) -> Self {
        Self(Arc::new(Shared { spare: Mutex::default(), most }))
    }

    /// A piece of `length` bytes with arbitrary content.
    #[must_use]
    pub fn take(&self, length: usize) -> Bytes {
        let used = (length >= SMALL).then(|| self.used(|bytes| bytes.len() == length)).flatten();
        // New memory costs nothing until it is written.
        let bytes = used.unwrap_or_else(|| vec![0; length]);
        Bytes { bytes, pool: Some(self.clone()) }
    }

    /// An empty piece with room for at least `length` bytes.
    #[must_use]
    pub fn empty(&self, length: usize) -> Bytes {
        let mut bytes = self.used(|bytes| bytes.capacity() >= length).unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(length);
        Bytes { bytes, pool: Some(self.clone()) }
    }

    /// The last piece, if it fits. If it does not, pieces are now requested in another size, and none of
    /// those kept fits.
    fn used(&self, fits: impl Fn(&Vec<u8>) -> bool) -> Option<Vec<u8>> {
        let mut spare = self.0.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = spare.pop()?;
        if !fits(&bytes) {
            spare.clear();
            return None;
        }
        Some(bytes)
    }

    fn put(&self, bytes: Vec<u8>) {
        if bytes.capacity() >= SMALL {
            let mut spare = self.0.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.is_empty() || (spare.len() + 1) * bytes.capacity() <= self.0.most {
                spare.push(bytes);
            }
        }
    }
}

impl Bytes {
    /// The bytes, for appending.
    pub fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl From<Vec<u8>> for Bytes {
    /// Bytes without a pool.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, pool: None }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.put(std::mem::take(&mut self.bytes));
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_round_while_the_size_stays() {
        let pool = Pool::default();
        let first = pool.take(SMALL);
        let place = first.as_ptr();
        drop(first);
        let again = pool.take(SMALL);
        assert_eq!(again.as_ptr(), place);
        let other = pool.take(SMALL + 1);
        drop((again, other));
        assert_eq!(pool.take(2 * SMALL).len(), 2 * SMALL);
        assert!(pool.used(|bytes| bytes.len() == SMALL).is_none(), "of another size");
    }

    #[test]
    fn a_pool_keeps_so_many_bytes_of_pieces_of_any_size() {
        for (size, kept) in [(SMALL, KEPT / SMALL), (KEPT / 2, 2), (2 * KEPT, 1), (SMALL - 1, 0)] {
            let pool = Pool::default();
            let many: Vec<Bytes> = (0..kept + 2).map(|_| pool.take(size)).collect();
            drop(many);
            assert_eq!(std::iter::from_fn(|| pool.used(|_| true)).count(), kept, "{size}");
        }
    }

    #[test]
    fn room_stays_room() {
        let pool = Pool::default();
        let mut first = pool.empty(SMALL);
        first.vec().extend_from_slice(&[1; 100]);
        let place = first.as_ptr();
        drop(first);
        let again = pool.empty(SMALL / 2);
        assert_eq!((again.len(), again.as_ptr()), (0, place));
    }
}

//! The memory of blocks that are forgotten, for those that come.
//!
//! The last one given back is the next one taken: it is still in the processor's cache, and it need not be cleared
//! as new memory must. A node that keeps up with its chain needs a handful of them, all of one size.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// So many are kept: 2 MiB of the largest blocks.
const MOST: usize = 32;
/// Smaller ones are quickly made.
const SMALL: usize = 8 * 1024;

/// Where blocks of one origin, a link or a sealer, have their memory from, and where it goes back to.
#[derive(Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

/// A block's bytes.
pub(super) struct Memory {
    bytes: Vec<u8>,
    pool: Pool,
}

impl Pool {
    /// Memory of `length` bytes, with anything in them.
    pub(super) fn take(&self, length: usize) -> Memory {
        Memory { bytes: self.used(length).unwrap_or_else(|| vec![0; length]), pool: self.clone() }
    }

    fn used(&self, length: usize) -> Option<Vec<u8>> {
        if length < SMALL {
            return None;
        }
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = spare.pop()?;
        if bytes.len() != length {
            // Blocks have another size now.
            spare.clear();
            return None;
        }
        Some(bytes)
    }

    fn put(&self, bytes: Vec<u8>) {
        if bytes.len() >= SMALL {
            let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < MOST {
                spare.push(bytes);
            }
        }
    }
}

impl Memory {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.bytes));
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Memory {}

impl fmt::Debug for Memory {
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
        let place = first.bytes().as_ptr();
        drop(first);
        let again = pool.take(SMALL);
        assert_eq!(again.bytes().as_ptr(), place);
        let other = pool.take(SMALL + 1);
        drop((again, other));
        assert_eq!(pool.take(2 * SMALL).bytes().len(), 2 * SMALL);
        assert!(pool.used(SMALL).is_none(), "of another size");
        let many: Vec<Memory> = (0..2 * MOST).map(|_| pool.take(SMALL)).collect();
        drop(many);
        assert_eq!(std::iter::from_fn(|| pool.used(SMALL)).count(), MOST);
    }
}

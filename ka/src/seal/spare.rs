//! The memory of blocks that are forgotten, for those that come.
//!
//! The last one given back is the next one taken: it is still in the processor's cache, and it need not be cleared
//! as new memory must. A node that keeps up with its chain needs a handful of them, all of one size.

use std::sync::{Mutex, PoisonError};

/// So many are kept: 2 MiB of the largest blocks.
const MOST: usize = 32;
/// Smaller ones are quickly made.
const SMALL: usize = 8 * 1024;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Memory of `length` bytes, with anything in them.
pub(super) fn take(length: usize) -> Vec<u8> {
    if length >= SMALL {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        match spare.pop() {
            Some(memory) if memory.len() == length => return memory,
            // Blocks have another size now.
            Some(_) => spare.clear(),
            None => {}
        }
    }
    vec![0; length]
}

/// Memory that no block needs any more.
pub(super) fn put(memory: Vec<u8>) {
    if memory.len() >= SMALL {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST {
            spare.push(memory);
        }
    }
}

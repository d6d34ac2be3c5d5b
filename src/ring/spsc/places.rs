//! The blocks of messages that do not lie in the ring: each is listed at a place until it belongs to who received it.

use crate::primitive::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

/// 0 is a free place; else a block's number + 1.
#[derive(Debug)]
pub(crate) struct Places<const N: usize>([AtomicU64; N]);

impl<const N: usize> Places<N> {
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        Places(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// A free one, if there is one. For the writer.
    pub(crate) fn free(&self) -> Option<usize> {
        // (B) pairs with `clear`.
        let free = |word: &AtomicU64| word.load(Acquire) == 0;
        self.0.iter().position(free)
    }

    /// From now on this block is listed; the writer says so in a record next.
    pub(crate) fn set(&self, place: usize, block: u32) {
        self.0[place].store(u64::from(block) + 1, Release);
    }

    /// The block at this place.
    pub(crate) fn get(&self, place: usize) -> Option<u32> {
        let word = self.0.get(place)?.load(Acquire);
        word.checked_sub(1).map(|block| block as u32)
    }

    /// The block is forgotten, which somebody has made his own before.
    pub(crate) fn clear(&self, place: usize) {
        // (B): who finds it no longer listed finds who has it.
        self.0[place].store(0, Release);
    }
}

//! Pages of words that an object links: tables that grow. A page belongs to its object until that is destroyed.

use super::alloc::Block;
use super::object::View;
use crate::error::Error;
use crate::primitive::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

const BYTES: u64 = 1024;

/// The first word names the next page (its number + 1); the rest is the object's.
pub(crate) type Page = [AtomicU64; BYTES as usize / 8];

impl<'a> View<'a> {
    /// A page that [`add_page_of_words`](Self::add_page_of_words) has linked to this object.
    pub(crate) fn page_of_words(self, index: u32) -> &'a Page {
        let block = Block {
            index,
            generation: 0,
        };
        assert!(u64::from(index) < self.arena.slots() && self.arena.size_of(block) >= BYTES);
        let base = self.arena.address(block);
        // SAFETY: as many bytes are there (checked), and a linked page was zeroed before and is only used as atomics.
        unsafe { &*base.cast::<Page>() }
    }

    /// Appends a page of zeros to the list that begins at `first`.
    pub(crate) fn add_page_of_words(self, first: &AtomicU64) -> Result<(), Error> {
        let mut page = self.arena.alloc(BYTES)?;
        page.bytes_mut()[..BYTES as usize].fill(0);
        let linked = u64::from(page.block().index) + 1;
        let mut next = first;
        while let Err(other) = next.compare_exchange(0, linked, AcqRel, Acquire) {
            next = &self.page_of_words((other - 1) as u32)[0];
        }
        page.into_block();
        Ok(())
    }

    /// Takes all pages out, from the front, when the object is destroyed.
    pub(crate) fn free_pages_of_words(self, first: &AtomicU64) {
        while let Some(index) = first.load(Acquire).checked_sub(1) {
            // Its own before the object forgets it.
            let owned = self.arena.take_over(index as u32);
            let next = self.page_of_words(index as u32)[0].load(Acquire);
            first.store(next, Release);
            drop(owned);
        }
    }
}

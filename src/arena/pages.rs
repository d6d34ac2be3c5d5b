//! Pages of words that an object links: tables that grow. A page belongs to its object until that is destroyed.

use super::alloc::Block;
use super::object::View;
use crate::error::Error;
use crate::primitive::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

const BYTES: u64 = 1024;

/// The first word names the next page (its number + 1); the rest is the object's.
pub(crate) type Page = [AtomicU64; BYTES as usize / 8];

impl<'a> View<'a> {
    /// A page that [`insert_page_of_words`](Self::insert_page_of_words) has linked to this object.
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

    /// Puts a page of zeros at this place in the list: behind the word that names the first page, or a page's own first word.
    pub(crate) fn insert_page_of_words(self, link: &AtomicU64) -> Result<(), Error> {
        let mut page = self.arena.alloc(BYTES)?;
        let linked = u64::from(page.block().index) + 1;
        loop {
            let behind = link.load(Acquire);
            page.bytes_mut()[..BYTES as usize].fill(0);
            page.bytes_mut()[..8].copy_from_slice(&behind.to_ne_bytes());
            let inserted = link.compare_exchange(behind, linked, AcqRel, Relaxed);
            if inserted.is_ok() {
                page.into_block();
                return Ok(());
            }
        }
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

//! A table of words in an object: so many that lie in it, and pages for more where it may grow. Each word names its owner, so
//! nothing is counted that a killed process could leave wrong.

use crate::arena::{MEMBER_BITS, MemberId, Page, Shared, View, Visitor};
use crate::error::Error;
use crate::primitive::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// `sequence:48 | state:4 | owner:12`. The sequence rises so that a word that somebody has seen does not come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotWord(pub(super) u64);

const STATE_SHIFT: u32 = MEMBER_BITS;
const SEQUENCE_SHIFT: u32 = 16;

impl SlotWord {
    #[inline]
    pub(super) const fn new(sequence: u64, state: u64, owner: MemberId) -> SlotWord {
        SlotWord(sequence << SEQUENCE_SHIFT | state << STATE_SHIFT | owner as u64)
    }

    #[inline]
    pub(super) const fn sequence(self) -> u64 {
        self.0 >> SEQUENCE_SHIFT
    }

    #[inline]
    pub(super) const fn state(self) -> u64 {
        self.0 >> STATE_SHIFT & 15
    }

    #[inline]
    pub(super) const fn owner(self) -> MemberId {
        (self.0 & ((1 << MEMBER_BITS) - 1)) as MemberId
    }

    /// The next word of the slot.
    #[inline]
    pub(super) const fn next(self, state: u64, owner: MemberId) -> SlotWord {
        SlotWord::new(self.sequence() + 1, state, owner)
    }

    #[inline]
    pub(super) fn of(slot: &AtomicU64) -> SlotWord {
        SlotWord(slot.load(Acquire))
    }

    /// Changes exactly this word.
    #[inline]
    pub(super) fn replace(
        self,
        slot: &AtomicU64,
        new: SlotWord,
        order: std::sync::atomic::Ordering,
    ) -> bool {
        slot.compare_exchange(self.0, new.0, order, Relaxed).is_ok()
    }
}

/// The head of a table: the first page beyond the words in the object (its number + 1), and how many of these there are.
#[repr(C)]
#[derive(Debug)]
pub(super) struct SlotsHead {
    pages: AtomicU64,
    inline: AtomicU64,
}

// SAFETY: atomics of any value.
unsafe impl Shared for SlotsHead {}

impl SlotsHead {
    /// In a new object.
    pub(super) fn init(&self, inline: usize) {
        self.inline.store(inline as u64, Relaxed);
    }
}

/// Access to a table.
#[derive(Clone, Copy)]
pub(super) struct Slots<'a> {
    inline: &'a [AtomicU64],
    more: Option<(View<'a>, &'a SlotsHead)>,
}

impl<'a> Slots<'a> {
    /// A table that does not grow.
    #[cfg(test)]
    pub(super) fn fixed(inline: &'a [AtomicU64]) -> Slots<'a> {
        Slots { inline, more: None }
    }

    /// The table whose words begin `at` so many bytes in the object.
    pub(super) fn new(view: View<'a>, head: &'a SlotsHead, at: usize) -> Slots<'a> {
        let count = head.inline.load(Relaxed);
        let end = count.checked_mul(8).and_then(|n| n.checked_add(at as u64));
        assert!(at % 8 == 0 && end.is_some_and(|end| end <= view.len()));
        let words = view.base().wrapping_add(at).cast::<AtomicU64>();
        // SAFETY: they lie in the object (checked), and every value is a valid atomic.
        let inline = unsafe { std::slice::from_raw_parts(words, count as usize) };
        Slots {
            inline,
            more: Some((view, head)),
        }
    }

    #[inline]
    pub(super) fn inline(self) -> &'a [AtomicU64] {
        self.inline
    }

    /// The pages beyond the words in the object.
    fn pages(self) -> impl Iterator<Item = (u32, &'a Page)> {
        let mut next = self.more.map(|(_, head)| &head.pages);
        std::iter::from_fn(move || {
            let (view, _) = self.more?;
            let index = next?.load(Acquire).checked_sub(1)? as u32;
            let page = view.page_of_words(index);
            next = Some(&page[0]);
            Some((index, page))
        })
    }

    /// All words, those in the object from the number `from` on and round.
    pub(super) fn each_from(self, from: usize) -> impl Iterator<Item = &'a AtomicU64> {
        let (front, back) = self.inline.split_at(from.min(self.inline.len()));
        let paged = self.pages().flat_map(|(_, page)| &page[1..]);
        back.iter().chain(front).chain(paged)
    }

    pub(super) fn each(self) -> impl Iterator<Item = &'a AtomicU64> {
        self.each_from(0)
    }

    /// Makes it larger; all new words are zero.
    pub(super) fn grow(self) -> Result<(), Error> {
        match self.more {
            Some((view, head)) => view.insert_page_of_words(&head.pages),
            None => Err(Error::NoMemory),
        }
    }

    /// Names the blocks of the pages.
    pub(super) fn visit(self, block: &mut Visitor<'_>) {
        self.pages().for_each(|(index, _)| block(index));
    }

    /// Frees the pages, when the object is destroyed.
    pub(super) fn free(self) {
        if let Some((view, head)) = self.more {
            view.free_pages_of_words(&head.pages);
        }
    }
}

//! A chain of rings in the arena: the object's words, its segments, and who is in which of them.
//!
//! ```text
//! 0      a zero, where a ring has its capacity; the size of a segment's ring; closed; first page of entries; oldest
//! 128    event count: not empty
//! 256    first           384  last
//! 512    entries: who (row and generation of the member), put segment, get segment, segment looked at
//! ```
//!
//! A segment is a block that the chain lists, with a ring in it.

use super::chain::{Chain, Link, Words};
use super::storage::{Geometry, RingObject};
use crate::arena::{
    Arena, Block, LARGEST_SMALL, MemberId, OwnedBlock, Shared, View, Visitor, part_room,
};
use crate::error::Error;
use crate::primitive::{AtomicU32, AtomicU64};
use crate::sync::EventCount;
use crossbeam_utils::CachePadded;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Owner, then what it keeps.
type Words4 = [AtomicU64; 4];
const ENTRIES: usize = 28;
/// Entries in a page, behind its link.
const PAGE_ENTRIES: usize = (size_of::<crate::arena::Page>() / size_of::<AtomicU64>() - 1) / 4;

#[repr(C, align(128))]
pub(crate) struct ChainHeader {
    /// Always 0; a ring has its capacity here.
    no_ring: AtomicU64,
    capacity: AtomicU64,
    stride: AtomicU64,
    closed: AtomicU32,
    pages: AtomicU64,
    oldest: AtomicU64,
    not_empty: EventCount,
    first: CachePadded<AtomicU64>,
    last: CachePadded<AtomicU64>,
    entries: [Words4; ENTRIES],
}

// SAFETY: atomics of any value.
unsafe impl Shared for ChainHeader {}

/// Where a process's entry is: a page (its number + 1, or 0 for the object itself) and a place in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    page: u64,
    slot: usize,
}

/// What a process is in.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a>(&'a Words4);

impl<'a> Entry<'a> {
    fn owner(self) -> &'a AtomicU64 {
        &self.0[0]
    }

    pub(crate) fn put(self) -> &'a AtomicU64 {
        &self.0[1]
    }

    pub(crate) fn get(self) -> &'a AtomicU64 {
        &self.0[2]
    }

    /// For a look at one segment after the other.
    pub(crate) fn look(self) -> &'a AtomicU64 {
        &self.0[3]
    }

    /// Leaves every segment, then the entry.
    pub(crate) fn clear(self) {
        for word in self.0.iter().rev() {
            // (U) as in `enter`.
            word.store(0, Release);
        }
    }
}

/// A segment for a chain that will list it.
pub(crate) fn new_segment(arena: &Arena, geometry: Geometry) -> Result<OwnedBlock<'_>, Error> {
    let len = geometry.len().ok_or(Error::InvalidCapacity)?;
    arena.new_part(len, |view| RingObject::init(view, geometry))
}

impl Geometry {
    /// A segment of half a chunk.
    pub(crate) fn segment(payload: u64) -> Geometry {
        Geometry::within(part_room(LARGEST_SMALL), payload)
    }
}

/// A chain in its object, which the caller holds or, in the maintenance role, keeps.
#[derive(Clone, Copy)]
pub(crate) struct ChainObject<'a> {
    view: View<'a>,
}

impl<'a> ChainObject<'a> {
    pub(crate) const LEN: u64 = size_of::<ChainHeader>() as u64;

    /// Writes down a chain of one segment in a new object, whose bytes are zero otherwise.
    pub(crate) fn init(view: View<'_>, geometry: Geometry, first: Block) {
        let header = view.get::<ChainHeader>();
        header.capacity.store(geometry.capacity, Relaxed);
        header.stride.store(geometry.stride, Relaxed);
        let first = Link::of(first).word();
        for word in [&header.oldest, &header.first, &header.last] {
            word.store(first, Relaxed);
        }
    }

    /// Whether the object is a chain and not a single ring.
    pub(crate) fn is(view: View<'_>) -> bool {
        view.get::<AtomicWord>().0.load(Relaxed) == 0
    }

    pub(crate) fn new(view: View<'a>) -> Self {
        ChainObject { view }
    }

    fn header(self) -> &'a ChainHeader {
        self.view.get()
    }

    pub(crate) fn chain(self) -> Chain<Self> {
        Chain::new(self)
    }

    pub(crate) fn geometry(self) -> Geometry {
        let header = self.header();
        Geometry {
            capacity: header.capacity.load(Relaxed),
            stride: header.stride.load(Relaxed),
        }
    }

    pub(crate) fn not_empty(self) -> &'a EventCount {
        &self.header().not_empty
    }

    /// A segment's ring. The caller has entered it, or has the maintenance role.
    pub(crate) fn ring(self, at: Link) -> RingObject {
        RingObject::new(self.view.arena.part(at.block()))
    }

    /// A new segment; it is this member's until it is appended.
    pub(crate) fn new_segment(self) -> Result<(OwnedBlock<'a>, Link), Error> {
        let owned = new_segment(self.view.arena, self.geometry())?;
        let link = Link::of(owned.block());
        Ok((owned, link))
    }

    pub(crate) fn entry(self, at: Place) -> Entry<'a> {
        Entry(match at.page.checked_sub(1) {
            None => &self.header().entries[at.slot],
            Some(page) => {
                let words = &self.view.page_of_words(page as u32)[1 + 4 * at.slot..][..4];
                words.try_into().expect("four of them")
            }
        })
    }

    fn places(self) -> impl Iterator<Item = Place> + 'a {
        let own = (0..ENTRIES).map(|slot| Place { page: 0, slot });
        let mut next = self.header().pages.load(Acquire);
        let pages = std::iter::from_fn(move || {
            let page = next;
            let index = page.checked_sub(1)? as u32;
            next = self.view.page_of_words(index)[0].load(Acquire);
            Some(page)
        });
        own.chain(pages.flat_map(|page| (0..PAGE_ENTRIES).map(move |slot| Place { page, slot })))
    }

    /// An entry for this process.
    pub(crate) fn claim_entry(self, name: u64) -> Result<Place, Error> {
        loop {
            for place in self.places() {
                let owner = self.entry(place).owner();
                let free = owner.load(Relaxed) == 0;
                // (U) pairs with `clear`.
                if free && owner.compare_exchange(0, name, AcqRel, Relaxed).is_ok() {
                    return Ok(place);
                }
            }
            self.view.insert_page_of_words(&self.header().pages)?;
        }
    }

    /// Takes the dead out of their segments: how many entries that were. Under the maintenance role.
    pub(crate) fn repair_entries(self, is_dead: impl Fn(MemberId) -> bool) -> u64 {
        let mut changed = 0;
        for place in self.places() {
            let entry = self.entry(place);
            let name = entry.owner().load(Acquire);
            if name != 0 && is_dead(name as MemberId) {
                entry.clear();
                changed += 1;
            }
        }
        changed
    }

    /// Frees what nobody needs any more. Under the maintenance role.
    pub(crate) fn release(self) {
        let pins = || {
            let mut pins = Vec::new();
            for place in self.places() {
                let entry = self.entry(place);
                // (U) pairs with `enter`.
                let words = entry.0[1..].iter().map(|word| word.load(Acquire));
                pins.extend(words.filter(|&word| word != 0));
            }
            pins
        };
        self.chain().release(pins, |link, forget| {
            // Its own before the chain forgets it: killed between, it is nobody's and is collected.
            let owned = self.view.arena.take_over(link.block().index);
            forget();
            drop(owned);
        });
    }

    /// Names every block of its own.
    pub(crate) fn visit(self, block: &mut Visitor<'_>) {
        let mut next = self.header().pages.load(Acquire);
        while let Some(index) = next.checked_sub(1) {
            block(index as u32);
            next = self.view.page_of_words(index as u32)[0].load(Acquire);
        }
        self.chain().for_each(|link| block(link.block().index));
    }

    /// Nothing can be put from now on. Under the maintenance role: everybody else enters the segments.
    pub(crate) fn close_as_maintainer(self) {
        let chain = self.chain();
        self.header().closed.store(1, Release);
        chain.for_each(|link| {
            chain.end(link);
        });
    }

    /// Takes the whole apart when nobody holds it any more, segment by segment; `drain` empties each.
    pub(crate) fn destroy(self, mut drain: impl FnMut(&RingObject)) {
        let header = self.header();
        // From now on nothing of it is released.
        header.first.store(0, Release);
        while let Some(link) = Link::from_word(header.oldest.load(Acquire)) {
            drain(&self.ring(link));
            let next = self.next(link).load(Acquire);
            let owned = self.view.arena.take_over(link.block().index);
            header.oldest.store(next, Release);
            drop(owned);
        }
        self.view.free_pages_of_words(&header.pages);
    }

    /// The segment to take from. Under the maintenance role.
    pub(crate) fn first(self) -> Option<Link> {
        Link::from_word(self.header().first.load(Acquire))
    }
}

/// The word that tells a chain from a ring.
#[repr(transparent)]
struct AtomicWord(AtomicU64);

// SAFETY: an atomic of any value.
unsafe impl Shared for AtomicWord {}

impl Words for ChainObject<'_> {
    fn closed(&self) -> &AtomicU32 {
        &self.header().closed
    }

    fn oldest(&self) -> &AtomicU64 {
        &self.header().oldest
    }

    fn first(&self) -> &AtomicU64 {
        &self.header().first
    }

    fn last(&self) -> &AtomicU64 {
        &self.header().last
    }

    fn next(&self, at: Link) -> &AtomicU64 {
        &RingObject::header_of(self.view.arena.part(at.block())).next
    }

    fn sealed(&self, at: Link) -> &AtomicU32 {
        &RingObject::header_of(self.view.arena.part(at.block())).closed
    }
}

impl<'a> Chain<ChainObject<'a>> {
    pub(crate) fn close(&self) {
        self.words.header().closed.store(1, Release);
    }
}

//! The memory of a pool's jobs: each has a card, in pages that stay until the pool goes. Arguments and results lie on the card if
//! they are small; else the card lists a block with them.

use super::jobs::{Hand, JobStorage, Marker, Place, Serial};
use crate::arena::{Block, LARGEST_SMALL, OwnedBlock, Page, Shared, View, part_room};
use crate::error::Error;
use crate::primitive::AtomicU64;
use crate::sync::EventCount;
use crossbeam_utils::CachePadded;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[repr(C, align(128))]
pub(crate) struct PoolHeader {
    /// The first page of cards, the first page of functions: number + 1.
    cards: AtomicU64,
    functions: AtomicU64,
    /// The jobs that came back.
    returned: CachePadded<AtomicU64>,
    /// Who waits for them in the parent sleeps here, or, if this is not 0, at a descriptor.
    event: EventCount,
    bell: CachePadded<AtomicU64>,
}

// SAFETY: atomics of any value.
unsafe impl Shared for PoolHeader {}

#[repr(C, align(128))]
struct Seat {
    /// The card that its worker took last.
    taking: AtomicU64,
    /// Which worker was the last to begin.
    begun: AtomicU64,
}

#[repr(C, align(256))]
struct Card {
    word: AtomicU64,
    progress: AtomicU64,
    next: AtomicU64,
    /// `tasks:32 | entry:32`: how many there are, and where the parent wrote the job down.
    shape: AtomicU64,
    function: AtomicU64,
    /// Blocks that the card lists: number + 1.
    args: AtomicU64,
    results: AtomicU64,
    /// A result with handles, and above it whose it is: `task:32 | number + 1`.
    parcel: AtomicU64,
    /// `begin:16 | end:48`: where results begin on the card, and how long those are that are there.
    extent: AtomicU64,
    inline: [u8; INLINE],
}

/// Bytes of arguments and results on a card.
pub(crate) const INLINE: usize = 256 - 9 * 8;
const CARD: u64 = size_of::<Card>() as u64;
const _: () = assert!(CARD == 256 || cfg!(all(test, loom)));

/// A page is a part: its header, its link, cards. The first card begins two cache lines after the link.
const FIRST: u64 = 128;
const PAGE: u64 = part_room(LARGEST_SMALL);
const CARDS: usize = ((PAGE - FIRST) / CARD) as usize;
/// Words of a function's name.
pub(crate) const FUNCTION: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) tasks: u32,
    pub(crate) entry: u32,
}

/// Where a job's results are, and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

/// A pool's object, which the caller holds.
#[derive(Clone, Copy)]
pub(crate) struct Cards<'a> {
    view: View<'a>,
}

fn listed(word: u64) -> Option<u32> {
    (word as u32).checked_sub(1)
}

impl<'a> Cards<'a> {
    pub(crate) fn len(seats: usize) -> u64 {
        (size_of::<PoolHeader>() + seats * size_of::<Seat>()) as u64
    }

    pub(crate) fn new(view: View<'a>) -> Self {
        Cards { view }
    }

    fn header(&self) -> &'a PoolHeader {
        self.view.get()
    }

    #[inline]
    fn seat(&self, seat: usize) -> &'a Seat {
        assert!(Cards::len(seat + 1) <= self.view.len());
        let seats = self.view.base().wrapping_add(size_of::<PoolHeader>());
        let seat = seats.cast::<Seat>().wrapping_add(seat);
        // SAFETY: there are as many (checked), each two atomics, and they stay as long as the object.
        unsafe { &*seat }
    }

    /// The worker says that it runs, before it does anything else.
    pub(crate) fn begin(&self, seat: usize, worker: Serial) {
        self.seat(seat).begun.store(worker.0, Relaxed);
    }

    /// Whether it ever got there. (Of one that has ended the kernel has ordered it.)
    pub(crate) fn has_begun(&self, seat: usize, worker: Serial) -> bool {
        self.seat(seat).begun.load(Relaxed) == worker.0
    }

    pub(crate) fn event(&self) -> &'a EventCount {
        &self.header().event
    }

    /// Not 0: who gives a job back is to ring.
    pub(crate) fn bell(&self) -> &'a AtomicU64 {
        &self.header().bell
    }

    #[inline]
    fn page(&self, page: u32) -> View<'a> {
        let block = Block {
            index: page,
            generation: 0,
        };
        let arena = self.view.arena;
        // `grow` makes pages of one size only, and places name no others: not checked in the path of a task.
        debug_assert_eq!(arena.part(block).len(), PAGE);
        View { arena, block }
    }

    fn link(&self, page: u32) -> &'a AtomicU64 {
        let base = self.page(page).base().cast::<AtomicU64>();
        // SAFETY: a page begins with this word, and stays as long as the object.
        unsafe { &*base }
    }

    #[inline]
    fn base(&self, place: Place) -> *mut Card {
        assert!(place.slot() < CARDS);
        let base = self.page(place.page()).base();
        let at = FIRST as usize + place.slot() * CARD as usize;
        base.wrapping_add(at).cast()
    }

    #[inline]
    fn card(&self, place: Place) -> Words<'a> {
        let base = self.base(place).cast::<[AtomicU64; 9]>();
        // SAFETY: a card begins with nine words (its bytes come behind them), in a page that stays as long as the object.
        Words(unsafe { &*base })
    }

    /// A page of new cards.
    pub(crate) fn grow(&self) -> Result<impl Iterator<Item = Hand> + use<>, Error> {
        let arena = self.view.arena;
        let first = &self.header().cards;
        let part = arena.new_part(PAGE, |page| {
            // The link: its own words are all zero otherwise.
            page.get::<crate::arena::Words<1>>().0[0].store(first.load(Relaxed), Relaxed);
        })?;
        let page = part.block().index;
        first.store(u64::from(page) + 1, Release);
        part.into_block();
        // The last one first, as who takes from the end of a list takes the first.
        Ok((0..CARDS)
            .rev()
            .map(move |slot| Hand::of_new(Place::new(page, slot))))
    }

    fn pages(self) -> impl Iterator<Item = u32> + 'a {
        let mut next = self.header().cards.load(Acquire);
        std::iter::from_fn(move || {
            let page = listed(next)?;
            next = self.link(page).load(Acquire);
            Some(page)
        })
    }

    /// Writes a function's name down, for workers to find by the number that this gives.
    pub(crate) fn add_function(&self, name: &[u8; 8 * FUNCTION]) -> Result<u64, Error> {
        let first = &self.header().functions;
        loop {
            if let Some(page) = listed(first.load(Acquire)) {
                let words = self.view.page_of_words(page);
                let full = words.len() / FUNCTION;
                // The first word of a name is never 0; behind the page's link three words stay unused.
                let free = (1..full).find(|i| words[i * FUNCTION].load(Relaxed) == 0);
                if let Some(i) = free {
                    for (word, bytes) in words[i * FUNCTION..].iter().zip(name.chunks_exact(8)) {
                        let bytes = bytes.try_into().expect("eight bytes");
                        word.store(u64::from_ne_bytes(bytes), Relaxed);
                    }
                    return Ok(u64::from(page) << 8 | i as u64);
                }
            }
            self.view.insert_page_of_words(first)?;
        }
    }

    pub(crate) fn function(&self, number: u64) -> [u8; 8 * FUNCTION] {
        let words: &Page = self.view.page_of_words((number >> 8) as u32);
        let mut name = [0; 8 * FUNCTION];
        let at = (number & 0xff) as usize * FUNCTION;
        for (bytes, word) in name.chunks_exact_mut(8).zip(&words[at..]) {
            bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        name
    }

    /// Writes on a card what it is to be; nothing of it is done.
    pub(crate) fn set_up(&self, hand: &mut Hand, shape: Shape, function: u64) {
        let card = self.card(hand.place);
        card.shape().store(
            u64::from(shape.tasks) << 32 | u64::from(shape.entry),
            Relaxed,
        );
        card.function().store(function, Relaxed);
        card.progress().store(0, Relaxed);
        card.extent().store(0, Relaxed);
    }

    pub(crate) fn shape(&self, hand: &Hand) -> Shape {
        let word = self.card(hand.place).shape().load(Relaxed);
        Shape {
            tasks: (word >> 32) as u32,
            entry: word as u32,
        }
    }

    pub(crate) fn function_of(&self, hand: &Hand) -> u64 {
        self.card(hand.place).function().load(Relaxed)
    }

    /// Where its worker notes how far it is.
    pub(crate) fn marker(&self, hand: &Hand) -> Marker<'a> {
        Marker(self.card(hand.place).progress())
    }

    pub(crate) fn extent(&self, hand: &Hand) -> Extent {
        let word = self.card(hand.place).extent().load(Relaxed);
        Extent {
            begin: (word >> 48) as usize,
            end: (word & ((1 << 48) - 1)) as usize,
        }
    }

    pub(crate) fn set_extent(&self, hand: &mut Hand, extent: Extent) {
        let word = (extent.begin as u64) << 48 | extent.end as u64;
        self.card(hand.place).extent().store(word, Relaxed);
    }

    /// The bytes on the card.
    #[inline]
    pub(crate) fn inline<'h>(&'h self, hand: &'h Hand) -> &'h [u8] {
        let bytes = self.base(hand.place).wrapping_byte_add(9 * 8).cast::<u8>();
        // SAFETY: the card has so many, and while its only hand is borrowed nobody writes them.
        unsafe { std::slice::from_raw_parts(bytes, INLINE) }
    }

    #[inline]
    pub(crate) fn inline_mut<'h>(&'h self, hand: &'h mut Hand) -> &'h mut [u8] {
        let bytes = self.base(hand.place).wrapping_byte_add(9 * 8).cast::<u8>();
        // SAFETY: the card has so many, and its only hand is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(bytes, INLINE) }
    }

    /// The block with the arguments, if they are not on the card.
    pub(crate) fn args(&self, hand: &Hand) -> Option<u32> {
        listed(self.card(hand.place).args().load(Acquire))
    }

    /// From now on the card lists it. (As with the others that follow.)
    pub(crate) fn list_args(&self, hand: &mut Hand, index: u32) {
        self.card(hand.place)
            .args()
            .store(u64::from(index) + 1, Release);
    }

    /// The block with the results, if they are not on the card.
    pub(crate) fn results(&self, hand: &Hand) -> Option<u32> {
        listed(self.card(hand.place).results().load(Acquire))
    }

    pub(crate) fn list_results(&self, hand: &mut Hand, index: u32) {
        self.card(hand.place)
            .results()
            .store(u64::from(index) + 1, Release);
    }

    /// The result with handles of this task.
    pub(crate) fn list_parcel(&self, hand: &mut Hand, task: u32, index: u32) {
        self.card(hand.place)
            .parcel()
            .store(u64::from(task) << 32 | (u64::from(index) + 1), Release);
    }

    /// Takes the result with handles off: it is this member's from now on.
    pub(crate) fn take_parcel(&self, hand: &mut Hand) -> Option<(u32, OwnedBlock<'a>)> {
        let word = self.card(hand.place).parcel();
        let task = word.load(Acquire) >> 32;
        Some((task as u32, self.clear(word)?))
    }

    /// Takes the arguments off, when all tasks are finished or never will be.
    pub(crate) fn take_args(&self, hand: &mut Hand) -> Option<OwnedBlock<'a>> {
        self.clear(self.card(hand.place).args())
    }

    /// Takes the other blocks off: first arguments, then results.
    pub(crate) fn take_blocks(
        &self,
        hand: &mut Hand,
    ) -> (Option<OwnedBlock<'a>>, Option<OwnedBlock<'a>>) {
        let card = self.card(hand.place);
        (self.clear(card.args()), self.clear(card.results()))
    }

    /// Takes a block off a card that the caller alone may touch: its own before the card forgets it.
    #[inline]
    fn clear(&self, word: &AtomicU64) -> Option<OwnedBlock<'a>> {
        let index = listed(word.load(Acquire))?;
        let owned = self.view.arena.take_over(index);
        word.store(0, Release);
        Some(owned)
    }

    /// Names every block that the object lists.
    pub(crate) fn visit(self, block: &mut dyn FnMut(u32)) {
        for page in self.pages() {
            block(page);
            for slot in 0..CARDS {
                let card = self.card(Place::new(page, slot));
                for word in [card.args(), card.results(), card.parcel()] {
                    if let Some(index) = listed(word.load(Acquire)) {
                        block(index);
                    }
                }
            }
        }
        let mut next = self.header().functions.load(Acquire);
        while let Some(page) = listed(next) {
            block(page);
            next = self.view.page_of_words(page)[0].load(Acquire);
        }
    }

    /// Takes everything out, when nobody holds the object any more. Messages go to `taken`.
    pub(crate) fn destroy(self, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        let first = &self.header().cards;
        while let Some(page) = listed(first.load(Acquire)) {
            for slot in 0..CARDS {
                let card = self.card(Place::new(page, slot));
                self.clear(card.args()).into_iter().for_each(&mut *taken);
                self.clear(card.parcel()).into_iter().for_each(&mut *taken);
                // No message: it holds no handles.
                drop(self.clear(card.results()));
            }
            let owned = self.view.arena.take_over(page);
            first.store(self.link(page).load(Acquire), Release);
            drop(owned);
        }
        self.view.free_pages_of_words(&self.header().functions);
    }
}

/// A card's words.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [AtomicU64; 9]);

macro_rules! words {
    ($($name:ident $at:literal)*) => {
        impl<'a> Words<'a> {
            $(#[inline]
            fn $name(self) -> &'a AtomicU64 {
                &self.0[$at]
            })*
        }
    };
}

words! { word 0 progress 1 next 2 shape 3 function 4 args 5 results 6 parcel 7 extent 8 }

impl JobStorage for Cards<'_> {
    #[inline]
    fn returned(&self) -> &AtomicU64 {
        &self.header().returned
    }

    #[inline]
    fn taking(&self, seat: usize) -> &AtomicU64 {
        &self.seat(seat).taking
    }

    #[inline]
    fn word(&self, place: Place) -> &AtomicU64 {
        self.card(place).word()
    }

    #[inline]
    fn progress(&self, place: Place) -> &AtomicU64 {
        self.card(place).progress()
    }

    #[inline]
    fn next(&self, place: Place) -> &AtomicU64 {
        self.card(place).next()
    }
}

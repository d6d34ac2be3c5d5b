//! The tasks of a joinable queue: what was put and is not finished. Each has a cell in a table that grows, with the block of its
//! message; the ring beside it carries the cells' numbers in order. So a slow task holds up no slot, and whatever a process
//! had in its hands when it died is found by its name in a cell. TASKS.md has the states and why they suffice.

use super::storage::RingObject;
use crate::arena::{Block, MemberId, OwnedBlock, Page, Shared, View};
use crate::error::Error;
use crate::primitive::AtomicU64;
use crate::primitive::private::AtomicU64 as PrivateU64;
use crate::sync::EventCount;
use crossbeam_utils::CachePadded;
use std::collections::HashSet;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

#[repr(C, align(128))]
pub(crate) struct TasksHeader {
    /// The ring's block.
    ring: AtomicU64,
    /// How often a task is given to another one after its consumer died.
    retries: AtomicU64,
    /// The first page of cells, its number + 1.
    first: AtomicU64,
    /// Rises when a task was given back.
    returned: AtomicU64,
    /// Rises before a cell is occupied.
    puts: CachePadded<AtomicU64>,
    finished: EventCount,
}

// SAFETY: atomics of any value.
unsafe impl Shared for TasksHeader {}

/// Cells in a page: two words each behind the link.
const CELLS: u64 = (size_of::<Page>() / size_of::<AtomicU64>() / 2 - 1) as u64;
/// So many pages are searched for a free cell before the table grows.
const SEARCHED: usize = 16;
const SLOT_BITS: u32 = 6;
const _: () = assert!(CELLS < 1 << SLOT_BITS);

/// Where a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell(u64);

impl Cell {
    fn new(page: u32, slot: u64) -> Cell {
        Cell(u64::from(page) << SLOT_BITS | slot)
    }

    fn page(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32
    }

    fn slot(self) -> usize {
        (self.0 as usize) & ((1 << SLOT_BITS) - 1)
    }
}

/// `sequence:36 | tries:12 | state:4 | owner:12`. The sequence rises each time the cell is used; `tries` is how often its
/// task was given out. All zero is a free cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// In the ring, or about to be: by the owner, while there is one.
    Sent,
    /// In the owner's hands.
    Held,
    /// Given back, for whoever asks first.
    Returned,
    /// Given up. The owner lets go of its block.
    Lost,
}

const OWNER_BITS: u32 = crate::arena::MEMBER_BITS;
const TRIES: u32 = OWNER_BITS + 4;
const SEQUENCE: u32 = TRIES + 12;

impl Tag {
    fn sequence(self) -> u64 {
        self.0 >> SEQUENCE
    }

    fn tries(self) -> u64 {
        (self.0 >> TRIES) & 0xfff
    }

    fn state(self) -> State {
        match (self.0 >> OWNER_BITS) & 15 {
            0 => State::Free,
            1 => State::Sent,
            2 => State::Held,
            3 => State::Returned,
            _ => State::Lost,
        }
    }

    fn owner(self) -> MemberId {
        self.0 as MemberId & ((1 << OWNER_BITS) - 1)
    }

    fn with(self, state: State, owner: MemberId) -> Tag {
        let kept = self.0 >> TRIES << TRIES;
        Tag(kept | (state as u64) << OWNER_BITS | u64::from(owner))
    }

    fn first_used(self, owner: MemberId) -> Tag {
        let next = (self.sequence() + 1) & (u64::MAX >> SEQUENCE);
        Tag(next << SEQUENCE).with(State::Sent, owner)
    }

    fn given_out(self, owner: MemberId) -> Tag {
        let tries = (self.tries() + 1).min(0xfff);
        Tag(self.sequence() << SEQUENCE | tries << TRIES).with(State::Held, owner)
    }
}

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (state, owner) = (self.state(), self.owner());
        write!(f, "{{ {}, {state:?}, owner: {owner} }}", self.sequence())
    }
}

/// A task in this process's hands: the right to touch its cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    cell: Cell,
    tag: Tag,
    /// Which process that is, among all that ever bore the number in the tag.
    pub(crate) name: u64,
}

impl Held {
    /// Whether somebody had it before.
    pub(crate) fn is_again(&self) -> bool {
        self.tag.tries() > 1
    }
}

/// What there is besides what is in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// So many tasks were given up, all others are finished.
    Settled(u64),
    Unfinished,
}

/// Where this process looks for a free cell next.
#[derive(Debug, Default)]
pub(crate) struct Place(PrivateU64);

/// The table in its object, which the caller holds.
#[derive(Clone, Copy)]
pub(crate) struct Tasks<'a> {
    view: View<'a>,
}

impl<'a> Tasks<'a> {
    pub(crate) const LEN: u64 = size_of::<TasksHeader>() as u64;
    /// The bytes of a task's message in the ring.
    pub(crate) const MESSAGE: usize = 16;

    pub(crate) fn init(view: View<'_>, ring: Block, retries: u64) {
        let header = view.get::<TasksHeader>();
        let ring = u64::from(ring.generation) << 32 | u64::from(ring.index);
        header.ring.store(ring, Relaxed);
        header.retries.store(retries, Relaxed);
    }

    pub(crate) fn new(view: View<'a>) -> Self {
        Tasks { view }
    }

    fn header(self) -> &'a TasksHeader {
        self.view.get()
    }

    pub(crate) fn ring(self) -> Block {
        let word = self.header().ring.load(Relaxed);
        Block {
            index: word as u32,
            generation: (word >> 32) as u32,
        }
    }

    pub(crate) fn finished(self) -> &'a EventCount {
        &self.header().finished
    }

    /// Rises when there may be tasks that were given back.
    pub(crate) fn returned(self) -> u64 {
        self.header().returned.load(Acquire)
    }

    fn tag(self, cell: Cell) -> &'a AtomicU64 {
        &self.view.page_of_words(cell.page())[2 + 2 * cell.slot()]
    }

    fn block(self, cell: Cell) -> &'a AtomicU64 {
        &self.view.page_of_words(cell.page())[3 + 2 * cell.slot()]
    }

    fn load(self, cell: Cell) -> Tag {
        Tag(self.tag(cell).load(Acquire))
    }

    fn change(self, cell: Cell, old: Tag, new: Tag) -> bool {
        self.tag(cell)
            .compare_exchange(old.0, new.0, AcqRel, Relaxed)
            .is_ok()
    }

    fn held(self, cell: Cell, tag: Tag) -> Held {
        let name = self.view.arena.my_word();
        Held { cell, tag, name }
    }

    /// Every cell.
    fn cells(self) -> impl Iterator<Item = Cell> + 'a {
        let mut next = self.header().first.load(Acquire);
        std::iter::from_fn(move || {
            let page = next.checked_sub(1)? as u32;
            next = self.view.page_of_words(page)[0].load(Acquire);
            Some(page)
        })
        .flat_map(|page| (0..CELLS).map(move |slot| Cell::new(page, slot)))
    }

    /// A free cell for a task that is about to be put.
    pub(crate) fn reserve(self, place: &Place, me: MemberId) -> Result<Held, Error> {
        // (V) before the cell: see `outlook`.
        self.header().puts.fetch_add(1, AcqRel);
        let first = &self.header().first;
        while first.load(Acquire) == 0 {
            self.view.insert_page_of_words(first)?;
        }
        let begin = Cell(place.0.load(Relaxed));
        let (mut page, mut slot) = match begin.0 {
            0 => (self.first_page(), 0),
            _ => (begin.page(), begin.slot() as u64),
        };
        for searched in 1.. {
            for cell in (slot..CELLS).map(|slot| Cell::new(page, slot)) {
                let old = self.load(cell);
                let tag = old.first_used(me);
                if old.state() == State::Free && self.change(cell, old, tag) {
                    place.0.store(cell.0, Relaxed);
                    return Ok(self.held(cell, tag));
                }
            }
            let link = &self.view.page_of_words(page)[0];
            // Not after all of it: to put many would take the square of the time. The next search goes on from here.
            if searched % SEARCHED == 0 {
                self.view.insert_page_of_words(link)?;
            }
            let next = link.load(Acquire).checked_sub(1);
            (page, slot) = (
                next.map_or_else(|| self.first_page(), |next| next as u32),
                0,
            );
        }
        unreachable!("the search has no end")
    }

    fn first_page(self) -> u32 {
        (self.header().first.load(Acquire) - 1) as u32
    }

    /// From now on the cell lists the block. What the ring is to carry.
    pub(crate) fn fill(self, held: Held, index: u32) -> [u64; 2] {
        self.block(held.cell).store(u64::from(index) + 1, Release);
        [held.cell.0, held.tag.sequence()]
    }

    /// The task that the ring has named, unless it was taken by somebody who died before he could say so to the ring.
    pub(crate) fn take(self, [cell, sequence]: [u64; 2], me: MemberId) -> Option<Held> {
        let cell = Cell(cell);
        loop {
            let old = self.load(cell);
            if old.state() != State::Sent || old.sequence() != sequence {
                return None;
            }
            let tag = old.given_out(me);
            // A failure: its producer has died and was taken off it.
            if self.change(cell, old, tag) {
                return Some(self.held(cell, tag));
            }
        }
    }

    /// A task that was given back, or that was in the hands of the dead.
    pub(crate) fn take_returned(
        self,
        me: MemberId,
        is_dead: impl Fn(MemberId) -> bool,
    ) -> Option<Held> {
        for cell in self.cells() {
            loop {
                let old = self.load(cell);
                let dead = old.state() == State::Held && old.owner() != me && is_dead(old.owner());
                if !dead && old.state() != State::Returned {
                    // "Alive" may be said of a later member with the same number: then the word is another one now.
                    if old.state() != State::Held || self.load(cell) == old {
                        break;
                    }
                    continue;
                }
                if dead && self.is_spent(old) {
                    self.lose(cell, old, me).into_iter().for_each(drop_message);
                    self.view.arena.count_repair();
                    continue;
                }
                let tag = old.given_out(me);
                if !self.change(cell, old, tag) {
                    continue;
                }
                let held = self.held(cell, tag);
                if self.block_of(held).is_some() {
                    return Some(held);
                }
                // It was finished but for the last word.
                self.change(cell, tag, tag.with(State::Free, 0));
            }
        }
        None
    }

    /// Whether `take_returned` would find something, and whether it would do anything at all.
    pub(crate) fn look_returned(
        self,
        me: MemberId,
        is_dead: impl Fn(MemberId) -> bool,
    ) -> (bool, bool) {
        let (mut found, mut any) = (false, false);
        for cell in self.cells() {
            let tag = self.load(cell);
            let dead = tag.state() == State::Held && tag.owner() != me && is_dead(tag.owner());
            // "Alive" may be said of a later member with the same number: then the word is another one now.
            any |= dead || tag.state() == State::Returned || self.load(cell) != tag;
            found |= tag.state() == State::Returned || (dead && !self.is_spent(tag));
        }
        (found, any)
    }

    fn is_spent(self, tag: Tag) -> bool {
        tag.tries() > self.header().retries.load(Relaxed)
    }

    /// Gives a task up; its block, if it was this caller who did.
    fn lose(self, cell: Cell, old: Tag, me: MemberId) -> Option<OwnedBlock<'a>> {
        let lost = old.with(State::Lost, me);
        if self.change(cell, old, lost) {
            self.clear(cell)
        } else {
            None
        }
    }

    /// The block of a task in this process's hands.
    pub(crate) fn block_of(self, held: Held) -> Option<u32> {
        let word = self.block(held.cell).load(Acquire);
        word.checked_sub(1).map(|index| index as u32)
    }

    /// Takes the block out of a cell that the caller alone may touch: its own before the cell forgets it.
    fn clear(self, cell: Cell) -> Option<OwnedBlock<'a>> {
        let index = self.block(cell).load(Acquire).checked_sub(1)? as u32;
        let owned = self.view.arena.take_over(index);
        self.block(cell).store(0, Release);
        Some(owned)
    }

    /// Ends a task, or one that was not put after all. Clearing the cell is the moment at which it is finished.
    pub(crate) fn finish(self, held: Held) {
        debug_assert_eq!(self.load(held.cell), held.tag);
        let block = self.clear(held.cell);
        self.change(held.cell, held.tag, held.tag.with(State::Free, 0));
        block.into_iter().for_each(drop_message);
    }

    /// Lets another consumer have it, or gives it up when it was tried often enough. Whether another one may have it.
    pub(crate) fn give_back(self, held: Held, me: MemberId) -> bool {
        if self.is_spent(held.tag) {
            self.give_up(held, me);
            return false;
        }
        self.change(held.cell, held.tag, held.tag.with(State::Returned, 0));
        self.header().returned.fetch_add(1, AcqRel);
        true
    }

    /// Nobody will have it.
    pub(crate) fn give_up(self, held: Held, me: MemberId) {
        let block = self.lose(held.cell, held.tag, me);
        block.into_iter().for_each(drop_message);
    }

    /// Whether everything that was put is finished or given up, at one moment.
    pub(crate) fn outlook(self) -> Outlook {
        loop {
            // (V) pairs with (V) in `reserve`: a task that was put behind this look's back, by somebody whose own task was
            // seen finished, has raised the number before.
            let puts = self.header().puts.load(Acquire);
            let mut lost = 0;
            for cell in self.cells() {
                match self.load(cell).state() {
                    State::Free => {}
                    State::Lost => lost += 1,
                    _ => return Outlook::Unfinished,
                }
            }
            if self.header().puts.load(Acquire) == puts {
                return Outlook::Settled(lost);
            }
        }
    }

    /// Whether tasks are given back or in the hands of others, and whether any is in those of `me`.
    pub(crate) fn in_hands(self, me: MemberId) -> (bool, bool) {
        let (mut others, mut mine) = (false, false);
        for cell in self.cells() {
            let tag = self.load(cell);
            match tag.state() {
                State::Held if tag.owner() == me => mine = true,
                State::Held | State::Returned => others = true,
                _ => {}
            }
        }
        (others, mine)
    }

    /// Whether one of those is dead who hold a task or put one.
    pub(crate) fn any_dead(self, is_dead: impl Fn(MemberId) -> bool) -> bool {
        let mut last = 0;
        self.cells().any(|cell| {
            let tag = self.load(cell);
            let owned = matches!(tag.state(), State::Held | State::Sent);
            // One after the other they usually have the same owner.
            let asked = owned && tag.owner() != 0 && tag.owner() != last;
            last = if asked { tag.owner() } else { last };
            asked && is_dead(tag.owner())
        })
    }

    /// Removes every tag of the dead. `in_ring` says what the ring carries; it is asked after the words were read, and only if
    /// need be. Blocks that nobody needs go to `freed`. Idempotent; alone, under the maintenance role. How many words it changed.
    pub(crate) fn repair(
        self,
        is_dead: impl Fn(MemberId) -> bool,
        in_ring: impl Fn() -> HashSet<[u64; 2]>,
        freed: &mut dyn FnMut(OwnedBlock<'a>),
    ) -> u64 {
        let mut changed = 0;
        let mut sent = Vec::new();
        for cell in self.cells() {
            let old = self.load(cell);
            if old.owner() == 0 || !is_dead(old.owner()) {
                continue;
            }
            match old.state() {
                State::Sent => sent.push((cell, old)),
                State::Held if self.block(cell).load(Acquire) == 0 => {
                    changed += u64::from(self.change(cell, old, old.with(State::Free, 0)));
                }
                State::Held if self.is_spent(old) => {
                    changed += 1;
                    let block = self.lose(cell, old, self.view.arena.me());
                    block.into_iter().for_each(&mut *freed);
                }
                State::Held => {
                    changed += u64::from(self.change(cell, old, old.with(State::Returned, 0)));
                }
                State::Lost => {
                    // Its owner died before he let go of the block, or after.
                    self.clear(cell).into_iter().for_each(&mut *freed);
                    changed += u64::from(self.change(cell, old, old.with(State::Lost, 0)));
                }
                _ => {}
            }
        }
        if !sent.is_empty() {
            let in_ring = in_ring();
            for (cell, old) in sent {
                if in_ring.contains(&[cell.0, old.sequence()]) {
                    changed += u64::from(self.change(cell, old, old.with(State::Sent, 0)));
                } else if self.load(cell) == old {
                    // Not in the ring, not taken out of it before, and the dead put nothing any more: it is nobody's.
                    self.clear(cell).into_iter().for_each(&mut *freed);
                    changed += u64::from(self.change(cell, old, old.with(State::Free, 0)));
                }
            }
        }
        if changed > 0 {
            self.header().returned.fetch_add(1, AcqRel);
        }
        changed
    }

    /// Names every block that the table lists, its own pages included.
    pub(crate) fn visit(self, block: &mut dyn FnMut(u32)) {
        let mut last = None;
        for cell in self.cells() {
            if last != Some(cell.page()) {
                last = Some(cell.page());
                block(cell.page());
            }
            if let Some(index) = self.block(cell).load(Acquire).checked_sub(1) {
                block(index as u32);
            }
        }
    }

    /// Takes everything out, when nobody holds the table any more.
    pub(crate) fn destroy(self, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        for cell in self.cells() {
            if let Some(owned) = self.clear(cell) {
                taken(owned);
            }
        }
        self.view.free_pages_of_words(&self.header().first);
    }
}

/// Frees a message, and what it alone held.
fn drop_message(owned: OwnedBlock<'_>) {
    drop(crate::arena::Parcel::from(owned));
}

impl RingObject {
    /// What was sent in a slot, for who traces the ring.
    pub(crate) fn task_in(&self, index: u64) -> [u64; 2] {
        [0, 1].map(|i| {
            // SAFETY: an aligned word of the slot, whose payload has two, and which is only written before the commit.
            unsafe { self.payload(index).wrapping_add(i).read() }
        })
    }
}

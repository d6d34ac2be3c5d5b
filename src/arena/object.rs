//! Objects: blocks with a header that says what they are and who holds them.
//!
//! A holder is a word in the object that names a member or a message's block, with its generation. It is valid as long as
//! that member lives, or that block is the same; nothing is counted, so nothing can be counted wrongly by a process that
//! is killed. Only who holds an object adds a holder, and who destroys it (alone, under the maintenance role) first saw
//! all words invalid while `adds` stood still.

use super::alloc::OwnedBlock;
use super::words::{BlockWord, HolderWord, MemberId};
use super::{Arena, Block, Dead, Reservation};
use crate::error::Error;
use crate::primitive::AtomicU64;
use crate::primitive::private::AtomicU64 as PrivateU64;
use std::any::Any;
use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, Weak};

/// What the arena must be able to do with every object of a kind without knowing what it is.
pub(crate) trait Kind: Sync {
    /// The number in the header. No other kind has it.
    fn id(&self) -> u32;
    /// For statistics.
    fn name(&self) -> &'static str;
    /// Removes every tag of the dead, so that their numbers can be used again. Idempotent, may be killed at any point.
    fn repair(&self, object: View<'_>, dead: &Dead);
    /// Gives up what nobody needs any more. Now and then, when what the dead left is collected.
    fn tidy(&self, _: View<'_>) {}
    /// Names every block that belongs to the object.
    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>);
    /// Takes every block out, one by one, making each its own before the object forgets it. Nobody holds the object any
    /// more; a killed predecessor may have begun.
    fn destroy(&self, object: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>));
    /// Somebody has let go of it and others hold it still: takes out what nobody will use all the same. Under the maintenance role.
    fn settle(&self, _object: View<'_>, _taken: &mut dyn FnMut(OwnedBlock<'_>)) {}
    /// What keeps it from its end, for who waits for that. `None`: any holder does.
    fn depends(&self, _object: View<'_>) -> Option<Depends> {
        None
    }
    /// Whether this member holds something of it that a copy of its process would hold as well: then it cannot be copied.
    fn is_in_use(&self, _object: View<'_>) -> bool {
        false
    }
}

/// Without what an object is to be tidied up, though others hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depends {
    /// This member's life.
    On(MemberId),
    /// A message that is not [outdated](View::outdate_messages).
    OnMessages,
    /// It is over.
    OnNobody,
}

pub(crate) type Visitor<'a> = dyn FnMut(u32) + 'a;

/// A type that may lie in shared memory.
///
/// # Safety
/// Every bit pattern is valid, there are no pointers in it and all of it is changed through atomics.
pub(crate) unsafe trait Shared {}

/// Named words of an object that needs nothing else.
#[repr(transparent)]
pub(crate) struct Words<const N: usize>(pub(crate) [AtomicU64; N]);

// SAFETY: atomics of any value.
unsafe impl<const N: usize> Shared for Words<N> {}

const HOLDERS: usize = 10;
const PAGE_HOLDERS: usize = 127;

#[repr(C)]
struct ObjectHeader {
    kind: u64,
    size: u64,
    type_hash: u64,
    _spare: u64,
    /// Rises after a holder was added.
    adds: AtomicU64,
    holders: Holders<HOLDERS>,
}

/// Holder words, and the block (its number + 1) with more of them.
#[repr(C)]
struct Holders<const N: usize> {
    next: AtomicU64,
    words: [AtomicU64; N],
}

/// Where the object's own bytes begin.
pub(crate) const HEADER: u64 = size_of::<ObjectHeader>() as u64;
const _: () = assert!(cfg!(all(test, loom)) || HEADER == 128);

/// Who keeps an object alive: where its word is and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) offset: u64,
    word: HolderWord,
}

/// What a new object is.
#[derive(Clone, Copy)]
pub(crate) struct ObjectSpec {
    pub(crate) kind: &'static dyn Kind,
    pub(crate) type_hash: u64,
    /// Bytes after the header.
    pub(crate) len: u64,
}

/// An object's memory, for as long as somebody sees to it that the object exists.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) block: Block,
}

impl<'a> View<'a> {
    fn header(self) -> &'a ObjectHeader {
        let base = self.arena.address(self.block);
        // SAFETY: an object's block begins with its header, written before the word said `OBJECT`.
        unsafe { &*base.cast::<ObjectHeader>() }
    }

    /// The first of the object's own bytes; 128-byte aligned.
    pub(crate) fn base(self) -> *mut u8 {
        // SAFETY: the block is larger than the header.
        unsafe { self.arena.address(self.block).add(HEADER as usize) }
    }

    /// How many bytes of its own the object has.
    pub(crate) fn len(self) -> u64 {
        self.header().size
    }

    /// What the object was made for.
    pub(crate) fn type_hash(self) -> u64 {
        self.header().type_hash
    }

    /// The beginning of the object's bytes as a `T`.
    pub(crate) fn get<T: Shared>(self) -> &'a T {
        assert!(size_of::<T>() as u64 <= self.len() && align_of::<T>() <= 128);
        // SAFETY: the bytes are there (checked) and every value is a valid `T`, by `Shared`.
        unsafe { &*self.base().cast::<T>() }
    }

    /// Names the blocks that hold more holder words.
    pub(super) fn holder_pages(self, block: &mut Visitor<'_>) {
        let mut next = &self.header().holders.next;
        while let Some(page) = self.page(next.load(Acquire)) {
            block((next.load(Acquire) - 1) as u32);
            next = &page.next;
        }
    }

    fn page(self, next: u64) -> Option<&'a Holders<PAGE_HOLDERS>> {
        let index = next.checked_sub(1)? as u32;
        let base = self.arena.address(Block {
            index,
            generation: 0,
        });
        // SAFETY: a linked page is a block of 1 KiB whose words were zeroed before it was linked.
        Some(unsafe { &*base.cast::<Holders<PAGE_HOLDERS>>() })
    }

    /// Every holder word, until `f` says true.
    pub(super) fn any_holder(self, mut f: impl FnMut(&'a AtomicU64) -> bool) -> bool {
        let first = &self.header().holders;
        if first.words.iter().any(&mut f) {
            return true;
        }
        let mut next = &first.next;
        while let Some(page) = self.page(next.load(Acquire)) {
            if page.words.iter().any(&mut f) {
                return true;
            }
            next = &page.next;
        }
        false
    }

    /// Adds a holder. The caller holds the object itself.
    pub(crate) fn add_holder(self, word: HolderWord) -> Result<Holder, Error> {
        loop {
            let mut at = None;
            self.any_holder(|slot| {
                let old = HolderWord(slot.load(Relaxed));
                let free = !self.arena.is_holding(old)
                    && slot
                        .compare_exchange(old.0, word.0, AcqRel, Relaxed)
                        .is_ok();
                at = free.then(|| std::ptr::from_ref(slot) as u64);
                free
            });
            if let Some(address) = at {
                // After the word and before the caller lets go of anything: see the head of this file.
                self.header().adds.fetch_add(1, AcqRel);
                let offset = address - self.arena.0.mapping.base() as u64;
                return Ok(Holder { offset, word });
            }
            self.add_page()?;
        }
    }

    fn add_page(self) -> Result<(), Error> {
        let mut page = self
            .arena
            .alloc(size_of::<Holders<PAGE_HOLDERS>>() as u64)?;
        page.bytes_mut().fill(0);
        let linked = u64::from(page.block().index) + 1;
        let mut next = &self.header().holders.next;
        loop {
            match next.compare_exchange(0, linked, AcqRel, Acquire) {
                Ok(_) => {
                    page.into_block();
                    return Ok(());
                }
                Err(other) => next = &self.page(other).expect("not zero").next,
            }
        }
    }

    /// Whether it has such a holder. The caller sees to it that the object does not go away meanwhile.
    fn is_held_by(self, such: impl Fn(u64) -> bool) -> bool {
        let is_one = |slot: &AtomicU64| {
            let holder = HolderWord(slot.load(Acquire));
            such(holder.kind()) && self.arena.is_holding(holder)
        };
        loop {
            let before = self.header().adds.load(Acquire);
            if self.any_holder(is_one) {
                return true;
            }
            if self.header().adds.load(Acquire) == before {
                return false;
            }
        }
    }

    /// Whether a message holds it, but for those that are [outdated](Self::outdate_messages). Under the maintenance role.
    pub(crate) fn is_in_message(self) -> bool {
        self.is_held_by(|kind| kind == HolderWord::BLOCK)
    }

    /// The messages that hold it go on to do so, but nobody will get it out of them. The caller holds it.
    pub(crate) fn outdate_messages(self) {
        self.any_holder(|slot| {
            let holder = HolderWord(slot.load(Acquire));
            if holder.kind() == HolderWord::BLOCK {
                let (index, generation) = (holder.index(), holder.generation());
                let old = HolderWord::new(HolderWord::OLD_BLOCK, index, generation);
                // A failure means that the message has gone.
                let _ = slot.compare_exchange(holder.0, old.0, AcqRel, Relaxed);
            }
            false
        });
    }

    fn free_pages(self) {
        // From the front: each is made this member's own before the object forgets it.
        loop {
            let first = &self.header().holders.next;
            let Some(page) = self.page(first.load(Acquire)) else {
                return;
            };
            let owned = self.arena.take_over((first.load(Acquire) - 1) as u32);
            first.store(page.next.load(Acquire), Release);
            drop(owned);
        }
    }
}

impl Arena {
    /// Whether this word keeps something alive.
    fn is_holding(&self, holder: HolderWord) -> bool {
        match holder.kind() {
            HolderWord::MEMBER => self.member_holds(holder),
            HolderWord::BLOCK | HolderWord::OLD_BLOCK => {
                self.is_current(holder.index(), holder.generation())
            }
            _ => false,
        }
    }

    /// Whether anybody holds the object. Under the maintenance role, so that it cannot go away meanwhile.
    pub(super) fn is_held(&self, block: Block) -> bool {
        View { arena: self, block }.is_held_by(|_| true)
    }

    pub(super) fn kind_and_view(&self, block: Block) -> Option<(&'static dyn Kind, View<'_>)> {
        let view = View { arena: self, block };
        Some((self.kind(view.header().kind)?, view))
    }

    pub(super) fn kind(&self, number: u64) -> Option<&'static dyn Kind> {
        let mut kinds = self.0.kinds.iter().copied();
        kinds.find(|kind| u64::from(kind.id()) == number)
    }

    /// One more than the highest number of a block.
    pub(super) fn slots(&self) -> u64 {
        self.0.layout.chunks * super::layout::SLOTS
    }

    /// Whether the block is the object that it was. A number that came out of a message may be any.
    pub(super) fn is_object(&self, block: Block) -> bool {
        if u64::from(block.index) >= self.slots() {
            return false;
        }
        let word = BlockWord(self.block_word(block.index).load(Acquire));
        word.state() == BlockWord::OBJECT && word.generation() == u64::from(block.generation)
    }

    /// Removes a holder that was written by [`View::add_holder`]. An outdated one stays, and is none when its block is freed.
    pub(crate) fn remove_holder(&self, holder: Holder) {
        if let Some(slot) = self.word_at(holder.offset) {
            let _ = slot.compare_exchange(holder.word.0, HolderWord::NONE, AcqRel, Relaxed);
        }
    }

    /// The word at an offset that came out of a message.
    fn word_at(&self, offset: u64) -> Option<&AtomicU64> {
        let layout = self.0.layout;
        if offset < layout.chunks_at || offset >= layout.len || offset % 8 != 0 {
            return None;
        }
        // SAFETY: aligned and within the mapping (checked); every value is a valid atomic.
        Some(unsafe { &*self.at(offset).cast::<AtomicU64>() })
    }

    /// The holder that a message's block is, for the object behind `offset`.
    pub(crate) fn message_holder(offset: u64, message: Block) -> Holder {
        Holder {
            offset,
            word: message_word(message),
        }
    }

    /// Destroys the object if nobody holds it any more, and what was held by its messages alone.
    pub(crate) fn destroy_if_unheld(&self, block: Block) {
        // Without the role, its holder does it.
        if let Some(role) = self.maintain() {
            self.destroy_all(vec![block]);
            self.release(role);
        }
    }

    /// Works through a list instead of recursing: a queue in a queue in a queue may be a million deep.
    pub(super) fn destroy_all(&self, mut list: Vec<Block>) {
        while let Some(block) = list.pop() {
            if !self.is_object(block) {
                continue;
            }
            let Some((kind, view)) = self.kind_and_view(block) else {
                continue;
            };
            let mut taken = |owned: OwnedBlock<'_>| list.extend(super::parcel::dismantle(owned));
            if self.is_held(block) {
                kind.settle(view, &mut taken);
                continue;
            }
            kind.destroy(view, &mut taken);
            view.free_pages();
            drop(self.take_over(block.index));
        }
    }
}

fn message_word(message: Block) -> HolderWord {
    HolderWord::new(
        HolderWord::BLOCK,
        message.index.into(),
        message.generation.into(),
    )
}

/// This process's hold on an object; given up when dropped. One per object and process, shared by all its handles.
pub(crate) struct Object {
    arena: Arena,
    block: Block,
    offset: PrivateU64,
    /// The member that holds it. A fork copies this value, and the copy holds nothing but what was held for it.
    holder: PrivateU64,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("block", &self.block)
            .finish_non_exhaustive()
    }
}

/// What other handles of this process to the same object share.
pub(crate) struct Registered {
    generation: u32,
    local: Weak<dyn Any + Send + Sync>,
    object: fn(&(dyn Any + Send + Sync)) -> Option<&Object>,
}

/// A process's side of an object: its hold on it and whatever it notes for itself.
pub(crate) trait Local: Any + Send + Sync {
    fn object(&self) -> &Object;
}

fn object_of<L: Local>(local: &(dyn Any + Send + Sync)) -> Option<&Object> {
    local.downcast_ref::<L>().map(Local::object)
}

impl Object {
    /// Makes an object held by this member. Its bytes are zero when `init` sees them.
    pub(crate) fn create(
        arena: &Arena,
        spec: ObjectSpec,
        init: impl FnOnce(View<'_>),
    ) -> Result<Object, Error> {
        let len = HEADER.checked_add(spec.len).ok_or(Error::NoMemory)?;
        let mut owned = arena.alloc(len)?;
        owned.bytes_mut()[..len as usize].fill(0);
        // The first three words of `ObjectHeader`.
        let words = [spec.kind.id().into(), spec.len, spec.type_hash];
        for (at, word) in owned.bytes_mut().chunks_exact_mut(8).zip(words) {
            at.copy_from_slice(&u64::to_ne_bytes(word));
        }
        let view = View {
            arena,
            block: owned.block(),
        };
        let holder = view.add_holder(arena.my_holder())?;
        init(view);
        let block = owned.into_block();
        let word = BlockWord::object(spec.kind.id(), block.generation);
        arena.block_word(block.index).store(word.0, Release);
        Ok(Object {
            arena: arena.clone(),
            block,
            offset: PrivateU64::new(holder.offset),
            holder: PrivateU64::new(holder.word.0),
        })
    }

    /// Holds an object that somebody else, whom the caller keeps from letting go, holds already.
    pub(crate) fn attach(
        arena: &Arena,
        block: Block,
        kind: u32,
        type_hash: u64,
    ) -> Result<Object, Error> {
        if !arena.is_object(block) {
            return Err(Error::StaleHandle);
        }
        let view = View { arena, block };
        let header = view.header();
        if (header.kind, header.type_hash) != (u64::from(kind), type_hash) {
            return Err(Error::WrongType);
        }
        let holder = view.add_holder(arena.my_holder())?;
        Ok(Object {
            arena: arena.clone(),
            block,
            offset: PrivateU64::new(holder.offset),
            holder: PrivateU64::new(holder.word.0),
        })
    }

    #[inline]
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    #[inline]
    pub(crate) fn block(&self) -> Block {
        self.block
    }

    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        View {
            arena: &self.arena,
            block: self.block,
        }
    }

    /// Lets a message hold the object too.
    pub(crate) fn hold_for(&self, message: Block) -> Result<Holder, Error> {
        self.view().add_holder(message_word(message))
    }

    /// Lets a child that is about to be started hold the object too.
    pub(crate) fn hold_for_seat(&self, seat: Reservation) -> Result<(), Error> {
        let word = HolderWord::new(HolderWord::MEMBER, seat.id.into(), seat.generation.into());
        self.view().add_holder(word).map(drop)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let word = self.arena.my_holder();
        if self.arena.check().is_err() || self.holder.load(Relaxed) != word.0 {
            return;
        }
        let offset = self.offset.load(Relaxed);
        self.arena.remove_holder(Holder { offset, word });
        self.arena.destroy_if_unheld(self.block);
    }
}

impl Arena {
    fn my_holder(&self) -> HolderWord {
        HolderWord::new(HolderWord::MEMBER, self.me().into(), self.my_generation())
    }

    /// Makes `local` what later handles to its object share in this process.
    pub(crate) fn register<L: Local>(&self, local: &Arc<L>) {
        let mut locals = self.0.locals.lock().unwrap_or_else(|e| e.into_inner());
        // Entries of dropped objects go when the table would have to grow.
        if locals.len() == locals.capacity() {
            locals.retain(|_, entry| entry.local.strong_count() > 0);
        }
        let block = local.object().block;
        let weak: Weak<L> = Arc::downgrade(local);
        let entry = Registered {
            generation: block.generation,
            local: weak,
            object: object_of::<L>,
        };
        locals.insert(block.index, entry);
    }

    /// What this process shares for an object that it holds already.
    pub(crate) fn registered<L: Local>(&self, block: Block) -> Option<Arc<L>> {
        let locals = self.0.locals.lock().unwrap_or_else(|e| e.into_inner());
        let entry = locals
            .get(&block.index)
            .filter(|e| e.generation == block.generation)?;
        let local = entry.local.upgrade()?;
        // Outside the lock: the last reference may end here and come back to the arena.
        drop(locals);
        Arc::downcast(local).ok()
    }

    /// Whether this process holds something in one of its objects that no other may hold at the same time.
    pub(crate) fn is_in_use(&self) -> bool {
        let locals = self.0.locals.lock().unwrap_or_else(|e| e.into_inner());
        let alive: Vec<_> = locals
            .values()
            .filter_map(|entry| Some((entry.object, entry.local.upgrade()?)))
            .collect();
        // Outside the lock: the last reference may end here and come back to the arena.
        drop(locals);
        alive.iter().any(|(object, local)| {
            let block = object(&**local).map(Object::block);
            let known = block.and_then(|block| self.kind_and_view(block));
            known.is_some_and(|(kind, view)| kind.is_in_use(view))
        })
    }

    /// Before a fork by this crate: lets the copy that will take this seat hold what this member holds. In the copy it
    /// would be too late, this process may have let go by then. Says where the holders are, by block.
    pub(crate) fn hold_for_copy(&self, seat: Reservation) -> Result<Vec<(u32, u64)>, Error> {
        let word = HolderWord::new(HolderWord::MEMBER, seat.id.into(), seat.generation.into());
        let locals = self.0.locals.lock().unwrap_or_else(|e| e.into_inner());
        let mut held = Vec::new();
        for (&index, entry) in &*locals {
            let Some(local) = entry.local.upgrade() else {
                continue;
            };
            if let Some(object) = (entry.object)(&*local) {
                held.push((index, object.view().add_holder(word)?.offset));
            }
        }
        Ok(held)
    }

    /// In the copy: these holders are its own.
    pub(super) fn hold_again(&self, held: &[(u32, u64)]) {
        let locals = self.0.locals.lock().unwrap_or_else(|e| e.into_inner());
        for (index, offset) in held {
            let local = locals
                .get(index)
                .and_then(|entry| Some((entry.object, entry.local.upgrade()?)));
            if let Some((object_of, local)) = local {
                if let Some(object) = object_of(&*local) {
                    object.offset.store(*offset, Relaxed);
                    object.holder.store(self.my_holder().0, Relaxed);
                }
            }
        }
    }
}

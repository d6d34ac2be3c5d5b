//! A ring in the arena: how its object is laid out, and safe access to it.
//!
//! ```text
//! 0      header: capacity, stride, the closed flag, the link to the next ring of a chain
//! 128    event count: not empty          256  event count: not full
//! 384    tail hint                       512  head hint
//! 640    claim words, 8 bytes a slot     (rounded up to 128)
//!        take words, 8 bytes a slot      (rounded up to 128)
//!        slots, `stride` bytes each: the published word, then the payload
//! ```

use super::mpmc::{Message, Owners, Slot, Storage};
use super::tag::Laps;
use crate::arena::{Arena, MemberId, Shared, View};
use crate::primitive::{AtomicU32, AtomicU64};
use crate::sync::EventCount;
use crossbeam_utils::CachePadded;
use std::sync::atomic::Ordering::Relaxed;

#[repr(C, align(128))]
pub(crate) struct RingHeader {
    /// Never 0: that is how a chain begins.
    capacity: AtomicU64,
    stride: AtomicU64,
    pub(super) closed: AtomicU32,
    /// In a chain: what comes behind this ring.
    pub(super) next: AtomicU64,
    not_empty: EventCount,
    not_full: EventCount,
    tail_hint: CachePadded<AtomicU64>,
    head_hint: CachePadded<AtomicU64>,
}

// SAFETY: atomics of any value.
unsafe impl Shared for RingHeader {}

/// The word that commits a message stands in front of its payload.
const PUBLISHED: u64 = 8;
/// The size of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) capacity: u64,
    pub(crate) stride: u64,
}

impl Geometry {
    /// The largest payload of a slot.
    pub(crate) const LARGEST: usize = 120;

    /// Slots for messages that are usually at most `payload` bytes; never larger than two cache lines.
    pub(crate) fn new(capacity: u64, payload: u64) -> Geometry {
        let stride = (payload.clamp(8, Self::LARGEST as u64) + PUBLISHED).next_multiple_of(16);
        Geometry { capacity, stride }
    }

    /// The largest payload of a slot.
    #[inline]
    pub(crate) fn inline(self) -> usize {
        (self.stride - PUBLISHED) as usize
    }

    /// As many such slots as make a ring of at most `len` bytes.
    pub(crate) fn within(len: u64, payload: u64) -> Geometry {
        let Geometry { stride, .. } = Geometry::new(1, payload);
        // The two arrays of words are rounded up to 128 bytes each.
        let room = len - size_of::<RingHeader>() as u64 - 2 * 128;
        let capacity = room / (stride + 16);
        Geometry { capacity, stride }
    }

    fn takes_at(self) -> u64 {
        size_of::<RingHeader>() as u64 + (self.capacity * 8).next_multiple_of(128)
    }

    fn slots_at(self) -> u64 {
        self.takes_at() + (self.capacity * 8).next_multiple_of(128)
    }

    /// Bytes of the object; `None` when that is beyond what can be addressed.
    pub(crate) fn len(self) -> Option<u64> {
        self.capacity
            .checked_mul(self.stride + 16)?
            .checked_add(4096)?;
        Some(self.slots_at() + self.capacity * self.stride)
    }
}

/// A ring in an object of the arena. Whoever has one sees to it that the object exists as long.
#[derive(Debug)]
pub(crate) struct RingObject {
    /// Keeps the memory mapped.
    _arena: Arena,
    base: *mut u8,
    claims: *const AtomicU64,
    takes: *const AtomicU64,
    slots: *mut u8,
    laps: Laps,
    geometry: Geometry,
}

// SAFETY: all shared words are atomics; payloads are only touched by whoever has the `Slot` or `Message`.
unsafe impl Send for RingObject {}
// SAFETY: as above.
unsafe impl Sync for RingObject {}

impl RingObject {
    /// Writes down the size of a ring in a new object, whose bytes are zero otherwise.
    pub(crate) fn init(view: View<'_>, geometry: Geometry) {
        let header = view.get::<RingHeader>();
        header.capacity.store(geometry.capacity, Relaxed);
        header.stride.store(geometry.stride, Relaxed);
    }

    pub(crate) fn new(view: View<'_>) -> RingObject {
        let header = view.get::<RingHeader>();
        let capacity = header.capacity.load(Relaxed);
        let geometry = Geometry {
            capacity,
            stride: header.stride.load(Relaxed),
        };
        assert!(capacity > 0 && (16..=128).contains(&geometry.stride) && geometry.stride % 16 == 0);
        assert!(geometry.len().is_some_and(|len| len <= view.len()));
        let base = view.base();
        let at = |offset: u64| base.wrapping_add(offset as usize);
        RingObject {
            _arena: view.arena.clone(),
            base,
            claims: at(size_of::<RingHeader>() as u64).cast(),
            takes: at(geometry.takes_at()).cast(),
            slots: at(geometry.slots_at()),
            laps: Laps::new(capacity),
            geometry,
        }
    }

    #[inline]
    fn header(&self) -> &RingHeader {
        // SAFETY: the object begins with the header (checked in `new` by its size).
        unsafe { &*self.base.cast::<RingHeader>() }
    }

    #[inline]
    fn word(&self, words: *const AtomicU64, index: u64) -> &AtomicU64 {
        debug_assert!(index < self.geometry.capacity);
        // SAFETY: `words` has as many words as the ring has slots, and `Laps` makes no index beyond them.
        unsafe { &*words.wrapping_add(index as usize) }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.geometry.capacity
    }

    pub(crate) fn not_empty(&self) -> &EventCount {
        &self.header().not_empty
    }

    pub(crate) fn not_full(&self) -> &EventCount {
        &self.header().not_full
    }

    /// The largest payload of a slot.
    #[inline]
    pub(crate) fn inline(&self) -> usize {
        self.geometry.inline()
    }

    /// The header of a ring that may not be in use here.
    pub(super) fn header_of<'a>(view: View<'a>) -> &'a RingHeader {
        view.get()
    }

    /// Copies `len` bytes, rounded up to words, into a claimed slot.
    #[inline]
    pub(crate) fn write(&self, slot: &Slot, from: &[u64], len: usize) {
        assert!(len <= self.inline());
        let words = &from[..len.div_ceil(8)];
        let to = self.payload(slot.index);
        // SAFETY: a payload is of whole words, so these fit into it (checked), and whoever has the claimed `Slot` is
        // alone with it.
        let write = |i: usize| unsafe { to.wrapping_add(i).write(words[i]) };
        match words.len() {
            // The few that a number has, without a call.
            1 => write(0),
            2 => (0..2).for_each(write),
            // SAFETY: as above.
            count => unsafe { to.copy_from_nonoverlapping(words.as_ptr(), count) },
        }
    }

    /// Copies `len` bytes, rounded up to words, out of a taken slot.
    #[inline]
    pub(crate) fn read(&self, message: &Message, to: &mut [u64], len: usize) {
        assert!(len <= self.inline());
        let words = &mut to[..len.div_ceil(8)];
        let from = self.payload(message.slot.index);
        // SAFETY: as in `write`, and nobody writes the slot before the message is acknowledged.
        let read = |i: usize| unsafe { from.wrapping_add(i).read() };
        match words.len() {
            1 => words[0] = read(0),
            2 => (words[0], words[1]) = (read(0), read(1)),
            // SAFETY: as above.
            count => unsafe { from.copy_to_nonoverlapping(words.as_mut_ptr(), count) },
        }
    }

    /// Copies so many bytes into a claimed slot.
    #[inline]
    pub(crate) fn write_bytes(&self, slot: &Slot, from: &[u8]) {
        assert!(from.len() <= self.inline());
        let to = self.payload(slot.index).cast::<u8>();
        // SAFETY: they fit (checked), and whoever has the claimed `Slot` is alone with its payload.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }

    /// So many bytes of a taken slot, where they are.
    #[inline]
    pub(crate) fn bytes<'a>(&'a self, message: &'a Message, len: usize) -> &'a [u8] {
        assert!(len <= self.inline());
        let from = self.payload(message.slot.index).cast::<u8>();
        // SAFETY: they are there (checked), and while the message is borrowed it is not acknowledged, so nobody writes them.
        unsafe { std::slice::from_raw_parts(from, len) }
    }

    #[inline]
    pub(super) fn payload(&self, index: u64) -> *mut u64 {
        self.slot(index).wrapping_add(1)
    }

    #[inline]
    fn slot(&self, index: u64) -> *mut u64 {
        debug_assert!(index < self.geometry.capacity);
        self.slots
            .wrapping_add((index * self.geometry.stride) as usize)
            .cast()
    }

    /// The block number in the payload of a slot whose message is in a block; for who destroys or traces the ring.
    pub(crate) fn block_in(&self, index: u64) -> u32 {
        // SAFETY: an aligned word of the slot, which is only written before the message is committed.
        unsafe { self.payload(index).read() as u32 }
    }
}

impl Storage for &RingObject {
    #[inline]
    fn laps(&self) -> Laps {
        self.laps
    }

    #[inline]
    fn closed(&self) -> &AtomicU32 {
        &self.header().closed
    }

    #[inline]
    fn tail_hint(&self) -> &AtomicU64 {
        &self.header().tail_hint
    }

    #[inline]
    fn head_hint(&self) -> &AtomicU64 {
        &self.header().head_hint
    }

    #[inline]
    fn claim(&self, index: u64) -> &AtomicU64 {
        self.word(self.claims, index)
    }

    #[inline]
    fn take(&self, index: u64) -> &AtomicU64 {
        self.word(self.takes, index)
    }

    #[inline]
    fn published(&self, index: u64) -> &AtomicU64 {
        // SAFETY: a slot begins with this word.
        unsafe { &*self.slot(index).cast::<AtomicU64>() }
    }
}

impl Owners for Arena {
    #[inline]
    fn me(&self) -> MemberId {
        Arena::me(self)
    }

    fn is_dead(&self, owner: MemberId) -> bool {
        Arena::is_dead(self, owner)
    }

    #[inline]
    fn deaths(&self) -> u64 {
        Arena::deaths(self)
    }
}

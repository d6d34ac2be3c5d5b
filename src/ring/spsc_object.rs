//! A ring of bytes in the arena: how its object is laid out, and safe access to it.
//!
//! ```text
//! 0      header: capacity, where a writer that moves was, whether either side is gone
//! 128    event count: not empty          256  event count: not full
//! 384    the reader's position           512  from where on the waiting writer wants to be woken
//! 640    blocks of messages, 64 words
//! 1152   the ring
//! ```

use super::spsc::{ByteStorage, Gone, Places, Record, Room};
use crate::arena::{Arena, Shared, View};
use crate::primitive::{self, AtomicU64};
use crate::sync::EventCount;
use crossbeam_utils::CachePadded;
use std::sync::atomic::Ordering::Relaxed;

/// How many messages may be on their way that are in blocks.
pub(crate) const BLOCKS: usize = 64;

#[repr(C, align(128))]
struct ByteHeader {
    capacity: AtomicU64,
    tail: AtomicU64,
    writer_gone: Gone,
    reader_gone: Gone,
    not_empty: EventCount,
    not_full: EventCount,
    head: CachePadded<AtomicU64>,
    wanted: CachePadded<AtomicU64>,
    blocks: Places<BLOCKS>,
}

// SAFETY: atomics of any value.
unsafe impl Shared for ByteHeader {}

const HEADER: usize = size_of::<ByteHeader>();
const LEAST: usize = 256;
const MOST: usize = 1 << 40;

/// A ring of bytes in an object of the arena. Whoever has one sees to it that the object exists as long, and that each side has
/// one owner.
#[derive(Debug)]
pub(crate) struct ByteRing {
    /// Keeps the memory mapped.
    arena: Arena,
    base: *mut u8,
    data: *mut u8,
    capacity: usize,
}

// SAFETY: all shared words are atomics; payloads are only touched by whoever has the `Room` or `Record`.
unsafe impl Send for ByteRing {}
// SAFETY: as above.
unsafe impl Sync for ByteRing {}

impl ByteRing {
    /// With its object's header it fills a chunk of 64 KiB.
    pub(crate) const USUAL: usize = 65536 - crate::arena::OBJECT_HEADER as usize - HEADER;

    /// The capacity of a ring of about so many bytes; `None` for nothing, and for more than can be addressed.
    pub(crate) fn capacity_for(bytes: usize) -> Option<usize> {
        let fits = (1..=MOST).contains(&bytes);
        fits.then(|| bytes.max(LEAST).next_multiple_of(128))
    }

    /// Bytes of the object.
    pub(crate) fn len(capacity: usize) -> u64 {
        (HEADER + capacity) as u64
    }

    /// Writes down the size of a ring in a new object, whose bytes are zero otherwise.
    pub(crate) fn init(view: View<'_>, capacity: usize) {
        let header = view.get::<ByteHeader>();
        header.capacity.store(capacity as u64, Relaxed);
    }

    pub(crate) fn new(view: View<'_>) -> ByteRing {
        let capacity = view.get::<ByteHeader>().capacity.load(Relaxed) as usize;
        assert!(capacity >= LEAST && capacity % 128 == 0 && capacity <= MOST);
        assert!(Self::len(capacity) <= view.len());
        let base = view.base();
        ByteRing {
            arena: view.arena.clone(),
            base,
            data: base.wrapping_add(HEADER),
            capacity,
        }
    }

    #[inline]
    fn header(&self) -> &ByteHeader {
        // SAFETY: the object begins with the header (checked in `new` by its size).
        unsafe { &*self.base.cast::<ByteHeader>() }
    }

    #[inline]
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    #[inline]
    pub(crate) fn not_empty(&self) -> &EventCount {
        &self.header().not_empty
    }

    #[inline]
    pub(crate) fn not_full(&self) -> &EventCount {
        &self.header().not_full
    }

    /// From which position of the reader on the writer, which is about to sleep, wants to be woken.
    #[inline]
    pub(crate) fn wanted(&self) -> &AtomicU64 {
        &self.header().wanted
    }

    /// Where the writer was when it was passed on.
    pub(crate) fn tail(&self) -> &AtomicU64 {
        &self.header().tail
    }

    /// Whether nothing more will be written. What was is there, whoever sees this.
    #[inline]
    pub(crate) fn is_writer_gone(&self) -> bool {
        self.header().writer_gone.is()
    }

    pub(crate) fn set_writer_gone(&self) {
        self.header().writer_gone.set();
    }

    /// Whether nobody will read any more.
    #[inline]
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.header().reader_gone.is()
    }

    pub(crate) fn set_reader_gone(&self) {
        self.header().reader_gone.set();
    }

    /// Where blocks of messages are listed.
    pub(crate) fn places(&self) -> &Places<BLOCKS> {
        &self.header().blocks
    }

    /// So much room that the writer has, with whatever was there before.
    #[inline]
    pub(crate) fn room_mut<'a>(&'a self, room: &'a mut Room) -> &'a mut [u8] {
        assert!(room.at <= self.capacity && room.len <= self.capacity - room.at);
        let at = self.data.wrapping_add(room.at);
        // SAFETY: it lies in the ring (checked), and nobody reads it before it is committed, for which the room is needed.
        unsafe { std::slice::from_raw_parts_mut(at, room.len) }
    }

    /// The same to be looked at.
    pub(crate) fn room<'a>(&'a self, room: &'a Room) -> &'a [u8] {
        assert!(room.at <= self.capacity && room.len <= self.capacity - room.at);
        let at = self.data.wrapping_add(room.at);
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(at, room.len) }
    }

    /// A record's payload where it is.
    #[inline]
    pub(crate) fn payload<'a>(&'a self, record: &'a Record) -> &'a [u8] {
        assert!(record.at <= self.capacity && record.len <= self.capacity - record.at);
        let at = self.data.wrapping_add(record.at);
        // SAFETY: it lies in the ring (checked), and nobody writes it before the reader, who has the record, releases it.
        unsafe { std::slice::from_raw_parts(at, record.len) }
    }
}

impl ByteStorage for ByteRing {
    #[inline]
    fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.capacity);
        let word = self.data.cast::<AtomicU64>().wrapping_add(at / 8);
        // SAFETY: an aligned word of the ring (checked), which both sides use as an atomic while it may be a header.
        unsafe { &*word }
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        &self.header().head
    }

    #[inline]
    fn prepare(&self, at: usize) {
        // Beyond the ring's end it does no harm.
        primitive::prefetch_for_write(self.data.wrapping_add(at));
    }

    fn writer_gone(&self) -> &Gone {
        &self.header().writer_gone
    }
}

#[cfg(not(all(test, loom)))]
const _: () = assert!(HEADER == 1152);

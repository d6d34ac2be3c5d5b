//! A ring of bytes between one writer and one reader: records of any length, one after the other, each contiguous. There is no
//! read-modify-write instruction in it. SPSC.md beside this file has the states, the proof sketch and what the tests caught.
//!
//! The storage is a parameter, so that the same code runs in shared memory and on loom's heap.

use crate::primitive::{AtomicU32, AtomicU64};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Where the ring's words are. Whoever has a cursor is the only one of its side.
pub(crate) trait ByteStorage {
    /// Bytes of the ring, a multiple of 8.
    fn capacity(&self) -> usize;
    /// The word at this place, a multiple of 8 below the capacity.
    fn word(&self, at: usize) -> &AtomicU64;
    /// Everything before this position was read. Written by the reader alone.
    fn head(&self) -> &AtomicU64;
    /// Whether the writer has ended.
    fn writer_gone(&self) -> &Gone;
    /// A hint: the writer comes by this place soon.
    fn prepare(&self, at: usize);
}

/// Whether one side has ended.
#[derive(Debug)]
pub(crate) struct Gone(AtomicU32);

impl Gone {
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        Gone(AtomicU32::new(0))
    }

    /// If so, whoever sees it sees all that this side has done.
    #[inline]
    pub(crate) fn is(&self) -> bool {
        // (E) pairs with `set`.
        self.0.load(Acquire) != 0
    }

    pub(crate) fn set(&self) {
        self.0.store(1, Release);
    }
}

/// The writer is gone, and all that it has committed was read.
#[derive(Debug)]
pub(crate) struct AtEnd;

/// In front of each record.
const HEADER: usize = 8;
/// How far ahead of its stores the writer asks for lines, which the reader had last.
const AHEAD: usize = 256;
/// The rest of the ring up to its end is unused. Other kinds are the users', from [`FIRST_KIND`] on.
const PAD: u8 = 1;
pub(crate) const FIRST_KIND: u8 = 2;

/// A header is never 0: that is what stands behind the last record.
fn header(len: usize, kind: u8) -> u64 {
    (len as u64) << 8 | u64::from(kind)
}

#[inline]
const fn whole_words(len: usize) -> usize {
    (len + 7) & !7
}

/// The longest payload for which room comes for certain, as soon as the reader has read everything: the record, the rest of the
/// ring that is skipped in front of it and the zero behind it fit into the ring. A quarter, so that both sides are at work.
pub(crate) const fn largest(capacity: usize) -> usize {
    ((capacity / 4) & !7) - HEADER
}

/// Room for one record: the writer's own until it is committed or forgotten.
#[derive(Debug)]
pub(crate) struct Room {
    /// Where the payload begins.
    pub(crate) at: usize,
    /// How long it may be.
    pub(crate) len: usize,
}

/// A committed record: the reader's until it is released.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: u8,
    /// Where the payload begins.
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// Where the writer is. Positions count bytes and never wrap; a place is a position within its lap.
#[derive(Debug)]
pub(crate) struct WriteCursor {
    /// The position of place 0 in this lap.
    lap: u64,
    at: usize,
    /// Up to this place there is room for records, as far as is known, and behind them for the zero.
    end: usize,
    /// The reader's position as last seen: its cache line is only asked for when the ring looks full.
    head: u64,
}

impl WriteCursor {
    /// A writer that goes on at this position.
    pub(crate) fn new(storage: &impl ByteStorage, position: u64) -> Self {
        let at = (position % storage.capacity() as u64) as usize;
        WriteCursor {
            lap: position - at as u64,
            at,
            end: at,
            // (F): what was read before was read before this writer writes again.
            head: storage.head().load(Acquire),
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.lap + self.at as u64
    }

    /// Room for a payload of at least `least` bytes (at most [`largest`]), as long as possible. `None` when the reader is
    /// behind.
    #[inline(always)]
    pub(crate) fn room(&mut self, storage: &impl ByteStorage, least: usize) -> Option<Room> {
        let need = HEADER + whole_words(least);
        if need <= self.end - self.at || self.clear_up(storage, need) {
            let (at, len) = (self.at + HEADER, self.end - self.at - HEADER);
            return Some(Room { at, len });
        }
        None
    }

    #[cold]
    fn clear_up(&mut self, storage: &impl ByteStorage, need: usize) -> bool {
        let capacity = storage.capacity();
        loop {
            let to_end = capacity - self.at;
            let free = capacity - (self.position() - self.head) as usize;
            // Behind the record there must be room for the zero.
            self.end = self.at + to_end.min(free - HEADER);
            if need <= self.end - self.at {
                return true;
            }
            if need > to_end && to_end + need + HEADER <= free {
                self.commit(storage, to_end - HEADER, PAD);
                continue;
            }
            // (F) pairs with `release`: the payload was read before it is written again.
            let head = storage.head().load(Acquire);
            if head == self.head {
                return false;
            }
            self.head = head;
        }
    }

    /// The reader's position from which on there is room for so much, if there is none now.
    pub(crate) fn wanted(&self, storage: &impl ByteStorage, least: usize) -> u64 {
        let need = HEADER + whole_words(least);
        let capacity = storage.capacity();
        let to_end = capacity - self.at;
        let skipped = if need > to_end { to_end } else { 0 };
        let end = self.position() + (skipped + need + HEADER) as u64;
        end.saturating_sub(capacity as u64)
    }

    /// Makes the first `len` bytes of the room a record.
    #[inline(always)]
    pub(crate) fn commit(&mut self, storage: &impl ByteStorage, len: usize, kind: u8) {
        let (at, mut next) = (self.at, self.at + HEADER + whole_words(len));
        debug_assert!(next <= storage.capacity());
        if next == storage.capacity() {
            self.lap += next as u64;
            (next, self.end) = (0, 0);
        }
        self.at = next;
        if next + AHEAD < storage.capacity() {
            storage.prepare(next + AHEAD);
        }
        // (Z) before (C): who has read this record finds nothing behind it until there is something.
        storage.word(next).store(0, Relaxed);
        // (C) pairs with `peek`: the payload is there when the header is seen.
        storage.word(at).store(header(len, kind), Release);
    }
}

/// Where the reader is.
#[derive(Debug)]
pub(crate) struct ReadCursor {
    /// The position of place 0 in this lap.
    lap: u64,
    at: usize,
    /// The last header and its length. The next one is likely to be the same, and who compares need not wait for its line to
    /// know where the one behind it is.
    last: u64,
    len: usize,
    /// Where it was when [`is_stream`](Self::is_stream) was asked the last time.
    asked: u64,
}

impl ReadCursor {
    /// A reader that goes on where the last one has ended.
    pub(crate) fn new(storage: &impl ByteStorage) -> Self {
        let position = storage.head().load(Acquire);
        let at = (position % storage.capacity() as u64) as usize;
        ReadCursor {
            lap: position - at as u64,
            at,
            last: 0,
            len: 0,
            asked: position,
        }
    }

    /// The next record, if there is one.
    #[inline]
    pub(crate) fn peek(&mut self, storage: &impl ByteStorage) -> Option<Record> {
        loop {
            // (C): the payload, and the zero behind it.
            let header = storage.word(self.at).load(Acquire);
            if header == 0 {
                return None;
            }
            if header != self.last {
                self.learn(header);
            }
            let (kind, at, len) = (self.last as u8, self.at + HEADER, self.len);
            if kind != PAD {
                return Some(Record { kind, at, len });
            }
            self.release(storage, len);
        }
    }

    /// The next record, or the end; nothing while neither is there.
    pub(crate) fn peek_or_end(
        &mut self,
        storage: &impl ByteStorage,
    ) -> Option<Result<Record, AtEnd>> {
        match self.peek(storage) {
            Some(record) => Some(Ok(record)),
            None if !storage.writer_gone().is() => None,
            // (E): what was committed before the end is there now.
            None => Some(self.peek(storage).ok_or(AtEnd)),
        }
    }

    #[inline(never)]
    fn learn(&mut self, header: u64) {
        self.last = header;
        self.len = (header >> 8) as usize;
    }

    /// Whether records like the last one have come one upon the other since this was asked the last time.
    pub(crate) fn is_stream(&mut self) -> bool {
        let now = self.position();
        let passed = now - std::mem::replace(&mut self.asked, now);
        passed > 4 * (HEADER + whole_words(self.len)) as u64
    }

    /// Whether `peek` would find something, behind a record of that length if there is one that was not released.
    pub(crate) fn may_peek(&self, storage: &impl ByteStorage, behind: Option<usize>) -> bool {
        let at = self.at + behind.map_or(0, |len| HEADER + whole_words(len));
        let at = if at == storage.capacity() { 0 } else { at };
        let header = storage.word(at).load(Acquire);
        // Padding goes up to the end of the ring.
        header != 0 && (header as u8 != PAD || storage.word(0).load(Relaxed) != 0)
    }

    /// Gives the place of the next record, whose payload is so long, back to the writer.
    #[inline]
    pub(crate) fn release(&mut self, storage: &impl ByteStorage, len: usize) {
        self.at += HEADER + whole_words(len);
        debug_assert!(self.at <= storage.capacity());
        // (F) pairs with `room`.
        storage.head().store(self.position(), Release);
        if self.at == storage.capacity() {
            self.lap += self.at as u64;
            self.at = 0;
        }
    }

    /// Gives the next record back for a reader that goes on elsewhere; this one stays where it is.
    pub(crate) fn announce_release(&self, storage: &impl ByteStorage, len: usize) {
        let position = self.position() + (HEADER + whole_words(len)) as u64;
        storage.head().store(position, Release);
    }

    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.lap + self.at as u64
    }

    /// Where the next header is.
    pub(crate) fn place(&self) -> usize {
        self.at
    }
}

mod places;
mod title;
pub(crate) use places::Places;
pub(crate) use title::Title;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

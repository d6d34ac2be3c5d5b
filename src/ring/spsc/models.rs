//! Models of the byte ring, run by `ci/loom.sh`: its payload is watched for races, its positions wrap several times.

use super::*;
use crate::primitive::Fences;
use crate::sync::EventCount;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

const FENCES: Fences = Fences::Symmetric;
const WORDS: usize = 4;

/// Four words: a record of one word of payload, and the zero behind it, leave one word.
struct Heap {
    words: Vec<AtomicU64>,
    payloads: Vec<UnsafeCell<u64>>,
    head: AtomicU64,
    gone: Gone,
    not_empty: EventCount,
    not_full: EventCount,
}

// SAFETY: payloads are only touched by whoever has the room or the record, which is what loom checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl ByteStorage for Arc<Heap> {
    fn capacity(&self) -> usize {
        self.words.len() * 8
    }
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[at / 8]
    }
    fn head(&self) -> &AtomicU64 {
        &self.head
    }
    fn writer_gone(&self) -> &Gone {
        &self.gone
    }
    fn prepare(&self, _: usize) {}
}

impl Heap {
    fn new(words: usize) -> Arc<Heap> {
        Arc::new(Heap {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            payloads: (0..words).map(|_| UnsafeCell::new(0)).collect(),
            head: AtomicU64::new(0),
            gone: Gone::new(),
            not_empty: EventCount::new(),
            not_full: EventCount::new(),
        })
    }

    fn fill(&self, at: usize, value: u64) {
        // SAFETY: the room is the writer's.
        self.payloads[at / 8].with_mut(|to| unsafe { *to = value });
    }

    fn read(&self, at: usize) -> u64 {
        // SAFETY: the record is the reader's.
        self.payloads[at / 8].with(|from| unsafe { *from })
    }
}

fn try_write(heap: &Arc<Heap>, writer: &mut WriteCursor, value: u64) -> bool {
    let Some(room) = writer.room(heap, 8) else {
        return false;
    };
    heap.fill(room.at, value);
    writer.commit(heap, 8, FIRST_KIND);
    true
}

fn try_read(heap: &Arc<Heap>, reader: &mut ReadCursor) -> Option<u64> {
    let record = reader.peek(heap)?;
    Some(take(heap, reader, &record))
}

fn take(heap: &Arc<Heap>, reader: &mut ReadCursor, record: &Record) -> u64 {
    assert_eq!((record.kind, record.len), (FIRST_KIND, 8));
    let value = heap.read(record.at);
    reader.release(heap, record.len);
    value
}

/// The waits of both sides, as in `pipe`.
fn write(heap: &Arc<Heap>, writer: &mut WriteCursor, value: u64) {
    while !try_write(heap, writer, value) {
        let key = heap.not_full.prepare(FENCES);
        if try_write(heap, writer, value) {
            break;
        }
        heap.not_full.sleep(key, Duration::ZERO);
    }
    heap.not_empty.notify_one(FENCES);
}

fn read(heap: &Arc<Heap>, reader: &mut ReadCursor) -> Option<u64> {
    let found = loop {
        if let Some(found) = reader.peek_or_end(heap) {
            break found;
        }
        let key = heap.not_empty.prepare(FENCES);
        if let Some(found) = reader.peek_or_end(heap) {
            break found;
        }
        heap.not_empty.sleep(key, Duration::ZERO);
    };
    let value = found.ok().map(|record| take(heap, reader, &record));
    heap.not_full.notify_one(FENCES);
    value
}

/// Runs a model of a new ring and its two sides.
fn model(run: impl Fn(Arc<Heap>, WriteCursor, ReadCursor) + Send + Sync + 'static) {
    model_of(WORDS, run);
}

fn model_of(
    words: usize,
    run: impl Fn(Arc<Heap>, WriteCursor, ReadCursor) + Send + Sync + 'static,
) {
    loom::model(move || {
        let heap = Heap::new(words);
        let writer = WriteCursor::new(&heap, 0);
        let reader = ReadCursor::new(&heap);
        run(heap, writer, reader);
    });
}

/// So many are written and read, each side waiting for the other.
fn cross(heap: &Arc<Heap>, mut writer: WriteCursor, reader: &mut ReadCursor, count: u64) {
    let other = heap.clone();
    let thread = thread::spawn(move || {
        for value in 1..=count {
            write(&other, &mut writer, value);
        }
    });
    for value in 1..=count {
        assert_eq!(read(heap, reader), Some(value));
    }
    thread.join().unwrap();
}

/// No waiting: what is there is right, in whatever order the two run. Two words a record in a ring of four: it wraps.
#[test]
fn loom_bytes_cross_and_wrap() {
    model(|heap, mut writer, mut reader| {
        let other = heap.clone();
        let thread = thread::spawn(move || {
            let mut written = 0;
            // Again where there was no room: only the reader's position orders the two then.
            for _ in 0..5 {
                written += u64::from(try_write(&other, &mut writer, written + 1));
            }
            written
        });
        let mut read = 0;
        for _ in 0..4 {
            if let Some(value) = try_read(&heap, &mut reader) {
                read += 1;
                assert_eq!(value, read);
            }
        }
        let written = thread.join().unwrap();
        while let Some(value) = try_read(&heap, &mut reader) {
            read += 1;
            assert_eq!(value, read);
        }
        assert_eq!(read, written);
    });
}

/// Both sides wait for each other, twice around the ring.
#[test]
fn loom_nobody_sleeps_for_ever() {
    model(|heap, writer, mut reader| cross(&heap, writer, &mut reader, 3));
}

/// The end comes while the reader is about to sleep; what was committed before arrives.
#[test]
fn loom_the_end_wakes_the_reader() {
    model(|heap, mut writer, mut reader| {
        let other = heap.clone();
        let thread = thread::spawn(move || {
            write(&other, &mut writer, 1);
            other.gone.set();
            other.not_empty.notify_all(FENCES);
        });
        assert_eq!(read(&heap, &mut reader), Some(1));
        assert_eq!(read(&heap, &mut reader), None);
        thread.join().unwrap();
    });
}

/// A record that does not fit in front of the end: padding, then the record at the beginning.
#[test]
fn loom_padding_is_stepped_over() {
    model(|heap, mut writer, mut reader| {
        // An empty record shifts all by one word.
        assert!(writer.room(&heap, 0).is_some());
        writer.commit(&heap, 0, FIRST_KIND);
        assert_eq!(reader.peek(&heap).map(|record| record.len), Some(0));
        reader.release(&heap, 0);
        cross(&heap, writer, &mut reader, 2);
    });
}

/// What was read is written over, with nothing but the reader's position between the two.
#[test]
fn loom_room_comes_after_the_reading() {
    model(|heap, mut writer, mut reader| {
        assert!(try_write(&heap, &mut writer, 1));
        assert_eq!(try_read(&heap, &mut reader), Some(1));
        assert!(try_write(&heap, &mut writer, 2));
        let other = heap.clone();
        // The third lies where the first did, and comes when the second was read.
        let thread = thread::spawn(move || {
            let second = try_read(&other, &mut reader);
            (second, try_read(&other, &mut reader))
        });
        if try_write(&heap, &mut writer, 3) {
            // Where the second was.
            let _ = try_write(&heap, &mut writer, 4);
        }
        let (second, third) = thread.join().unwrap();
        assert_eq!(second, Some(2));
        assert!(third.is_none_or(|third| third == 3));
    });
}

/// Again and again, with nothing else between the two sides: what lies in one place is read before it is written again.
#[test]
fn loom_a_place_is_read_before_it_is_used_again() {
    model(|heap, mut writer, mut reader| {
        let other = heap.clone();
        let thread = thread::spawn(move || {
            for value in 1..=3 {
                while !try_write(&other, &mut writer, value) {
                    thread::yield_now();
                }
            }
        });
        for value in 1..=3 {
            let read = loop {
                match try_read(&heap, &mut reader) {
                    Some(read) => break read,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(read, value);
        }
        thread.join().unwrap();
    });
}

mod ends;
mod titles;

//! Models of what becomes of ends: they go on with somebody else, and what a reader that is gone leaves in blocks is freed.

use super::*;
use loom::sync::Mutex;

/// Writes a record of so many words of payload.
fn try_put(heap: &Arc<Heap>, writer: &mut WriteCursor, words: usize) -> bool {
    let Some(room) = writer.room(heap, 8 * words) else {
        return false;
    };
    (0..words).for_each(|word| heap.fill(room.at + 8 * word, 1));
    writer.commit(heap, 8 * words, FIRST_KIND);
    true
}

fn read_all(heap: &Arc<Heap>, record: &Record) {
    (0..record.len)
        .step_by(8)
        .for_each(|byte| assert_eq!(heap.read(record.at + byte), 1));
}

/// In a ring of six words: a record of three, and three more that go as far as its payload, when it was read.
fn write_round(heap: &Arc<Heap>, writer: &mut WriteCursor) {
    let _ = try_put(heap, writer, 1) && try_put(heap, writer, 0) && try_put(heap, writer, 1);
}

/// A writer that goes on for another one writes where the reader has been.
#[test]
fn loom_the_next_writer_finds_what_was_read() {
    model_of(6, |heap, mut writer, mut reader| {
        assert!(try_put(&heap, &mut writer, 2));
        let other = heap.clone();
        let thread = thread::spawn(move || {
            let record = reader.peek(&other).unwrap();
            read_all(&other, &record);
            reader.release(&other, record.len);
        });
        let mut next = WriteCursor::new(&heap, writer.position());
        write_round(&heap, &mut next);
        thread.join().unwrap();
    });
}

/// A reader that is passed on gives back what it has borrowed.
#[test]
fn loom_a_passed_on_borrow_is_read_before_its_place_is_used() {
    model_of(6, |heap, mut writer, mut reader| {
        assert!(try_put(&heap, &mut writer, 2));
        let other = heap.clone();
        let thread = thread::spawn(move || {
            let record = reader.peek(&other).unwrap();
            read_all(&other, &record);
            reader.announce_release(&other, record.len);
            ReadCursor::new(&other).position()
        });
        write_round(&heap, &mut writer);
        assert_eq!(thread.join().unwrap(), 24);
    });
}

/// What was sent arrives before the end, though nobody waits and nobody is woken.
#[test]
fn loom_the_end_comes_after_what_was_sent() {
    model(|heap, mut writer, mut reader| {
        let other = heap.clone();
        let thread = thread::spawn(move || {
            assert!(try_write(&other, &mut writer, 1));
            other.gone.set();
        });
        let found = loop {
            match reader.peek_or_end(&heap) {
                Some(found) => break found,
                None => thread::yield_now(),
            }
        };
        assert_eq!(take(&heap, &mut reader, &found.unwrap()), 1);
        thread.join().unwrap();
    });
}

/// Whom a look tells that there is something gets it without a wait, behind padding too.
#[test]
fn loom_a_look_promises_a_record() {
    model(|heap, mut writer, mut reader| {
        // Twice, so that older payload and headers lie at the beginning, and the next record there.
        for value in 1..=2 {
            assert!(try_write(&heap, &mut writer, value));
            assert_eq!(try_read(&heap, &mut reader), Some(value));
        }
        assert!(writer.room(&heap, 0).is_some());
        writer.commit(&heap, 0, FIRST_KIND);
        assert_eq!(reader.peek(&heap).map(|record| record.len), Some(0));
        reader.release(&heap, 0);
        assert!(try_write(&heap, &mut writer, 3));
        assert_eq!(try_read(&heap, &mut reader), Some(3));
        // One word is left in front of the end.
        let other = heap.clone();
        let thread = thread::spawn(move || try_write(&other, &mut writer, 4));
        if reader.may_peek(&heap, None) {
            assert_eq!(try_read(&heap, &mut reader), Some(4));
        }
        assert!(thread.join().unwrap());
    });
}

/// The same for who has put the end into a message, and looks without a look at the ring; and what was sent meanwhile is not missed.
#[test]
fn loom_a_look_at_a_lent_end_promises_a_record() {
    model(|heap, mut writer, mut reader| {
        let other = heap.clone();
        let thread = thread::spawn(move || {
            assert!(try_write(&other, &mut writer, 1));
            other.not_empty.notify_one(FENCES);
        });
        let key = heap.not_empty.prepare(FENCES);
        let there = reader.may_peek(&heap, None);
        let look = || there || heap.not_empty.has_moved(key);
        if look() {
            assert_eq!(try_read(&heap, &mut reader), Some(1));
        }
        thread.join().unwrap();
        assert!(look());
    });
}

const BLOCK: u32 = 7;

/// A block that is sent while the reader goes is freed once: by who empties the ring, or by the writer.
#[test]
fn loom_a_block_for_nobody_is_freed_once() {
    loom::model(|| {
        let places = Arc::new((Places::<1>::new(), Gone::new(), Mutex::new(0)));
        let empty = |(places, _, freed): &(Places<1>, Gone, Mutex<u32>)| {
            // Under the maintenance role.
            let mut freed = freed.lock().unwrap();
            if places.get(0).is_some() {
                places.clear(0);
                *freed += 1;
            }
        };
        let other = places.clone();
        let writer = thread::spawn(move || {
            other.0.set(0, BLOCK);
            // Of the commit's notification.
            FENCES.light();
            if other.1.is() {
                empty(&other);
            }
        });
        places.1.set();
        FENCES.heavy();
        empty(&places);
        writer.join().unwrap();
        assert_eq!(*places.2.lock().unwrap(), 1);
    });
}

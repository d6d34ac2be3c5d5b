use super::super::ByteRing;
use super::*;
use crate::arena::{Arena, Dead, Kind, Object, ObjectSpec, OwnedBlock, View, Visitor};
use proptest::prelude::*;
use std::collections::VecDeque;

struct Plain;

impl Kind for Plain {
    fn id(&self) -> u32 {
        0
    }
    fn name(&self) -> &'static str {
        "bytes"
    }
    fn repair(&self, _: View<'_>, _: &Dead) {}
    fn visit(&self, _: View<'_>, _: &mut Visitor<'_>) {}
    fn destroy(&self, _: View<'_>, _: &mut dyn FnMut(OwnedBlock<'_>)) {}
}

struct Ends {
    ring: ByteRing,
    writer: WriteCursor,
    reader: ReadCursor,
    _object: Object,
}

fn ends(capacity: usize) -> Ends {
    let arena = Arena::heap(8, &[&Plain]).unwrap();
    let spec = ObjectSpec {
        kind: &Plain,
        type_hash: 0,
        len: ByteRing::len(capacity),
    };
    let object = Object::create(&arena, spec, |view| ByteRing::init(view, capacity)).unwrap();
    let ring = ByteRing::new(object.view());
    Ends {
        writer: WriteCursor::new(&ring, 0),
        reader: ReadCursor::new(&ring),
        ring,
        _object: object,
    }
}

impl Ends {
    fn write(&mut self, bytes: &[u8], kind: u8) -> bool {
        let Some(mut room) = self.writer.room(&self.ring, bytes.len()) else {
            return false;
        };
        assert!(room.len >= bytes.len());
        // All of it is the writer's: also what the record does not need.
        self.ring.room_mut(&mut room).fill(0xee);
        self.ring.room_mut(&mut room)[..bytes.len()].copy_from_slice(bytes);
        self.writer.commit(&self.ring, bytes.len(), kind);
        true
    }

    fn read(&mut self) -> Option<(Vec<u8>, u8)> {
        assert!(!self.reader.may_peek(&self.ring, None) || self.reader.peek(&self.ring).is_some());
        let record = self.reader.peek(&self.ring)?;
        let message = (self.ring.payload(&record).to_vec(), record.kind);
        self.reader.release(&self.ring, record.len);
        Some(message)
    }
}

#[test]
fn what_is_written_is_read_in_order() {
    let mut ends = ends(256);
    assert_eq!(ends.read(), None);
    for round in 0..100_u8 {
        assert!(ends.write(&[round; 5], FIRST_KIND));
        assert!(ends.write(&[], FIRST_KIND + 1));
        assert_eq!(ends.read(), Some((vec![round; 5], FIRST_KIND)));
        assert_eq!(ends.read(), Some((Vec::new(), FIRST_KIND + 1)));
        assert_eq!(ends.read(), None);
    }
}

#[test]
fn the_largest_fits_wherever_the_ring_stands() {
    for capacity in [256, 384, 1024] {
        let largest = largest(capacity);
        for before in 0..capacity / 8 {
            let mut ends = ends(capacity);
            for _ in 0..before {
                assert!(ends.write(&[], FIRST_KIND));
                ends.read().unwrap();
            }
            assert!(ends.write(&vec![7; largest], FIRST_KIND));
            assert_eq!(ends.read(), Some((vec![7; largest], FIRST_KIND)));
        }
    }
}

#[test]
fn room_comes_at_the_position_that_was_wanted() {
    for least in [0, 8, 40, 56] {
        let mut ends = ends(256);
        for _ in 0..least {
            ends.write(&[1; 9], FIRST_KIND);
            ends.read();
        }
        while ends.write(&[1; 9], FIRST_KIND) {}
        while ends.writer.room(&ends.ring, least).is_none() {
            let wanted = ends.writer.wanted(&ends.ring, least);
            assert!(ends.reader.position() < wanted && wanted <= ends.writer.position());
            ends.read().unwrap();
        }
        // What is told is enough, and not more than is needed.
        assert!(ends.reader.position() >= ends.writer.wanted(&ends.ring, least));
    }
}

/// Who goes on for another finds the same.
#[test]
fn ends_go_on_elsewhere() {
    let mut ends = ends(256);
    for round in 0..200_u8 {
        ends.writer = WriteCursor::new(&ends.ring, ends.writer.position());
        assert!(ends.write(&[round; 30], FIRST_KIND));
        ends.reader = ReadCursor::new(&ends.ring);
        assert_eq!(ends.read(), Some((vec![round; 30], FIRST_KIND)));
    }
}

proptest! {
    #[test]
    fn any_mix_is_a_queue(capacity in 2_usize..9, steps in prop::collection::vec((any::<bool>(), 0_usize..200), 1..400)) {
        let mut ends = ends(capacity * 128);
        let largest = largest(capacity * 128);
        let mut model = VecDeque::new();
        for (number, (write, len)) in steps.into_iter().enumerate() {
            if write {
                let message = vec![number as u8; len.min(largest)];
                if ends.write(&message, FIRST_KIND) {
                    model.push_back((message, FIRST_KIND));
                } else {
                    prop_assert!(!model.is_empty(), "there must be room in an empty ring");
                }
            } else {
                prop_assert_eq!(ends.reader.may_peek(&ends.ring, None), !model.is_empty());
                prop_assert_eq!(ends.read(), model.pop_front());
            }
        }
    }
}

#[test]
fn two_threads() {
    const COUNT: u32 = 200_000;
    let Ends {
        ring,
        mut writer,
        mut reader,
        _object,
    } = ends(512);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                let len = 4 + (number % 23) as usize * 5;
                let mut room = loop {
                    match writer.room(&ring, len) {
                        Some(room) => break room,
                        None => std::thread::yield_now(),
                    }
                };
                let bytes = &mut ring.room_mut(&mut room)[..len];
                bytes.fill(number as u8);
                bytes[..4].copy_from_slice(&number.to_le_bytes());
                writer.commit(&ring, len, FIRST_KIND);
            }
        });
        for number in 0..COUNT {
            let record = loop {
                match reader.peek(&ring) {
                    Some(record) => break record,
                    None => std::thread::yield_now(),
                }
            };
            let bytes = ring.payload(&record);
            assert_eq!(bytes.len(), 4 + (number % 23) as usize * 5);
            assert_eq!(bytes[..4], number.to_le_bytes());
            assert!(bytes[4..].iter().all(|byte| *byte == number as u8));
            reader.release(&ring, record.len);
        }
        assert!(reader.peek(&ring).is_none());
    });
}

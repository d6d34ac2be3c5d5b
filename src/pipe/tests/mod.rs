//! Pipes within one process: on the heap, or in the family's arena where ends travel.

use super::stream::BLOCK_BYTES;
use super::*;
use crate::arena::Parcel;
use crate::error::{GetError, PutError};
use crate::os::clock::Deadline;
use crate::sync::EventCount;
use serde::Deserialize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

mod bytes;
mod mix;
mod moves;

const SOON: Duration = Duration::from_millis(20);

fn arena() -> Arena {
    Arena::heap(64, crate::KINDS).unwrap()
}

fn simplex<T>(capacity: usize) -> (PipeReceiver<T>, PipeSender<T>) {
    let capacity = ByteRing::capacity_for(capacity).unwrap();
    Pipe::simplex_in(&arena(), capacity).unwrap()
}

fn objects(arena: &Arena) -> usize {
    arena.stats().objects.values().sum()
}

#[test]
fn items_arrive_in_order() {
    let (mut receiver, mut sender) = simplex::<(u32, String)>(1000);
    for round in 0..500_u32 {
        let text = "x".repeat(round as usize % 100);
        sender.send((round, text.clone())).unwrap();
        sender.send((round, String::new())).unwrap();
        assert_eq!(receiver.recv().unwrap(), (round, text));
        assert_eq!(receiver.recv().unwrap(), (round, String::new()));
        assert!(matches!(receiver.try_recv(), Err(GetError::Empty)));
    }
}

#[test]
fn a_full_pipe_says_so_and_goes_on() {
    let (mut receiver, mut sender) = simplex::<u64>(256);
    let mut sent = 0;
    while sender.try_send(sent).is_ok() {
        sent += 1;
    }
    assert!(sent > 5);
    let full = sender.send_timeout(7, SOON);
    assert!(matches!(full, Err(PutError::Full(7))));
    for number in 0..sent {
        assert_eq!(receiver.recv().unwrap(), number);
    }
    assert!(matches!(receiver.recv_timeout(SOON), Err(GetError::Empty)));
    sender.try_send(8).unwrap();
    assert_eq!(receiver.recv().unwrap(), 8);
}

#[test]
fn both_sides_wait_for_each_other() {
    let (mut receiver, mut sender) = simplex::<u32>(256);
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..20_000 {
                if number % 5000 == 0 {
                    thread::sleep(SOON);
                }
                sender.send(number).unwrap();
            }
        });
        for number in 0..20_000 {
            if number % 7000 == 0 {
                thread::sleep(SOON);
            }
            assert_eq!(receiver.recv().unwrap(), number);
        }
        assert!(matches!(receiver.recv(), Err(GetError::Closed)));
    });
}

#[test]
fn the_end_comes_after_what_was_sent() {
    let (mut receiver, mut sender) = simplex::<u32>(1000);
    sender.send(1).unwrap();
    sender.close();
    assert!(receiver.is_closed());
    assert!(receiver.poll(Duration::ZERO));
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(receiver.poll(Duration::ZERO), "the end counts");
    for _ in 0..2 {
        assert!(matches!(receiver.recv(), Err(GetError::Closed)));
        assert!(matches!(receiver.try_recv_bytes(), Err(GetError::Closed)));
    }

    let (receiver, mut sender) = simplex::<u32>(1000);
    assert!(!sender.is_closed());
    receiver.close();
    assert!(sender.is_closed());
    for _ in 0..2 {
        assert!(matches!(sender.send(3), Err(PutError::Closed(3))));
        assert!(matches!(sender.send_bytes(b""), Err(PutError::Closed(()))));
        assert!(matches!(sender.claim(1), Err(PutError::Closed(()))));
    }
}

#[test]
fn who_waits_learns_of_the_end() {
    let (mut receiver, sender) = simplex::<u32>(256);
    thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.recv());
        thread::sleep(SOON);
        drop(sender);
        assert!(matches!(waiting.join().unwrap(), Err(GetError::Closed)));
    });
    let (receiver, mut sender) = simplex::<u32>(256);
    thread::scope(|scope| {
        let waiting = scope.spawn(move || (0..).find_map(|number| sender.send(number).err()));
        thread::sleep(SOON);
        drop(receiver);
        assert!(matches!(waiting.join().unwrap(), Some(PutError::Closed(_))));
    });
}

#[test]
fn a_message_that_is_no_item_is_consumed() {
    let (mut receiver, mut sender) = simplex::<u64>(1000);
    sender.send_bytes(&[0xff; 20]).unwrap();
    sender.try_send_bytes(&vec![0xff; 5000]).unwrap();
    sender.try_send_bytes(&[]).unwrap();
    sender.send(4).unwrap();
    drop(sender);
    let mut items = receiver.iter();
    for _ in 0..3 {
        assert!(matches!(items.next(), Some(Err(GetError::Decode(_)))));
    }
    assert_eq!(items.next().unwrap().unwrap(), 4);
    assert!(items.next().is_none());
}

/// Unwilling to be encoded or decoded, by an error or a panic.
#[derive(Debug, PartialEq)]
enum Odd {
    Number(u64),
    Error,
    Panic,
}

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Odd::Number(number) => serializer.serialize_u64(*number),
            Odd::Error => Err(serde::ser::Error::custom("odd")),
            Odd::Panic => panic!("odd"),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            7 => panic!("odd"),
            number => Ok(Odd::Number(number)),
        }
    }
}

#[test]
fn a_failure_of_one_item_is_its_own() {
    let (mut receiver, mut sender) = simplex::<Odd>(256);
    assert!(matches!(
        sender.send(Odd::Error),
        Err(PutError::Encode(Odd::Error, _))
    ));
    let panic = std::panic::AssertUnwindSafe(|| sender.send(Odd::Panic));
    assert!(std::panic::catch_unwind(panic).is_err());
    for number in [6, 7, 8] {
        sender.send(Odd::Number(number)).unwrap();
    }
    assert_eq!(receiver.recv().unwrap(), Odd::Number(6));
    let panic = std::panic::AssertUnwindSafe(|| receiver.recv());
    assert!(std::panic::catch_unwind(panic).is_err());
    assert_eq!(receiver.recv().unwrap(), Odd::Number(8));
    assert!(matches!(receiver.try_recv(), Err(GetError::Empty)));
}

#[test]
fn large_items_go_in_blocks_and_are_given_back() {
    let arena = arena();
    let (mut receiver, mut sender) = Pipe::simplex_in::<Vec<u64>>(&arena, 256).unwrap();
    let before = arena.stats().bytes_in_use;
    let item: Vec<u64> = (0..5000).collect();
    let mut sent = 0;
    while sender.try_send(item.clone()).is_ok() {
        sent += 1;
    }
    assert!(sent > 3 && arena.stats().bytes_in_use > before);
    for _ in 0..sent {
        assert_eq!(receiver.recv().unwrap(), item);
    }
    assert_eq!(arena.stats().bytes_in_use, before);
    // What nobody receives goes with the receiver.
    sender.send(item.clone()).unwrap();
    drop(receiver);
    assert_eq!(arena.stats().objects.get("pipe reader"), None);
    assert!(arena.stats().bytes_in_use < before + 1000);
    drop(sender);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

/// The receiver goes between the sender's look and the commit.
#[test]
fn a_block_for_nobody_is_freed() {
    let arena = arena();
    let (receiver, mut sender) = Pipe::simplex_in::<()>(&arena, 256).unwrap();
    let writer = &mut sender.writer;
    let room = writer.room_for_block(Deadline::NEVER).unwrap();
    drop(receiver);
    let before = arena.stats().bytes_in_use;
    let parcel = Parcel::for_bytes(&arena, 5000, 64).unwrap().into_index();
    assert!(arena.stats().bytes_in_use > before);
    writer.commit_block(room, BLOCK_BYTES, parcel);
    assert_eq!(arena.stats().bytes_in_use, before);
}

/// More of them than can be listed at once.
#[test]
fn places_of_blocks_are_used_again() {
    let arena = arena();
    let (mut receiver, mut sender) = Pipe::simplex_in::<()>(&arena, 256).unwrap();
    for number in 0..200_u8 {
        sender.try_send_bytes(&[number; 1000]).unwrap();
        assert_eq!(receiver.recv_bytes().unwrap(), [number; 1000]);
    }
}

/// Whether this wakes who sleeps on the event.
fn wakes(event: &EventCount, act: impl FnOnce()) -> bool {
    let (word, key) = event.announce();
    act();
    word.word().load(Relaxed) != key
}

#[test]
fn who_sleeps_is_woken() {
    let (mut receiver, mut sender) = simplex::<u64>(256);
    let view = |receiver: &PipeReceiver<u64>| receiver.reader.end.another_view();
    let here = view(&receiver);
    assert!(wakes(here.not_empty(), || sender.send(1).unwrap()));
    while sender.try_send(1).is_ok() {}
    // It needs the room of several: who reads the first leaves it asleep.
    let full = sender.send_bytes_timeout(&[1; 56], SOON);
    assert!(matches!(full, Err(PutError::Full(()))));
    let mut read = 0;
    while !wakes(here.not_full(), || assert_eq!(receiver.recv().unwrap(), 1)) {
        read += 1;
    }
    assert!(read > 0);
    sender.try_send_bytes(&[1; 56]).unwrap();
    assert!(wakes(here.not_empty(), || drop(sender)), "the end");
    let (receiver, _sender) = simplex::<u64>(256);
    let here = view(&receiver);
    assert!(wakes(here.not_full(), || drop(receiver)), "the end");
}

#[test]
fn without_memory_a_large_item_goes_piece_by_piece() {
    let arena = Arena::heap(2, crate::KINDS).unwrap();
    let (mut receiver, mut sender) = Pipe::simplex_in::<Vec<u8>>(&arena, 1024).unwrap();
    let item = vec![0x55; 1 << 20];
    thread::scope(|scope| {
        let sent = scope.spawn(|| sender.send(item.clone()).map_err(drop));
        assert_eq!(receiver.recv().unwrap(), item);
        sent.join().unwrap().unwrap();
    });
}

#[test]
fn nothing_is_left_behind() {
    let arena = arena();
    for _ in 0..100 {
        let (a, b) = Pipe::duplex_in::<u8, u8>(&arena, 256).unwrap();
        assert_eq!(objects(&arena), 6);
        drop((a, b));
    }
    assert_eq!((objects(&arena), arena.stats().bytes_in_use), (0, 0));
}

#[test]
fn capacities() {
    assert!(Pipe::simplex_with_capacity::<u8>(0).is_err());
    assert!(Pipe::duplex_with_capacity::<u8, u8>(usize::MAX).is_err());
    for capacity in [1, 255, 1000, 1 << 20] {
        let (mut receiver, mut sender) = Pipe::simplex_with_capacity::<u8>(capacity).unwrap();
        sender.send(1).unwrap();
        assert_eq!(receiver.recv().unwrap(), 1);
    }
}

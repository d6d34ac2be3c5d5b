//! Queues without a bound.

use super::*;
use crate::arena::{Local, Object};
use crate::codec::Serde;
use crate::os::clock::Deadline;
use crate::queue::bounded::type_hash;
use crate::queue::carry::sealed::Carry;
use crate::queue::channel::unbounded_channel_with;
use crate::queue::local::LocalQueue;
use crate::queue::tasks::Room;
use crate::{Bytes, JoinableQueue, OnDeath};
use std::sync::Arc;

fn unbounded<T: Serialize + DeserializeOwned>(slots: u64) -> (Arena, Queue<T>) {
    let arena = arena();
    let queue = Queue::unbounded_with(&arena, slots).unwrap();
    (arena, queue)
}

#[test]
fn it_grows_and_shrinks() {
    let (arena, queue) = unbounded::<u64>(3);
    let new = arena.stats().bytes_in_use;
    for round in 0..3 {
        for i in 0..1000 {
            assert_eq!(queue.len(), i);
            queue.try_put(i as u64).unwrap();
        }
        assert!(!queue.is_full() && !queue.is_empty());
        assert_eq!(queue.capacity(), None);
        assert!(arena.stats().bytes_in_use > 100 * new / 2);
        for i in 0..1000 {
            assert_eq!(queue.len(), 1000 - i);
            assert_eq!(queue.try_get().unwrap(), i as u64, "round {round}");
        }
        assert!(queue.is_empty());
        assert!(matches!(queue.try_get(), Err(GetError::Empty)));
        assert_eq!(arena.stats().bytes_in_use, new);
    }
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

/// Who wants few messages does not look at all that are there.
#[test]
fn a_count_ends_when_it_is_enough() {
    let (_arena, queue) = unbounded::<u64>(3);
    assert_eq!(queue.local.most(10), 0);
    for i in 0..100 {
        queue.put(i).unwrap();
    }
    assert!((10..20).contains(&queue.local.most(10)));
    assert_eq!(queue.local.most(1000), 100);
}

/// As long as it is not full, a segment is used lap after lap.
#[test]
fn a_queue_that_is_drained_all_the_time_does_not_grow() {
    let (arena, queue) = unbounded::<u64>(3);
    let new = arena.stats().bytes_in_use;
    for i in 0..1000 {
        queue.put(i).unwrap();
        assert_eq!(arena.stats().bytes_in_use, new);
        assert_eq!(queue.get().unwrap(), i);
    }
}

#[test]
fn a_million_numbers_fit_and_go() {
    let arena = Arena::heap(1024, crate::KINDS).unwrap();
    let queue = Queue::<u64>::unbounded_in(&arena).unwrap();
    let new = arena.stats().bytes_in_use;
    let sent = queue.put_many(0..1_000_000).unwrap();
    assert_eq!((sent, queue.len()), (1_000_000, 1_000_000));
    let full = arena.stats().bytes_in_use;
    assert!(full <= 64 << 20, "{full}");
    for i in 0..1_000_000 {
        assert_eq!(queue.get().unwrap(), i);
    }
    assert_eq!(arena.stats().bytes_in_use, new);
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn the_limit_is_an_error_and_the_queue_goes_on() {
    let arena = Arena::heap(8, crate::KINDS).unwrap();
    let queue = Queue::<u64>::unbounded_in(&arena).unwrap();
    let new = arena.stats().bytes_in_use;
    for round in 0..3 {
        let mut put = 0;
        let full = loop {
            match queue.put(put) {
                Ok(()) => put += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(full, PutError::NoMemory(item) if item == put),
            "{full:?}"
        );
        assert!(put > 5000, "{put} in round {round}");
        assert_eq!(queue.len() as u64, put);
        let error = queue.try_put_many(0..1000).unwrap_err();
        assert!(matches!(error.cause, PutError::NoMemory(())));
        assert_eq!((error.sent, error.rest.count()), (0, 1000));
        // What a consumer takes makes room, at the latest when it has passed a segment.
        for i in 0..put {
            assert_eq!(queue.get().unwrap(), i);
        }
        assert!(queue.is_empty());
        assert_eq!(arena.stats().bytes_in_use, new);
    }
}

/// Each process needs a word in the queue to say where it is; the object itself has room for so many.
#[test]
fn a_process_that_has_no_word_does_not_get_the_queue() {
    let arena = Arena::heap(8, crate::KINDS).unwrap();
    let queue = Queue::<u64>::unbounded_in(&arena).unwrap();
    let object = queue.local.chain_object();
    let others: Vec<_> = (1..28).map(|_| object.claim_entry(1).unwrap()).collect();
    while queue.try_put(7).is_ok() {}

    let (kind, hash) = (LocalQueue::kind(), type_hash::<u64, Serde>());
    let enter = || {
        LocalQueue::new(Object::attach(
            &arena,
            queue.local.object().block(),
            kind,
            hash,
        )?)
    };
    assert_eq!(enter().err(), Some(Error::NoMemory));
    object.entry(others[0]).clear();
    let (first, len) = (enter().unwrap(), queue.len());
    assert_eq!(first.len() as usize, len);
    assert_eq!(enter().err(), Some(Error::NoMemory));
    drop(first);
    // With memory there is room for any number.
    while queue.try_get().is_ok() {}
    let more: Vec<_> = (0..100).map(|_| enter().unwrap()).collect();
    queue.put(8).unwrap();
    assert!(more.iter().all(|local| local.len() == 1));
}

/// Who has taken the last message of a segment may yet be killed, and the message belongs before those in the next one.
#[test]
fn no_segment_is_left_before_all_of_it_is_acknowledged() {
    let (arena, queue) = unbounded::<u32>(2);
    (0..3).for_each(|i| queue.put(i).unwrap());
    let (kind, hash) = (LocalQueue::kind(), type_hash::<u32, Serde>());
    let object = Object::attach(&arena, queue.local.object().block(), kind, hash).unwrap();
    let other = Queue::<u32>::of(Arc::new(LocalQueue::new(object).unwrap()));
    assert_eq!(other.get().unwrap(), 0);
    let taken = queue.take(Deadline::NOW).unwrap();
    assert!(matches!(other.try_get(), Err(GetError::Empty)));
    assert_eq!(Serde::receive(&queue.local, taken).ok(), Some(1_u32));
    assert_eq!(other.try_get().unwrap(), 2);
}

#[test]
fn closing_in_every_state() {
    for before in 0..10 {
        for got in 0..=before {
            let (_arena, queue) = unbounded::<u64>(3);
            (0..before).for_each(|i| queue.put(i).unwrap());
            (0..got).for_each(|i| assert_eq!(queue.get().unwrap(), i));
            queue.close();
            queue.close();
            assert!(queue.is_closed());
            assert!(matches!(queue.put(7), Err(PutError::Closed(7))));
            assert!(matches!(queue.try_put_many(0..5), Err(error) if error.cause.is_closed()));
            let rest: Vec<_> = queue.iter().map(Result::unwrap).collect();
            assert_eq!(rest, (got..before).collect::<Vec<_>>());
            assert!(matches!(queue.try_get(), Err(GetError::Closed)));
            assert!(matches!(queue.get(), Err(GetError::Closed)));
        }
    }
}

/// Who closed it was killed after the first word.
#[test]
fn a_close_that_was_only_begun_is_completed() {
    for before in [0, 2, 3, 7] {
        let (_arena, queue) = unbounded::<u64>(3);
        (0..before).for_each(|i| queue.put(i).unwrap());
        queue.local.chain_object().chain().close();
        assert!(matches!(queue.put(7), Err(PutError::Closed(7))));
        let rest: Vec<_> = queue.iter().map(Result::unwrap).collect();
        assert_eq!(rest, (0..before).collect::<Vec<_>>());
        assert!(matches!(queue.put(7), Err(PutError::Closed(7))));
    }
}

#[test]
fn closing_wakes_who_waits() {
    super::closing_wakes(&unbounded::<u32>(1).1);
}

#[test]
fn undelivered_messages_go_with_the_last_handle() {
    let (arena, queue) = unbounded::<Vec<u8>>(2);
    for len in [10, 1000, 100_000, 20, 2000, 200_000] {
        queue.put(vec![1; len]).unwrap();
    }
    queue.get().unwrap();
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[derive(Serialize, Deserialize)]
struct Chain(Option<Queue<Chain>>);

#[test]
fn it_travels_through_itself_and_others() {
    let arena = arena();
    let outer = Queue::<Chain>::unbounded_with(&arena, 2).unwrap();
    for _ in 0..20 {
        let inner = Queue::<Chain>::unbounded_with(&arena, 2).unwrap();
        (0..5).for_each(|_| inner.put(Chain(None)).unwrap());
        outer.put(Chain(Some(inner))).unwrap();
    }
    for _ in 0..10 {
        let Chain(inner) = outer.get().unwrap();
        assert_eq!(inner.unwrap().len(), 5);
    }
    assert_eq!(arena.stats().objects["queue"], 11);
    outer.put(Chain(Some(outer.clone()))).unwrap();
    (0..10).for_each(|_| drop(outer.get().unwrap()));
    let Chain(again) = outer.get().unwrap();
    drop(outer);
    drop(again);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn bytes_and_loans_pass() {
    let arena = arena();
    let queue = Queue::<Bytes>::unbounded_with(&arena, 2).unwrap();
    for len in 0..300_usize {
        let bytes = vec![len as u8; len];
        if len % 2 == 0 {
            queue.put_bytes(&bytes).unwrap();
        } else {
            let mut loan = queue.loan(len).unwrap();
            loan.copy_from_slice(&bytes);
            loan.try_put().unwrap();
        }
    }
    for len in 0..300_usize {
        assert_eq!(*queue.get_ref().unwrap(), *vec![len as u8; len]);
    }
    queue.close();
    let refused = queue.loan(3).unwrap().put().unwrap_err();
    assert!(refused.is_closed());
    drop((queue, refused));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn threads_get_everything_once_and_in_order() {
    for slots in [1, 3, 64] {
        let arena = Arena::heap(4096, crate::KINDS).unwrap();
        let queue = Queue::<(usize, u64, Vec<u8>)>::unbounded_with(&arena, slots).unwrap();
        let each = if slots == 1 { 500 } else { 10_000 };
        std::thread::scope(|scope| {
            let consumers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut next = [0; 3];
                        let mut count = 0;
                        for item in queue.iter() {
                            let (producer, i, bytes) = item.unwrap();
                            assert!(i >= next[producer], "out of order");
                            assert_eq!(bytes, vec![i as u8; (i % 100) as usize]);
                            next[producer] = i + 1;
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            let producers: Vec<_> = (0..3)
                .map(|producer| {
                    let queue = &queue;
                    scope.spawn(move || {
                        for i in 0..each {
                            let bytes = vec![i as u8; (i % 100) as usize];
                            queue.put((producer, i, bytes)).unwrap();
                            if i % 1000 == 0 {
                                assert!(queue.len() as u64 <= 3 * each);
                            }
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.join().unwrap();
            }
            queue.close();
            let counts = consumers.into_iter().map(|c| c.join().unwrap());
            assert_eq!(counts.sum::<u64>(), 3 * each);
        });
        drop(queue);
        assert_eq!(arena.stats().bytes_in_use, 0);
    }
}

#[test]
fn the_end_of_a_channel_s_receivers_frees_what_was_sent() {
    let arena = arena();
    let (sender, receiver) = unbounded_channel_with::<Vec<u8>>(&arena, 2).unwrap();
    sender.send(vec![1]).unwrap();
    receiver.recv().unwrap();
    let new = arena.stats().bytes_in_use;
    for i in 0..50 {
        sender.try_send(vec![i; 300]).unwrap();
    }
    assert!(!sender.is_full() && sender.len() == 50 && sender.capacity().is_none());
    drop(receiver);
    assert!(sender.is_closed() && sender.is_empty());
    // The receivers' role is gone; the segment that the sender is in stays, and the last one.
    assert!(arena.stats().bytes_in_use <= new);
    assert!(sender.send(vec![7]).unwrap_err().is_closed());
    drop(sender);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_channel_s_receivers_end_after_draining() {
    let arena = arena();
    let (sender, receiver) = unbounded_channel_with::<u32>(&arena, 3).unwrap();
    (0..100).for_each(|i| sender.send(i).unwrap());
    drop(sender);
    let all: Vec<_> = receiver.iter().map(Result::unwrap).collect();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    assert!(matches!(receiver.try_recv(), Err(GetError::Closed)));
    drop(receiver);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn tasks_without_a_bound_are_finished_one_by_one() {
    let arena = arena();
    let room = Room::Segments(3);
    let again = OnDeath::Redeliver { max: 2 };
    let queue = JoinableQueue::<String>::with_room(&arena, room, again).unwrap();
    for i in 0..500 {
        queue.try_put(i.to_string()).unwrap();
    }
    assert_eq!((queue.len(), queue.capacity()), (500, None));
    assert!(!queue.is_full() && !queue.is_empty());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Ok(task) = queue.get_task() {
                    assert!(task.parse::<u32>().unwrap() < 500);
                }
            });
        }
        queue.join().unwrap();
        assert!(queue.is_empty());
        queue.close();
    });
    assert_eq!(queue.join(), Ok(()));
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

/// While one sleeps in `get`, nobody who puts, closes or looks is held up by the locks that they share.
#[test]
fn a_sleeper_holds_nobody_up() {
    let (_arena, queue) = unbounded::<u32>(2);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| queue.iter().count());
        std::thread::sleep(Duration::from_millis(150));
        for i in 0..10 {
            queue.put(i).unwrap();
            queue.len();
        }
        queue.close();
        assert_eq!(sleeper.join().unwrap(), 10);
    });
}

/// Small, so that a test of 28 entries and more is quick.
#[test]
fn any_number_of_processes_can_be_in_it() {
    let (arena, queue) = unbounded::<u32>(2);
    let before = arena.stats().bytes_in_use;
    let object = queue.local.chain_object();
    let places: Vec<_> = (1..=100)
        .map(|name| object.claim_entry(name << 32).unwrap())
        .collect();
    for (i, &place) in places.iter().enumerate() {
        queue.put(i as u32).unwrap();
        let entry = object.entry(place);
        assert!(i == 0 || entry.put() as *const _ != object.entry(places[i - 1]).put());
        object.chain().enter_last(entry.put());
    }
    (0..100).for_each(|i| assert_eq!(queue.get().unwrap(), i));
    let pinned = arena.stats().bytes_in_use;
    places.iter().for_each(|&place| object.entry(place).clear());
    let after = arena.stats().bytes_in_use;
    assert!(pinned > after && after > before, "the pages stay");
    (0..100).for_each(|i| queue.put(i).unwrap());
    (0..100).for_each(|i| assert_eq!(queue.get().unwrap(), i));
    assert_eq!(arena.stats().bytes_in_use, after);
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

use super::*;
use crate::Pod;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn batches_keep_their_order_through_any_ring() {
    for capacity in [1, 3, 64, 200] {
        let (_arena, queue) = queue::<u64>(capacity);
        let pods = Queue::<u64, Pod>::bounded_in(&arena(), capacity).unwrap();
        let (mut next, mut due) = (0, 0);
        for round in 0..50 {
            let count = (round * 37 % capacity as u64) + 1;
            let batch = next..next + count;
            assert_eq!(queue.put_many(batch.clone()).unwrap() as u64, count);
            assert_eq!(pods.put_many(batch.clone()).unwrap() as u64, count);
            assert_eq!(
                pods.get_many(usize::MAX).unwrap(),
                batch.collect::<Vec<_>>()
            );
            next += count;
            while due < next {
                let got = queue.get_many(7).unwrap();
                let end = (due + 7).min(next);
                assert_eq!(got, (due..end).collect::<Vec<_>>());
                due = end;
            }
        }
    }
}

#[test]
fn a_partial_batch_says_how_much_went_in() {
    let (arena, queue) = queue::<Vec<u8>>(3);
    let items = || (0..100_u8).map(|i| vec![i; if i % 2 == 0 { 3 } else { 300 }]);
    let error = queue.try_put_many(items()).unwrap_err();
    assert!(error.cause.is_full(), "{error:?}");
    assert_eq!(error.to_string(), "the queue is full after 3 items");
    assert_eq!((error.sent, error.rest.size_hint()), (3, (97, Some(97))));
    let rest = error.rest;
    let moment = Duration::from_millis(1);
    let error = queue.put_many_timeout(rest, moment).unwrap_err();
    assert_eq!(error.sent, 0);
    assert!(error.rest.eq(items().skip(3)), "none is lost");

    assert!(queue.get_many(5).unwrap().into_iter().eq(items().take(3)));
    let error = queue.try_get_many(5).unwrap_err();
    assert!(matches!(error.cause, GetError::Empty));
    let error = queue.get_many_timeout(5, moment).unwrap_err();
    assert!(matches!(GetError::from(error), GetError::Empty));

    queue.put_many(items().take(2)).unwrap();
    queue.close();
    let error = queue.put_many(items()).unwrap_err();
    assert!(error.cause.is_closed() && error.sent == 0);
    assert_eq!(error.rest.count(), 100);
    assert_eq!(queue.get_many(1).unwrap().len(), 1);
    assert_eq!(queue.get_many(9).unwrap().len(), 1);
    let error = queue.get_many(9).unwrap_err();
    assert!(matches!(error.cause, GetError::Closed));
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn nothing_and_without_end() {
    let (_arena, queue) = queue::<u8>(2);
    assert_eq!(queue.put_many(iter::empty()).unwrap(), 0);
    assert_eq!(queue.get_many(0).unwrap(), []);
    let error = queue.try_put_many(iter::repeat(7)).unwrap_err();
    assert_eq!((error.sent, error.rest.take(100).count()), (2, 100));
    assert_eq!(queue.get_many(usize::MAX).unwrap(), [7, 7]);
}

#[test]
fn what_does_not_encode_stops_the_batch_there() {
    struct Picky(u32);
    impl Serialize for Picky {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                13 => Err(serde::ser::Error::custom("thirteen")),
                66 => panic!("sixty-six"),
                value => (value, vec![0_u8; 200]).serialize(serializer),
            }
        }
    }
    impl<'de> Deserialize<'de> for Picky {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            <(u32, Vec<u8>)>::deserialize(deserializer).map(|(value, _)| Picky(value))
        }
    }
    let (arena, queue) = queue::<Picky>(100);
    let before = arena.stats().bytes_in_use;
    let error = queue.put_many((10..20).map(Picky)).unwrap_err();
    assert!(matches!(error.cause, PutError::Encode((), _)), "{error:?}");
    assert_eq!(error.sent, 3);
    assert!(error.rest.map(|item| item.0).eq(13..20));
    let got = queue.get_many(100).unwrap();
    assert!(got.iter().map(|item| item.0).eq(10..13));

    let panics = AssertUnwindSafe(|| queue.put_many((60..70).map(Picky)).is_ok());
    assert!(catch_unwind(panics).is_err());
    assert_eq!(
        arena.stats().bytes_in_use,
        before,
        "staged blocks are freed"
    );
    assert!(queue.is_empty());
    queue.put(Picky(1)).unwrap();
}

#[test]
fn what_does_not_decode_loses_no_other() {
    let (arena, queue) = queue::<Even>(10);
    queue.put_many([2, 3, 4, 5, 6].map(Even)).unwrap();
    let error = queue.get_many(10).unwrap_err();
    assert!(matches!(error.cause, GetError::Decode(_)), "{error:?}");
    assert_eq!(error.got, [2, 4, 6].map(Even));
    assert_eq!(error.failed, 2);

    queue.put_many([2, 7, 4].map(Even)).unwrap();
    let panics = AssertUnwindSafe(|| queue.get_many(10).is_ok());
    assert!(catch_unwind(panics).is_err());
    queue.put(Even(8)).unwrap();
    assert_eq!(queue.get_many(10).unwrap(), [Even(8)]);
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn shortage_in_a_batch_loses_nothing() {
    let (_arena, queue) = queue::<Vec<u8>>(100);
    let items = || iter::repeat_n(vec![1; 1_000_000], 30);
    let error = queue.put_many(items()).unwrap_err();
    assert!(matches!(error.cause, PutError::NoMemory(())), "{error:?}");
    assert_eq!(error.sent + error.rest.count(), 30);
    assert_eq!(queue.get_many(100).unwrap().len(), error.sent);
    assert_eq!(queue.put_many(items().take(5)).unwrap(), 5);
}

#[test]
fn batches_and_single_ones_share_a_queue_between_threads() {
    for capacity in [1, 5, 300] {
        let (_arena, queue) = queue::<(usize, u64)>(capacity);
        let each = 20_000;
        std::thread::scope(|scope| {
            let producers: Vec<_> = (0..3)
                .map(|producer| {
                    let queue = queue.clone();
                    scope.spawn(move || {
                        let mut items = (0..each).map(|i| (producer, i));
                        for length in (1..=130).cycle() {
                            let some = items.by_ref().take(length);
                            let sent = match producer {
                                0 => some.map(|item| queue.put(item).unwrap()).count(),
                                _ => queue.put_many(some).unwrap(),
                            };
                            if sent < length {
                                return;
                            }
                        }
                    })
                })
                .collect();
            let consumers: Vec<_> = (0..3)
                .map(|consumer| {
                    let queue = queue.clone();
                    scope.spawn(move || {
                        let (mut next, mut count) = ([0; 3], 0);
                        loop {
                            let items = match consumer {
                                0 => queue.get().map(|item| vec![item]),
                                _ => queue.get_many(40 * consumer).map_err(GetError::from),
                            };
                            match items {
                                Ok(items) => {
                                    for (producer, i) in items {
                                        assert!(i >= next[producer], "out of order");
                                        next[producer] = i + 1;
                                        count += 1;
                                    }
                                }
                                Err(GetError::Closed) => return count,
                                Err(error) => panic!("{error}"),
                            }
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.join().unwrap();
            }
            queue.close();
            let total: u64 = consumers.into_iter().map(|c| c.join().unwrap()).sum();
            assert_eq!(total, 3 * each);
        });
    }
}

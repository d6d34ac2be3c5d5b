#![forbid(unsafe_code)]

mod channel;
mod channel_bytes;
mod joinable;

use crate::arena::Arena;
use crate::{Error, GetError, PutError, Queue};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

mod bytes;
mod many;
mod mix;
mod pod;
mod unbounded;

fn arena() -> Arena {
    Arena::heap(256, crate::KINDS).unwrap()
}

fn queue<T: Serialize + DeserializeOwned>(capacity: usize) -> (Arena, Queue<T>) {
    let arena = arena();
    let queue = Queue::bounded_in(&arena, capacity).unwrap();
    (arena, queue)
}

#[test]
fn senseless_capacities_are_errors() {
    let arena = arena();
    for (capacity, error) in [
        (0, Error::InvalidCapacity),
        (usize::MAX, Error::InvalidCapacity),
        (1 << 32, Error::NoMemory),
        (1 << 24, Error::NoMemory),
    ] {
        let refused = Queue::<u8>::bounded_in(&arena, capacity).unwrap_err();
        assert_eq!(Error::from_io(&refused), Some(error));
    }
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn messages_of_all_sizes_pass() {
    let (arena, queue) = queue::<Vec<u8>>(3);
    for len in [
        0, 1, 50, 51, 52, 53, 54, 55, 56, 57, 119, 120, 121, 4000, 70_000, 3_000_000,
    ] {
        queue.put(vec![len as u8; len]).unwrap();
        assert_eq!(queue.get().unwrap(), vec![len as u8; len]);
    }
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn exactly_as_many_as_its_capacity() {
    let (_arena, queue) = queue::<u32>(3);
    for i in 0..3 {
        assert!(!queue.is_full());
        queue.try_put(i).unwrap();
        assert_eq!(queue.len(), i as usize + 1);
    }
    assert!(queue.is_full());
    assert!(queue.try_put(3).unwrap_err().is_full());
    assert!(
        queue
            .put_timeout(3, Duration::from_millis(1))
            .unwrap_err()
            .is_full()
    );
    assert_eq!(
        (0..3).map(|_| queue.try_get().unwrap()).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    assert!(matches!(
        queue.get_timeout(Duration::from_millis(1)),
        Err(GetError::Empty)
    ));
    assert!(queue.is_empty());
}

#[test]
fn closing_ends_producers_at_once_and_consumers_when_drained() {
    let (_arena, queue) = queue::<u32>(3);
    queue.put(1).unwrap();
    queue.close();
    queue.close();
    assert!(queue.is_closed());
    assert!(matches!(queue.put(2), Err(PutError::Closed(2))));
    assert!(matches!(queue.try_put(2), Err(PutError::Closed(2))));
    assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<_>>(), [1]);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(matches!(queue.try_get(), Err(GetError::Closed)));
}

#[test]
fn closing_wakes_who_waits() {
    closing_wakes(&queue::<u32>(1).1);
}

fn closing_wakes(queue: &Queue<u32>) {
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| queue.get());
        std::thread::sleep(Duration::from_millis(20));
        queue.close();
        assert!(matches!(consumer.join().unwrap(), Err(GetError::Closed)));
    });
}

#[test]
fn undelivered_messages_go_with_the_last_handle() {
    let (arena, queue) = queue::<Vec<u8>>(8);
    let before = arena.stats().bytes_in_use;
    for len in [10, 1000, 100_000] {
        queue.put(vec![1; len]).unwrap();
    }
    assert!(arena.stats().bytes_in_use > before + 101_000);
    let clone = queue.clone();
    drop(queue);
    assert!(arena.stats().bytes_in_use > before);
    drop(clone);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_queue_travels_in_a_message() {
    let (arena, outer) = queue::<(u8, Queue<String>)>(2);
    let inner = Queue::<String>::bounded_in(&arena, 1).unwrap();
    inner.put("hello".into()).unwrap();
    outer.put((7, inner.clone())).unwrap();
    drop(inner);
    assert_eq!(arena.stats().objects["queue"], 2, "the message holds it");
    let (seven, inner) = outer.get().unwrap();
    assert_eq!((seven, inner.get().unwrap()), (7, "hello".to_string()));
    outer.put((8, inner)).unwrap();
    drop(outer);
    assert_eq!(
        arena.stats().bytes_in_use,
        0,
        "with the message went what it held"
    );
}

#[derive(Serialize, Deserialize)]
struct Chain(Option<Queue<Chain>>);

#[test]
fn a_long_chain_of_queues_is_dropped_without_recursion() {
    let arena = Arena::heap(2000, crate::KINDS).unwrap();
    let mut first = Queue::<Chain>::bounded_in(&arena, 1).unwrap();
    for _ in 0..50_000 {
        let next = Queue::<Chain>::bounded_in(&arena, 1).unwrap();
        next.put(Chain(Some(first))).unwrap();
        first = next;
    }
    drop(first);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_queue_in_itself_lives_on() {
    let (arena, queue) = queue::<Chain>(2);
    queue.put(Chain(Some(queue.clone()))).unwrap();
    let Chain(again) = queue.get().unwrap();
    queue.put(Chain(again)).unwrap();
    drop(queue);
    assert_eq!(arena.stats().objects["queue"], 1);
}

#[test]
fn thousands_of_messages_can_hold_one_queue() {
    let (arena, outer) = queue::<Queue<u8>>(3000);
    let inner = Queue::<u8>::bounded_in(&arena, 1).unwrap();
    for _ in 0..3000 {
        outer.put(inner.clone()).unwrap();
    }
    for _ in 0..3000 {
        outer.get().unwrap().put(1).unwrap();
        inner.get().unwrap();
    }
    drop((outer, inner));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_handle_of_another_type_is_refused_and_the_queue_goes_on() {
    #[derive(Serialize, Deserialize)]
    enum Either {
        Number(Queue<u64>),
        Text(Queue<String>),
    }
    // The same bytes and handle, decoded as another type.
    let (arena, numbers) = queue::<u64>(1);
    let value = Either::Number(numbers.clone());
    let inline = crate::codec::encode(&value, &mut [0; 100]);
    assert!(matches!(inline, Ok(None)), "a handle needs a block");
    let parcel = crate::codec::encode_parcel(&arena, &value, None).unwrap();
    drop(value);
    #[derive(Deserialize, Debug)]
    enum Wrong {
        #[allow(dead_code)]
        Number(Queue<String>),
    }
    let error = crate::codec::decode_parcel::<Wrong>(&arena, &parcel, Vec::new()).unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");
    drop(parcel);
    let _ = Either::Text;
    numbers.put(1).unwrap();
}

#[test]
fn a_handle_outside_a_message_is_an_error() {
    let (_arena, queue) = queue::<u64>(1);
    let error = postcard::to_allocvec(&queue);
    assert!(error.is_err());
    assert!(postcard::from_bytes::<Queue<u64>>(&[0]).is_err());
}

/// Encodes as a number, decodes only from even ones.
#[derive(Debug, PartialEq)]
struct Even(u64);

impl Serialize for Even {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            7 => panic!("seven"),
            odd if odd % 2 == 1 => Err(serde::de::Error::custom("odd")),
            even => Ok(Even(even)),
        }
    }
}

#[test]
fn a_message_that_does_not_decode_is_one_error() {
    let (_arena, queue) = queue::<Even>(4);
    for number in [2, 3, 7, 4] {
        queue.put(Even(number)).unwrap();
    }
    assert_eq!(queue.get().unwrap(), Even(2));
    assert!(matches!(queue.get(), Err(GetError::Decode(_))));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.get()));
    assert!(caught.is_err());
    assert_eq!(queue.get().unwrap(), Even(4));
    assert!(queue.is_empty());
}

#[test]
fn an_encoder_may_use_the_same_queue() {
    thread_local!(static QUEUE: std::cell::RefCell<Option<Queue<Nested>>> = const { std::cell::RefCell::new(None) });
    struct Nested(u8);
    impl Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 1 {
                let queue = QUEUE.with_borrow(|q| q.clone().unwrap());
                queue.put(Nested(2)).unwrap();
            }
            serializer.serialize_u8(self.0)
        }
    }
    impl<'de> Deserialize<'de> for Nested {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u8::deserialize(deserializer).map(Nested)
        }
    }
    let (_arena, queue) = queue::<Nested>(4);
    QUEUE.set(Some(queue.clone()));
    queue.put(Nested(1)).unwrap();
    QUEUE.set(None);
    assert_eq!(queue.get().unwrap().0, 2);
    assert_eq!(queue.get().unwrap().0, 1);
}

#[test]
fn the_limit_is_an_error_and_goes_away() {
    let (_arena, queue) = queue::<Vec<u8>>(100);
    let mut put = 0;
    let full = loop {
        match queue.put(vec![put as u8; 1_000_000]) {
            Ok(()) => put += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(full, PutError::NoMemory(ref item) if item.len() == 1_000_000),
        "{full:?}"
    );
    assert_eq!(put, 15);
    for i in 0..put {
        assert_eq!(queue.get().unwrap(), vec![i as u8; 1_000_000]);
        queue.put(vec![1; 900_000]).unwrap();
    }
}

#[test]
fn many_threads_get_everything_once_and_in_order() {
    for capacity in [1, 3, 64] {
        let (_arena, queue) = queue::<(usize, u64, Vec<u8>)>(capacity);
        let each = if capacity == 1 { 2000 } else { 10_000 };
        let total = each * (each + 1) / 2;
        std::thread::scope(|scope| {
            let consumers: Vec<_> = (0..3)
                .map(|_| {
                    let queue = queue.clone();
                    scope.spawn(move || {
                        let mut next = [0; 3];
                        let mut sum = [0_u64; 3];
                        for item in queue.iter() {
                            let (producer, i, bytes) = item.unwrap();
                            assert!(i >= next[producer], "out of order");
                            assert_eq!(bytes, vec![i as u8; (i % 100) as usize]);
                            next[producer] = i + 1;
                            sum[producer] += i + 1;
                        }
                        sum
                    })
                })
                .collect();
            let producers: Vec<_> = (0..3)
                .map(|producer| {
                    let queue = queue.clone();
                    scope.spawn(move || {
                        for i in 0..each {
                            queue
                                .put((producer, i, vec![i as u8; (i % 100) as usize]))
                                .unwrap();
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.join().unwrap();
            }
            queue.close();
            let mut sums = [0_u64; 3];
            for consumer in consumers {
                for (sum, part) in sums.iter_mut().zip(consumer.join().unwrap()) {
                    *sum += part;
                }
            }
            assert_eq!(sums, [total; 3]);
        });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u16),
    Get,
    PutBig(u16),
    Clone,
    Drop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u16>().prop_map(Step::Put),
        4 => Just(Step::Get),
        1 => (0..3000_u16).prop_map(Step::PutBig),
        1 => Just(Step::Clone),
        1 => Just(Step::Drop),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_like_a_bounded_deque(capacity in 1_usize..20, steps in steps()) {
        let (arena, queue) = queue::<Vec<u16>>(capacity);
        let mut handles = vec![queue];
        let mut model = VecDeque::new();
        for step in steps {
            let queue = &handles[handles.len() - 1];
            match step {
                Step::Put(_) | Step::PutBig(_) => {
                    let item = match step {
                        Step::Put(value) => vec![value],
                        Step::PutBig(len) => vec![len; len.into()],
                        _ => unreachable!(),
                    };
                    let put = queue.try_put(item.clone());
                    prop_assert_eq!(put.is_ok(), model.len() < capacity);
                    if put.is_ok() {
                        model.push_back(item);
                    }
                }
                Step::Get => prop_assert_eq!(queue.try_get().ok(), model.pop_front()),
                Step::Clone => handles.push(queue.clone()),
                Step::Drop if handles.len() > 1 => drop(handles.remove(0)),
                Step::Drop => {}
            }
            prop_assert_eq!(handles[0].len(), model.len());
            prop_assert_eq!(handles[0].is_full(), model.len() == capacity);
        }
        drop(handles);
        prop_assert_eq!(arena.stats().bytes_in_use, 0);
    }
}

//! Python's `Queue` row by row; where this one differs, the comment says how.

use std::cell::Cell;

use super::*;

/// Row `Queue(maxsize)`: zero or less means as large as can be there. Here a capacity is always said, 0 is an error, and
/// there is neither a pipe nor a semaphore nor a thread: a thousand queues cost no descriptor.
#[test]
fn capacities() {
    let _watch = watch();
    for (capacity, wrong) in [
        (0, Error::InvalidCapacity),
        (usize::MAX, Error::InvalidCapacity),
        ((1 << 32) + 1, Error::InvalidCapacity),
        (1 << 32, Error::NoMemory),
    ] {
        let error = Queue::<[u64; 16]>::bounded(capacity).unwrap_err();
        assert_eq!(Error::from_io(&error), Some(wrong), "{capacity}");
    }
    fn cost(_: ()) -> (usize, usize) {
        let count = |of| {
            std::fs::read_dir(format!("/proc/self/{of}"))
                .unwrap()
                .count()
        };
        let first = queue::<u8>(1);
        let before = (count("fd"), count("task"));
        let queues: Vec<_> = (0..1000).map(|_| queue::<u8>(1)).collect();
        queues.iter().for_each(|queue| queue.put(1).unwrap());
        drop(first);
        (count("fd") - before.0, count("task") - before.1)
    }
    assert_eq!(start(cost, ()).join().unwrap(), (0, 0));
    // As many items as it was made for, and not one more, whoever puts them.
    let three = queue::<u64>(3);
    start(
        |queue: Queue<u64>| (0..3).for_each(|i| queue.put(i).unwrap()),
        three.clone(),
    )
    .join()
    .unwrap();
    assert_eq!((three.len(), three.capacity()), (3, Some(3)));
    assert!(three.try_put(3).unwrap_err().is_full());
}

/// Row `put`, `Full`: at once, after the time, and not before room is made.
#[test]
fn put_waits_for_room() {
    let _watch = watch();
    let queue = queue::<u64>(1);
    queue.put(1).unwrap();
    assert!(matches!(queue.try_put(2), Err(PutError::Full(2))));
    assert!(matches!(
        queue.put_timeout(2, Duration::ZERO),
        Err(PutError::Full(2))
    ));
    assert!(matches!(queue.put_timeout(2, SOON), Err(PutError::Full(2))));
    for timed in [false, true] {
        let put: fn(Queue<u64>) = match timed {
            false => |queue| queue.put(2).unwrap(),
            true => |queue| queue.put_timeout(2, Duration::MAX).unwrap(),
        };
        let process = start(put, queue.clone());
        thread::sleep(SOON);
        assert!(process.is_alive());
        assert_eq!(queue.get().unwrap(), 1);
        process.join().unwrap();
        assert_eq!(queue.get().unwrap(), 2);
        queue.put(1).unwrap();
    }
}

/// Row `put`, closed: the item comes back, in every process, also to one that waits.
#[test]
fn put_into_a_closed_queue() {
    let _watch = watch();
    let queue = queue::<u64>(1);
    queue.put(1).unwrap();
    let work = |queue: Queue<u64>| {
        let waited = queue.put(2);
        let later = queue.try_put(3);
        matches!(waited, Err(PutError::Closed(2))) && matches!(later, Err(PutError::Closed(3)))
    };
    let process = start(work, queue.clone());
    thread::sleep(SOON);
    queue.close();
    assert!(process.join().unwrap());
    assert_eq!(queue.get().unwrap(), 1, "what was put before is there");
}

/// Row `put`, serialisation: later and elsewhere there, so that the error is printed and the item lost; here within the
/// call, which gives the item back.
#[test]
fn put_serialises_at_once() {
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(1) });
    #[derive(Debug, PartialEq)]
    struct Numbered(u64);
    impl Serialize for Numbered {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match NUMBER.get() {
                0 => Err(serde::ser::Error::custom("no number")),
                number => serializer.serialize_u64(number),
            }
        }
    }
    impl<'de> Deserialize<'de> for Numbered {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u64::deserialize(deserializer).map(Numbered)
        }
    }
    let _watch = watch();
    let queue = queue::<Numbered>(2);
    queue.put(Numbered(7)).unwrap();
    NUMBER.set(0);
    assert!(matches!(
        queue.put(Numbered(7)),
        Err(PutError::Encode(Numbered(7), _))
    ));
    NUMBER.set(2);
    queue.put(Numbered(7)).unwrap();
    assert_eq!(queue.get().unwrap(), Numbered(1));
    assert_eq!(queue.get().unwrap(), Numbered(2));
}

/// Row `get`: `Empty` at once and after the time, else the item as soon as it is there.
#[test]
fn get_waits_for_an_item() {
    let _watch = watch();
    let queue = queue::<String>(1);
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    assert!(matches!(
        queue.get_timeout(Duration::ZERO),
        Err(GetError::Empty)
    ));
    assert!(matches!(queue.get_timeout(SOON), Err(GetError::Empty)));
    for timed in [false, true] {
        let get: fn(Queue<String>) -> String = match timed {
            false => |queue| queue.get().unwrap(),
            true => |queue| queue.get_timeout(Duration::MAX).unwrap(),
        };
        let process = start(get, queue.clone());
        thread::sleep(SOON);
        assert!(process.is_alive());
        queue.put("there".into()).unwrap();
        assert_eq!(process.join().unwrap(), "there");
    }
}

/// Rows `get`, closed, and `close`: there for the closing process alone and without a word to others; here for all, who
/// first get what is left. Idempotent.
#[test]
fn close_is_for_all() {
    let _watch = watch();
    let queue = queue::<u64>(4);
    let work = |queue: Queue<u64>| {
        let sum: u64 = queue.iter().map(Result::unwrap).sum();
        let closed = matches!(queue.get(), Err(GetError::Closed))
            && matches!(queue.try_get(), Err(GetError::Closed))
            && matches!(queue.get_timeout(SOON), Err(GetError::Closed));
        (sum, closed && queue.is_closed())
    };
    let consumers = [(); 3].map(|()| start(work, queue.clone()));
    for number in 1..=10 {
        queue.put(number).unwrap();
    }
    queue.close();
    queue.close();
    let (mut all, mut closed) = (0, true);
    for consumer in consumers {
        let (sum, saw) = consumer.join().unwrap();
        all += sum;
        closed &= saw;
    }
    assert_eq!((all, closed), (55, true));
    // A child may close, too.
    let other = super::queue::<u64>(1);
    start(|queue: Queue<u64>| queue.close(), other.clone())
        .join()
        .unwrap();
    assert!(other.is_closed());
}

/// Rows `qsize`, `empty`, `full`: from one and the same count, the same for everybody.
#[test]
fn sizes_agree() {
    let _watch = watch();
    let (queue, seen) = (queue::<u64>(2), queue::<(usize, bool, bool)>(1));
    fn look((queue, seen): (Queue<u64>, Queue<(usize, bool, bool)>)) {
        let look = || (queue.len(), queue.is_empty(), queue.is_full());
        for step in 0..5 {
            seen.put(look()).unwrap();
            // The other side has got the answer, and then acts.
            while seen.len() == 1 {
                thread::yield_now();
            }
            match step {
                0 | 1 => queue.put(step).unwrap(),
                2 | 3 => drop(queue.get().unwrap()),
                _ => {}
            }
        }
    }
    let process = start(look, (queue.clone(), seen.clone()));
    let steps = [
        (0, true, false),
        (1, false, false),
        (2, false, true),
        (1, false, false),
        (0, true, false),
    ];
    for step in steps {
        assert_eq!(seen.get().unwrap(), step);
    }
    process.join().unwrap();
    assert_eq!((queue.len(), queue.is_empty(), queue.is_full()), steps[0]);
}

/// Row "ordering": first in, first out for each producer, with several on both sides.
#[test]
fn each_producer_s_items_keep_their_order() {
    const EACH: u64 = 2000;
    let _watch = watch();
    let queue = queue::<(u64, u64)>(5);
    fn produce((queue, me): (Queue<(u64, u64)>, u64)) {
        (0..EACH).for_each(|number| queue.put((me, number)).unwrap());
    }
    fn consume(queue: Queue<(u64, u64)>) -> Vec<(u64, u64)> {
        queue.iter().map(Result::unwrap).collect()
    }
    let consumers = [(); 3].map(|()| start(consume, queue.clone()));
    let producers = [0, 1, 2].map(|me| start(produce, (queue.clone(), me)));
    for producer in producers {
        producer.join().unwrap();
    }
    queue.close();
    let mut all = Vec::new();
    for consumer in consumers {
        let got = consumer.join().unwrap();
        for me in 0..3 {
            let mine = got.iter().filter(|(producer, _)| *producer == me);
            assert!(mine.is_sorted(), "of {me}");
        }
        all.extend(got);
    }
    all.sort();
    let sent: Vec<_> = (0..3)
        .flat_map(|me| (0..EACH).map(move |n| (me, n)))
        .collect();
    assert_eq!(all, sent);
}

/// Row "all consumers/producers die": no end of file here either, as anybody may be given a handle at any time. Whoever
/// waits goes on waiting, within its time, and is served when somebody new comes.
#[test]
fn after_the_death_of_all_others_newcomers_serve() {
    let _watch = watch();
    let queue = queue::<u64>(1);
    let producer = start(
        |queue: Queue<u64>| while queue.put(1).is_ok() {},
        queue.clone(),
    );
    queue.get().unwrap();
    kill(producer);
    while queue.try_get().is_ok() {}
    assert!(matches!(queue.get_timeout(SOON), Err(GetError::Empty)));
    let later = start(|queue: Queue<u64>| queue.put(2).unwrap(), queue.clone());
    assert_eq!(queue.get().unwrap(), 2);
    later.join().unwrap();

    let consumer = start(
        |queue: Queue<u64>| while queue.get().is_ok() {},
        queue.clone(),
    );
    while !queue.is_empty() || queue.try_put(3).is_err() {}
    kill(consumer);
    while queue.try_put(4).is_ok() {}
    assert!(queue.put_timeout(5, SOON).unwrap_err().is_full());
    let later = start(|queue: Queue<u64>| queue.get().is_ok(), queue.clone());
    queue.put(6).unwrap();
    assert!(later.join().unwrap());
}

/// Row "SIGKILL of a process inside get()/put()", while it sleeps there: nobody else is touched. (The kill sweeps do this
/// at every instruction.)
#[test]
fn killed_while_it_waits() {
    let _watch = watch();
    let queue = queue::<u64>(1);
    for round in 0..10 {
        let ready = super::queue::<()>(1);
        let get = |(queue, ready): (Queue<u64>, Queue<()>)| {
            ready.put(()).unwrap();
            drop(queue.get());
        };
        let sleeper = start(get, (queue.clone(), ready.clone()));
        ready.get().unwrap();
        wait_until_asleep(sleeper.pid());
        kill(sleeper);
        queue.put(round).unwrap();
        let put = |(queue, ready): (Queue<u64>, Queue<()>)| {
            ready.put(()).unwrap();
            drop(queue.put(u64::MAX));
        };
        let sleeper = start(put, (queue.clone(), ready.clone()));
        ready.get().unwrap();
        wait_until_asleep(sleeper.pid());
        kill(sleeper);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.get().unwrap(), round);
        assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    }
}

/// `SimpleQueue`: there a put blocks on a pipe of 64 KiB. Here items of any size pass a queue of one, both ways.
#[test]
fn large_items_pass_a_queue_of_one() {
    let _watch = watch();
    let (to, from) = (queue::<Vec<u64>>(1), queue::<Vec<u64>>(1));
    fn echo((to, from): (Queue<Vec<u64>>, Queue<Vec<u64>>)) {
        to.iter().for_each(|item| from.put(item.unwrap()).unwrap());
    }
    let process = start(echo, (to.clone(), from.clone()));
    for len in [0, 1, 1000, 100_000, 1_000_000] {
        let item: Vec<u64> = (0..len).map(|n| n << 40 | n).collect();
        to.put(item.clone()).unwrap();
        assert_eq!(from.get().unwrap(), item);
    }
    to.close();
    process.join().unwrap();
}

//! Iterators that panic, are silent, or give very much.

use crate::guard::watch;
use multiprocess::{Barrier, Pool, Queue, TaskError};
use serde::{Deserialize, Deserializer, Serialize};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

/// What an iterator gives, with `None` for each panic.
fn all_of<T>(mut outcomes: impl Iterator<Item = T>) -> Vec<Option<T>> {
    let mut all = Vec::new();
    loop {
        match catch_unwind(AssertUnwindSafe(|| outcomes.next())) {
            Ok(Some(outcome)) => all.push(Some(outcome)),
            Ok(None) => return all,
            Err(_) => all.push(None),
        }
    }
}

#[test]
fn a_panic_of_the_input_loses_none_that_came_before() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 5, 100] {
        let input = (0..20_u32).map(|n| if n == 13 { panic!("no input") } else { n });
        let all = all_of(pool.imap_chunked(|n: u32| n, input, chunk));
        assert_eq!(all.iter().filter(|outcome| outcome.is_none()).count(), 1);
        let all: Vec<u32> = all.into_iter().flatten().map(Result::unwrap).collect();
        let expected: Vec<u32> = (0..20).filter(|n| *n != 13).collect();
        assert_eq!(all, expected, "chunks of {chunk}");
    }
}

/// One that cannot be decoded when it is three.
#[derive(Serialize, Debug)]
struct Picky(u32);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        assert_ne!(number, 3);
        Ok(Picky(number))
    }
}

#[test]
fn a_panic_in_decoding_costs_one_outcome() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 5] {
        let all = all_of(pool.imap_chunked(Picky, 0..10, chunk));
        assert_eq!(all.iter().filter(|outcome| outcome.is_none()).count(), 1);
        let all: Vec<u32> = all.into_iter().flatten().map(|o| o.unwrap().0).collect();
        let expected: Vec<u32> = (0..10).filter(|n| *n != 3).collect();
        assert_eq!(all, expected, "chunks of {chunk}");
    }
}

#[test]
fn outcomes_that_are_there_come_before_the_input_is_asked() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let taken = Cell::new(0);
    let input = (0..).inspect(|_| taken.set(taken.get() + 1));
    let mut outcomes = pool.imap(|n: u32| n, input);
    let mut given = 0;
    for _ in 0..20 {
        for _ in 0..10 {
            assert_eq!(outcomes.next().unwrap().unwrap(), given);
            given += 1;
        }
        // There is one worker: what came before this one is finished too.
        pool.apply(|()| (), ()).unwrap();
        let before = taken.get();
        while given < before {
            assert_eq!(outcomes.next().unwrap().unwrap(), given);
            assert_eq!(taken.get(), before);
            given += 1;
        }
    }
}

#[test]
fn one_that_takes_long_at_first_holds_no_others_up() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let gate = Queue::bounded(1).unwrap();
    let input = (0..20_u32).map(|n| (n, gate.clone()));
    let run = |(n, gate): (u32, Queue<u32>)| {
        match n {
            0 => assert_eq!(gate.get().unwrap(), 15),
            15 => gate.put(n).unwrap(),
            _ => {}
        }
        n
    };
    let outcomes: Result<Vec<_>, _> = pool.imap(run, input).collect();
    assert_eq!(outcomes.unwrap(), (0..20).collect::<Vec<_>>());
}

/// Each outcome is found at once: if one had to be looked for among all others, this would take minutes.
#[test]
fn a_great_many_are_cancelled() {
    let _watch = watch();
    const TASKS: u64 = 2_000_000;
    let pool = Pool::new(1).unwrap();
    let (begun, go) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let hold = |(begun, go): (Queue<u32>, Queue<u32>)| {
        begun.put(1).unwrap();
        go.get().unwrap()
    };
    let first = pool.apply_async(hold, (begun.clone(), go.clone()));
    begun.get().unwrap();
    let many = pool.map_async(|n: u64| n, 0..TASKS);
    assert!(many.cancel());
    assert!(matches!(many.get(), Err(TaskError::Cancelled)));
    go.put(1).unwrap();
    assert_eq!(first.get().unwrap(), 1);
}

/// One whose encodings are counted, in each process for itself.
#[derive(Debug)]
struct Counted(Vec<u8>, Option<Queue<u32>>);

thread_local! {
    static ENCODED: Cell<u32> = const { Cell::new(0) };
}

impl Serialize for Counted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.set(ENCODED.get() + 1);
        (&self.0, &self.1).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (bytes, queue) = Deserialize::deserialize(deserializer)?;
        Ok(Counted(bytes, queue))
    }
}

#[test]
fn nothing_is_encoded_more_often_than_promised() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    for (len, has_queue) in [(1, false), (1000, false), (1, true), (1000, true)] {
        let make = |(len, has_queue): (usize, bool)| {
            ENCODED.set(0);
            let queue = has_queue.then(|| Queue::bounded(1).unwrap());
            Counted(vec![1; len], queue)
        };
        let counted = pool.apply(make, (len, has_queue)).unwrap();
        let encoded = pool.apply(|()| ENCODED.get(), ()).unwrap();
        assert!((1..=4).contains(&encoded), "{encoded} times");
        ENCODED.set(0);
        pool.apply(drop::<Counted>, counted).unwrap();
        let encoded = ENCODED.get();
        assert!((1..=4).contains(&encoded), "{encoded} times");
    }
}

/// However many it may take: a call whose time is over takes no more from an iterator that has become slow.
#[test]
fn a_time_bounds_what_is_taken() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let slow = Cell::new(0);
    let items = (0..400_u32).inspect(|n| {
        if *n >= 300 {
            slow.set(slow.get() + 1);
            thread::sleep(Duration::from_millis(5));
        }
    });
    let mut outcomes = pool.imap(|n: u32| n, items);
    let mut next = 0;
    while next < 400 {
        let before = slow.get();
        match outcomes.next_timeout(Duration::from_millis(1)) {
            Some(Ok(n)) => {
                assert_eq!(n, next);
                next += 1;
            }
            Some(Err(TaskError::TimedOut)) => {}
            other => panic!("{other:?}"),
        }
        assert!(slow.get() - before <= 2, "{} of {next}", slow.get());
    }
    assert!(outcomes.next().is_none());
}

/// The first tasks of two large chunks wait for each other.
#[test]
fn large_chunks_keep_all_workers_at_work() {
    fn meet((n, barrier): (u32, Barrier)) -> u32 {
        if n % 200 == 0 {
            barrier.wait().unwrap();
        }
        n
    }
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let barrier = Barrier::new(2).unwrap();
    let tasks = (0..400).map(|n| (n, barrier.clone()));
    assert_eq!(pool.imap_chunked(meet, tasks, 200).flatten().count(), 400);
}

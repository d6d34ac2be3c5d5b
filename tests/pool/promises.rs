//! One outcome a task and one callback, whatever panics and however the pool ends; a start that is interrupted.

use crate::guard::watch;
use multiprocess::{Pool, Process, Queue, TaskError, Value, parent_process};
use serde::{Deserialize, Deserializer, Serialize};
use std::panic::panic_any;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// A result that panics when the worker drops it.
#[derive(Serialize, Deserialize)]
struct Bomb {
    n: u32,
    big: Vec<u8>,
    queue: Option<Queue<u32>>,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        let in_worker = parent_process().is_some();
        assert!(!in_worker || self.n % 5 != 1, "{} is dropped", self.n);
    }
}

/// What is thrown, and panics when it is dropped.
struct Shrapnel;

impl Drop for Shrapnel {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

fn bomb((n, size, handle): (u32, usize, bool)) -> Bomb {
    if n % 5 == 3 {
        panic_any(Shrapnel);
    }
    let queue = handle.then(|| Queue::bounded(1).unwrap());
    let big = vec![1; size];
    Bomb { n, big, queue }
}

#[test]
fn a_task_has_one_outcome_whatever_panics() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    for (chunk, size, handle) in [
        (1, 0, false),
        (4, 0, false),
        (20, 0, false),
        (20, 1000, false),
        (7, 0, true),
    ] {
        let tasks = (0..20).map(|n| (n, size, handle));
        let outcomes: Vec<_> = pool.imap_chunked(bomb, tasks, chunk).collect();
        assert_eq!(outcomes.len(), 20);
        for (n, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(result) => {
                    assert!(n % 5 != 1 && n % 5 != 3, "{n}");
                    assert_eq!((result.n, result.big.len()), (n, size));
                    assert_eq!(result.queue.is_some(), handle);
                }
                Err(TaskError::Panicked { message, .. }) if n % 5 == 1 => {
                    assert_eq!(message, format!("{n} is dropped"));
                }
                Err(TaskError::Panicked { .. }) => assert_eq!(n % 5, 3),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

/// What is thrown, and counts when it is dropped.
struct Counted(Value<u32>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

#[test]
fn what_is_thrown_is_dropped() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let dropped = Value::new(0).unwrap();
    let throw = |dropped: Value<u32>| panic_any(Counted(dropped));
    for round in 1..4 {
        let outcome = pool.apply::<_, ()>(throw, dropped.clone());
        assert!(matches!(outcome, Err(TaskError::Panicked { .. })));
        assert_eq!(dropped.get().unwrap(), round);
    }
    let (told, tells) = (dropped.clone(), |()| ());
    pool.apply_async_with(tells, (), move |()| panic_any(Counted(told)), |_| ());
    pool.close();
    pool.join().unwrap();
    assert_eq!(dropped.get().unwrap(), 4);
}

/// A result that panics when it is decoded.
#[derive(Serialize)]
struct Mine(u32);

impl<'de> Deserialize<'de> for Mine {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        panic!("a mine: {}", u32::deserialize(from)?);
    }
}

#[test]
fn a_result_that_panics_in_decoding_has_its_callback() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let (told, tells) = mpsc::channel();
    pool.apply_async_with(
        Mine,
        7,
        |_| unreachable!("it cannot be decoded"),
        move |error| told.send(error.clone()).unwrap(),
    );
    let error = tells.recv().unwrap();
    assert!(matches!(error, TaskError::Panicked { message, .. } if message == "a mine: 7"));
}

/// Hands in a task whose callbacks tell.
fn submit(pool: &Pool, told: &mpsc::Sender<bool>) {
    let (ok, error) = (told.clone(), told.clone());
    let on_ok = move |_: &u32| ok.send(true).unwrap();
    let on_error = move |_: &_| error.send(false).unwrap();
    pool.apply_async_with(|n: u32| n, 1, on_ok, on_error);
}

#[test]
fn a_task_that_is_refused_has_its_callback_too() {
    let _watch = watch();
    for ended in [false, true] {
        let pool = Pool::new(1).unwrap();
        pool.close();
        if ended {
            pool.join().unwrap();
        }
        let (told, hear) = mpsc::channel();
        submit(&pool, &told);
        // It was called, and in this thread.
        assert_eq!(hear.try_recv(), Ok(false));
        pool.terminate();
        submit(&pool, &told);
        assert_eq!(hear.try_recv(), Ok(false));
        let caller = thread::current().id();
        let on_error = move |_: &_| {
            assert_eq!(thread::current().id(), caller);
            panic!("that harms nobody");
        };
        pool.apply_async_with(|n: u32| n, 1, |_| (), on_error);
        pool.join().unwrap();
        drop(told);
        assert_eq!(hear.recv(), Err(mpsc::RecvError));
    }
}

#[test]
fn callbacks_come_once_while_the_pool_is_terminated() {
    let _watch = watch();
    for round in 0..100 {
        let pool = Pool::new(1).unwrap();
        assert_eq!(pool.apply(|n: u32| n, 1).unwrap(), 1);
        let (told, hear) = mpsc::channel();
        let mut submitted = 0;
        thread::scope(|scope| {
            let end = scope.spawn(|| {
                thread::sleep(Duration::from_micros(round * 20));
                pool.terminate();
            });
            while !end.is_finished() {
                submit(&pool, &told);
                submitted += 1;
            }
        });
        pool.join().unwrap();
        drop(told);
        assert_eq!(hear.iter().count(), submitted, "round {round}");
    }
}

#[test]
fn a_pool_that_only_a_callback_holds_ends_after_it() {
    let _watch = watch();
    fn wait(go: Queue<u32>) -> u32 {
        go.get().unwrap()
    }
    let pool = Arc::new(Pool::new(1).unwrap());
    let (go, own) = (Queue::bounded(1).unwrap(), pool.clone());
    let on_ok = move |_: &u32| assert_eq!(Arc::strong_count(&own), 1);
    let held = Arc::downgrade(&pool);
    pool.apply_async_with(wait, go.clone(), on_ok, |_| ());
    let after = pool.apply_async(|()| thread::sleep(Duration::from_secs(1000)), ());
    drop(pool);
    assert!(held.upgrade().is_some());
    go.put(1).unwrap();
    assert!(matches!(after.get(), Err(TaskError::Cancelled)));
    while held.strong_count() > 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Each worker needs a token to begin, and the other one goes on while replacements fail.
#[test]
fn an_initializer_that_exits_again_and_again_is_not_started_for_ever() {
    let _watch = watch();
    fn begin((tokens, starts): (Queue<u32>, Queue<u32>)) {
        starts.put(1).unwrap();
        if tokens.try_get().is_err() {
            std::process::exit(7);
        }
    }
    let (tokens, starts) = (Queue::bounded(2).unwrap(), Queue::unbounded().unwrap());
    tokens.put_many([1, 2]).unwrap();
    let pool = Pool::builder()
        .processes(2)
        .initializer(begin, (tokens, starts.clone()))
        .build()
        .unwrap();
    let killed = pool.apply(|(): ()| -> () { std::process::abort() }, ());
    assert!(matches!(killed, Err(TaskError::WorkerDied { .. })));
    let error = loop {
        if let Err(error) = pool.apply(|n: u32| n, 1) {
            break error;
        }
    };
    let TaskError::Initializer(cause) = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(**cause, TaskError::WorkerDied { .. }), "{error}");
    pool.terminate();
    assert!(starts.len() <= 6, "{} starts", starts.len());
}

/// Makes a process group of its own, which Ctrl-C is sent to all the time, and pools in it.
fn interrupted(rounds: u64) -> u64 {
    signal_hook::flag::register(libc::SIGINT, Arc::default()).unwrap();
    rustix::process::setpgid(None, None).unwrap();
    let me = rustix::process::getpid();
    let signal =
        move || rustix::process::kill_process_group(me, rustix::process::Signal::INT).unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let others = thread::spawn(move || {
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            signal();
            thread::sleep(Duration::from_micros(300));
        }
    });
    let built = |_| {
        let pool = Pool::builder().processes(2).initializer(|_: u32| (), 1);
        let pool = pool.build().unwrap();
        let results = pool.map_chunked(|n: u64| n, 0..10, 1).unwrap();
        assert_eq!(results.len(), 10);
    };
    (0..rounds).for_each(built);
    drop(stop);
    others.join().unwrap();
    rounds
}

#[test]
fn ctrl_c_while_workers_start_ends_none() {
    let _watch = watch();
    let process = Process::builder().daemon(true);
    let process = process.spawn(interrupted, 20).unwrap();
    assert_eq!(process.join().unwrap(), 20);
}

fn same(n: u64) -> u64 {
    n
}

#[test]
fn an_iterator_may_be_empty_for_a_while() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let (give, items) = mpsc::channel();
    let mut outcomes = pool.imap(same, items);
    for n in 0..5 {
        give.send(n).unwrap();
    }
    let producer = {
        let (first, seen) = mpsc::channel();
        let producer = thread::spawn(move || {
            seen.recv().unwrap();
            (5..100).for_each(|n| give.send(n).unwrap());
        });
        assert_eq!(outcomes.next().unwrap().unwrap(), 0);
        first.send(()).unwrap();
        producer
    };
    let rest: Vec<u64> = outcomes.map(Result::unwrap).collect();
    assert!(rest.into_iter().eq(1..100));
    producer.join().unwrap();
}

/// The iterator gives a task when the one before was run.
#[test]
fn a_task_can_be_begun_as_soon_as_it_is_given() {
    let _watch = watch();
    fn tell(done: Queue<u64>) {
        done.put(1).unwrap();
    }
    let pool = Pool::new(2).unwrap();
    for unordered in [false, true] {
        let done = Queue::bounded(1).unwrap();
        let mut given = 0;
        let items = std::iter::from_fn(|| {
            if given > 0 {
                done.get().unwrap();
            }
            given += 1;
            (given <= 200).then(|| done.clone())
        });
        let outcomes = if unordered {
            pool.imap_unordered(tell, items)
        } else {
            pool.imap(tell, items)
        };
        assert_eq!(outcomes.flatten().count(), 200);
    }
}

/// The worker gives such a job back after each task; nobody waits for it.
#[test]
fn a_chunk_of_queues_goes_on_when_nobody_waits() {
    let _watch = watch();
    fn make(ran: Queue<u32>) -> Queue<u32> {
        ran.put(1).unwrap();
        Queue::bounded(1).unwrap()
    }
    let pool = Pool::new(1).unwrap();
    let ran = Queue::bounded(4).unwrap();
    let results = pool.map_async_chunked(make, vec![ran.clone(); 4], 4);
    for _ in 0..4 {
        ran.get().unwrap();
    }
    assert_eq!(results.get().unwrap().len(), 4);
}

//! Closing, terminating, cancelling, callbacks, initializers; and pools within pools.

use crate::guard::watch;
use multiprocess::{Error, ExitCode, Pool, PoolJoinError, Process, Queue, TaskError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::id;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(1000);

fn sleep_long(_: u32) {
    thread::sleep(LONG);
}

/// Tells that it has begun and waits to be let go.
fn hold((begun, go): (Queue<u32>, Queue<u32>)) -> u32 {
    begun.put(id()).unwrap();
    go.get().unwrap()
}

#[test]
fn join_comes_after_close() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.join(), Err(PoolJoinError::StillRunning));
    pool.close();
    pool.join().unwrap();
    pool.terminate();
    pool.join().unwrap();
}

/// Who waits for his results is waited for by who joins, also where his items are slow in coming.
#[test]
fn a_call_that_has_begun_is_whole() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let (send, some) = mpsc::channel();
    thread::scope(|scope| {
        let items = (0..20_u32).inspect(|n| {
            if *n == 3 {
                send.send(()).unwrap();
            }
            thread::sleep(Duration::from_millis(5));
        });
        let results = scope.spawn(|| pool.map_chunked(|n: u32| n + 1, items, 1));
        some.recv().unwrap();
        pool.close();
        pool.join().unwrap();
        let results = results.join().unwrap().unwrap();
        assert_eq!(results, (1..=20).collect::<Vec<_>>());
    });
}

#[test]
fn nobody_works_in_no_pool() {
    let error = Pool::new(0).unwrap_err();
    assert_eq!(Error::from_io(&error), Some(Error::InvalidCapacity));
    let none = Pool::builder().processes(1).max_tasks_per_child(0).build();
    let error = none.unwrap_err();
    assert_eq!(Error::from_io(&error), Some(Error::InvalidCapacity));
}

#[test]
fn what_has_not_begun_can_be_cancelled() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let (begun, go) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let first = pool.apply_async(hold, (begun.clone(), go.clone()));
    begun.get().unwrap();
    let second = pool.apply_async(sleep_long, 2);
    let many = pool.map_async_chunked(sleep_long, 0..10, 2);
    assert!(!first.cancel());
    assert!(second.cancel());
    assert!(!second.cancel());
    assert!(many.cancel());
    assert!(matches!(second.get(), Err(TaskError::Cancelled)));
    assert!(matches!(many.get(), Err(TaskError::Cancelled)));
    let timed = first.get_timeout(Duration::from_millis(1));
    assert!(matches!(timed, Err(TaskError::TimedOut)));
    assert_eq!(first.successful(), None);
    go.put(5).unwrap();
    assert_eq!(first.get().unwrap(), 5);
    // The worker has nothing to do, and does what comes.
    assert_eq!(pool.apply(|n: u32| n + 1, 1).unwrap(), 2);
}

#[test]
fn results_that_nobody_wants_go() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    for n in 0..1000 {
        drop(pool.apply_async(|n: usize| vec![1_u8; n], n));
    }
    assert_eq!(pool.map(|n: u32| n, 0..10).unwrap().len(), 10);
    drop(pool.imap(|n: u32| n, 0..).take(3));
    pool.close();
    pool.join().unwrap();
}

#[test]
fn callbacks_come_in_order_and_harm_nobody() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let (told, hear) = mpsc::channel();
    for n in 0..20_u32 {
        let (ok, error) = (told.clone(), told.clone());
        let on_ok = move |result: &u32| {
            ok.send(Ok(*result)).unwrap();
            assert!(n % 3 != 0, "a callback panics");
        };
        let on_error = move |_: &TaskError| error.send(Err(n)).unwrap();
        let result = pool.apply_async_with(
            |n: u32| {
                assert!(n % 5 != 2);
                n
            },
            n,
            on_ok,
            on_error,
        );
        if n % 2 == 0 {
            drop(result);
        }
    }
    pool.close();
    pool.join().unwrap();
    drop(told);
    let heard: Vec<_> = hear.iter().collect();
    let expected: Vec<_> = (0..20)
        .map(|n| if n % 5 == 2 { Err(n) } else { Ok(n) })
        .collect();
    assert_eq!(heard, expected);
}

#[test]
fn callbacks_may_use_their_pool() {
    let _watch = watch();
    let pool = std::sync::Arc::new(Pool::new(1).unwrap());
    let (told, hear) = mpsc::channel();
    let own = pool.clone();
    let on_ok = move |n: &u32| {
        let next = own.apply(|n: u32| n + 1, *n).unwrap();
        assert_eq!(own.join(), Err(PoolJoinError::StillRunning));
        own.close();
        assert_eq!(own.join(), Err(PoolJoinError::InCallback));
        own.terminate();
        told.send(next).unwrap();
    };
    let result = pool.apply_async_with(|n: u32| n + 1, 1, on_ok, |_| ());
    assert_eq!(result.get().unwrap(), 2);
    assert_eq!(hear.recv().unwrap(), 3);
    pool.join().unwrap();
}

#[test]
fn a_worker_that_dies_while_a_callback_runs_is_noticed() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let (told, hear) = mpsc::channel::<()>();
    pool.apply_async_with(
        |()| (),
        (),
        move |()| {
            let _ = hear.recv();
        },
        |_| (),
    );
    let error = pool
        .apply(|(): ()| -> () { std::process::abort() }, ())
        .unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { .. }));
    drop(told);
}

#[test]
fn initializers_come_first() {
    let _watch = watch();
    static READY: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    fn prepare(n: u32) {
        READY.set(n).unwrap();
    }
    let pool = Pool::builder()
        .processes(2)
        .initializer(prepare, 7)
        .max_tasks_per_child(2)
        .build()
        .unwrap();
    let seen = pool.map_chunked(|_: u32| *READY.get().unwrap(), 0..20, 1);
    assert_eq!(seen.unwrap(), [7; 20]);
}

#[test]
fn an_initializer_that_fails_is_reported() {
    let _watch = watch();
    fn count((starts, fail): (Queue<u32>, bool)) {
        starts.put(id()).unwrap();
        assert!(!fail, "cannot begin");
    }
    let starts = Queue::unbounded().unwrap();
    let built = Pool::builder()
        .processes(2)
        .initializer(count, (starts.clone(), true))
        .build();
    let error = built.unwrap_err();
    let cause = error.get_ref().unwrap().downcast_ref::<TaskError>();
    let Some(TaskError::Initializer(cause)) = cause else {
        panic!("{error:?}")
    };
    assert!(matches!(&**cause, TaskError::Panicked { message, .. } if message == "cannot begin"));
    // Nobody tries it for ever.
    assert!(starts.len() <= 4, "{} starts", starts.len());

    fn exit(_: ()) {
        std::process::exit(3);
    }
    let built = Pool::builder().processes(1).initializer(exit, ()).build();
    let error = built.unwrap_err().to_string();
    assert!(error.contains("exited with code 3"), "{error}");
}

#[test]
fn an_initializer_that_fails_later_ends_everything() {
    let _watch = watch();
    fn once(tokens: Queue<u32>) {
        tokens.try_get().unwrap();
    }
    let tokens = Queue::bounded(1).unwrap();
    tokens.put(1).unwrap();
    let pool = Pool::builder()
        .processes(1)
        .initializer(once, tokens)
        .build()
        .unwrap();
    let killer = pool.apply_async(|(): ()| -> () { std::process::abort() }, ());
    let waiting: Vec<_> = (0..5).map(|n| pool.apply_async(|n: u32| n, n)).collect();
    assert!(matches!(killer.get(), Err(TaskError::WorkerDied { .. })));
    for result in waiting {
        assert!(matches!(result.get(), Err(TaskError::Initializer(_))));
    }
    let late = pool.apply(|n: u32| n, 1);
    assert!(matches!(late, Err(TaskError::Initializer(_))));
    assert!(matches!(
        pool.map(|n: u32| n, 0..3),
        Err(TaskError::Initializer(_))
    ));
    pool.close();
    pool.join().unwrap();
}

#[test]
fn endless_input_is_taken_as_it_is_needed() {
    let _watch = watch();
    let taken = std::cell::Cell::new(0);
    let input = (0..).inspect(|_| taken.set(taken.get() + 1));
    let pool = Pool::builder().processes(2).backlog(10).build().unwrap();
    let mut squares = pool.imap(|n: u64| n * n, input);
    for n in 0..100 {
        assert_eq!(squares.next().unwrap().unwrap(), n * n);
        assert!(taken.get() <= n + 11);
    }
    // What is left of it can be asked for after the close.
    pool.close();
    assert_eq!(squares.next().unwrap().unwrap(), 10_000);
    assert!(matches!(
        pool.imap(|n: u64| n, 0..3).next(),
        Some(Err(TaskError::Closed))
    ));
    pool.join().unwrap();
    let rest: Vec<_> = squares.collect();
    assert!(matches!(rest.last(), Some(Err(TaskError::Closed))));
}

#[test]
fn an_iterator_can_be_asked_for_a_while() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let (begun, go) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let mut held = pool.imap(hold, [(begun.clone(), go.clone())]);
    let early = held.next_timeout(Duration::from_millis(5));
    assert!(matches!(early, Some(Err(TaskError::TimedOut))));
    go.put(1).unwrap();
    assert_eq!(held.next_timeout(LONG).unwrap().unwrap(), 1);
    assert!(held.next_timeout(LONG).is_none());
}

#[test]
fn a_panic_of_the_input_is_its_caller_s() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let input = (0..10_u32).map(|n| if n < 5 { n } else { panic!("no input") });
    let map = || pool.map_chunked(|n: u32| n, input.clone(), 1);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(map)).unwrap_err();
    assert_eq!(pool.apply(|n: u32| n, 1).unwrap(), 1);
}

#[test]
fn many_threads_wait_at_once() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..300 {
                    let result = pool.apply(|(a, b): (u64, u64)| a * b, (thread, n));
                    assert_eq!(result.unwrap(), thread * n);
                }
                let sum: u64 = pool.map(|n: u64| n + 1, 0..1000).unwrap().iter().sum();
                assert_eq!(sum, 500_500);
            });
        }
    });
}

#[test]
fn a_worker_has_a_pool_of_its_own() {
    let _watch = watch();
    fn outer(n: u64) -> u64 {
        let pool = Pool::new(2).unwrap();
        let inner = pool.map(|n: u64| n + 1, 0..n).unwrap();
        inner.iter().sum::<u64>() + multiprocess::spawn(|n: u64| n, 1).unwrap().join().unwrap()
    }
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(outer, [1, 2, 3]).unwrap(), [2, 4, 7]);
}

#[test]
fn ctrl_c_does_not_end_workers() {
    let _watch = watch();
    fn interrupt(n: u32) -> u32 {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::INT).unwrap();
        n
    }
    let pool = Pool::new(1).unwrap();
    let pid = pool.apply(|()| id(), ()).unwrap();
    assert_eq!(pool.apply(interrupt, 3).unwrap(), 3);
    assert_eq!(pool.apply(|()| id(), ()).unwrap(), pid);
    // A program that a worker starts can be interrupted.
    let code = pool.apply(
        |()| {
            use std::os::unix::process::ExitStatusExt;
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", "kill -INT $$; exit 3"]);
            shell.status().unwrap().signal()
        },
        (),
    );
    assert_eq!(code.unwrap(), Some(libc::SIGINT));
    // So can a copy of it.
    let copied = |n: u32| {
        let copy = Process::builder().fork(interrupt, n);
        copy.unwrap().wait() == ExitCode::Signaled(libc::SIGINT)
    };
    assert!(pool.apply(copied, 1).unwrap());
}

#[test]
fn what_does_not_encode_is_its_task_s_error() {
    let _watch = watch();
    #[derive(Debug)]
    struct Odd(u32);
    impl serde::Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 % 4 == 3 {
                return Err(serde::ser::Error::custom("no threes"));
            }
            serializer.serialize_u32(self.0)
        }
    }
    impl<'de> serde::Deserialize<'de> for Odd {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u32::deserialize(deserializer)? {
                n if n % 4 == 2 => Err(serde::de::Error::custom("no twos")),
                n => Ok(Odd(n)),
            }
        }
    }
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 5, 100] {
        let arguments = pool.imap_chunked(|odd: Odd| odd.0, (0..100).map(Odd), chunk);
        for (n, outcome) in (0..).zip(arguments) {
            match n % 4 {
                3 => assert!(matches!(outcome, Err(TaskError::Encode(_)))),
                2 => assert!(matches!(outcome, Err(TaskError::Decode(_)))),
                _ => assert_eq!(outcome.unwrap(), n),
            }
        }
        let results = pool.imap_chunked(Odd, 0..100, chunk);
        for (n, outcome) in (0..).zip(results) {
            match n % 4 {
                3 => assert!(matches!(outcome, Err(TaskError::Encode(_)))),
                2 => assert!(matches!(outcome, Err(TaskError::Decode(_)))),
                _ => assert_eq!(outcome.unwrap().0, n),
            }
        }
    }
}

fn double(n: u64) -> u64 {
    2 * n
}

/// Nobody waits for the results, and the helper thread may be asleep.
#[test]
fn a_callback_comes_when_nobody_waits() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.apply(double, 1).unwrap(), 2);
    thread::sleep(Duration::from_millis(50));
    let (told, results) = mpsc::channel();
    for n in 0..50 {
        let told = told.clone();
        let on_ok = move |result: &u64| told.send(*result).unwrap();
        let _result = pool.apply_async_with(double, n, on_ok, |error| panic!("{error}"));
        assert_eq!(results.recv(), Ok(2 * n));
    }
}

struct Bomb;

impl serde::Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("cannot be encoded");
    }
}

impl<'de> serde::Deserialize<'de> for Bomb {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Bomb)
    }
}

#[test]
fn arguments_that_panic_leave_no_callback_to_wait_for() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let submit = || pool.apply_async_with(drop::<Bomb>, Bomb, |()| (), |_| ());
    assert!(catch_unwind(AssertUnwindSafe(submit)).is_err());
    pool.close();
    pool.join().unwrap();
}

//! The calls, when nobody dies.

use crate::guard::watch;
use multiprocess::{Pool, Queue, Sender, TaskError, as_completed, channel};
use std::time::Duration;

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn results_come_back() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.apply(square, 7).unwrap(), 49);
    let results: Vec<_> = (0..1000).map(|n| pool.apply_async(square, n)).collect();
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.get().unwrap(), (n * n) as u64);
    }
    // Again and again.
    assert_eq!(results[3].get().unwrap(), 9);
    assert_eq!(results[3].successful(), Some(true));
}

#[test]
fn maps_keep_the_order() {
    let _watch = watch();
    let pool = Pool::new(3).unwrap();
    let expected: Vec<u64> = (0..5000).map(square).collect();
    assert_eq!(pool.map(square, 0..5000).unwrap(), expected);
    for chunk in [1, 7, 4999, 5000, 100_000] {
        assert_eq!(pool.map_chunked(square, 0..5000, chunk).unwrap(), expected);
    }
    assert_eq!(pool.map(square, []).unwrap(), []);
    assert_eq!(pool.map_async(square, 0..5000).get().unwrap(), expected);
    let lazy = pool.imap(square, 0..5000);
    assert_eq!(lazy.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    let lazy = pool.imap_chunked(square, 0..5000, 9);
    assert_eq!(lazy.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    let mut results: Vec<u64> = pool.imap_unordered(square, 0..5000).flatten().collect();
    results.sort();
    assert_eq!(results, expected);
}

#[test]
fn large_arguments_and_results() {
    let _watch = watch();
    fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }
    let pool = Pool::new(2).unwrap();
    for len in [0, 100, 170, 200, 5000, 1 << 20, 20 << 20] {
        let mut bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let result = pool.apply(reverse, bytes.clone()).unwrap();
        bytes.reverse();
        assert!(result == bytes, "{len} bytes");
    }
    let lens: Vec<usize> = (0..500).map(|i| i * 37 % 4096).collect();
    let results = pool.map(|len| vec![1_u8; len], lens.clone()).unwrap();
    assert!(results.iter().map(Vec::len).eq(lens));
}

#[test]
fn handles_are_arguments_and_results() {
    let _watch = watch();
    fn relay((from, n): (Queue<u64>, u64)) -> Queue<u64> {
        let to = Queue::bounded(10).unwrap();
        to.put(from.get().unwrap() + n).unwrap();
        to
    }
    let pool = Pool::new(2).unwrap();
    let from = Queue::bounded(100).unwrap();
    for chunk in [1, 2, 10] {
        for _ in 0..40 {
            from.put(1000).unwrap();
        }
        let tasks = (0..40).map(|n| (from.clone(), n));
        let queues = pool.map_chunked(relay, tasks, chunk).unwrap();
        let numbers: Vec<u64> = queues.iter().map(|queue| queue.get().unwrap()).collect();
        assert_eq!(numbers, (1000..1040).collect::<Vec<_>>());
    }
    from.put(1).unwrap();
    let result = pool.apply_async(relay, (from.clone(), 1));
    // Twice the same queue.
    let (once, again) = (result.get().unwrap(), result.get().unwrap());
    drop(result);
    assert_eq!(once.get().unwrap(), 2);
    once.put(3).unwrap();
    assert_eq!(again.get().unwrap(), 3);
}

#[test]
fn errors_are_those_of_their_tasks() {
    let _watch = watch();
    fn picky(n: u32) -> u32 {
        assert!(n % 10 != 3, "not {n}");
        n
    }
    let pool = Pool::new(2).unwrap();
    let outcomes: Vec<_> = pool.imap_chunked(picky, 0..30, 8).collect();
    for (n, outcome) in (0..).zip(&outcomes) {
        match outcome {
            Ok(result) => assert_eq!(*result, n),
            Err(TaskError::Panicked { message, location }) => {
                assert_eq!(message, &format!("not {n}"));
                assert!(location.as_ref().unwrap().contains("calls.rs:"));
                assert_eq!(n % 10, 3);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(outcomes.len(), 30);
    let error = pool.map(picky, 0..30).unwrap_err();
    assert!(matches!(error, TaskError::Panicked { message, .. } if message == "not 3"));
    assert!(matches!(
        pool.map_chunked(picky, 0..3, 0),
        Err(TaskError::InvalidChunk)
    ));
}

#[test]
fn a_pool_that_is_closed_finishes() {
    let _watch = watch();
    fn nap(millis: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(millis));
        millis
    }
    let pool = Pool::new(2).unwrap();
    let results: Vec<_> = (0..20).map(|n| pool.apply_async(nap, n)).collect();
    pool.close();
    pool.close();
    assert!(matches!(pool.apply(nap, 0), Err(TaskError::Closed)));
    pool.join().unwrap();
    pool.join().unwrap();
    for (n, result) in (0..).zip(results) {
        assert!(result.ready());
        assert_eq!(result.get().unwrap(), n);
    }
}

#[test]
fn termination_cancels() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let forever = |()| std::thread::sleep(Duration::from_secs(1000));
    let results: Vec<_> = (0..20).map(|_| pool.apply_async(forever, ())).collect();
    let done = pool.apply_async(square, 1);
    pool.terminate();
    for result in results {
        assert!(matches!(result.get(), Err(TaskError::Cancelled)));
    }
    assert!(matches!(done.get(), Err(TaskError::Cancelled)));
    pool.join().unwrap();
}

#[test]
fn the_first_ready_comes_first() {
    let _watch = watch();
    fn nap(millis: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(millis));
        millis
    }
    let pool = Pool::new(3).unwrap();
    let results = [400, 200, 1].map(|millis| pool.apply_async(nap, millis));
    let order: Vec<u64> = as_completed(results).map(|r| r.get().unwrap()).collect();
    assert_eq!(order, [1, 200, 400]);
}

/// A channel ends when the tasks that had its senders have ended, whoever looks at their results.
#[test]
fn a_channel_ends_with_its_tasks() {
    fn produce((sender, n): (Sender<u32>, u32)) -> u32 {
        (0..n).for_each(|i| sender.send(i).unwrap());
        n
    }
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    for keep in [false, true] {
        let (sender, receiver) = channel(100).unwrap();
        let results: Vec<_> = (0..4)
            .map(|_| pool.apply_async(produce, (sender.clone(), 5)))
            .filter(|_| keep)
            .collect();
        drop(sender);
        assert_eq!(receiver.iter().flatten().count(), 20);
        assert_eq!(results.len(), if keep { 4 } else { 0 });
    }
    // The sender of a task that died with it.
    fn fall(sender: Sender<u32>) {
        let _sender = sender;
        std::process::abort();
    }
    let (sender, receiver) = channel(1).unwrap();
    let result = pool.apply_async(fall, sender);
    assert!(matches!(result.get(), Err(TaskError::WorkerDied { .. })));
    assert!(receiver.recv().is_err());
}

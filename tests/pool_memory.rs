//! What a pool keeps in shared memory, counted for the whole family: one test at a time.

use multiprocess::{Pool, Queue, Sender, TaskError, channel, family};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

#[path = "common/guard.rs"]
mod guard;

use guard::watch;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until it is true; the test's guard ends what never is.
fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::sleep(Duration::from_millis(5));
    }
}

fn used() -> u64 {
    family::stats().bytes_in_use
}

fn kilobyte(_: u32) -> Vec<u8> {
    vec![7; 1024]
}

/// Hands many tasks in while the only worker is held up, so that all are under way at once, and drops their results.
fn burst(pool: &Pool, gate: &Queue<()>) {
    let hold = pool.apply_async(|gate: Queue<()>| gate.get().unwrap(), gate.clone());
    for n in 0..10_000 {
        drop(pool.apply_async(kilobyte, n));
    }
    gate.put(()).unwrap();
    hold.get().unwrap();
}

#[test]
fn results_that_nobody_wants_leave_memory_by_themselves() {
    let (_watch, _alone) = (watch(), alone());
    let pool = Pool::new(1).unwrap();
    let gate = Queue::bounded(1).unwrap();
    // Cards for so many jobs stay.
    burst(&pool, &gate);
    pool.map(|n: u32| n, [0]).unwrap();
    let baseline = used();
    burst(&pool, &gate);
    // Where the ring of tasks begins anew differs by a segment of it.
    until(|| used() <= baseline + (64 << 10));
}

type Held = (Queue<()>, Queue<()>, Option<Sender<u32>>);

/// Tells that it has begun, waits to be let go and gives the sender back.
fn hand_back((begun, gate, sender): Held) -> Option<Sender<u32>> {
    begun.put(()).unwrap();
    gate.get().unwrap();
    sender
}

#[test]
fn a_channel_ends_with_a_result_that_nobody_wants() {
    let (_watch, _alone) = (watch(), alone());
    let pool = Pool::new(1).unwrap();
    let (begun, gate) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    for _ in 0..20 {
        let (sender, receiver) = channel(1).unwrap();
        let args = (begun.clone(), gate.clone(), Some(sender));
        let result = pool.apply_async(hand_back, args);
        begun.get().unwrap();
        drop(result);
        gate.put(()).unwrap();
        assert!(receiver.recv().is_err());
    }
}

#[test]
fn a_channel_ends_with_an_iterator_that_is_dropped_half_way() {
    let (_watch, _alone) = (watch(), alone());
    let pool = Pool::new(1).unwrap();
    let (begun, gate) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    for _ in 0..20 {
        let (sender, receiver) = channel(1).unwrap();
        let tasks = [None, Some(sender)].map(|sender| (begun.clone(), gate.clone(), sender));
        let mut outcomes = pool.imap(hand_back, tasks);
        gate.put(()).unwrap();
        assert!(outcomes.next().unwrap().unwrap().is_none());
        begun.get().unwrap();
        let second = outcomes.next_timeout(Duration::ZERO).unwrap();
        assert!(matches!(second, Err(TaskError::TimedOut)));
        begun.get().unwrap();
        drop(outcomes);
        gate.put(()).unwrap();
        assert!(receiver.recv().is_err());
    }
}

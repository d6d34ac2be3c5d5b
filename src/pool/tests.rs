//! What cannot be seen from outside.

use super::shared::Shared;
use super::staff::Worker;
use super::{Pool, TaskError, helper, lock};
use crate::queue::Queue;
use crate::ring::Serial;
use rustix::process::{Pid, Signal, kill_process};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Waits for it; a test that hangs is to fail.
fn until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(100), "it hangs");
        thread::sleep(Duration::from_millis(1));
    }
}

fn worker(shared: &Shared) -> Option<Worker> {
    shared.lock().staff.workers.first().cloned()
}

/// The helper thread finds nobody at work and goes to sleep while somebody else hires: it has to learn of the newcomer, or nobody
/// would see him die.
#[test]
fn who_hires_tells_the_helper() {
    let pool = Pool::new(1).unwrap();
    let shared = &pool.shared;
    for n in 0..30 {
        assert_eq!(pool.apply(|n: u32| n, n).unwrap(), n);
        let tending = lock(&shared.tending);
        let first = worker(shared).unwrap();
        first.process.kill().unwrap();
        first.process.wait();
        helper::tend_alone(shared);
        drop(tending);
        let second = worker(shared).unwrap();
        assert_ne!(first.serial, second.serial);
        second.process.kill().unwrap();
        until(|| worker(shared).is_some_and(|third| third.serial != second.serial));
    }
}

#[test]
fn a_result_that_is_dropped_while_its_callback_runs_gives_its_card_back() {
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.apply(|n: u32| n, 1).unwrap(), 1);
    let cards = || pool.shared.lock().cards();
    let before = cards();
    for panics in [false, true, false] {
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        let on_ok = move |n: &u32| {
            begun.send(*n).unwrap();
            goes.recv().unwrap();
            assert!(!panics, "a callback panics");
        };
        let result = pool.apply_async_with(|n: u32| n, 2, on_ok, |_| ());
        assert_eq!(begins.recv().unwrap(), 2);
        drop(result);
        go.send(()).unwrap();
        until(|| pool.shared.lock().callbacks_due == 0);
        assert_eq!(cards(), before);
    }
}

/// One that still feeds while somebody joins, and a worker that takes long to end.
#[test]
fn who_feeds_is_refused_once_the_queue_is_closed() {
    let pool = Pool::builder().processes(1).backlog(1).build().unwrap();
    let shared = &pool.shared;
    let mut outcomes = pool.imap(|n: u32| n, 0..);
    assert_eq!(outcomes.next().unwrap().unwrap(), 0);
    let pid = worker(shared).unwrap().process.pid();
    let signal = |signal| kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
    signal(Signal::STOP);
    pool.close();
    let last = thread::scope(|scope| {
        scope.spawn(|| pool.join().unwrap());
        until(|| shared.lock().sealed);
        let last: Vec<_> = outcomes.take(3).collect();
        signal(Signal::CONT);
        last
    });
    assert!(matches!(last[..], [Err(TaskError::Closed)]), "{last:?}");
}

/// Who waits looks where jobs come back; another one may take them from there in the meantime.
#[test]
fn who_takes_what_another_one_waits_for_tells_him() {
    let pool = Pool::new(1).unwrap();
    let shared = &pool.shared;
    let go = Queue::bounded(1).unwrap();
    let result = pool.apply_async(|go: Queue<u32>| go.get().unwrap(), go.clone());
    thread::scope(|scope| {
        let waits = scope.spawn(|| result.get().unwrap());
        until(|| shared.lock().reading);
        let mut core = shared.lock();
        go.put(5).unwrap();
        until(|| shared.pool.jobs().has_returned());
        let before = shared.news();
        assert!(shared.read(&mut core));
        let told = shared.news() != before;
        drop(core);
        assert_eq!(waits.join().unwrap(), 5);
        assert!(told);
    });
}

#[test]
fn the_usual_chunk() {
    let pool = Pool::new(2).unwrap();
    for (tasks, chunk) in [(0, 1), (1, 1), (8, 1), (9, 2), (100_000, 12_500)] {
        assert_eq!(pool.usual_chunk(tasks), chunk, "{tasks}");
    }
}

/// Those that end right after their initializer have done it, but nothing else: the next ones wait longer and longer.
#[test]
fn workers_that_end_after_their_initializer_do_not_follow_at_once() {
    let pool = Pool::builder().processes(1).initializer(|()| (), ());
    let pool = pool.build().unwrap();
    let shared = &pool.shared;
    let begin = Instant::now();
    for start in 1..=10 {
        until(|| {
            helper::tend(shared);
            shared.lock().staff.ready == start
        });
        worker(shared).unwrap().process.kill().unwrap();
    }
    // Behind the fourth death 10 ms, and twice as much behind each that follows.
    assert!(begin.elapsed() >= Duration::from_millis(10 + 20 + 40 + 80 + 160 + 320));
    assert_eq!(pool.apply(|n: u32| n, 1).unwrap(), 1);
}

#[test]
fn a_worker_that_begins_says_that_workers_can() {
    let pool = Pool::new(1).unwrap();
    let shared = &pool.shared;
    assert_eq!(pool.apply(|n: u32| n, 1).unwrap(), 1);
    let pause = || {
        let mut core = shared.lock();
        core.staff.failures = 0;
        core.staff.pause()
    };
    // Before this one, and after it.
    for (serial, waits) in [(0, false), (1, true), (2, true)] {
        let tending = lock(&shared.tending);
        for _ in 0..20 {
            shared.lock().staff.never_began(Serial(serial));
        }
        assert!(pause().is_some());
        helper::tend_alone(shared);
        assert_eq!(pause().is_some(), waits);
        drop(tending);
    }
}

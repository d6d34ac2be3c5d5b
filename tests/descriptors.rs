//! A process whose table of descriptors is full. One test, for a table of its own.

#![allow(unsafe_code, reason = "to set limits and to kill")]

use std::fs::File;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{Process, Queue, spawn};

const LIMIT: u64 = 64;
/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(100);

#[test]
fn a_full_table_neither_runs_nor_hides_anything() {
    thread::spawn(|| {
        thread::sleep(LONG);
        std::process::abort();
    });
    let limit = libc::rlimit {
        rlim_cur: LIMIT,
        rlim_max: LIMIT,
    };
    // SAFETY: reads a value of that type.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0);
    for daemon in [false, true] {
        for free in 0..8 {
            what_was_refused_has_not_run(free, daemon);
        }
    }
    for round in 0..30 {
        a_dead_producer_is_noticed(round);
    }
}

/// Takes all descriptors but this many.
fn fill(free: usize) -> Vec<File> {
    let mut held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(held.len() > free);
    held.truncate(held.len() - free);
    held
}

fn what_was_refused_has_not_run(free: usize, daemon: bool) {
    let ran = Queue::<u32>::bounded(100).unwrap();
    let held = fill(free);
    let started = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let builder = Process::builder().daemon(daemon);
                    let work = |ran: Queue<u32>| ran.put(std::process::id()).unwrap();
                    match builder.spawn(work, ran.clone()) {
                        Ok(process) => started.lock().unwrap().push(process),
                        Err(error) => {
                            assert_eq!(error.error().raw_os_error(), Some(libc::EMFILE));
                        }
                    }
                }
            });
        }
    });
    drop(held);
    let started = started.into_inner().unwrap();
    let count = started.len();
    if !daemon {
        // Each takes one for as long as it is held.
        assert_eq!(count, free, "with {free} descriptors");
    }
    let mut pids: Vec<u32> = started.iter().map(Process::pid).collect();
    for process in started {
        process.join().unwrap();
    }
    let mut seen: Vec<u32> = std::iter::from_fn(|| ran.try_get().ok()).collect();
    pids.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, pids, "with {free} descriptors, {count} were started");
}

/// The producer is killed in the middle of its puts, and nobody has reaped it.
fn a_dead_producer_is_noticed(round: u64) {
    fn put(queue: Queue<u64>) {
        for number in 0.. {
            if queue.put(number).is_err() {
                return;
            }
        }
    }
    let queue = Queue::bounded(1 << 16).unwrap();
    let process = spawn(put, queue.clone()).unwrap();
    queue.get().unwrap();
    let held = fill(0);
    let since = Instant::now();
    while since.elapsed() < Duration::from_micros(200 + 7 * round) {
        let _ = queue.try_get();
    }
    // SAFETY: a signal for an own child that was not reaped.
    unsafe { libc::kill(process.pid() as i32, libc::SIGKILL) };
    while queue.get_timeout(Duration::from_millis(1)).is_ok() {}
    queue.put(u64::MAX).unwrap();
    // Behind the slot that the dead had claimed. Without an end when the death is not noticed.
    while queue.get().unwrap() != u64::MAX {}
    drop(held);
    process.wait();
}

//! Eight workers at many tasks while one of them is killed every few milliseconds: every task has exactly one outcome, results are
//! right, at most one task is lost a kill, and the memory is as it was.
//!
//! SOAK_MESSAGES says how many tasks (100,000), SOAK_SEED repeats the choices of a run (not its timing).

#![allow(clippy::disallowed_types)] // no models here, so plain atomics

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{Pool, TaskError, active_children, family, spawn};
use rustix::process::{Pid, Signal, kill_process};

#[path = "../common/guard.rs"]
mod guard;
#[path = "../soak/random.rs"]
#[allow(dead_code)]
mod random;

use random::Random;

const WORKERS: usize = 8;

/// Takes some microseconds, sometimes more; the result is small, or large.
fn task(n: u64) -> Vec<u64> {
    let spins = if n % 1000 == 0 { 100_000 } else { n % 50 * 100 };
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    vec![n * 3; if n % 200 == 7 { 2000 } else { n as usize % 4 }]
}

fn is_right(n: u64, result: &[u64]) -> bool {
    let len = if n % 200 == 7 { 2000 } else { n as usize % 4 };
    result.len() == len && result.iter().all(|word| *word == n * 3)
}

#[derive(Default)]
struct Books {
    right: u64,
    lost: u64,
}

impl Books {
    fn note(&mut self, n: u64, outcome: Result<Vec<u64>, TaskError>) {
        match outcome {
            Ok(result) => {
                assert!(is_right(n, &result), "task {n}: {} words", result.len());
                self.right += 1;
            }
            Err(TaskError::WorkerDied { .. }) => self.lost += 1,
            Err(other) => panic!("task {n}: {other:?}"),
        }
    }
}

#[test]
fn every_task_has_one_outcome() {
    let number = |name: &str| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let tasks = number("SOAK_MESSAGES").unwrap_or(100_000);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let seed = number("SOAK_SEED").unwrap_or(now.as_nanos() as u64);
    eprintln!("pool soak: SOAK_MESSAGES={tasks} SOAK_SEED={seed}");
    let patience = Duration::from_secs(100 + tasks / 1000);
    let _watch = guard::watch_for(patience);

    // Whatever a family sets up once, it has set up after this.
    spawn(|()| (), ()).unwrap().join().unwrap();
    let before = family::stats();
    let begun = Instant::now();
    let pool = Pool::new(WORKERS).unwrap();
    let (over, kills) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut books = Books::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(seed);
            while !over.load(Relaxed) {
                thread::sleep(Duration::from_micros(1000 + random.below(4000)));
                let workers = active_children();
                if workers.is_empty() {
                    continue;
                }
                let worker = &workers[random.below(workers.len() as u64) as usize];
                // It is reaped by nobody before its handle here is gone.
                let pid = Pid::from_raw(worker.pid() as i32).unwrap();
                if worker.is_alive() && kill_process(pid, Signal::KILL).is_ok() {
                    kills.fetch_add(1, Relaxed);
                }
            }
        });
        let mut random = Random(seed ^ 1);
        let mut next = 0;
        while next < tasks {
            let count = (1 + random.below(5000)).min(tasks - next);
            let numbers = next..next + count;
            let chunk = 1 + random.below(40) as usize;
            match random.below(3) {
                0 => {
                    let results: Vec<_> =
                        numbers.clone().map(|n| pool.apply_async(task, n)).collect();
                    for (n, result) in numbers.zip(results) {
                        books.note(n, result.get());
                    }
                }
                1 => {
                    let outcomes = pool.imap_chunked(task, numbers.clone(), chunk);
                    let mut seen = 0;
                    for (n, outcome) in numbers.zip(outcomes) {
                        books.note(n, outcome);
                        seen += 1;
                    }
                    assert_eq!(seen, count);
                }
                _ => {
                    // Which is which the results say; those that are empty say nothing.
                    let outcomes: Vec<_> =
                        pool.imap_unordered_chunked(task, numbers, chunk).collect();
                    assert_eq!(outcomes.len() as u64, count);
                    for outcome in outcomes {
                        let n = match &outcome {
                            Ok(result) => result.first().map_or(0, |word| word / 3),
                            Err(_) => 0,
                        };
                        books.note(n, outcome);
                    }
                }
            }
            next += count;
        }
        over.store(true, Relaxed);
    });
    let kills = kills.into_inner();
    eprintln!(
        "pool soak: {} right, {} lost by {kills} kills; {:.1} s",
        books.right,
        books.lost,
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(books.right + books.lost, tasks);
    assert!(books.lost <= kills);
    assert!(kills > 0);

    pool.close();
    pool.join().unwrap();
    drop(pool);
    let after = family::stats();
    assert_eq!(
        after.bytes_in_use, before.bytes_in_use,
        "{before:?} {after:?}"
    );
    assert_eq!(after.members, before.members, "{before:?} {after:?}");
    assert!(active_children().is_empty());
}

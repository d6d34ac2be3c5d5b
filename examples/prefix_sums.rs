//! Prefix sums of a large array by several processes, in the array itself: each sums its part, they meet at a barrier, each adds
//! what stands before its part. A shared counter says how much was done.

#![allow(clippy::disallowed_types)] // no models here, so plain atomics

use multiprocess::{Array, Barrier, Value, spawn};
use std::error::Error;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const ITEMS: usize = 1 << 20;
const WORKERS: usize = 4;

type Work = (Array<AtomicU64>, Array<u64>, Barrier, Value<u64>, usize);

fn part(worker: usize) -> Range<usize> {
    ITEMS / WORKERS * worker..ITEMS / WORKERS * (worker + 1)
}

fn work((numbers, totals, barrier, done, worker): Work) {
    let mine = &numbers.as_atomics()[part(worker)];
    let mut sum = 0;
    for number in mine {
        sum += number.load(Relaxed);
        number.store(sum, Relaxed);
    }
    totals.set(worker, sum).expect("nobody died with it");
    // Now everybody's total is there.
    barrier.wait().expect("all come");
    let before: u64 = totals.lock().expect("nobody died with it")[..worker]
        .iter()
        .sum();
    for number in mine {
        number.store(number.load(Relaxed) + before, Relaxed);
    }
    done.update(|done| *done += mine.len() as u64)
        .expect("nobody died with it");
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = Array::<AtomicU64>::zeroed(ITEMS)?;
    for (i, number) in numbers.as_atomics().iter().enumerate() {
        number.store(i as u64 % 10, Relaxed);
    }
    let (totals, barrier) = (Array::zeroed(WORKERS)?, Barrier::new(WORKERS)?);
    let done = Value::new(0)?;
    let workers: Result<Vec<_>, _> = (0..WORKERS)
        .map(|worker| {
            let work_for = (
                numbers.clone(),
                totals.clone(),
                barrier.clone(),
                done.clone(),
                worker,
            );
            spawn(work, work_for)
        })
        .collect();
    for worker in workers? {
        worker.join()?;
    }
    let mut sum = 0;
    for (i, number) in numbers.as_atomics().iter().enumerate() {
        sum += i as u64 % 10;
        assert_eq!(number.load(Relaxed), sum, "item {i}");
    }
    let done = done.get().map_err(|error| error.without_guard())?;
    println!("{done} prefix sums, the last is {sum}");
    Ok(())
}

//! A counter that many processes raise: as a value behind its lock, as an atomic, and wrongly, as two calls.

#![allow(clippy::disallowed_types)] // no models here, so plain atomics

use multiprocess::{Value, spawn};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PROCESSES: u64 = 8;
const TIMES: u64 = 10_000;

type Counters = (Value<u64>, Value<AtomicU64>, Value<u64>);

fn count((locked, atomic, torn): Counters) {
    for _ in 0..TIMES {
        locked.update(|n| *n += 1).expect("nobody died with it");
        atomic.as_atomic().fetch_add(1, Relaxed);
        // Each call is one step, the two are not.
        let seen = torn.get().expect("nobody died with it");
        torn.set(seen + 1).expect("a member of the family");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let counters = (
        Value::new(0)?,
        Value::new(AtomicU64::new(0))?,
        Value::new(0)?,
    );
    let workers: Result<Vec<_>, _> = (0..PROCESSES)
        .map(|_| spawn(count, counters.clone()))
        .collect();
    for worker in workers? {
        worker.join()?;
    }
    let (locked, atomic, torn) = counters;
    let locked = locked.get().map_err(|error| error.without_guard())?;
    let torn = torn.get().map_err(|error| error.without_guard())?;
    println!("update:     {locked}");
    println!("fetch_add:  {}", atomic.as_atomic().load(Relaxed));
    println!("get + set:  {torn} (what was lost in between was lost)");
    assert_eq!(locked, PROCESSES * TIMES);
    assert_eq!(atomic.as_atomic().load(Relaxed), PROCESSES * TIMES);
    Ok(())
}

//! The CPUs that are used, and the clock.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::hint;
use std::sync::OnceLock;
use std::time::Duration;

/// Where a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Place {
    /// On the first of the two CPUs.
    First,
    /// On the second.
    Second,
    /// On either of them.
    Either,
}

/// The two CPUs of all measurements: the first two that this process may use, or those that the variable
/// `BENCH_CPUS` names (`BENCH_CPUS=2,3`). The same one twice where there is only one.
pub fn cpus() -> [usize; 2] {
    static CPUS: OnceLock<[usize; 2]> = OnceLock::new();
    *CPUS.get_or_init(|| {
        let named = std::env::var("BENCH_CPUS").unwrap_or_default();
        let named: Vec<usize> = named.split(',').filter_map(|n| n.parse().ok()).collect();
        let allowed = sched_getaffinity(None).expect("the CPUs of this process");
        let mut found: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&cpu| allowed.is_set(cpu))
            .collect();
        if named.len() == 2 {
            found = named;
        }
        [found[0], *found.get(1).unwrap_or(&found[0])]
    })
}

/// Whether two processes can run at the same time.
pub fn has_two_cpus() -> bool {
    let [first, second] = cpus();
    first != second
}

/// Keeps the calling thread at its place.
pub fn pin(place: Place) {
    let [first, second] = cpus();
    let mut set = CpuSet::new();
    if place != Place::Second {
        set.set(first);
    }
    if place != Place::First {
        set.set(second);
    }
    // A CPU that was taken away meanwhile makes the figures worse, not wrong.
    let _ = sched_setaffinity(None, &set);
}

/// Nanoseconds on a clock that all processes share.
pub fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Keeps this CPU busy for `time`, so that whoever waits on another one goes to sleep.
pub fn pause(time: Duration) {
    let end = now() + time.as_nanos() as u64;
    while now() < end {
        hint::spin_loop();
    }
}

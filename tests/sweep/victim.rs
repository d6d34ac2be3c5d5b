//! What runs inside a victim: the operation between two marks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::arch::trap;

/// Aligns the stack of the function that owns it. Where a victim's stack begins depends on its environment, and frames that
/// align themselves would otherwise lie at other depths in one victim than in another.
#[repr(align(4096))]
struct Page {
    _byte: u8,
}

/// Runs an operation between two marks, once a tracer is there.
#[inline(always)]
pub fn marked<R>(operation: impl FnOnce() -> R) -> R {
    let page = Page { _byte: 0 };
    black_box(&page);
    await_tracer();
    trap();
    let result = operation();
    trap();
    result
}

/// A single mark, once a tracer is there.
#[inline(always)]
pub fn mark() {
    await_tracer();
    trap();
}

/// A mark without a tracer would kill; a victim whose tracer does not come gives up.
#[inline(never)]
pub fn await_tracer() {
    const LONG: Duration = Duration::from_secs(30);
    let start = Instant::now();
    while !is_traced() {
        assert!(start.elapsed() < LONG, "no tracer has come");
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn is_traced() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}

//! Sleeping on a word of memory, shared between processes (not `FUTEX_PRIVATE`).
#![allow(clippy::disallowed_types, reason = "below `primitive`")]

use core::sync::atomic::AtomicU32;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::thread::futex::{self, Flags, Timespec, WaitFlags, WaitvFlags};

/// `futex(word, FUTEX_WAIT, expected, timeout)`
///
/// Sleeps while the word holds `expected`, until it is woken. `Ok` says no more than "look again": it comes back
/// for a wake, a word that holds something else, a signal, or for no reason. A timeout that ran
/// out is an error of kind `TimedOut`; one that the clock cannot hold is for ever.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
    match futex::wait(word, Flags::empty(), expected, timeout.as_ref()) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `futex(word, FUTEX_WAKE, n)`: wakes up to `n` sleepers, says how many it woke.
pub(crate) fn wake(word: &AtomicU32, n: u32) -> usize {
    // The kernel takes a signed number, and wakes one even when asked for none.
    match n.min(i32::MAX as u32) {
        0 => 0,
        n => futex::wake(word, Flags::empty(), n).unwrap_or(0),
    }
}

/// `futex_waitv(words, n, 0, end, CLOCK_MONOTONIC)`: sleeps while each word holds what is expected of it, at most 128.
///
/// `Ok` as for [`wait`], also when the time is over. Kernels before 5.16 do not have it, and some filters forbid it: `Unsupported`.
#[cfg_attr(
    all(test, loom),
    allow(dead_code, reason = "no model waits for several")
)]
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], timeout: Duration) -> io::Result<()> {
    let waiters: Vec<futex::Wait> = words
        .iter()
        .map(|(word, expected)| {
            let mut wait = futex::Wait::new();
            wait.val = (*expected).into();
            wait.uaddr = word.as_ptr().cast::<core::ffi::c_void>().into();
            wait.flags = WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let end = Timespec::try_from(timeout)
        .ok()
        .and_then(|left| now.checked_add(left));
    match futex::waitv(
        &waiters,
        WaitvFlags::empty(),
        end.as_ref(),
        ClockId::Monotonic,
    ) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
        // Or a filter forbids it.
        Err(Errno::NOSYS | Errno::PERM) => Err(io::ErrorKind::Unsupported.into()),
        Err(error) => Err(error.into()),
    }
}

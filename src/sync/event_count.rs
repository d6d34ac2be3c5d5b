//! An event count: who waits for a condition that other processes make true, and who makes it true, meet in one word.

use crate::arena::Shared;
use crate::primitive::{Fences, FutexWord};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

/// `sequence:31 | somebody may sleep:1`, on cache lines of its own. There is no number of sleepers: a killed one could
/// not take itself off it.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct EventCount {
    word: FutexWord,
}

const SLEEPERS: u32 = 1;
const STEP: u32 = 2;

// SAFETY: one atomic word, any value of which is valid.
unsafe impl Shared for EventCount {}

impl EventCount {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        EventCount {
            word: FutexWord::new(0),
        }
    }

    /// In a model: somebody has died, and all sleeps end by their time limit.
    #[cfg(all(test, loom))]
    pub(crate) fn expire(&self) {
        self.word.expire();
    }

    /// Wakes one sleeper, after the caller has made something true that one can use. No system call when nobody sleeps.
    #[inline]
    pub(crate) fn notify_one(&self, fences: Fences) {
        self.notify(1, fences);
    }

    /// The same for `count` sleepers, after something was made true that so many can use.
    #[inline]
    pub(crate) fn notify(&self, count: u32, fences: Fences) {
        // (S) pairs with (W) in `prepare`: either this sees the flag, or the waiter sees what was made true.
        fences.light();
        if self.word.word().load(Relaxed) & SLEEPERS != 0 {
            self.wake(count);
        }
    }

    /// The same as `notify_one`; whether somebody slept.
    pub(crate) fn has_woken_one(&self, fences: Fences) -> bool {
        fences.light();
        self.word.word().load(Relaxed) & SLEEPERS != 0 && self.wake(1)
    }

    /// Wakes one sleeper if there is one and this holds, which is what it has written down before it went to sleep.
    #[inline]
    pub(crate) fn notify_one_if(&self, fences: Fences, holds: impl FnOnce() -> bool) {
        fences.light();
        if self.word.word().load(Relaxed) & SLEEPERS != 0 && holds() {
            self.wake(1);
        }
    }

    /// Wakes every sleeper.
    pub(crate) fn notify_all(&self, fences: Fences) {
        fences.light();
        if self.word.word().load(Relaxed) & SLEEPERS != 0 {
            self.wake(u32::MAX >> 1);
        }
    }

    #[cold]
    fn wake(&self, count: u32) -> bool {
        let word = self.word.word();
        // Who has prepared but does not sleep yet will not: the word is no longer what he saw.
        // (N) pairs with `has_moved`.
        word.fetch_add(STEP, Release);
        if self.word.wake(count) > 0 {
            return true;
        }
        // Nobody slept, so the flag may go; but somebody may have begun to sleep on the old word just now.
        let seen = word.load(Relaxed);
        let cleared = (seen & !SLEEPERS).wrapping_add(STEP);
        let swapped = word.compare_exchange(seen, cleared, Relaxed, Relaxed);
        swapped.is_ok() && self.word.wake(u32::MAX >> 1) > 0
    }

    /// Announces a sleeper. The caller then looks at its condition again, and sleeps with the key only if it still has to.
    pub(crate) fn prepare(&self, fences: Fences) -> u32 {
        let key = self.word.word().fetch_or(SLEEPERS, Relaxed) | SLEEPERS;
        // (W) pairs with (S).
        fences.heavy();
        key
    }

    /// Whether something was notified since `prepare` returned that key. If so, whoever asks sees what was made true.
    pub(crate) fn has_moved(&self, key: u32) -> bool {
        // (N) pairs with `wake`.
        self.word.word().load(Acquire) | SLEEPERS != key
    }

    /// The first half of `prepare`, for who sleeps on several and fences once: the word to sleep on and the key.
    pub(crate) fn announce(&self) -> (&FutexWord, u32) {
        let key = self.word.word().fetch_or(SLEEPERS, Relaxed) | SLEEPERS;
        (&self.word, key)
    }

    /// Sleeps unless something was notified since `prepare`; at most for `slice`, and then this says false.
    pub(crate) fn sleep(&self, key: u32, slice: Duration) -> bool {
        self.word.wait(key, slice)
    }
}

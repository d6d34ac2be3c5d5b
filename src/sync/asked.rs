//! When the dead were asked about last. Kept from call to call: calls may be shorter than the time between two questions, and then none
//! of them would ever ask.

use super::wait::SLICE;
use crate::primitive::private::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// `milliseconds:63 | asked then:1`, by this process's clock. Without the bit nothing was asked yet and the time began then.
#[derive(Debug, Default)]
pub(crate) struct Asked(AtomicU64);

impl Asked {
    /// The time until the first question begins, unless it has begun.
    pub(super) fn begin(&self, now: u64) {
        if self.0.load(Relaxed) == 0 {
            self.0.store(now << 1, Relaxed);
        }
    }

    pub(super) fn note(&self, now: u64) {
        self.0.store(now << 1 | 1, Relaxed);
    }

    /// Since the last question, or since the time began.
    pub(super) fn age(&self, now: u64) -> Duration {
        // Another thread may have asked since `now`.
        Duration::from_millis(now.saturating_sub(self.0.load(Relaxed) >> 1))
    }

    /// Whether nothing was asked yet, or a slice ago.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.0.load(Relaxed) & 1 == 0 || self.age(now) >= SLICE
    }

    /// The same for who asks then: one thread is told so.
    pub(super) fn may_ask(&self, now: u64) -> bool {
        let seen = self.0.load(Relaxed);
        self.is_due(now)
            && self
                .0
                .compare_exchange(seen, now << 1 | 1, Relaxed, Relaxed)
                .is_ok()
    }
}

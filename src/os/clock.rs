//! The monotonic clock, and the end of a bounded wait on it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// `clock_gettime(CLOCK_MONOTONIC)`: milliseconds since this process first asked.
pub(crate) fn milliseconds() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// A point in time at which a wait gives up; made once a call, so that it bounds the whole call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(End);

#[derive(Clone, Copy, Debug)]
enum End {
    /// Kept apart from a point in time, so that a call that must not wait reads no clock.
    Now,
    At(Instant),
    Never,
}

impl Deadline {
    /// Already over: for calls that must not wait.
    pub(crate) const NOW: Deadline = Deadline(End::Now);
    /// For calls without a timeout.
    pub(crate) const NEVER: Deadline = Deadline(End::Never);

    /// Whether it never comes.
    pub(crate) fn is_never(&self) -> bool {
        matches!(self.0, End::Never)
    }

    /// `clock_gettime(CLOCK_MONOTONIC)`: what is left, zero once it is over; `None` is for ever.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        match self.0 {
            End::Now => Some(Duration::ZERO),
            End::At(end) => Some(end.saturating_duration_since(Instant::now())),
            End::Never => None,
        }
    }

    /// `clock_gettime(CLOCK_MONOTONIC)`: whether nothing is left.
    pub(crate) fn expired(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// `clock_gettime(CLOCK_MONOTONIC)`: how long to sleep at once when nobody shall sleep longer
    /// than `max`.
    pub(crate) fn slice(&self, max: Duration) -> Duration {
        self.remaining().map_or(max, |left| left.min(max))
    }
}

impl From<Duration> for Deadline {
    /// `clock_gettime(CLOCK_MONOTONIC)`: a duration that the clock cannot hold is for ever.
    fn from(timeout: Duration) -> Deadline {
        if timeout.is_zero() {
            return Deadline::NOW;
        }
        match Instant::now().checked_add(timeout) {
            Some(end) => Deadline(End::At(end)),
            None => Deadline::NEVER,
        }
    }
}

impl From<Option<Duration>> for Deadline {
    /// `clock_gettime(CLOCK_MONOTONIC)`: `None` is for ever.
    fn from(timeout: Option<Duration>) -> Deadline {
        timeout.map_or(Deadline::NEVER, Deadline::from)
    }
}

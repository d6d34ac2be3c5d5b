//! A point where so many meet.
#![forbid(unsafe_code)]

use super::BARRIER_KIND;
use crate::arena::{self, Arena};
use crate::codec;
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::sync::{LocalBarrier, NotMet};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A point at which a fixed number of processes and threads wait for each other, again and again.
///
/// A handle is cheap to clone, and can be an argument of a process or part of a message. When a party's time is over, somebody
/// calls [`abort`](Self::abort), or a process dies inside a wait, the barrier is broken: all who wait and all who come are told so,
/// until somebody calls [`reset`](Self::reset). A death is noticed within 100 ms; who comes as the last one before that has met the dead
/// one. A process that dies before it comes, or after the parties have met, breaks nothing. A party that runs so slowly, or is stopped
/// for so long, that the barrier was reset more than 16 times between the meeting and its own next look is told that it was broken.
///
/// ```
/// use multiprocess::{Array, Barrier, spawn};
///
/// fn work((barrier, marks, i): (Barrier, Array<u32>, usize)) -> u32 {
///     marks.set(i, 1).unwrap();
///     barrier.wait().unwrap(); // now all have set theirs
///     marks.lock().unwrap().iter().sum()
/// }
///
/// let (barrier, marks) = (Barrier::new(3)?, Array::zeroed(3)?);
/// let workers = [0, 1, 2].map(|i| spawn(work, (barrier.clone(), marks.clone(), i)).unwrap());
/// for worker in workers {
///     assert_eq!(worker.join()?, 3);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Barrier {
    local: Arc<LocalBarrier>,
}

/// Why the parties did not meet.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierError {
    /// The barrier is broken: somebody's time was over, somebody aborted or reset it, or died.
    Broken,
    /// The time was over; the barrier is broken with that, unless the time was over before there was a place in the round.
    TimedOut,
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork,
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BarrierError::Broken => f.write_str("the barrier is broken"),
            BarrierError::TimedOut => f.write_str("the other parties did not come in time"),
            BarrierError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl std::error::Error for BarrierError {}

impl Barrier {
    /// A barrier for so many parties.
    ///
    /// # Errors
    /// [`Error::InvalidCapacity`] for 0 and for more than 2^20, [`Error::NoMemory`], [`Error::ForeignFork`].
    pub fn new(parties: usize) -> io::Result<Barrier> {
        Barrier::new_in(arena::family()?, parties)
    }

    /// A barrier in this arena.
    pub(crate) fn new_in(arena: &Arena, parties: usize) -> io::Result<Barrier> {
        let local = LocalBarrier::create(arena, &BARRIER_KIND, parties)?;
        Ok(Barrier { local })
    }

    fn is_here(&self) -> bool {
        self.local.arena().check().is_ok()
    }

    fn wait_until(&self, deadline: Deadline, f: impl FnOnce()) -> Result<usize, BarrierError> {
        if !self.is_here() {
            return Err(BarrierError::ForeignFork);
        }
        self.local.wait(deadline, f).map_err(|why| match why {
            NotMet::Broken => BarrierError::Broken,
            NotMet::TimedOut => BarrierError::TimedOut,
        })
    }

    /// Waits until all parties have come. Says as which one, from 0 on, the caller came.
    ///
    /// # Errors
    /// [`BarrierError::Broken`], [`BarrierError::ForeignFork`].
    pub fn wait(&self) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::NEVER, || {})
    }

    /// The same for `timeout` at most; when it is over before all have come, the barrier is broken. One that the clock cannot hold
    /// is for ever.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and [`BarrierError::TimedOut`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::from(timeout), || {})
    }

    /// The same as [`wait`](Self::wait); the last to come calls `f` before anybody goes on. `f` must not wait at this barrier: its
    /// caller has a place already, and would wait for itself.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    /// As `f` does; the barrier is broken with that.
    pub fn wait_with(&self, f: impl FnOnce()) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::NEVER, f)
    }

    /// Breaks it: who waits and who comes is told so, until it is reset.
    pub fn abort(&self) {
        if self.is_here() {
            self.local.abort();
        }
    }

    /// Makes it as new. Those who wait are told that it was broken; those who come from now on begin a new round.
    pub fn reset(&self) {
        if self.is_here() {
            self.local.reset();
        }
    }

    /// Whether it is broken.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.is_here() && self.local.is_broken()
    }

    /// How many must come.
    pub fn parties(&self) -> usize {
        match self.is_here() {
            true => self.local.parties(),
            false => 0,
        }
    }

    /// How many wait; may have changed already.
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        match self.is_here() {
            true => self.local.waiting(),
            false => 0,
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(&self.local, serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalBarrier::new(object));
        let local = codec::deserialize_handle(deserializer, BARRIER_KIND.id, 0, make)?;
        Ok(Barrier { local })
    }
}

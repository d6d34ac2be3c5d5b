//! Waiting, without a lock, for what others do under it.
#![forbid(unsafe_code)]

use super::CONDITION_KIND;
use super::mutex::Guard;
use super::rlock::RLockGuard;
use crate::arena::{self, Arena};
use crate::codec;
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::sync::{LocalCondition, Taken};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Waiting for a notification, without the lock under which what is waited for is looked at and changed.
///
/// A handle is cheap to clone, and can be an argument of a process or part of a message. It goes with any [`Lock`](crate::Lock) or
/// [`RLock`](crate::RLock); all who wait should use the same one. Whoever waits gives the lock up as a whole and has it
/// again, as often as before, when the call returns.
///
/// Notifications go to those who wait at that moment, the longest first; nobody who comes later gets one, and who notifies
/// waits for nobody. A process that is killed while it waits costs the others nothing: a notification that it was given
/// goes to another, within 100 ms, unless it had its lock again already. When that happens a waiter may be woken once too often:
/// look again at what you wait for, as [`wait_while`](Self::wait_while) does.
///
/// ```
/// use multiprocess::{Condition, Lock, spawn};
///
/// fn consume((items, more): (Lock<u32>, Condition)) -> u32 {
///     let items = items.lock().unwrap();
///     let mut items = more.wait_while(items, |items| **items == 0).unwrap();
///     *items -= 1;
///     *items
/// }
///
/// let (items, more) = (Lock::new(0)?, Condition::new()?);
/// let child = spawn(consume, (items.clone(), more.clone()))?;
/// *items.lock().unwrap() += 5;
/// more.notify_one();
/// assert_eq!(child.join()?, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Condition {
    local: Arc<LocalCondition>,
}

/// What a condition can wait with: the guard of a [`Lock`](crate::Lock) or an [`RLock`](crate::RLock). Not to be implemented outside this
/// crate.
pub trait AnyGuard: sealed::Suspend {}

mod sealed {
    use crate::sync::Taken;

    pub trait Suspend {
        /// Without the lock while `meanwhile` runs.
        #[allow(private_interfaces, reason = "sealed")]
        fn suspend<R>(&mut self, meanwhile: impl FnOnce() -> R) -> (Taken, R);
    }
}

impl<T> AnyGuard for Guard<'_, T> {}

#[allow(private_interfaces, reason = "sealed")]
impl<T> sealed::Suspend for Guard<'_, T> {
    fn suspend<R>(&mut self, meanwhile: impl FnOnce() -> R) -> (Taken, R) {
        self.data.suspend(meanwhile)
    }
}

impl AnyGuard for RLockGuard<'_> {}

#[allow(private_interfaces, reason = "sealed")]
impl sealed::Suspend for RLockGuard<'_> {
    fn suspend<R>(&mut self, meanwhile: impl FnOnce() -> R) -> (Taken, R) {
        self.local.suspend_whole(meanwhile)
    }
}

/// Why a wait did not end as it should. The guard is inside, with the lock.
#[non_exhaustive]
pub enum WaitError<G> {
    /// The wait is over, but a process died while it held the lock: see [`LockError::OwnerDied`](crate::LockError::OwnerDied). Whether there
    /// was a notification or the time was over it does not say; a notification is used up. Look at what you wait for.
    OwnerDied(G),
    /// No shared memory left to enter another waiter: nothing was waited for.
    NoMemory(G),
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork(G),
}

impl<G> WaitError<G> {
    /// The guard.
    pub fn into_guard(self) -> G {
        match self {
            WaitError::OwnerDied(guard)
            | WaitError::NoMemory(guard)
            | WaitError::ForeignFork(guard) => guard,
        }
    }
}

impl<G> fmt::Debug for WaitError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitError::OwnerDied(_) => "OwnerDied(..)",
            WaitError::NoMemory(_) => "NoMemory(..)",
            WaitError::ForeignFork(_) => "ForeignFork(..)",
        })
    }
}

impl<G> fmt::Display for WaitError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::OwnerDied(_) => f.write_str("a process died while it held the lock"),
            WaitError::NoMemory(_) => Error::NoMemory.fmt(f),
            WaitError::ForeignFork(_) => Error::ForeignFork.fmt(f),
        }
    }
}

impl<G> std::error::Error for WaitError<G> {}

impl Condition {
    /// A condition that nobody waits for.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::ForeignFork`].
    pub fn new() -> io::Result<Condition> {
        Condition::new_in(arena::family()?)
    }

    /// A condition in this arena.
    pub(crate) fn new_in(arena: &Arena) -> io::Result<Condition> {
        let local = LocalCondition::create(arena, &CONDITION_KIND)?;
        Ok(Condition { local })
    }

    /// Gives up the lock, waits for a notification, takes the lock again.
    ///
    /// # Errors
    /// [`WaitError::OwnerDied`] when a process died meanwhile with the lock, [`WaitError::NoMemory`], [`WaitError::ForeignFork`].
    pub fn wait<G: AnyGuard>(&self, guard: G) -> Result<G, WaitError<G>> {
        let (guard, _) = self.wait_until(guard, Deadline::NEVER)?;
        Ok(guard)
    }

    /// The same, for a notification within `timeout`; whether there was one. Taking the lock again comes on top and may take
    /// longer. One that the clock cannot hold is for ever.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout<G: AnyGuard>(
        &self,
        guard: G,
        timeout: Duration,
    ) -> Result<(G, bool), WaitError<G>> {
        self.wait_until(guard, Deadline::from(timeout))
    }

    /// Waits again and again as long as `condition` is true.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), at once.
    ///
    /// # Panics
    /// As `condition` does; the lock is released.
    #[doc(alias = "wait_for")]
    pub fn wait_while<G: AnyGuard>(
        &self,
        mut guard: G,
        mut condition: impl FnMut(&mut G) -> bool,
    ) -> Result<G, WaitError<G>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// The same for notifications within `timeout`. Whether `condition` was false at the end.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), at once.
    ///
    /// # Panics
    /// As `condition` does; the lock is released.
    pub fn wait_timeout_while<G: AnyGuard>(
        &self,
        mut guard: G,
        timeout: Duration,
        mut condition: impl FnMut(&mut G) -> bool,
    ) -> Result<(G, bool), WaitError<G>> {
        let end = Instant::now().checked_add(timeout);
        loop {
            if !condition(&mut guard) {
                return Ok((guard, true));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok((guard, false));
            }
            guard = self.wait_until(guard, Deadline::from(left))?.0;
        }
    }

    fn wait_until<G: AnyGuard>(
        &self,
        mut guard: G,
        deadline: Deadline,
    ) -> Result<(G, bool), WaitError<G>> {
        if self.local.arena().check().is_err() {
            return Err(WaitError::ForeignFork(guard));
        }
        // Entered under the lock: whoever takes it from now on and notifies, notifies this one too.
        let Ok(entered) = self.local.enter() else {
            return Err(WaitError::NoMemory(guard));
        };
        let (taken, notified) = guard.suspend(|| entered.wait(deadline));
        if notified {
            entered.take_note();
        }
        match taken {
            Taken::Sound => Ok((guard, notified)),
            Taken::OwnerDied => Err(WaitError::OwnerDied(guard)),
        }
    }

    /// Notifies the one who has waited the longest, if anybody waits. With the lock or without.
    #[doc(alias = "notify")]
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Notifies `count` of those who wait, the longest first.
    pub fn notify(&self, count: usize) {
        if self.local.arena().check().is_ok() {
            self.local.notify(count);
        }
    }

    /// Notifies everybody who waits now.
    pub fn notify_all(&self) {
        if self.local.arena().check().is_ok() {
            self.local.notify_all();
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = match self.local.arena().check() {
            Ok(()) => self.local.waiting(),
            Err(_) => 0,
        };
        f.debug_struct("Condition")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(&self.local, serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalCondition::new(object));
        let local = codec::deserialize_handle(deserializer, CONDITION_KIND.id, 0, make)?;
        Ok(Condition { local })
    }
}

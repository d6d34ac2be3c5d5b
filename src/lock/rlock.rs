//! A lock that its holder can take again.
#![forbid(unsafe_code)]

use super::RLOCK_KIND;
use super::mutex::NoGuard;
use crate::arena::{self, Arena};
use crate::codec;
use crate::error::{LockError, ReleaseError};
use crate::os::clock::Deadline;
use crate::sync::{self, LocalLock, Locked, Taken};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

/// A [`Lock`](crate::Lock) that the thread that holds it can take again; others get it when all its guards are gone.
///
/// It guards no data of its own, since its holder can have several guards at a time. A process that dies while it holds it
/// leaves it to the next one, which is told so, as with a `Lock`. A thread that ends with it, its guard forgotten, leaves it
/// locked as long as its process lives; the system gives the numbers of ended threads out again, and a new thread of that
/// process with the same number holds it.
///
/// ```
/// use multiprocess::RLock;
///
/// let lock = RLock::new()?;
/// let outer = lock.lock().unwrap();
/// let inner = lock.lock().unwrap();
/// drop(outer);
/// assert!(lock.is_locked());
/// drop(inner);
/// assert!(!lock.is_locked());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct RLock {
    inner: Locked<()>,
}

impl RLock {
    /// A free lock.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn new() -> io::Result<RLock> {
        RLock::new_in(arena::family()?)
    }

    /// A lock in this arena.
    pub(crate) fn new_in(arena: &Arena) -> io::Result<RLock> {
        let inner = Locked::one(arena, &RLOCK_KIND, ())?;
        Ok(RLock { inner })
    }

    fn local(&self) -> &LocalLock {
        self.inner.local()
    }

    /// Takes the lock, once more if the calling thread has it; waits while another holds it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] with the guard, [`LockError::ForeignFork`].
    ///
    /// # Panics
    /// When the thread holds it 2^32 - 1 times.
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_until(Deadline::NEVER, LockError::TimedOut)
    }

    /// Takes the lock if no other thread holds it, or only a dead process does.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`].
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_until(Deadline::NOW, LockError::WouldBlock)
    }

    /// Takes the lock; waits for it, `timeout` at most. One that the clock cannot hold is for ever, zero means one try.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_until(Deadline::from(timeout), LockError::TimedOut)
    }

    fn lock_until<'a>(
        &'a self,
        deadline: Deadline,
        late: LockError<RLockGuard<'a>>,
    ) -> Result<RLockGuard<'a>, LockError<RLockGuard<'a>>> {
        let local = self.local();
        if local.arena().check().is_err() {
            return Err(LockError::ForeignFork);
        }
        let taken = local.lock_recursively(deadline);
        let taken = taken.map_err(|refused| NoGuard::Refused(refused).named(late))?;
        let guard = RLockGuard {
            local,
            thread: PhantomData,
        };
        match taken {
            Taken::Sound => Ok(guard),
            Taken::OwnerDied => Err(LockError::OwnerDied(guard)),
        }
    }

    /// Gives up one of the times that the calling thread has taken the lock and left with [`RLockGuard::forget`].
    ///
    /// # Errors
    /// [`ReleaseError::NotOwned`] when another thread holds it or nobody, or when there are guards for all these times;
    /// [`ReleaseError::ForeignFork`].
    pub fn release(&self) -> Result<(), ReleaseError> {
        let local = self.local();
        if local.arena().check().is_err() {
            return Err(ReleaseError::ForeignFork);
        }
        match local.release_kept() {
            true => Ok(()),
            false => Err(ReleaseError::NotOwned),
        }
    }

    /// Whether somebody holds it. Unless that is the calling thread, it may have changed already.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.local().arena().check().is_ok() && self.local().is_locked()
    }
}

impl fmt::Debug for RLock {
    /// The state, and the pid of the holder as the holder sees it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("RLock");
        self.local().describe(&mut f);
        f.finish_non_exhaustive()
    }
}

/// One of the times that a thread has taken an [`RLock`]; dropping the last one releases the lock.
///
/// ```compile_fail,E0277
/// let lock = multiprocess::RLock::new().unwrap();
/// let guard = lock.lock().unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(move || drop(guard)); // not `Send`
/// });
/// ```
#[must_use = "the lock is released when its guards are dropped"]
pub struct RLockGuard<'a> {
    pub(super) local: &'a LocalLock,
    thread: PhantomData<*const ()>,
}

impl RLockGuard<'_> {
    /// Says that what the lock guards is what it should be, after a holder has died ([`LockError::OwnerDied`]).
    pub fn mark_consistent(&self) {
        if self.local.arena().check().is_ok() {
            self.local.mark_consistent();
        }
    }

    /// Leaves the lock taken this time, for the same thread to [`release`](RLock::release).
    pub fn forget(self) {
        if self.local.arena().check().is_ok() {
            self.local.keep_once();
        }
        std::mem::forget(self);
    }
}

impl Drop for RLockGuard<'_> {
    fn drop(&mut self) {
        if self.local.arena().check().is_ok() {
            self.local.unlock_once();
        }
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RLockGuard")
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl Serialize for RLock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(self.inner.local(), serializer)
    }
}

impl<'de> Deserialize<'de> for RLock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalLock::new(object));
        let hash = sync::type_hash::<()>();
        let local = codec::deserialize_handle(deserializer, RLOCK_KIND.id, hash, make)?;
        let inner = Locked::of(local);
        Ok(RLock { inner })
    }
}

//! A lock that tells its next holder when a holder died.
#![forbid(unsafe_code)]

use super::LOCK_KIND;
use crate::arena::{self, Arena};
use crate::codec;
use crate::error::{LockError, ReleaseError};
use crate::os::clock::Deadline;
use crate::sync::{self, DataGuard, LocalLock, Locked, Refused, Taken};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

/// Mutual exclusion between processes and threads, and the data that it guards; `Lock::new(())` guards nothing of its own.
///
/// A handle is cheap to clone, and can be an argument of a process or part of a message. The lock is released when the
/// [`Guard`] is dropped, by a panic too. A process that ends while it holds the lock, by `kill -9` at any instruction for
/// instance, leaves it to the next one, which is told so: [`LockError::OwnerDied`] carries the guard, and comes back at
/// every call until somebody says [`mark_consistent`](Guard::mark_consistent). Who sleeps is told within 100 ms, who comes later
/// at once (within 10 ms when its process has asked about another holder of this lock just before).
///
/// The data is plain: `FromBytes` and `IntoBytes` of [zerocopy](https://docs.rs/zerocopy), which it derives, so that whatever a dead
/// process left is a valid value, if an inconsistent one. A type with a pointer, with padding, or with values that not
/// every pattern of bits is does not compile:
///
/// ```compile_fail,E0277
/// multiprocess::Lock::new(String::new());
/// ```
/// ```compile_fail,E0277
/// multiprocess::Lock::new((1_u8, 1_u32)); // padding
/// ```
/// ```compile_fail,E0277
/// multiprocess::Lock::new(true); // see `Bool`
/// ```
///
/// Who comes by may take it before those who sleep, until one of these has waited for a millisecond: then it is released for sleepers
/// alone, and who comes stands back for them, 10 ms at most. So nobody starves; in turn nobody is served either.
///
/// ```
/// use multiprocess::{Lock, LockError, spawn};
///
/// fn count(lock: Lock<u64>) {
///     for _ in 0..1000 {
///         *lock.lock().unwrap() += 1;
///     }
/// }
///
/// fn fall(lock: Lock<u64>) {
///     let mut guard = lock.lock().unwrap();
///     *guard += 1;
///     std::process::abort();
/// }
///
/// let lock = Lock::new(0)?;
/// let workers = [(); 3].map(|()| spawn(count, lock.clone()).unwrap());
/// for worker in workers {
///     worker.join()?;
/// }
/// assert_eq!(*lock.lock().unwrap(), 3000);
///
/// spawn(fall, lock.clone())?.wait();
/// match lock.lock() {
///     Err(LockError::OwnerDied(mut guard)) => {
///         *guard -= 1;
///         guard.mark_consistent();
///     }
///     other => panic!("{other:?}"),
/// }
/// assert_eq!(*lock.lock().unwrap(), 3000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lock<T = ()> {
    inner: Locked<T>,
}

impl<T> Clone for Lock<T> {
    fn clone(&self) -> Self {
        Lock {
            inner: self.inner.clone(),
        }
    }
}

impl<T> fmt::Debug for Lock<T> {
    /// The state, and the pid of the holder as the holder sees it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Lock");
        self.inner.local().describe(&mut f);
        self.inner.local().describe_left(&mut f);
        f.finish_non_exhaustive()
    }
}

impl<T: FromBytes + IntoBytes + Send + 'static> Lock<T> {
    /// A free lock with this data in shared memory.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn new(data: T) -> io::Result<Lock<T>> {
        Lock::new_in(arena::family()?, data)
    }

    /// A lock in this arena.
    pub(crate) fn new_in(arena: &Arena, data: T) -> io::Result<Lock<T>> {
        let inner = Locked::one(arena, &LOCK_KIND, data)?;
        Ok(Lock { inner })
    }
}

impl<T> Lock<T> {
    /// Takes the lock; waits while somebody else holds it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] with the guard, [`LockError::Deadlock`] when the calling thread holds it, [`LockError::ForeignFork`].
    #[doc(alias = "acquire")]
    #[inline]
    pub fn lock(&self) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        self.lock_until(Deadline::NEVER)
            .map_err(|error| error.named(LockError::TimedOut))
    }

    /// Takes the lock if nobody holds it, or only a dead process does.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`]. The caller's own lock is a [`LockError::Deadlock`] here too: trying again
    /// is of no use.
    #[inline]
    pub fn try_lock(&self) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        self.lock_until(Deadline::NOW)
            .map_err(|error| error.named(LockError::WouldBlock))
    }

    /// Takes the lock; waits for it, `timeout` at most. One that the clock cannot hold is for ever, zero means one try.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        self.lock_until(Deadline::from(timeout))
            .map_err(|error| error.named(LockError::TimedOut))
    }

    #[inline]
    fn lock_until(&self, deadline: Deadline) -> Result<Guard<'_, T>, NoGuard<Guard<'_, T>>> {
        if self.inner.local().arena().check().is_err() {
            return Err(NoGuard::ForeignFork);
        }
        match self.inner.lock_one(deadline) {
            Ok((Taken::Sound, data)) => Ok(Guard { data }),
            Ok((Taken::OwnerDied, data)) => Err(NoGuard::OwnerDied(Guard { data })),
            Err(refused) => Err(NoGuard::Refused(refused)),
        }
    }

    /// Releases a lock that its holder has left locked with [`Guard::forget`], in this process or another. Asks whether that process
    /// lives: some 100 us, unless it is this one.
    ///
    /// # Errors
    /// [`ReleaseError::NotOwned`] when it is free, or somebody has a guard, or the process that left it locked has ended since: then it is
    /// free, and who takes it next gets [`LockError::OwnerDied`]. [`ReleaseError::ForeignFork`].
    pub fn release(&self) -> Result<(), ReleaseError> {
        release(self.inner.local())
    }

    /// Whether somebody holds it. Unless that is the caller, it may have changed already.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        let local = self.inner.local();
        local.arena().check().is_ok() && local.is_locked()
    }
}

/// Why there is no guard, before it is known what the call would say when the time is over.
pub(super) enum NoGuard<G> {
    OwnerDied(G),
    Refused(Refused),
    ForeignFork,
}

impl<G> NoGuard<G> {
    #[cold]
    pub(super) fn named(self, late: LockError<G>) -> LockError<G> {
        match self {
            NoGuard::OwnerDied(guard) => LockError::OwnerDied(guard),
            NoGuard::Refused(Refused::NotNow) => late,
            NoGuard::Refused(Refused::Deadlock) => LockError::Deadlock,
            NoGuard::ForeignFork => LockError::ForeignFork,
        }
    }
}

fn release(local: &LocalLock) -> Result<(), ReleaseError> {
    if local.arena().check().is_err() {
        return Err(ReleaseError::ForeignFork);
    }
    match local.release_forgotten() {
        true => Ok(()),
        false => Err(ReleaseError::NotOwned),
    }
}

/// The right to the data of a [`Lock`]; dropping it releases the lock. It belongs to the thread that took it.
///
/// Forgotten with [`std::mem::forget`] it keeps the lock until its process ends.
///
/// ```compile_fail,E0277
/// let lock = multiprocess::Lock::new(0_u32).unwrap();
/// let guard = lock.lock().unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(move || drop(guard)); // not `Send`
/// });
/// ```
#[must_use = "the lock is released when its guard is dropped"]
pub struct Guard<'a, T> {
    pub(super) data: DataGuard<'a, T>,
}

impl<T> Guard<'_, T> {
    /// Says that the data is what it should be, after a holder has died ([`LockError::OwnerDied`]); until then every call says so.
    /// A guard that was given in an error does so too.
    pub fn mark_consistent(&self) {
        self.data.mark_consistent();
    }

    /// Leaves the lock locked: any process may [`release`](Lock::release) it. Should this process end before, nobody
    /// can release it: who takes it next is told of a death.
    ///
    /// ```
    /// use multiprocess::{Lock, ReleaseError, spawn};
    ///
    /// fn release(lock: Lock) {
    ///     lock.release().unwrap();
    /// }
    ///
    /// let lock = Lock::new(())?;
    /// lock.lock().unwrap().forget();
    /// assert!(lock.is_locked());
    /// spawn(release, lock.clone())?.join()?;
    /// assert_eq!(lock.release(), Err(ReleaseError::NotOwned));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forget(self) {
        self.data.forget();
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl<T> Serialize for Lock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(self.inner.local(), serializer)
    }
}

impl<'de, T: FromBytes + IntoBytes + Send + 'static> Deserialize<'de> for Lock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalLock::new(object));
        let hash = sync::type_hash::<T>();
        let local = codec::deserialize_handle(deserializer, LOCK_KIND.id, hash, make)?;
        let inner = Locked::of(local);
        Ok(Lock { inner })
    }
}

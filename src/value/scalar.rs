//! One value in shared memory.
#![forbid(unsafe_code)]

use super::{VALUE_KIND, refused};
use crate::arena::{self, Arena};
use crate::codec;
use crate::error::LockError;
use crate::os::clock::Deadline;
use crate::sync::{self, Atomic, DataGuard, LocalLock, Locked, Taken};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value that processes share, behind a lock; atomic integers can be used without it.
///
/// A handle is cheap to clone, and can be an argument of a process or part of a message. What may be a value is what may be
/// the data of a [`Lock`](crate::Lock): plain old data, as [zerocopy](https://docs.rs/zerocopy)'s `FromBytes` and `IntoBytes` say.
///
/// ```compile_fail,E0277
/// multiprocess::Value::new(vec![1]); // a pointer
/// ```
/// ```compile_fail,E0277
/// multiprocess::Value::new(false); // see `Bool`
/// ```
///
/// Each call is one step for all others; two calls are not, which is what [`update`](Self::update) is for:
///
/// ```
/// use multiprocess::{Value, spawn};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// fn count((total, quick): (Value<f64>, Value<AtomicU64>)) {
///     for _ in 0..1000 {
///         total.update(|total| *total += 0.5).unwrap();
///         quick.as_atomic().fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let total = Value::new(0.0)?;
/// let quick = Value::new(AtomicU64::new(0))?;
/// let workers = [(); 3].map(|()| spawn(count, (total.clone(), quick.clone())).unwrap());
/// for worker in workers {
///     worker.join()?;
/// }
/// assert_eq!(total.get().unwrap(), 1500.0);
/// assert_eq!(quick.as_atomic().load(Ordering::Relaxed), 3000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A process that dies while it holds the lock leaves a value that may be half changed: everything but [`set`](Self::set) says so
/// until it is put right.
pub struct Value<T> {
    inner: Locked<T>,
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Value {
            inner: self.inner.clone(),
        }
    }
}

impl<T> fmt::Debug for Value<T> {
    /// The lock's state, without waiting for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Value");
        self.inner.local().describe(&mut f);
        f.finish_non_exhaustive()
    }
}

impl<T: FromBytes + IntoBytes + Send + 'static> Value<T> {
    /// A value in shared memory.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn new(value: T) -> io::Result<Value<T>> {
        Value::new_in(arena::family()?, value)
    }

    /// A value in this arena.
    pub(crate) fn new_in(arena: &Arena, value: T) -> io::Result<Value<T>> {
        let inner = Locked::one(arena, &VALUE_KIND, value)?;
        Ok(Value { inner })
    }
}

impl<T> Value<T> {
    /// Takes the lock; waits while somebody else holds it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] with the guard, [`LockError::Deadlock`] when the calling thread holds it, [`LockError::ForeignFork`].
    #[doc(alias = "get_lock")]
    #[inline]
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, LockError<ValueGuard<'_, T>>> {
        self.lock_until(Deadline::NEVER, LockError::TimedOut)
    }

    /// Takes the lock if nobody holds it, or only a dead process does.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`].
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, LockError<ValueGuard<'_, T>>> {
        self.lock_until(Deadline::NOW, LockError::WouldBlock)
    }

    /// Takes the lock; waits for it, `timeout` at most. One that the clock cannot hold is for ever, zero means one try.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ValueGuard<'_, T>, LockError<ValueGuard<'_, T>>> {
        self.lock_until(Deadline::from(timeout), LockError::TimedOut)
    }

    #[inline]
    fn lock_until<'a>(
        &'a self,
        deadline: Deadline,
        late: LockError<ValueGuard<'a, T>>,
    ) -> Result<ValueGuard<'a, T>, LockError<ValueGuard<'a, T>>> {
        if self.inner.local().arena().check().is_err() {
            return Err(LockError::ForeignFork);
        }
        match self.inner.lock_one(deadline) {
            Ok((Taken::Sound, data)) => Ok(ValueGuard { data }),
            Ok((Taken::OwnerDied, data)) => Err(LockError::OwnerDied(ValueGuard { data })),
            Err(why) => Err(refused(why, late)),
        }
    }

    /// The value. Waits while somebody else holds the lock.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] with the value that a dead process left, perhaps half changed; otherwise as [`lock`](Self::lock).
    #[inline]
    pub fn get(&self) -> Result<T, LockError<T>>
    where
        T: Copy,
    {
        match self.lock() {
            Ok(guard) => Ok(*guard),
            Err(error) => Err(error.map_guard(|guard| *guard)),
        }
    }

    /// Replaces the value, also one that a dead process left half changed: from then on it is sound. Waits while somebody else
    /// holds the lock.
    ///
    /// # Errors
    /// [`LockError::Deadlock`], [`LockError::ForeignFork`].
    #[inline]
    pub fn set(&self, value: T) -> Result<(), LockError<()>>
    where
        T: Immutable,
    {
        match self.lock() {
            Ok(mut guard) => *guard = value,
            Err(LockError::OwnerDied(mut guard)) => {
                *guard = value;
                guard.mark_consistent();
            }
            Err(error) => return Err(error.without_guard()),
        }
        Ok(())
    }

    /// Changes the value under the lock, in one step for all others. Waits while somebody else holds the lock.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] with the guard, to put right what a dead process left: `f` was not called. Otherwise as
    /// [`lock`](Self::lock).
    ///
    /// # Panics
    /// As `f` does; the lock is released, and the value is what `f` left.
    #[inline]
    pub fn update<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R, LockError<ValueGuard<'_, T>>>
    where
        T: Immutable,
    {
        let mut guard = self.lock()?;
        Ok(f(&mut guard))
    }
}

impl<T: Atomic> Value<T> {
    /// The atomic itself, without the lock.
    ///
    /// ```compile_fail,E0277
    /// multiprocess::Value::new(0_u64).unwrap().as_atomic(); // not one
    /// ```
    ///
    /// # Panics
    /// In a process that a foreign `fork` made ([`Error::ForeignFork`](crate::Error::ForeignFork)): it is not there.
    #[inline]
    pub fn as_atomic(&self) -> &T {
        &self.inner.shared()[0]
    }
}

/// The right to a [`Value`]; dropping it releases the lock. It belongs to the thread that took it. Atomics, and what contains
/// some, can be changed through themselves only:
///
/// ```compile_fail,E0596
/// use std::sync::atomic::AtomicU64;
/// let value = multiprocess::Value::new(AtomicU64::new(0)).unwrap();
/// *value.lock().unwrap().get_mut() = 1;
/// ```
#[must_use = "the lock is released when its guard is dropped"]
pub struct ValueGuard<'a, T> {
    data: DataGuard<'a, T>,
}

impl<T> ValueGuard<'_, T> {
    /// Says that the value is what it should be, after a holder has died.
    pub fn mark_consistent(&self) {
        self.data.mark_consistent();
    }
}

impl<T> Deref for ValueGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T: Immutable> DerefMut for ValueGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

impl<T: fmt::Debug> fmt::Debug for ValueGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl<T> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(self.inner.local(), serializer)
    }
}

impl<'de, T: FromBytes + IntoBytes + Send + 'static> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalLock::new(object));
        let hash = sync::type_hash::<T>();
        let local = codec::deserialize_handle(deserializer, VALUE_KIND.id, hash, make)?;
        let inner = Locked::of(local);
        Ok(Value { inner })
    }
}

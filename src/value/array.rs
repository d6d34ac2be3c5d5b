//! Values of one type in a row.
#![forbid(unsafe_code)]

use super::{ARRAY_KIND, refused};
use crate::arena::{self, Arena};
use crate::codec;
use crate::error::{ItemError, LockError};
use crate::os::clock::Deadline;
use crate::sync::{self, Atomic, DataGuard, LocalLock, Locked, Taken};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A row of values that processes share, behind one lock; atomic integers can be used without it.
///
/// A handle is cheap to clone, and can be an argument of a process or part of a message. The length is fixed, zero is
/// allowed. What may be an item is what may be a [`Value`](crate::Value).
///
/// ```
/// use multiprocess::{Array, spawn};
///
/// fn double(numbers: Array<u32>) {
///     for number in numbers.lock().unwrap().iter_mut() {
///         *number *= 2;
///     }
/// }
///
/// let numbers = Array::from_slice(&[1, 2, 3])?;
/// spawn(double, numbers.clone())?.join()?;
/// assert_eq!(*numbers.lock().unwrap(), [2, 4, 6]);
/// numbers.set(1, 5).unwrap();
/// assert_eq!(numbers.get(1).unwrap(), 5);
/// assert!(numbers.get(3).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A process that dies while it holds the lock leaves a row that may be half changed: every call says so until somebody has
/// put it right and marked it as consistent.
pub struct Array<T> {
    inner: Locked<T>,
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Array {
            inner: self.inner.clone(),
        }
    }
}

impl<T> fmt::Debug for Array<T> {
    /// The length and the lock's state, without waiting for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Array");
        f.field("len", &self.len());
        self.inner.local().describe(&mut f);
        f.finish_non_exhaustive()
    }
}

impl<T: FromBytes + IntoBytes + Send + 'static> Array<T> {
    /// A row of so many items, all their bytes zero.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn zeroed(len: usize) -> io::Result<Array<T>> {
        Array::zeroed_in(arena::family()?, len)
    }

    pub(crate) fn zeroed_in(arena: &Arena, len: usize) -> io::Result<Array<T>> {
        let inner = Locked::zeroed(arena, &ARRAY_KIND, len)?;
        Ok(Array { inner })
    }

    /// A row of copies of these items.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn from_slice(items: &[T]) -> io::Result<Array<T>>
    where
        T: Copy,
    {
        Array::from_slice_in(arena::family()?, items)
    }

    pub(crate) fn from_slice_in(arena: &Arena, items: &[T]) -> io::Result<Array<T>>
    where
        T: Copy,
    {
        let inner = Locked::copied(arena, &ARRAY_KIND, items)?;
        Ok(Array { inner })
    }
}

impl<T> Array<T> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the lock of the whole row; waits while somebody else holds it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] with the guard, [`LockError::Deadlock`] when the calling thread holds it, [`LockError::ForeignFork`].
    #[doc(alias = "get_lock")]
    #[inline]
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::NEVER, LockError::TimedOut)
    }

    /// Takes the lock of the whole row if nobody holds it, or only a dead process does.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`].
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::NOW, LockError::WouldBlock)
    }

    /// Takes the lock of the whole row; waits for it, `timeout` at most. One that the clock cannot hold is for ever, zero means one try.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::from(timeout), LockError::TimedOut)
    }

    #[inline]
    fn lock_until<'a>(
        &'a self,
        deadline: Deadline,
        late: LockError<ArrayGuard<'a, T>>,
    ) -> Result<ArrayGuard<'a, T>, LockError<ArrayGuard<'a, T>>> {
        if self.inner.local().arena().check().is_err() {
            return Err(LockError::ForeignFork);
        }
        match self.inner.lock(deadline) {
            Ok((Taken::Sound, data)) => Ok(ArrayGuard { data }),
            Ok((Taken::OwnerDied, data)) => Err(LockError::OwnerDied(ArrayGuard { data })),
            Err(why) => Err(refused(why, late)),
        }
    }

    /// An item. Waits while somebody else holds the lock.
    ///
    /// # Errors
    /// [`ItemError::OutOfRange`]; [`LockError::OwnerDied`] with the item that a dead process left; otherwise as [`lock`](Self::lock).
    pub fn get(&self, index: usize) -> Result<T, ItemError<T>>
    where
        T: Copy,
    {
        self.in_range(index)?;
        match self.lock() {
            Ok(guard) => Ok(guard[index]),
            Err(error) => Err(error.map_guard(|guard| guard[index]).into()),
        }
    }

    /// Replaces an item. Waits while somebody else holds the lock. Unlike a value's `set` it does not make sound what a dead process
    /// left: one item says nothing of the others.
    ///
    /// # Errors
    /// [`ItemError::OutOfRange`]; [`LockError::OwnerDied`], and nothing was changed; otherwise as [`lock`](Self::lock).
    pub fn set(&self, index: usize, item: T) -> Result<(), ItemError<()>>
    where
        T: Immutable,
    {
        self.in_range(index)?;
        let mut guard = self.lock().map_err(LockError::without_guard)?;
        guard[index] = item;
        Ok(())
    }

    fn in_range<R>(&self, index: usize) -> Result<(), ItemError<R>> {
        let len = self.len();
        if index < len {
            Ok(())
        } else {
            Err(ItemError::OutOfRange { index, len })
        }
    }
}

impl<T: Atomic> Array<T> {
    /// The atomics themselves, without the lock.
    ///
    /// ```
    /// use multiprocess::Array;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// let hits = Array::<AtomicU32>::zeroed(10)?;
    /// hits.as_atomics()[3].fetch_add(1, Ordering::Relaxed);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// In a process that a foreign `fork` made ([`Error::ForeignFork`](crate::Error::ForeignFork)): they are not there.
    #[inline]
    pub fn as_atomics(&self) -> &[T] {
        self.inner.shared()
    }
}

/// The right to an [`Array`], as a slice; dropping it releases the lock. It belongs to the thread that took it. Atomics, and what
/// contains some, can be changed through themselves only.
#[must_use = "the lock is released when its guard is dropped"]
pub struct ArrayGuard<'a, T> {
    data: DataGuard<'a, [T]>,
}

impl<T> ArrayGuard<'_, T> {
    /// Says that the items are what they should be, after a holder has died.
    pub fn mark_consistent(&self) {
        self.data.mark_consistent();
    }
}

impl<T> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.data
    }
}

impl<T: Immutable> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T: fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl<T> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(self.inner.local(), serializer)
    }
}

impl<'de, T: FromBytes + IntoBytes + Send + 'static> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalLock::new(object));
        let hash = sync::type_hash::<T>();
        let local = codec::deserialize_handle(deserializer, ARRAY_KIND.id, hash, make)?;
        let inner = Locked::of(local);
        Ok(Array { inner })
    }
}

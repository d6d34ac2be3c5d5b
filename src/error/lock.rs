//! Errors of locks and of what is built on them.
#![forbid(unsafe_code)]

use super::Error;
use std::fmt;

/// Why there is no guard, or why there is more to say than the guard. `G` is the guard, or what stands for it.
#[non_exhaustive]
pub enum LockError<G> {
    /// The lock is the caller's, but a process died while it held it: the data may be half changed. So says every call
    /// until somebody marks it as consistent.
    OwnerDied(G),
    /// Somebody else holds it (`try_` forms).
    WouldBlock,
    /// Somebody else held it for the whole time.
    TimedOut,
    /// The calling thread holds it itself and would wait for ever.
    Deadlock,
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork,
}

impl<G> LockError<G> {
    /// The guard, when there is one: for who can live with data that a dead process left half changed.
    pub fn into_guard(self) -> Option<G> {
        match self {
            LockError::OwnerDied(guard) => Some(guard),
            _ => None,
        }
    }

    /// The same error with something else in the guard's place.
    pub fn map_guard<H>(self, map: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            LockError::OwnerDied(guard) => LockError::OwnerDied(map(guard)),
            LockError::WouldBlock => LockError::WouldBlock,
            LockError::TimedOut => LockError::TimedOut,
            LockError::Deadlock => LockError::Deadlock,
            LockError::ForeignFork => LockError::ForeignFork,
        }
    }

    /// The same error after the guard, if there was one, has released the lock. Unlike one with a guard it can be
    /// returned from where the lock was.
    pub fn without_guard(self) -> LockError<()> {
        self.map_guard(drop)
    }

    /// Whether a process died while it held the lock.
    pub fn is_owner_died(&self) -> bool {
        matches!(self, LockError::OwnerDied(_))
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LockError::OwnerDied(_) => "OwnerDied(..)",
            LockError::WouldBlock => "WouldBlock",
            LockError::TimedOut => "TimedOut",
            LockError::Deadlock => "Deadlock",
            LockError::ForeignFork => "ForeignFork",
        })
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::OwnerDied(_) => f.write_str("a process died while it held the lock"),
            LockError::WouldBlock => f.write_str("the lock is held"),
            LockError::TimedOut => f.write_str("the lock was held for the whole time"),
            LockError::Deadlock => f.write_str("the calling thread holds the lock itself"),
            LockError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl<G> std::error::Error for LockError<G> {}

/// Why there is no permit.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError {
    /// There is none now (`try_acquire`).
    WouldBlock,
    /// There was none for the whole time.
    TimedOut,
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork,
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcquireError::WouldBlock => f.write_str("there is no permit now"),
            AcquireError::TimedOut => f.write_str("there was no permit for the whole time"),
            AcquireError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl std::error::Error for AcquireError {}

/// Why an item of an array was not read or written. `T` is the item, or what stands for it.
#[non_exhaustive]
pub enum ItemError<T> {
    /// The array has no item with this number.
    OutOfRange {
        /// The number that was asked for.
        index: usize,
        /// How many items there are.
        len: usize,
    },
    /// The array's lock was not to be had, or was a dead process's.
    Lock(LockError<T>),
}

impl<T> ItemError<T> {
    /// Whether a process died while it held the array's lock.
    pub fn is_owner_died(&self) -> bool {
        matches!(self, ItemError::Lock(LockError::OwnerDied(_)))
    }
}

impl<T> From<LockError<T>> for ItemError<T> {
    fn from(error: LockError<T>) -> Self {
        ItemError::Lock(error)
    }
}

impl<T> fmt::Debug for ItemError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemError::OutOfRange { index, len } => f
                .debug_struct("OutOfRange")
                .field("index", index)
                .field("len", len)
                .finish(),
            ItemError::Lock(error) => f.debug_tuple("Lock").field(error).finish(),
        }
    }
}

impl<T> fmt::Display for ItemError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemError::OutOfRange { index, len } => {
                write!(f, "there is no item {index} in an array of {len}")
            }
            ItemError::Lock(error) => error.fmt(f),
        }
    }
}

impl<T> std::error::Error for ItemError<T> {}

/// Why a `release` without a guard or permit released nothing.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// The lock is not one that its holder left locked.
    NotOwned,
    /// There would be more permits than the semaphore's bound.
    OverRelease,
    /// No shared memory left for another permit.
    NoMemory,
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork,
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseError::NotOwned => f.write_str("the lock was not left locked"),
            ReleaseError::OverRelease => f.write_str("more permits than there can be"),
            ReleaseError::NoMemory => Error::NoMemory.fmt(f),
            ReleaseError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl std::error::Error for ReleaseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_error_needs_nothing_of_its_guard() {
        struct Opaque;
        let error = LockError::OwnerDied(Opaque);
        assert_eq!(format!("{error:?}"), "OwnerDied(..)");
        assert_eq!(error.to_string(), "a process died while it held the lock");
        assert!(error.is_owner_died());
        let Some(Opaque) = error.into_guard() else {
            panic!("the guard is inside");
        };
        let error = LockError::<Opaque>::TimedOut.without_guard();
        assert!(matches!(error, LockError::TimedOut));
        assert!(error.into_guard().is_none());
    }
}

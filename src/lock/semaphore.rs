//! Semaphores: so many at a time.
#![forbid(unsafe_code)]

use super::SEMAPHORE_KIND;
use crate::arena::{self, Arena};
use crate::codec;
use crate::error::{AcquireError, ReleaseError};
use crate::os::clock::Deadline;
use crate::sync::{LocalSemaphore, NotAdded, TakenPermit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Permits that processes and threads take and give back: so many at a time.
///
/// A handle is cheap to clone, and can be an argument of a process or part of a message. The permits of a process that ends,
/// however it ends, come back: to those who sleep within 100 ms, to who comes later at once (within 10 ms when its process has
/// asked just before).
///
/// Who comes by may take a permit before those who sleep for one, until one of these has waited for a millisecond: as with a
/// [`Lock`](crate::Lock), nobody starves.
///
/// There may be more permits than at the beginning: [`release`](Self::release) adds one. See [`BoundedSemaphore`] for one that
/// does not let that happen. Each permit is a word of shared memory, and who finds none free has looked at all: meant for
/// thousands of permits rather than millions.
///
/// ```
/// use multiprocess::{Semaphore, spawn};
///
/// fn use_printer(printers: Semaphore) {
///     let _printer = printers.acquire().unwrap();
///     // ...
/// }
///
/// fn jam(printers: Semaphore) {
///     let _printer = printers.acquire().unwrap();
///     std::process::abort();
/// }
///
/// let printers = Semaphore::new(2)?;
/// let people = [(); 4].map(|()| spawn(use_printer, printers.clone()).unwrap());
/// for person in people {
///     person.join()?;
/// }
/// spawn(jam, printers.clone())?.wait();
/// let both = (printers.acquire().unwrap(), printers.acquire().unwrap());
/// assert!(printers.try_acquire().is_err());
/// drop(both);
/// assert_eq!(printers.value(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    local: Arc<LocalSemaphore>,
}

/// A [`Semaphore`] that never has more permits than at the beginning: a [`release`](Self::release) too many is an error.
///
/// ```
/// use multiprocess::{BoundedSemaphore, ReleaseError};
///
/// let seats = BoundedSemaphore::new(1)?;
/// assert_eq!(seats.release(), Err(ReleaseError::OverRelease));
/// let seat = seats.acquire().unwrap();
/// // The permit is out, but somebody has it and will give it back.
/// assert_eq!(seats.release(), Err(ReleaseError::OverRelease));
/// seat.forget();
/// assert_eq!(seats.release(), Ok(()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct BoundedSemaphore {
    local: Arc<LocalSemaphore>,
}

macro_rules! semaphore {
    ($name:ident, $is_bounded:literal) => {
        impl $name {
            /// A semaphore in this arena.
            pub(crate) fn new_in(arena: &Arena, permits: usize) -> io::Result<$name> {
                let local = LocalSemaphore::create(arena, &SEMAPHORE_KIND, permits, $is_bounded)?;
                Ok($name { local })
            }

            /// Takes a permit; waits while there is none.
            ///
            /// # Errors
            /// [`AcquireError::ForeignFork`].
            #[inline]
            pub fn acquire(&self) -> Result<Permit<'_>, AcquireError> {
                self.acquire_until(Deadline::NEVER, AcquireError::TimedOut)
            }

            /// Takes a permit if there is one now, or a dead process has one.
            ///
            /// # Errors
            /// [`AcquireError::WouldBlock`], [`AcquireError::ForeignFork`].
            #[inline]
            pub fn try_acquire(&self) -> Result<Permit<'_>, AcquireError> {
                self.acquire_until(Deadline::NOW, AcquireError::WouldBlock)
            }

            /// Takes a permit; waits for one, `timeout` at most. One that the clock cannot hold is for ever, zero means one
            /// try.
            ///
            /// # Errors
            /// [`AcquireError::TimedOut`], [`AcquireError::ForeignFork`].
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, AcquireError> {
                self.acquire_until(Deadline::from(timeout), AcquireError::TimedOut)
            }

            #[inline]
            fn acquire_until(
                &self,
                deadline: Deadline,
                late: AcquireError,
            ) -> Result<Permit<'_>, AcquireError> {
                let local = &*self.local;
                if local.arena().check().is_err() {
                    return Err(AcquireError::ForeignFork);
                }
                let taken = local.acquire(deadline).ok_or(late)?;
                Ok(Permit { local, taken })
            }

            /// How many permits are to be had; may have changed already. Those of dead processes count when somebody has
            /// found them.
            #[doc(alias = "get_value")]
            pub fn value(&self) -> usize {
                match self.local.arena().check() {
                    Ok(()) => self.local.count(),
                    Err(_) => 0,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("value", &self.value())
                    .finish_non_exhaustive()
            }
        }

        /// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                codec::serialize_handle(&self.local, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let make = |object| Ok(LocalSemaphore::new(object));
                let (kind, hash) = (SEMAPHORE_KIND.id, $is_bounded.into());
                let local = codec::deserialize_handle(deserializer, kind, hash, make)?;
                Ok($name { local })
            }
        }
    };
}

semaphore!(Semaphore, false);
semaphore!(BoundedSemaphore, true);

impl Semaphore {
    /// A semaphore with so many permits; zero is allowed.
    ///
    /// # Errors
    /// [`Error::InvalidCapacity`](crate::Error::InvalidCapacity) for more than 2^24, [`Error::NoMemory`](crate::Error::NoMemory),
    /// [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn new(permits: usize) -> io::Result<Semaphore> {
        Semaphore::new_in(arena::family()?, permits)
    }

    /// Adds a permit, whoever has taken one before; wakes one who waits.
    ///
    /// # Errors
    /// [`ReleaseError::NoMemory`], [`ReleaseError::ForeignFork`].
    pub fn release(&self) -> Result<(), ReleaseError> {
        release(&self.local)
    }
}

impl BoundedSemaphore {
    /// A semaphore with so many permits, and never more; zero is allowed.
    ///
    /// # Errors
    /// As [`Semaphore::new`].
    pub fn new(permits: usize) -> io::Result<BoundedSemaphore> {
        BoundedSemaphore::new_in(arena::family()?, permits)
    }

    /// Gives back a permit that somebody has [forgotten](Permit::forget); wakes one who waits.
    ///
    /// # Errors
    /// [`ReleaseError::OverRelease`] when every permit is there or has an owner; [`ReleaseError::ForeignFork`].
    pub fn release(&self) -> Result<(), ReleaseError> {
        release(&self.local)
    }
}

fn release(local: &LocalSemaphore) -> Result<(), ReleaseError> {
    if local.arena().check().is_err() {
        return Err(ReleaseError::ForeignFork);
    }
    local.add().map_err(|why| match why {
        NotAdded::OverBound => ReleaseError::OverRelease,
        NotAdded::NoMemory => ReleaseError::NoMemory,
    })
}

/// A permit of a [`Semaphore`]; dropping it gives it back, on any thread. It is this process's: when that ends, the permit
/// comes back.
///
/// Forgotten with [`std::mem::forget`] it comes back when the process ends; after [`forget`](Self::forget) it does not.
#[must_use = "the permit is given back when it is dropped"]
pub struct Permit<'a> {
    local: &'a LocalSemaphore,
    taken: TakenPermit<'a>,
}

impl Permit<'_> {
    /// Makes it nobody's: the semaphore has one permit less, until somebody calls `release`. That is how a permit goes from one
    /// process to another.
    pub fn forget(self) {
        self.local.forget(&self.taken);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.local.give_back(&self.taken);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

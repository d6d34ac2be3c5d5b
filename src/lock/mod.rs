//! What processes use to wait for each other and to keep out of each other's way.
#![forbid(unsafe_code)]

mod event;
mod mutex;
mod rlock;
mod semaphore;

pub use event::Event;
pub use mutex::{Guard, Lock};
pub use rlock::{RLock, RLockGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};

use crate::sync::{EventKind, LockKind, SemaphoreKind};

pub(crate) static LOCK_KIND: LockKind = LockKind {
    id: 5,
    name: "lock",
};

pub(crate) static SEMAPHORE_KIND: SemaphoreKind = SemaphoreKind { id: 8 };

pub(crate) static RLOCK_KIND: LockKind = LockKind {
    id: 9,
    name: "rlock",
};

pub(crate) static EVENT_KIND: EventKind = EventKind { id: 10 };

#[cfg(all(test, not(loom)))]
mod tests;

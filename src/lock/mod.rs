//! What processes use to wait for each other and to keep out of each other's way.
#![forbid(unsafe_code)]

mod barrier;
mod condition;
mod event;
mod mutex;
mod rlock;
mod semaphore;

pub use barrier::{Barrier, BarrierError};
pub use condition::{AnyGuard, Condition, WaitError};
pub use event::Event;
pub use mutex::{Guard, Lock};
pub use rlock::{RLock, RLockGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};

use crate::sync::{BarrierKind, ConditionKind, EventKind, LockKind, SemaphoreKind};

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

pub(crate) static CONDITION_KIND: ConditionKind = ConditionKind { id: 11 };

pub(crate) static BARRIER_KIND: BarrierKind = BarrierKind { id: 12 };

#[cfg(all(test, not(loom)))]
mod tests;

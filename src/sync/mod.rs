//! Waiting: spin for as long as spinning has paid, then yield, then sleep on a futex in slices. The protocol and its proof
//! sketch are in README.md beside this file.
#![allow(unsafe_code)]

mod asked;
mod barrier;
mod condition;
mod event;
mod event_count;
mod locked;
mod owner;
mod permits;
mod places;
mod raw_lock;
mod recursive;
mod semaphore;
mod slots;
mod wait;
mod waitable;
mod waiters;

#[cfg(all(test, loom))]
mod models {
    mod barrier;
    mod condition;
    mod event;
    mod event_count;
    mod parties;
    mod permits;
    mod raw_lock;
    mod recursive;
}

pub(crate) use barrier::{BarrierKind, LocalBarrier, NotMet};
pub(crate) use condition::{ConditionKind, LocalCondition};
pub(crate) use event::{EventKind, LocalEvent};
pub(crate) use event_count::EventCount;
pub use locked::Atomic;
pub(crate) use locked::{DataGuard, LocalLock, LockKind, Locked, type_hash, type_hash_by};
pub(crate) use raw_lock::{Refused, Taken};
pub(crate) use semaphore::{LocalSemaphore, NotAdded, SemaphoreKind, Taken as TakenPermit};
pub(crate) use wait::{Progress, Spin, Wait};
pub(crate) use waitable::Source;
pub use waitable::{Waitable, wait};

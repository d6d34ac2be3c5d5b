//! What processes use to wait for each other and to keep out of each other's way.
#![forbid(unsafe_code)]

mod mutex;
mod semaphore;

pub use mutex::{Guard, Lock};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};

use crate::sync::{LockKind, SemaphoreKind};

pub(crate) static LOCK_KIND: LockKind = LockKind {
    id: 5,
    name: "lock",
};

pub(crate) static SEMAPHORE_KIND: SemaphoreKind = SemaphoreKind { id: 8 };

#[cfg(all(test, not(loom)))]
mod tests;

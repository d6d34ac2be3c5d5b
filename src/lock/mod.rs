//! What processes use to wait for each other and to keep out of each other's way.
#![forbid(unsafe_code)]

mod mutex;

pub use mutex::{Guard, Lock};

use crate::sync::LockKind;

/// The first place of this layer in the table of kinds.
const FIRST_KIND: u32 = 5;

pub(crate) static LOCK_KIND: LockKind = LockKind {
    id: FIRST_KIND,
    name: "lock",
};

#[cfg(all(test, not(loom)))]
mod tests;

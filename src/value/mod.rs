//! Values and arrays in shared memory.
#![forbid(unsafe_code)]

mod array;
mod bool;
mod scalar;

pub use array::{Array, ArrayGuard};
pub use bool::Bool;
pub use scalar::{Value, ValueGuard};

use crate::error::LockError;
use crate::sync::{LockKind, Refused};

pub(crate) static VALUE_KIND: LockKind = LockKind {
    id: 6,
    name: "value",
};

pub(crate) static ARRAY_KIND: LockKind = LockKind {
    id: 7,
    name: "array",
};

#[cold]
fn refused<G>(refused: Refused, late: LockError<G>) -> LockError<G> {
    match refused {
        Refused::NotNow => late,
        Refused::Deadlock => LockError::Deadlock,
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

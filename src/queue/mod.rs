//! Queues between processes.
#![forbid(unsafe_code)]

mod bounded;
mod kind;
mod local;

pub use bounded::{Iter, Queue};
pub(crate) use kind::QueueKind;

#[cfg(all(test, not(loom)))]
mod tests;

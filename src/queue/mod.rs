//! Queues between processes.
#![forbid(unsafe_code)]

mod bounded;
mod channel;
mod kind;
mod local;
mod role;

pub use bounded::{Iter, Queue};
pub use channel::{Receiver, RecvError, SendError, Sender, channel};
pub(crate) use kind::QueueKind;
pub(crate) use role::{RECEIVERS_KIND, SENDERS_KIND};

#[cfg(all(test, not(loom)))]
mod tests;

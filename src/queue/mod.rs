//! Queues between processes.
#![forbid(unsafe_code)]
#![allow(
    private_interfaces,
    reason = "the codecs are sealed: nobody else calls what their traits hide"
)]

mod bounded;
mod bytes;
mod carry;
mod chained;
mod channel;
mod channel_bytes;
mod channel_many;
mod joinable;
mod kind;
mod lane;
mod loan;
mod local;
mod many;
mod pod;
mod role;
mod tasks;
mod unbounded;
mod waiting;

pub use bounded::{Iter, Queue};
pub use bytes::{Bytes, GetIntoError};
pub use carry::{Codec, Holds};
pub use channel::{Receiver, RecvError, SendError, Sender, channel, unbounded_channel};
pub use channel_bytes::{channel_pod, unbounded_channel_pod};
pub use channel_many::{RecvManyError, SendManyError};
pub use joinable::{JoinableQueue, OnDeath, QueueJoinError, Task, TaskDoneError};
pub(crate) use kind::QueueKind;
pub use loan::{Loan, Ref};
pub use many::{GetManyError, PutManyError, Rest};
pub(crate) use role::{RECEIVERS_KIND, SENDERS_KIND};
pub(crate) use tasks::TasksKind;

#[cfg(all(test, not(loom)))]
mod tests;

#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

// The layers: error < os < primitive < arena < sync < ring < codec < {queue, pipe, lock, value} < process < pool < family.
// Each imports only from those before it (tests/layering.rs).
mod arena;
mod codec;
mod error;
pub mod family;
mod lock;
mod os;
mod pipe;
mod pool;
mod primitive;
mod process;
mod queue;
mod ring;
mod sync;
mod value;

pub use codec::{Pod, Serde};
pub use error::{
    AcquireError, DecodeError, EncodeError, Error, GetError, ItemError, LockError, PutError,
    ReleaseError,
};
pub use lock::{
    AnyGuard, Barrier, BarrierError, BoundedSemaphore, Condition, Event, Guard, Lock, Permit,
    RLock, RLockGuard, Semaphore, WaitError,
};
pub use pipe::{
    Claim, Connection, Pipe, PipeIter, PipeReceiver, PipeSender, Received, RecvIntoError,
};
pub use pool::{
    AsCompleted, AsyncResult, Imap, Pool, PoolBuilder, PoolJoinError, TaskError, as_completed,
};
pub use process::{
    Builder, ExitCode, Fd, JoinError, Process, ProcessRef, SpawnError, StartMethod,
    active_children, cpu_count, current_process, parent_process, spawn,
};
pub use queue::{
    Bytes, Codec, GetIntoError, GetManyError, Holds, Iter, JoinableQueue, Loan, OnDeath,
    PutManyError, Queue, QueueJoinError, Receiver, RecvError, RecvManyError, Ref, Rest, SendError,
    SendManyError, Sender, Task, TaskDoneError, channel, channel_pod, unbounded_channel,
    unbounded_channel_pod,
};
pub use sync::Atomic;
pub use value::{Array, ArrayGuard, Bool, Value, ValueGuard};

pub use sync::{Waitable, wait};

/// Every kind of object that lies in the arena.
const KINDS: arena::Kinds = &[
    &queue::QueueKind,
    &process::ProcessKind,
    &queue::SENDERS_KIND,
    &queue::RECEIVERS_KIND,
    &queue::TasksKind,
    &lock::LOCK_KIND,
    &value::VALUE_KIND,
    &value::ARRAY_KIND,
    &lock::SEMAPHORE_KIND,
    &lock::RLOCK_KIND,
    &lock::EVENT_KIND,
    &lock::CONDITION_KIND,
    &lock::BARRIER_KIND,
    &pipe::PipeKind,
    &pipe::WRITER_KIND,
    &pipe::READER_KIND,
    &pool::PoolKind,
];

//! The queue that knows which of its items are finished.
#![forbid(unsafe_code)]

use super::bounded::type_hash;
use super::carry::{not_encoded, not_sent};
use super::local::LocalQueue;
use super::tasks::{KIND, LocalTasks, Room, TaskQueue, ring_hash};
use crate::arena::{self, Arena};
use crate::codec::{self, Failure, Serde};
use crate::error::{Error, GetError, PutError};
use crate::os::clock::Deadline;
use crate::ring::Held;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// What becomes of a task whose consumer died before it had finished it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeath {
    /// Another consumer gets it, before anything that is still in the queue when the death is known: in a tenth of a second or so where
    /// nobody reaps the dead. When `max` further consumers have died with it, it is given up, as with [`Report`](Self::Report): it may be
    /// what kills them. So it is when it cannot be decoded again, as with the end of a pipe in it, which has gone with the dead.
    Redeliver {
        /// How often it is given to another consumer.
        max: u8,
    },
    /// It is given up: nobody gets it, and [`JoinableQueue::join`] says so.
    Report,
}

/// Why [`JoinableQueue::join`] did not find everything finished.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueJoinError {
    /// Nothing is left to be done, but so many tasks since the queue was made were given up because their consumers died.
    Lost(u64),
    /// The time is over, and something is unfinished.
    TimedOut,
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork,
}

impl fmt::Display for QueueJoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueJoinError::Lost(count) => {
                write!(
                    f,
                    "{count} tasks were lost with the processes that had them"
                )
            }
            QueueJoinError::TimedOut => f.write_str("not all tasks are finished"),
            QueueJoinError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl std::error::Error for QueueJoinError {}

/// Why [`JoinableQueue::task_done`] finished nothing.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskDoneError {
    /// This process has no unfinished item of this queue.
    TooMany,
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork,
}

impl fmt::Display for TaskDoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskDoneError::TooMany => f.write_str("task_done was called too many times"),
            TaskDoneError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl std::error::Error for TaskDoneError {}

/// A [`Queue`](crate::Queue) that can be waited for until all its items are not only taken but finished.
///
/// Every item that was put is an unfinished task until a consumer has said that it is done: by [`task_done`](Self::task_done)
/// after a [`get`](Self::get), or by dropping the [`Task`] that [`get_task`](Self::get_task) gave. A task whose consumer dies
/// first is given to another one or reported ([`OnDeath`]), so that [`join`](Self::join) does not wait for the dead. Nothing is
/// counted: what is unfinished is written down task by task, and true after a `kill -9` at any instruction.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiprocess::{JoinableQueue, Process};
///
/// fn work(jobs: JoinableQueue<u64>) {
///     while let Ok(job) = jobs.get_task() {
///         if *job > 1 {
///             // Put before this one is done, so that `join` waits for it.
///             jobs.put(*job / 2).unwrap();
///         }
///     } // dropped here, and done
/// }
///
/// let jobs = JoinableQueue::bounded(16)?;
/// for _ in 0..2 {
///     Process::builder().daemon(true).spawn(work, jobs.clone())?;
/// }
/// for job in [10, 100, 1000] {
///     jobs.put(job)?;
/// }
/// jobs.join()?;
/// assert!(jobs.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// The bound is that of items in the queue; those in the hands of consumers do not count. Unlike in a `Queue`, each item is in a
/// block of its own, which stays until the task is done.
pub struct JoinableQueue<T> {
    pub(super) queue: TaskQueue,
    items: PhantomData<fn(T) -> T>,
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        JoinableQueue::of(self.queue.clone())
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinableQueue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl<T> JoinableQueue<T> {
    fn of(queue: TaskQueue) -> Self {
        let items = PhantomData;
        JoinableQueue { queue, items }
    }

    fn is_member(&self) -> bool {
        self.queue.arena().check().is_ok()
    }

    /// How many items nobody has taken; see [`Queue::len`](crate::Queue::len). Those that were given back do not count.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        if !self.is_member() {
            return 0;
        }
        self.queue.ring.len() as usize
    }

    /// Whether every item was taken. They may be unfinished.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        !self.is_member() || self.queue.ring.is_empty()
    }

    /// Whether a `put` would have to wait.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.is_member() && self.queue.ring.is_full()
    }

    /// How many items it holds at most; `None` for a queue without a bound.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> Option<usize> {
        let capacity = self.queue.ring.capacity();
        capacity.map(|capacity| capacity as usize)
    }

    /// Ends it for everybody: puts fail from now on, gets succeed until it is drained. Tasks can be finished and waited for.
    /// Idempotent, and nothing happens in a process that is no member of the family.
    pub fn close(&self) {
        if self.is_member() {
            self.queue.ring.close();
        }
    }

    /// Whether somebody has closed it.
    pub fn is_closed(&self) -> bool {
        !self.is_member() || self.queue.ring.is_closed()
    }

    /// Marks the oldest item that this process got by [`get`](Self::get) and has not yet finished as done. Also after the
    /// queue was closed. Which these are is known as long as the process has a handle of the queue: when it has dropped the last one,
    /// they stay unfinished until it ends.
    ///
    /// # Errors
    /// [`TaskDoneError::TooMany`] when there is none, [`TaskDoneError::ForeignFork`].
    ///
    /// ```
    /// let jobs = multiprocess::JoinableQueue::bounded(4)?;
    /// jobs.put(7)?;
    /// assert!(jobs.task_done().is_err());
    /// jobs.get()?;
    /// jobs.task_done()?;
    /// assert_eq!(jobs.task_done(), Err(multiprocess::TaskDoneError::TooMany));
    /// jobs.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        if !self.is_member() {
            return Err(TaskDoneError::ForeignFork);
        }
        let oldest = self.queue.oldest().ok_or(TaskDoneError::TooMany)?;
        self.queue.finish(oldest);
        Ok(())
    }

    /// Waits until everything that was put is finished: at one moment, so that an item which a consumer puts before it says
    /// that its own is done is waited for as well. At once when there is nothing unfinished. An item that nobody takes is waited
    /// for, too; one whose consumer died is not, unless another consumer is to have it.
    ///
    /// # Errors
    /// [`QueueJoinError::Lost`] when tasks were given up, [`QueueJoinError::ForeignFork`].
    pub fn join(&self) -> Result<(), QueueJoinError> {
        self.join_until(Deadline::NEVER)
    }

    /// As [`join`](Self::join), but waits `timeout` at most; zero means a look. One that the clock cannot hold is for ever.
    ///
    /// # Errors
    /// As [`join`](Self::join), and [`QueueJoinError::TimedOut`].
    ///
    /// ```
    /// use multiprocess::{JoinableQueue, QueueJoinError};
    /// use std::time::Duration;
    ///
    /// let jobs = JoinableQueue::bounded(4)?;
    /// assert_eq!(jobs.join_timeout(Duration::ZERO), Ok(()));
    /// jobs.put(7)?;
    /// assert_eq!(jobs.join_timeout(Duration::from_millis(5)), Err(QueueJoinError::TimedOut));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "join")]
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), QueueJoinError> {
        self.join_until(Deadline::from(timeout))
    }

    fn join_until(&self, deadline: Deadline) -> Result<(), QueueJoinError> {
        if !self.is_member() {
            return Err(QueueJoinError::ForeignFork);
        }
        match self.queue.join(deadline) {
            Some(0) => Ok(()),
            Some(lost) => Err(QueueJoinError::Lost(lost)),
            None => Err(QueueJoinError::TimedOut),
        }
    }
}

impl<T: Serialize + DeserializeOwned> JoinableQueue<T> {
    /// A queue for `capacity` items whose tasks are given to two further consumers at most when theirs die.
    ///
    /// # Errors
    /// [`Error::InvalidCapacity`] for 0 and for more than can be addressed, [`Error::NoMemory`] for more than the arena has
    /// left, [`Error::ForeignFork`].
    #[doc(alias = "new")]
    pub fn bounded(capacity: usize) -> io::Result<Self> {
        JoinableQueue::bounded_with(capacity, OnDeath::Redeliver { max: 2 })
    }

    /// A queue for `capacity` items that treats the tasks of dead consumers as it is told.
    ///
    /// # Errors
    /// As [`bounded`](Self::bounded).
    ///
    /// ```
    /// use multiprocess::{JoinableQueue, OnDeath, QueueJoinError, spawn};
    ///
    /// fn crash(jobs: JoinableQueue<u8>) {
    ///     jobs.get().unwrap();
    ///     std::process::abort();
    /// }
    ///
    /// let jobs = JoinableQueue::bounded_with(4, OnDeath::Report)?;
    /// jobs.put(7)?;
    /// spawn(crash, jobs.clone())?.wait();
    /// assert_eq!(jobs.join(), Err(QueueJoinError::Lost(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bounded_with(capacity: usize, on_death: OnDeath) -> io::Result<Self> {
        JoinableQueue::bounded_in(arena::family()?, capacity, on_death)
    }

    /// A queue in this arena.
    pub(crate) fn bounded_in(
        arena: &Arena,
        capacity: usize,
        on_death: OnDeath,
    ) -> io::Result<Self> {
        if capacity == 0 || capacity as u64 > 1 << 32 {
            return Err(Error::InvalidCapacity.into());
        }
        JoinableQueue::with_room(arena, Room::Bounded(capacity as u64), on_death)
    }

    /// A queue without a bound whose tasks are given to two further consumers at most when theirs die; see
    /// [`Queue::unbounded`](crate::Queue::unbounded). The messages' memory comes back as they are finished; that of the table
    /// of unfinished tasks, 16 bytes for each that there was at one time, when the queue goes, and [`join`](Self::join) looks at
    /// all of it.
    ///
    /// ```
    /// let jobs = multiprocess::JoinableQueue::unbounded()?;
    /// for job in 0..2000 {
    ///     jobs.put(job)?;
    /// }
    /// while let Ok(job) = jobs.try_get_task() {
    ///     assert!(*job < 2000);
    /// }
    /// jobs.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::ForeignFork`].
    #[doc(alias = "new")]
    pub fn unbounded() -> io::Result<Self> {
        JoinableQueue::unbounded_with(OnDeath::Redeliver { max: 2 })
    }

    /// A queue without a bound that treats the tasks of dead consumers as it is told.
    ///
    /// # Errors
    /// As [`unbounded`](Self::unbounded).
    pub fn unbounded_with(on_death: OnDeath) -> io::Result<Self> {
        JoinableQueue::with_room(arena::family()?, Room::Unbounded, on_death)
    }

    pub(crate) fn with_room(arena: &Arena, room: Room, on_death: OnDeath) -> io::Result<Self> {
        let retries = match on_death {
            OnDeath::Redeliver { max } => max.into(),
            OnDeath::Report => 0,
        };
        let queue = TaskQueue::create(arena, room, type_hash::<T, Serde>(), retries)?;
        Ok(JoinableQueue::of(queue))
    }

    /// Puts an item at the end, unfinished; waits while there is no room.
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::NoMemory`], [`PutError::Encode`], [`PutError::ForeignFork`]; the item is inside, and
    /// nothing was sent.
    ///
    /// # Panics
    /// As the item's `Serialize` does; nothing is claimed at that moment.
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, Deadline::NEVER)
    }

    /// Puts an item if there is room now. A living peer in the middle of its own operation is waited for, 1 ms at most.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`PutError::Full`].
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, Deadline::NOW)
    }

    /// Puts an item; waits for room, `timeout` at most. A timeout that the clock cannot hold is for ever.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`PutError::Full`] when the time is over.
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, Deadline::from(timeout))
    }

    fn put_until(&self, item: T, deadline: Deadline) -> Result<(), PutError<T>> {
        if !self.is_member() {
            return Err(PutError::ForeignFork(item));
        }
        if self.queue.ring.is_closed() {
            return Err(PutError::Closed(item));
        }
        let parcel = match codec::encode_parcel(self.queue.arena(), &item, None) {
            Ok(parcel) => parcel,
            Err(failure) => return Err(not_encoded(failure, item)),
        };
        match self.queue.send(parcel, deadline) {
            Ok(()) => Ok(()),
            Err(Some(refused)) => Err(not_sent(refused, item)),
            Err(None) => Err(not_encoded(Failure::NoMemory, item)),
        }
    }

    /// Gets the item at the front; waits while there is none. It is unfinished until [`task_done`](Self::task_done) was
    /// called for it; if this process dies before, it was not got.
    ///
    /// # Errors
    /// [`GetError::Closed`] when the queue is closed and drained; a process that holds no unfinished item itself is first told
    /// so when the others have finished theirs, which could still come back. [`GetError::Decode`] when the message is no `T` (it
    /// is consumed, and finished; given up if somebody else had it before), [`GetError::ForeignFork`].
    ///
    /// # Panics
    /// As the item's `Deserialize` does; the item is consumed and finished, the queue goes on.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets an item if there is one now. A living peer in the middle of its own operation is waited for, 1 ms at most.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`GetError::Empty`].
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Gets an item; waits for one, `timeout` at most.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`GetError::Empty`] when the time is over.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::from(timeout))
    }

    fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        let (held, item) = self.next(deadline)?;
        self.queue.note(held);
        Ok(item)
    }

    fn next(&self, deadline: Deadline) -> Result<(Held, T), GetError> {
        if !self.is_member() {
            return Err(GetError::ForeignFork);
        }
        let held = self.queue.next(deadline)?;
        Ok((held, self.queue.open(held)?))
    }

    /// Gets the item at the front as a [`Task`] that is done when it is dropped; waits while there is none.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// ```
    /// let jobs = multiprocess::JoinableQueue::bounded(4)?;
    /// jobs.put("wash".to_string())?;
    /// let job = jobs.get_task()?;
    /// assert_eq!(job.len(), 4);
    /// drop(job);
    /// jobs.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "get")]
    pub fn get_task(&self) -> Result<Task<T>, GetError> {
        self.task_until(Deadline::NEVER)
    }

    /// As [`get_task`](Self::get_task), if there is an item now.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub fn try_get_task(&self) -> Result<Task<T>, GetError> {
        self.task_until(Deadline::NOW)
    }

    /// As [`get_task`](Self::get_task); waits `timeout` at most.
    ///
    /// # Errors
    /// As [`get_timeout`](Self::get_timeout).
    pub fn get_task_timeout(&self, timeout: Duration) -> Result<Task<T>, GetError> {
        self.task_until(Deadline::from(timeout))
    }

    fn task_until(&self, deadline: Deadline) -> Result<Task<T>, GetError> {
        let (held, item) = self.next(deadline)?;
        let queue = self.queue.clone();
        Ok(Task {
            item,
            held,
            queue,
            unwinding: std::thread::panicking(),
        })
    }
}

/// An item of a [`JoinableQueue`] that is done when this is dropped.
///
/// Dropped by a panic it is not done: it is treated as if its process had died ([`OnDeath`]). Forgotten, it is unfinished until
/// this process ends, and then that is what has happened.
pub struct Task<T> {
    item: T,
    held: Held,
    pub(super) queue: TaskQueue,
    /// It was got by a destructor that a panic runs: that panic is not its own.
    unwinding: bool,
}

impl<T> Deref for Task<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T> DerefMut for Task<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

impl<T: fmt::Debug> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.item).finish()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.unwinding {
            self.queue.give_back(self.held);
        } else {
            self.queue.finish(self.held);
        }
    }
}

/// The two parts as they stand in a message.
struct TasksHandle(Arc<LocalTasks>);
struct RingHandle(Arc<LocalQueue>);

impl Serialize for TasksHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(&self.0, serializer)
    }
}

impl Serialize for RingHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(&self.0, serializer)
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (tasks, ring) = (self.queue.tasks.clone(), self.queue.ring.clone());
        (TasksHandle(tasks), RingHandle(ring)).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (tasks, ring) = <(Tasks<T>, Ring<T>)>::deserialize(deserializer)?;
        let (tasks, ring) = (tasks.0, ring.0);
        let queue = TaskQueue { tasks, ring };
        if !queue.is_whole() {
            return Err(de::Error::custom(Error::StaleHandle));
        }
        Ok(JoinableQueue::of(queue))
    }
}

struct Tasks<T>(Arc<LocalTasks>, PhantomData<fn(T)>);
struct Ring<T>(Arc<LocalQueue>, PhantomData<fn(T)>);

impl<'de, T> Deserialize<'de> for Tasks<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalTasks::new(object));
        let tasks = codec::deserialize_handle(deserializer, KIND, type_hash::<T, Serde>(), make)?;
        Ok(Tasks(tasks, PhantomData))
    }
}

impl<'de, T> Deserialize<'de> for Ring<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = LocalQueue::kind();
        let hash = ring_hash(type_hash::<T, Serde>());
        let ring = codec::deserialize_handle(deserializer, kind, hash, LocalQueue::new)?;
        Ok(Ring(ring, PhantomData))
    }
}

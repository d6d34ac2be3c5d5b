//! The queue as its users see it.
#![forbid(unsafe_code)]

use super::carry::{Codec, Holds};
use super::lane::Taken;
use super::local::{LocalQueue, Refused};
use crate::arena::{self, Arena};
use crate::codec::{self, Serde};
use crate::error::{Error, GetError, PutError};
use crate::os::clock::Deadline;
use crate::ring::Geometry;
use crate::sync;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A first-in, first-out queue of messages between any number of processes and threads.
///
/// A handle is cheap to clone, and can be an argument of a process or part of a message. Everything that [`put`](Self::put)
/// returned `Ok` for is visible to every other process at once, survives the process that put it, and is got exactly once:
/// a consumer that is killed before its `get` took effect leaves the message to the next one, a producer that is killed
/// before its `put` took effect has sent nothing. Nobody ever waits for a dead process.
///
/// [`bounded`](Self::bounded) makes producers wait for consumers, [`unbounded`](Self::unbounded) lets the queue grow.
///
/// Items are encoded with serde; plain old data needs no encoding ([`bounded_pod`](Self::bounded_pod)), bytes have calls of their own
/// ([`Bytes`](crate::Bytes)). Many small items go cheaper in batches ([`put_many`](Self::put_many), [`get_many`](Self::get_many)), large ones
/// in place ([`Loan`](crate::Loan), [`Ref`](crate::Ref)).
///
/// The queue lives as long as there is a handle to it, in a process or in a message. One whose only handle is a message in
/// itself lives until the family ends, and so do several that are left in each other only.
///
/// Messages are not self-describing (the format is postcard's), and what `#[derive(Serialize, Deserialize)]` makes of a type fits. What
/// `#[serde(untagged)]`, `flatten` and `deserialize_any` need is an error. A field left out by `skip_serializing_if` shifts those
/// behind it, unnoticed: do not use it in messages. `Serialize` may run up to three times for one `put`, and must give the
/// same each time.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiprocess::Queue;
///
/// fn work((jobs, results): (Queue<u64>, Queue<u64>)) {
///     for job in jobs.iter().flatten() {
///         results.put(job * job).unwrap();
///     }
/// }
///
/// let (jobs, results) = (Queue::bounded(8)?, Queue::bounded(8)?);
/// let workers = [(); 2].map(|()| multiprocess::spawn(work, (jobs.clone(), results.clone())).unwrap());
/// for job in 1..=4 {
///     jobs.put(job)?;
/// }
/// jobs.close(); // the workers' loops end when it is drained
/// let mut squares: Vec<u64> = (0..4).map(|_| results.get().unwrap()).collect();
/// squares.sort();
/// assert_eq!(squares, [1, 4, 9, 16]);
/// for worker in workers {
///     worker.join()?;
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "SimpleQueue")]
pub struct Queue<T, C = Serde> {
    pub(super) local: Arc<LocalQueue>,
    items: PhantomData<fn(T) -> T>,
    codec: PhantomData<fn() -> C>,
}

impl<T, C> Clone for Queue<T, C> {
    fn clone(&self) -> Self {
        Queue {
            local: self.local.clone(),
            items: PhantomData,
            codec: PhantomData,
        }
    }
}

impl<T, C> fmt::Debug for Queue<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// What tells queues of other items, or of the same in another codec, apart.
pub(super) fn type_hash<T, C>() -> u64 {
    sync::type_hash_by::<T, (T, C)>()
}

impl<T, C> Queue<T, C> {
    /// How many items are in it. For a producer an upper bound, for a consumer a lower bound of what it will find;
    /// exact while nobody puts or gets. After a producer was killed in the middle of a `put`, its slot counts until a
    /// consumer has passed it.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        if self.local.arena().check().is_err() {
            return 0;
        }
        self.local.len() as usize
    }

    /// Whether there is nothing to get. After a `put` returned it is false everywhere until somebody gets that item.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.local.arena().check().is_err() || self.local.is_empty()
    }

    /// Whether a `put` would have to wait.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.local.arena().check().is_ok() && self.local.is_full()
    }

    /// How many items it holds at most; `None` for a queue without a bound.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> Option<usize> {
        self.local.capacity().map(|capacity| capacity as usize)
    }

    /// Ends it for everybody: puts fail from now on, gets succeed until it is drained. Who waits is woken. Idempotent, and
    /// nothing happens in a process that is no member of the family.
    pub fn close(&self) {
        if self.local.arena().check().is_ok() {
            self.local.close();
        }
    }

    /// Whether somebody has closed it.
    pub fn is_closed(&self) -> bool {
        self.local.arena().check().is_err() || self.local.is_closed()
    }
}

impl<T> Queue<T>
where
    Serde: Holds<T>,
{
    /// A queue for `capacity` items. One that grows: [`unbounded`](Self::unbounded).
    ///
    /// # Errors
    /// [`Error::InvalidCapacity`] for 0 and for more than can be addressed, [`Error::NoMemory`] for more than the arena has
    /// left, [`Error::ForeignFork`].
    #[doc(alias = "new")]
    #[doc(alias = "maxsize")]
    pub fn bounded(capacity: usize) -> io::Result<Self> {
        Queue::bounded_in(arena::family()?, capacity)
    }
}

impl<T, C: Holds<T>> Queue<T, C> {
    /// A queue in this arena.
    pub(crate) fn bounded_in(arena: &Arena, capacity: usize) -> io::Result<Self> {
        if capacity == 0 || capacity as u64 > 1 << 32 {
            return Err(Error::InvalidCapacity.into());
        }
        let geometry = Geometry::new(capacity as u64, C::usual_len());
        let local = Arc::new(LocalQueue::create(arena, geometry, type_hash::<T, C>())?);
        arena.register(&local);
        Ok(Queue::of(local))
    }
}

impl<T, C> Queue<T, C> {
    pub(super) fn of(local: Arc<LocalQueue>) -> Self {
        Queue {
            local,
            items: PhantomData,
            codec: PhantomData,
        }
    }

    /// The next message, in the usual case. Until it is received no user code may run.
    #[inline(always)]
    pub(super) fn take_next(&self) -> Result<Option<Taken<'_>>, GetError> {
        if self.local.arena().check().is_err() {
            return Err(GetError::ForeignFork);
        }
        Ok(self.local.take_next())
    }

    /// The next message. Until it is received no user code may run.
    #[inline]
    pub(super) fn take(&self, deadline: Deadline) -> Result<Taken<'_>, GetError> {
        if self.local.arena().check().is_err() {
            return Err(GetError::ForeignFork);
        }
        match self.local.take_next() {
            Some(taken) => Ok(taken),
            None => self.local.wait_for_message(deadline).map_err(nothing),
        }
    }
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// Puts an item at the end; waits while there is no room.
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::NoMemory`], [`PutError::Encode`], [`PutError::ForeignFork`]; the item is inside, and
    /// nothing was sent.
    ///
    /// # Panics
    /// As the item's `Serialize` does; nothing is claimed at that moment.
    #[inline]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, Deadline::NEVER)
    }

    /// Puts an item if there is room now. A living peer in the middle of its own operation is waited for, 1 ms at most.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`PutError::Full`].
    #[doc(alias = "put_nowait")]
    #[inline]
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

    #[inline]
    fn put_until(&self, item: T, deadline: Deadline) -> Result<(), PutError<T>> {
        if self.local.arena().check().is_err() {
            return Err(PutError::ForeignFork(item));
        }
        if self.local.is_closed() {
            return Err(PutError::Closed(item));
        }
        C::put(&self.local, item, deadline)
    }

    /// Gets the item at the front; waits while there is none.
    ///
    /// # Errors
    /// [`GetError::Closed`] when it is closed and drained, [`GetError::Decode`] when the message is no `T` (it is consumed),
    /// [`GetError::ForeignFork`].
    ///
    /// # Panics
    /// As the item's `Deserialize` does; the message is consumed, the queue goes on.
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets an item if there is one now. A living peer in the middle of its own operation is waited for, 1 ms at most.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`GetError::Empty`].
    #[doc(alias = "get_nowait")]
    #[inline]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Gets an item; waits for one, `timeout` at most. The time bounds the whole call: a message becomes visible only
    /// when it is complete.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`GetError::Empty`] when the time is over.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::from(timeout))
    }

    #[inline]
    fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        if self.local.arena().check().is_err() {
            return Err(GetError::ForeignFork);
        }
        match self.local.take_next() {
            Some(taken) => C::receive(&self.local, taken).map_err(GetError::Decode),
            None => self.get_slowly(deadline),
        }
    }

    #[cold]
    fn get_slowly(&self, deadline: Deadline) -> Result<T, GetError> {
        match self.local.wait_for_message(deadline) {
            Ok(taken) => C::receive(&self.local, taken).map_err(GetError::Decode),
            Err(refused) => Err(nothing(refused)),
        }
    }

    /// Gets one item after the other until the queue is closed and drained. A message that does not decode is yielded as
    /// an error, and the next call goes on behind it.
    pub fn iter(&self) -> Iter<'_, T, C> {
        Iter {
            queue: self,
            over: false,
        }
    }
}

#[cold]
pub(super) fn nothing(refused: Refused) -> GetError {
    match refused {
        Refused::NotNow | Refused::NoMemory => GetError::Empty,
        Refused::Closed => GetError::Closed,
    }
}

/// See [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T, C = Serde> {
    queue: &'a Queue<T, C>,
    over: bool,
}

impl<T, C: Codec<T>> Iterator for Iter<'_, T, C> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.queue.get();
        self.over = matches!(item, Err(GetError::Closed | GetError::ForeignFork));
        (!matches!(item, Err(GetError::Closed))).then_some(item)
    }
}

impl<'a, T, C: Codec<T>> IntoIterator for &'a Queue<T, C> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T, C>;

    fn into_iter(self) -> Iter<'a, T, C> {
        self.iter()
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl<T, C> Serialize for Queue<T, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(&self.local, serializer)
    }
}

impl<'de, T, C> Deserialize<'de> for Queue<T, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, hash) = (LocalQueue::kind(), type_hash::<T, C>());
        let local = codec::deserialize_handle(deserializer, kind, hash, LocalQueue::new)?;
        Ok(Queue::of(local))
    }
}

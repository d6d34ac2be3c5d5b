//! A queue with its two roles apart, so that each side learns of the other's end.
#![forbid(unsafe_code)]

use super::carry::{Codec, Holds};
use super::role::{End, RECEIVERS, SENDERS, split};
use super::{GetIntoError, GetManyError, Iter, Queue};
use crate::arena::{self, Arena};
use crate::codec::Serde;
use crate::error::{GetError, PutError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::time::Duration;

/// Why an item was not sent: what [`Queue::put`] would say.
pub type SendError<T> = PutError<T>;
/// Why nothing was received: what [`Queue::get`] would say.
pub type RecvError = GetError;

/// A channel for `capacity` items: a [`Queue`] whose handles can either send or receive.
///
/// Any number of processes and threads can hold clones of either end. When the last [`Sender`] is gone, receivers get what is
/// left and then [`RecvError::Closed`], and their loops end; when the last [`Receiver`] is gone, senders get
/// [`SendError::Closed`]. Gone is what was dropped, and what a process held that has ended, killed at whatever point: nobody
/// counts end markers, and nobody waits for the dead. Who waits learns of a drop at once and of a death within a moment
/// (0.1 s, as long as the machine keeps up). An end in a message, or in the arguments of a process that is being started, is
/// held like any other.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiprocess::{Receiver, Sender, channel, spawn};
///
/// fn produce((first, sender): (u64, Sender<u64>)) {
///     for number in first..first + 100 {
///         sender.send(number).unwrap();
///     }
/// }
///
/// fn add_up((numbers, sums): (Receiver<u64>, Sender<u64>)) {
///     sums.send(numbers.iter().flatten().sum()).unwrap();
/// }
///
/// let (numbers, source) = channel(16)?;
/// let (sums, results) = channel(16)?;
/// let mut processes = Vec::new();
/// for first in [0, 100, 200] {
///     processes.push(spawn(produce, (first, numbers.clone()))?);
/// }
/// for _ in 0..2 {
///     processes.push(spawn(add_up, (source.clone(), sums.clone()))?);
/// }
/// // What this process keeps would keep the loops waiting.
/// drop((numbers, source, sums));
/// assert_eq!(results.iter().flatten().sum::<u64>(), (0..300).sum());
/// for process in processes {
///     process.join()?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// A process that was copied ([`StartMethod::Fork`](crate::StartMethod::Fork)) holds every end that its parent held at that
/// moment, captured or not, until it ends: make channels after the copies, or use the default start method, which inherits
/// nothing. Ends that are only held by each other's undelivered messages live until the family ends, such as a channel's last
/// receiver within the channel itself.
///
/// # Errors
/// [`Error::InvalidCapacity`](crate::Error::InvalidCapacity) for 0 and for more than can be addressed,
/// [`Error::NoMemory`](crate::Error::NoMemory) for more than the arena has left,
/// [`Error::ForeignFork`](crate::Error::ForeignFork).
#[doc(alias = "Pipe")]
#[doc(alias = "Queue")]
pub fn channel<T>(capacity: usize) -> io::Result<(Sender<T>, Receiver<T>)>
where
    Serde: Holds<T>,
{
    channel_in(arena::family()?, capacity)
}

/// A [`channel`] without a bound: a `send` never waits, and never says [`SendError::Full`]. What is said at
/// [`Queue::unbounded`] holds for it.
///
/// Senders learn of the death of the last receiver at the latest when the channel would have to grow, and of its drop at once; then
/// everything that was sent and not received is gone, and its memory given back.
///
/// ```
/// use multiprocess::{Receiver, spawn, unbounded_channel};
///
/// fn add_up(numbers: Receiver<u64>) -> u64 {
///     numbers.iter().flatten().sum()
/// }
///
/// let (sender, receiver) = unbounded_channel()?;
/// for number in 1..=5000 {
///     sender.send(number)?;
/// }
/// drop(sender);
/// assert_eq!(spawn(add_up, receiver)?.join()?, 12_502_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
#[doc(alias = "Pipe")]
#[doc(alias = "Queue")]
pub fn unbounded_channel<T>() -> io::Result<(Sender<T>, Receiver<T>)>
where
    Serde: Holds<T>,
{
    ends(Queue::unbounded()?)
}

pub(super) fn ends<T, C>(queue: Queue<T, C>) -> io::Result<(Sender<T, C>, Receiver<T, C>)> {
    let (senders, receivers) = split(queue)?;
    Ok((Sender { end: senders }, Receiver { end: receivers }))
}

/// A channel without a bound in this arena, with segments of so few slots.
#[cfg(all(test, not(loom)))]
pub(crate) fn unbounded_channel_with<T>(
    arena: &Arena,
    slots: u64,
) -> io::Result<(Sender<T>, Receiver<T>)>
where
    Serde: Holds<T>,
{
    ends(Queue::unbounded_with(arena, slots)?)
}

/// A channel in this arena.
pub(crate) fn channel_in<T, C: Holds<T>>(
    arena: &Arena,
    capacity: usize,
) -> io::Result<(Sender<T, C>, Receiver<T, C>)> {
    ends(Queue::bounded_in(arena, capacity)?)
}

/// The sending end of a [`channel`]. Clones are the same end; the channel ends for receivers when the last one is gone.
///
/// It can be an argument of a process or part of a message, also of one in its own channel.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = multiprocess::channel(2)?;
/// sender.send("hello".to_string())?;
/// drop(sender);
/// // What was sent arrives all the same.
/// assert_eq!(receiver.recv()?, "hello");
/// assert!(matches!(receiver.recv(), Err(multiprocess::RecvError::Closed)));
/// # Ok(())
/// # }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Sender<T, C = Serde> {
    pub(super) end: End<T, C, SENDERS>,
}

/// The receiving end of a [`channel`]. Clones are the same end: each item goes to one of them. Senders learn of it when the last
/// one is gone, and what was sent and not received goes with it.
///
/// It can be an argument of a process or part of a message.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = multiprocess::channel(2)?;
/// for number in [1, 2] {
///     sender.send(number)?;
/// }
/// drop(sender);
/// let all: Result<Vec<i32>, _> = receiver.iter().collect();
/// assert_eq!(all?, [1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Receiver<T, C = Serde> {
    pub(super) end: End<T, C, RECEIVERS>,
}

impl<T, C> Clone for Sender<T, C> {
    fn clone(&self) -> Self {
        let end = self.end.clone();
        Sender { end }
    }
}

impl<T, C> Clone for Receiver<T, C> {
    fn clone(&self) -> Self {
        let end = self.end.clone();
        Receiver { end }
    }
}

fn describe<T, C>(name: &str, queue: &Queue<T, C>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("len", &queue.len())
        .field("capacity", &queue.capacity())
        .field("closed", &queue.is_closed())
        .finish_non_exhaustive()
}

impl<T, C> fmt::Debug for Sender<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe("Sender", &self.end.queue, f)
    }
}

impl<T, C> fmt::Debug for Receiver<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe("Receiver", &self.end.queue, f)
    }
}

impl<T, C> Sender<T, C> {
    /// How many items are in the channel; see [`Queue::len`].
    ///
    /// ```
    /// let (sender, _receiver) = multiprocess::channel(3)?;
    /// sender.send(7)?;
    /// assert_eq!((sender.len(), sender.is_empty(), sender.is_full()), (1, false, false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.end.queue.len()
    }

    /// Whether everything sent was received.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.end.queue.is_empty()
    }

    /// Whether a `send` would have to wait.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.end.queue.is_full()
    }

    /// How many items it holds at most; `None` for a channel without a bound.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> Option<usize> {
        self.end.queue.capacity()
    }

    /// Whether every receiver is known to be gone. That the last one was killed may become known only to a `send` that
    /// finds no room, or for which the channel has to grow.
    ///
    /// ```
    /// let (sender, receiver) = multiprocess::channel::<u8>(3)?;
    /// assert!(!sender.is_closed());
    /// drop(receiver);
    /// assert!(sender.is_closed() && sender.send(1).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "closed")]
    pub fn is_closed(&self) -> bool {
        self.end.queue.is_closed()
    }

    /// What was found full may be so for good, when the receivers have died.
    #[inline]
    pub(super) fn look_again<V>(
        &self,
        sent: Result<(), SendError<V>>,
        again: impl FnOnce(V) -> Result<(), SendError<V>>,
    ) -> Result<(), SendError<V>> {
        match sent {
            Err(SendError::Full(item)) if self.end.ask() => again(item),
            done => done,
        }
    }
}

impl<T, C: Codec<T>> Sender<T, C> {
    /// Sends an item; waits while there is no room.
    ///
    /// # Errors
    /// [`SendError::Closed`] when every receiver is gone, [`SendError::NoMemory`], [`SendError::Encode`],
    /// [`SendError::ForeignFork`]; the item is inside, and nothing was sent.
    ///
    /// # Panics
    /// As the item's `Serialize` does; nothing is claimed at that moment.
    ///
    /// ```
    /// let (sender, receiver) = multiprocess::channel(1)?;
    /// sender.send(7)?;
    /// assert_eq!(receiver.recv()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "put")]
    #[inline]
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.end.queue.put(item)
    }

    /// Sends an item if there is room now. A living peer in the middle of its own operation is waited for, 1 ms at most.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Full`].
    ///
    /// ```
    /// let (sender, receiver) = multiprocess::channel(1)?;
    /// sender.try_send(1)?;
    /// assert!(sender.try_send(2).unwrap_err().is_full());
    /// # drop(receiver);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "put_nowait")]
    #[inline]
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        let sent = self.end.queue.try_put(item);
        self.look_again(sent, |item| self.end.queue.try_put(item))
    }

    /// Sends an item; waits for room, `timeout` at most. A timeout that the clock cannot hold is for ever.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Full`] when the time is over.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let (sender, receiver) = multiprocess::channel(1)?;
    /// sender.send_timeout(1, Duration::from_millis(5))?;
    /// assert!(sender.send_timeout(2, Duration::from_millis(5)).unwrap_err().is_full());
    /// # drop(receiver);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_timeout(&self, item: T, timeout: Duration) -> Result<(), SendError<T>> {
        let sent = self.end.queue.put_timeout(item, timeout);
        self.look_again(sent, |item| self.end.queue.try_put(item))
    }
}

impl<T, C> Receiver<T, C> {
    /// How many items are in the channel; see [`Queue::len`].
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.end.queue.len()
    }

    /// Whether there is nothing to receive now.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.end.queue.is_empty()
    }

    /// Whether a sender would have to wait.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.end.queue.is_full()
    }

    /// How many items it holds at most; `None` for a channel without a bound.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> Option<usize> {
        self.end.queue.capacity()
    }

    /// Whether every sender is known to be gone; there may be something left to receive. That the last one was killed may
    /// become known only to a `recv` that finds nothing.
    ///
    /// ```
    /// let (sender, receiver) = multiprocess::channel(3)?;
    /// sender.send(1)?;
    /// drop(sender);
    /// assert!(receiver.is_closed());
    /// assert_eq!(receiver.recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "closed")]
    pub fn is_closed(&self) -> bool {
        self.end.queue.is_closed()
    }

    /// What was found empty may be so for good, when the senders have died.
    #[inline]
    pub(super) fn look_again<V, E: Nothing>(
        &self,
        received: Result<V, E>,
        again: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        match received {
            Err(error) if error.is_empty() && self.end.ask() => again(),
            done => done,
        }
    }
}

/// Why nothing was received.
pub(super) trait Nothing {
    /// Because nothing is there yet.
    fn is_empty(&self) -> bool;
}

impl Nothing for RecvError {
    fn is_empty(&self) -> bool {
        matches!(self, RecvError::Empty)
    }
}

impl Nothing for GetIntoError {
    fn is_empty(&self) -> bool {
        matches!(self, GetIntoError::Get(RecvError::Empty))
    }
}

impl<T> Nothing for GetManyError<T> {
    fn is_empty(&self) -> bool {
        self.cause.is_empty()
    }
}

impl<T, C: Codec<T>> Receiver<T, C> {
    /// Receives the next item; waits while there is none.
    ///
    /// # Errors
    /// [`RecvError::Closed`] when every sender is gone and everything was received, [`RecvError::Decode`] when the message is
    /// no `T` (it is consumed), [`RecvError::ForeignFork`].
    ///
    /// # Panics
    /// As the item's `Deserialize` does; the message is consumed, the channel goes on.
    #[doc(alias = "get")]
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.end.queue.get()
    }

    /// Receives an item if there is one now. A living peer in the middle of its own operation is waited for, 1 ms at most.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::Empty`].
    ///
    /// ```
    /// use multiprocess::RecvError;
    ///
    /// let (sender, receiver) = multiprocess::channel::<u8>(1)?;
    /// assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    /// drop(sender);
    /// assert!(matches!(receiver.try_recv(), Err(RecvError::Closed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "get_nowait")]
    #[inline]
    pub fn try_recv(&self) -> Result<T, RecvError> {
        let received = self.end.queue.try_get();
        self.look_again(received, || self.end.queue.try_get())
    }

    /// Receives an item; waits for one, `timeout` at most. The time bounds the whole call: a message becomes visible only
    /// when it is complete.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::Empty`] when the time is over.
    ///
    /// ```
    /// use multiprocess::RecvError;
    /// use std::time::Duration;
    ///
    /// let (sender, receiver) = multiprocess::channel::<u8>(1)?;
    /// let nothing = receiver.recv_timeout(Duration::from_millis(5));
    /// assert!(matches!(nothing, Err(RecvError::Empty)));
    /// # drop(sender);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        let received = self.end.queue.get_timeout(timeout);
        self.look_again(received, || self.end.queue.try_get())
    }

    /// Receives one item after the other until every sender is gone and everything was received. A message that does not
    /// decode is yielded as an error, and the next call goes on behind it.
    pub fn iter(&self) -> Iter<'_, T, C> {
        self.end.queue.iter()
    }
}

impl<'a, T, C: Codec<T>> IntoIterator for &'a Receiver<T, C> {
    type Item = Result<T, RecvError>;
    type IntoIter = Iter<'a, T, C>;

    fn into_iter(self) -> Iter<'a, T, C> {
        self.iter()
    }
}

//! Bytes, plain old data and messages in place at the ends of a channel.
#![forbid(unsafe_code)]

use super::carry::Holds;
use super::channel::{channel_in, ends};
use super::{Bytes, GetIntoError, Loan, Queue, Receiver, RecvError, Ref, SendError, Sender};
use crate::arena;
use crate::codec::Pod;
use std::io;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A [`channel`](crate::channel()) of plain old data, which is not encoded; see [`Queue::bounded_pod`].
///
/// ```
/// use multiprocess::{Pod, Receiver, channel_pod, spawn};
///
/// fn longest(vectors: Receiver<[f32; 3], Pod>) -> f32 {
///     let lengths = vectors.iter().flatten().map(|v| v.iter().map(|x| x * x).sum::<f32>().sqrt());
///     lengths.fold(0.0, f32::max)
/// }
///
/// let (sender, receiver) = channel_pod(8)?;
/// sender.send([3.0, 0.0, 4.0])?;
/// sender.send([1.0, 1.0, 1.0])?;
/// drop(sender);
/// assert_eq!(spawn(longest, receiver)?.join()?, 5.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`channel`](crate::channel()).
pub fn channel_pod<T>(capacity: usize) -> io::Result<(Sender<T, Pod>, Receiver<T, Pod>)>
where
    Pod: Holds<T>,
{
    channel_in(arena::family()?, capacity)
}

/// An [`unbounded_channel`](crate::unbounded_channel) of plain old data.
///
/// ```
/// let (sender, receiver) = multiprocess::unbounded_channel_pod()?;
/// sender.send_many((0..1000u32).map(|number| [number; 4]))?;
/// drop(sender);
/// assert_eq!(receiver.iter().flatten().count(), 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`unbounded_channel`](crate::unbounded_channel).
pub fn unbounded_channel_pod<T>() -> io::Result<(Sender<T, Pod>, Receiver<T, Pod>)>
where
    Pod: Holds<T>,
{
    ends(Queue::unbounded_in(arena::family()?)?)
}

impl Sender<Bytes> {
    /// Sends a copy of the bytes; waits while there is no room.
    ///
    /// ```
    /// use multiprocess::{Bytes, channel};
    ///
    /// let (sender, receiver) = channel::<Bytes>(2)?;
    /// sender.send_bytes(b"hello")?;
    /// sender.try_send_bytes(b"you")?;
    /// assert_eq!(receiver.recv_bytes()?, b"hello");
    /// let mut buffer = [0; 8];
    /// let len = receiver.recv_into(&mut buffer)?;
    /// assert_eq!(&buffer[..len], b"you");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Closed`] when every receiver is gone, [`SendError::NoMemory`], [`SendError::ForeignFork`]; nothing was sent.
    #[doc(alias = "put_bytes")]
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.end.queue.put_bytes(bytes)
    }

    /// Sends a copy of the bytes if there is room now.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::Full`].
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        let sent = self.end.queue.try_put_bytes(bytes);
        self.look_again(sent, |()| self.end.queue.try_put_bytes(bytes))
    }

    /// Sends a copy of the bytes; waits for room, `timeout` at most.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::Full`] when the time is over.
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), SendError<()>> {
        let sent = self.end.queue.put_bytes_timeout(bytes, timeout);
        self.look_again(sent, |()| self.end.queue.try_put_bytes(bytes))
    }

    /// Room for a message of `len` bytes in shared memory: to be filled and [put](Loan::put) into the channel, without a copy. As
    /// [`Queue::<Bytes>::loan`](Queue::loan).
    ///
    /// ```
    /// use multiprocess::{Bytes, channel};
    ///
    /// let (sender, receiver) = channel::<Bytes>(2)?;
    /// let mut frame = sender.loan(1 << 20)?;
    /// frame.fill(7);
    /// frame.put()?;
    /// assert!(receiver.recv_ref()?.iter().all(|&byte| byte == 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A loan is no sender: when all senders are gone, the channel is closed for it too.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn loan(&self, len: usize) -> io::Result<Loan<[u8]>> {
        self.end.queue.loan(len)
    }
}

impl Receiver<Bytes> {
    /// Receives the next message; waits while there is none.
    ///
    /// # Errors
    /// [`RecvError::Closed`] when every sender is gone and everything was received, [`RecvError::ForeignFork`].
    #[doc(alias = "get_bytes")]
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.end.queue.get_bytes()
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Empty`].
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        let received = self.end.queue.try_get_bytes();
        self.look_again(received, || self.end.queue.try_get_bytes())
    }

    /// Receives a message; waits for one, `timeout` at most.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Empty`] when the time is over.
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        let received = self.end.queue.get_bytes_timeout(timeout);
        self.look_again(received, || self.end.queue.try_get_bytes())
    }

    /// Receives the next message into a buffer: how many of its bytes it took. Waits while there is no message.
    ///
    /// # Errors
    /// [`GetIntoError::TooShort`] with the message when the buffer is too short for it; else as
    /// [`recv_bytes`](Self::recv_bytes).
    #[doc(alias = "recv_bytes_into")]
    pub fn recv_into(&self, buffer: &mut [u8]) -> Result<usize, GetIntoError> {
        self.end.queue.get_into(buffer)
    }

    /// The same for a message that is there now.
    ///
    /// # Errors
    /// As [`recv_into`](Self::recv_into), and [`RecvError::Empty`].
    pub fn try_recv_into(&self, buffer: &mut [u8]) -> Result<usize, GetIntoError> {
        let received = self.end.queue.try_get_into(buffer);
        self.look_again(received, || self.end.queue.try_get_into(buffer))
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    /// As [`recv_into`](Self::recv_into), and [`RecvError::Empty`] when the time is over.
    pub fn recv_into_timeout(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, GetIntoError> {
        let received = self.end.queue.get_into_timeout(buffer, timeout);
        self.look_again(received, || self.end.queue.try_get_into(buffer))
    }

    /// Receives the next message, to be read where it lies; waits while there is none.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes).
    pub fn recv_ref(&self) -> Result<Ref<[u8]>, RecvError> {
        self.end.queue.get_ref()
    }

    /// The same for a message that is there now.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Empty`].
    pub fn try_recv_ref(&self) -> Result<Ref<[u8]>, RecvError> {
        let received = self.end.queue.try_get_ref();
        self.look_again(received, || self.end.queue.try_get_ref())
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Empty`] when the time is over.
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<Ref<[u8]>, RecvError> {
        let received = self.end.queue.get_ref_timeout(timeout);
        self.look_again(received, || self.end.queue.try_get_ref())
    }
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Sender<T, Pod> {
    /// Room for an item in shared memory: to be filled and [put](Loan::put) into the channel, without a copy. As
    /// [`Queue::<T, Pod>::loan`](Queue::loan).
    ///
    /// ```
    /// let (sender, receiver) = multiprocess::channel_pod::<[u64; 1000]>(2)?;
    /// let mut numbers = sender.loan()?;
    /// numbers.fill(7);
    /// numbers.put()?;
    /// assert_eq!(receiver.recv_ref()?[999], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A loan is no sender: when all senders are gone, the channel is closed for it too.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn loan(&self) -> io::Result<Loan<T>> {
        self.end.queue.loan()
    }
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Receiver<T, Pod> {
    /// Receives the next item, to be read where it lies; waits while there is none.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    pub fn recv_ref(&self) -> Result<Ref<T>, RecvError> {
        self.end.queue.get_ref()
    }

    /// The same for an item that is there now.
    ///
    /// # Errors
    /// As [`try_recv`](Receiver::try_recv).
    pub fn try_recv_ref(&self) -> Result<Ref<T>, RecvError> {
        let received = self.end.queue.try_get_ref();
        self.look_again(received, || self.end.queue.try_get_ref())
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_ref_timeout(&self, timeout: Duration) -> Result<Ref<T>, RecvError> {
        let received = self.end.queue.get_ref_timeout(timeout);
        self.look_again(received, || self.end.queue.try_get_ref())
    }
}

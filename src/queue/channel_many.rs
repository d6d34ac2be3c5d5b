//! Many items in one call at the ends of a channel.
#![forbid(unsafe_code)]

use super::carry::Codec;
use super::many::{GetManyError, PutManyError};
use super::{Receiver, SendError, Sender};
use std::time::Duration;

/// Why not all items of a [`send_many`](Sender::send_many) were sent.
pub type SendManyError<I> = PutManyError<I>;

/// Why a [`recv_many`](Receiver::recv_many) received nothing, or not all that it took could be decoded.
pub type RecvManyError<T> = GetManyError<T>;

impl<T, C: Codec<T>> Sender<T, C> {
    /// Sends all items in their order; waits while there is no room. Says how many it sent. As
    /// [`Queue::put_many`](crate::Queue::put_many), much cheaper than one by one.
    ///
    /// ```
    /// let (sender, receiver) = multiprocess::channel(100)?;
    /// assert_eq!(sender.send_many(0..64)?, 64);
    /// drop(sender);
    ///
    /// assert_eq!(receiver.recv_many(60)?.len(), 60);
    /// assert_eq!(receiver.recv_many(60)?, [60, 61, 62, 63]);
    /// let error = receiver.recv_many(60).unwrap_err();
    /// assert!(matches!(error.cause, multiprocess::RecvError::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendManyError`] says how many were sent and why not the next one, and has the rest. The causes are those of
    /// [`send`](Sender::send).
    ///
    /// # Panics
    /// As the iterator and the items' `Serialize` do; nothing is claimed at that moment. Up to 63 items that were encoded before
    /// are not sent then.
    pub fn send_many<I: IntoIterator<Item = T>>(
        &self,
        items: I,
    ) -> Result<usize, SendManyError<I::IntoIter>> {
        self.end.queue.put_many(items)
    }

    /// Sends as many items as there is room for now.
    ///
    /// # Errors
    /// As [`send_many`](Self::send_many), and [`SendError::Full`] as the cause.
    pub fn try_send_many<I: IntoIterator<Item = T>>(
        &self,
        items: I,
    ) -> Result<usize, SendManyError<I::IntoIter>> {
        let sent = self.end.queue.try_put_many(items);
        sent.map_err(|error| self.why_full(error))
    }

    /// Sends all items; waits for room, `timeout` at most in all.
    ///
    /// # Errors
    /// As [`send_many`](Self::send_many), and [`SendError::Full`] as the cause when the time is over.
    pub fn send_many_timeout<I: IntoIterator<Item = T>>(
        &self,
        items: I,
        timeout: Duration,
    ) -> Result<usize, SendManyError<I::IntoIter>> {
        let sent = self.end.queue.put_many_timeout(items, timeout);
        sent.map_err(|error| self.why_full(error))
    }

    /// Full for good if the receivers have died.
    fn why_full<I: Iterator>(&self, mut error: SendManyError<I>) -> SendManyError<I> {
        if error.cause.is_full() && self.end.ask() && self.is_closed() {
            error.cause = SendError::Closed(());
        }
        error
    }
}

impl<T, C: Codec<T>> Receiver<T, C> {
    /// Receives the next items, `max` at most: waits for one, then takes what is there. For a `max` of 0 that is nothing.
    ///
    /// # Errors
    /// [`RecvManyError`]: nothing was received, for the causes of [`recv`](Receiver::recv); or some messages that were taken
    /// are no `T`, and the others are inside.
    ///
    /// # Panics
    /// As the items' `Deserialize` does; what was taken in the same call is consumed.
    pub fn recv_many(&self, max: usize) -> Result<Vec<T>, RecvManyError<T>> {
        self.end.queue.get_many(max)
    }

    /// Receives the items that are there now, `max` at most.
    ///
    /// # Errors
    /// As [`recv_many`](Self::recv_many), and [`RecvError::Empty`](crate::RecvError::Empty) as the cause.
    pub fn try_recv_many(&self, max: usize) -> Result<Vec<T>, RecvManyError<T>> {
        let received = self.end.queue.try_get_many(max);
        self.look_again(received, || self.end.queue.try_get_many(max))
    }

    /// Receives items; waits for the first, `timeout` at most.
    ///
    /// # Errors
    /// As [`recv_many`](Self::recv_many), and [`RecvError::Empty`](crate::RecvError::Empty) as the cause when the time is over.
    pub fn recv_many_timeout(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<T>, RecvManyError<T>> {
        let received = self.end.queue.get_many_timeout(max, timeout);
        self.look_again(received, || self.end.queue.try_get_many(max))
    }
}

//! Both directions in one.
#![forbid(unsafe_code)]

use super::{Claim, PipeIter, PipeReceiver, PipeSender, Received, RecvIntoError};
use crate::error::{GetError, PutError};
use crate::sync::{Source, Waitable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// One end of a pipe with two directions: it sends `S` and receives `R`. See [`Pipe`](crate::Pipe).
///
/// It has one owner and moves as an argument or in a message, as its two halves do, [`PipeSender`] and [`PipeReceiver`]. Each call here is that
/// of the half that it concerns.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Connection<S, R> {
    sender: PipeSender<S>,
    receiver: PipeReceiver<R>,
}

impl<S, R> fmt::Debug for Connection<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl<S, R> Connection<S, R> {
    /// A connection of two halves, which may be of different pipes.
    pub fn join(sender: PipeSender<S>, receiver: PipeReceiver<R>) -> Self {
        Connection { sender, receiver }
    }

    /// Its two halves, which may go different ways: to two threads or processes. Dropping one ends that direction.
    ///
    /// ```
    /// let (connection, mut other) = multiprocess::Pipe::duplex::<u8, u8>()?;
    /// let (mut sender, receiver) = connection.split();
    /// sender.send(1)?;
    /// drop(sender);
    /// assert_eq!(other.recv()?, 1);
    /// assert!(other.recv().is_err());
    /// other.send(2)?; // the other direction goes on
    /// # drop(receiver);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self) -> (PipeSender<S>, PipeReceiver<R>) {
        (self.sender, self.receiver)
    }

    /// The half that sends.
    pub fn sender(&mut self) -> &mut PipeSender<S> {
        &mut self.sender
    }

    /// The half that receives.
    pub fn receiver(&mut self) -> &mut PipeReceiver<R> {
        &mut self.receiver
    }

    /// Whether the other side is known to be gone; there may be something left to receive.
    #[doc(alias = "closed")]
    pub fn is_closed(&self) -> bool {
        self.receiver.is_closed()
    }

    /// Ends both directions, as dropping it does.
    pub fn close(self) {}

    /// Puts both halves aside until they are used again; see [`PipeSender::set_aside`].
    pub fn set_aside(&mut self) {
        self.sender.set_aside();
        self.receiver.set_aside();
    }

    /// See [`PipeSender::send_bytes`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), PutError<()>> {
        self.sender.send_bytes(bytes)
    }

    /// See [`PipeSender::try_send_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), PutError<()>> {
        self.sender.try_send_bytes(bytes)
    }

    /// See [`PipeSender::send_bytes_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_bytes_timeout(
        &mut self,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<(), PutError<()>> {
        self.sender.send_bytes_timeout(bytes, timeout)
    }

    /// See [`PipeSender::claim`].
    ///
    /// # Errors
    /// As there.
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, PutError<()>> {
        self.sender.claim(len)
    }

    /// See [`PipeSender::try_claim`].
    ///
    /// # Errors
    /// As there.
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, PutError<()>> {
        self.sender.try_claim(len)
    }

    /// See [`PipeSender::claim_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn claim_timeout(
        &mut self,
        len: usize,
        timeout: Duration,
    ) -> Result<Claim<'_>, PutError<()>> {
        self.sender.claim_timeout(len, timeout)
    }

    /// See [`PipeReceiver::recv_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, GetError> {
        self.receiver.recv_bytes()
    }

    /// See [`PipeReceiver::try_recv_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, GetError> {
        self.receiver.try_recv_bytes()
    }

    /// See [`PipeReceiver::recv_bytes_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, GetError> {
        self.receiver.recv_bytes_timeout(timeout)
    }

    /// See [`PipeReceiver::recv_bytes_into`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.receiver.recv_bytes_into(buffer)
    }

    /// See [`PipeReceiver::try_recv_bytes_into`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.receiver.try_recv_bytes_into(buffer)
    }

    /// See [`PipeReceiver::recv_bytes_into_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes_into_timeout(
        &mut self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, RecvIntoError> {
        self.receiver.recv_bytes_into_timeout(buffer, timeout)
    }

    /// See [`PipeReceiver::recv_ref`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_ref(&mut self) -> Result<Received<'_>, GetError> {
        self.receiver.recv_ref()
    }

    /// See [`PipeReceiver::try_recv_ref`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv_ref(&mut self) -> Result<Received<'_>, GetError> {
        self.receiver.try_recv_ref()
    }

    /// See [`PipeReceiver::recv_ref_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Received<'_>, GetError> {
        self.receiver.recv_ref_timeout(timeout)
    }

    /// See [`PipeReceiver::poll`].
    pub fn poll(&mut self, timeout: Duration) -> bool {
        self.receiver.poll(timeout)
    }
}

impl<S: Serialize + DeserializeOwned, R> Connection<S, R> {
    /// See [`PipeSender::send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn send(&mut self, item: S) -> Result<(), PutError<S>> {
        self.sender.send(item)
    }

    /// See [`PipeSender::try_send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_send(&mut self, item: S) -> Result<(), PutError<S>> {
        self.sender.try_send(item)
    }

    /// See [`PipeSender::send_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_timeout(&mut self, item: S, timeout: Duration) -> Result<(), PutError<S>> {
        self.sender.send_timeout(item, timeout)
    }
}

impl<S, R: Serialize + DeserializeOwned> Connection<S, R> {
    /// See [`PipeReceiver::recv`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn recv(&mut self) -> Result<R, GetError> {
        self.receiver.recv()
    }

    /// See [`PipeReceiver::try_recv`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_recv(&mut self) -> Result<R, GetError> {
        self.receiver.try_recv()
    }

    /// See [`PipeReceiver::recv_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<R, GetError> {
        self.receiver.recv_timeout(timeout)
    }

    /// See [`PipeReceiver::iter`].
    pub fn iter(&mut self) -> PipeIter<'_, R> {
        self.receiver.iter()
    }
}

impl<S, R> Waitable for Connection<S, R> {
    fn source(&self) -> Source<'_> {
        self.receiver.source()
    }
}

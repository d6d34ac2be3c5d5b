//! Messages that are bytes and nothing else.
#![forbid(unsafe_code)]

use super::receiver::{PipeReceiver, Reader};
use super::sender::{PipeSender, Writer};
use super::stream::{Arrived, BLOCK_BYTES, BLOCK_VALUE, BYTES};
use crate::arena::Parcel;
use crate::error::{Error, GetError, PutError};
use crate::os::clock::Deadline;
use std::fmt;
use std::time::Duration;

/// What blocks of bytes are aligned to.
pub(super) const ALIGN: usize = 64;

/// Why `recv_bytes_into` filled no buffer.
#[non_exhaustive]
#[derive(Debug)]
pub enum RecvIntoError {
    /// The message is longer than the buffer. It was received and is here.
    #[doc(alias = "BufferTooShort")]
    TooShort(Vec<u8>),
    /// There is no message.
    Recv(GetError),
}

impl From<GetError> for RecvIntoError {
    fn from(error: GetError) -> Self {
        RecvIntoError::Recv(error)
    }
}

impl fmt::Display for RecvIntoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvIntoError::TooShort(message) => {
                write!(f, "the buffer is too short for {} bytes", message.len())
            }
            RecvIntoError::Recv(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecvIntoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecvIntoError::TooShort(_) => None,
            RecvIntoError::Recv(error) => Some(error),
        }
    }
}

impl Writer {
    #[inline]
    fn send_bytes(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), PutError<()>> {
        if bytes.len() <= self.largest {
            if let Some(room) = self.quick_room(bytes.len()) {
                self.commit_bytes(room, bytes, BYTES);
                return Ok(());
            }
        }
        self.send_bytes_slowly(bytes, deadline)
    }

    #[cold]
    fn send_bytes_slowly(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), PutError<()>> {
        if bytes.len() > self.largest {
            return self.send_long(bytes, deadline);
        }
        let room = self.room(bytes.len(), deadline).map_err(|r| r.with(()))?;
        self.commit_bytes(room, bytes, BYTES);
        Ok(())
    }

    fn send_long(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), PutError<()>> {
        self.check().map_err(|refused| refused.with(()))?;
        if !deadline.expired() {
            let sent = self.stream(bytes, true, deadline);
            return sent.map_err(|refused| refused.with(()));
        }
        // There is no time to go through the ring piece by piece.
        let room = self.room_for_block(deadline).map_err(|r| r.with(()))?;
        let parcel = Parcel::for_bytes(self.end.arena(), bytes.len(), ALIGN);
        let mut parcel = parcel.map_err(|error| match error {
            Error::ForeignFork => PutError::ForeignFork(()),
            _ => PutError::NoMemory(()),
        })?;
        parcel.bytes_mut().copy_from_slice(bytes);
        let block = parcel.into_index();
        self.commit_block(room, BLOCK_BYTES, block);
        Ok(())
    }
}

impl<T> PipeSender<T> {
    /// Sends bytes as they are; waits while there is no room. They are for [`recv_bytes`](PipeReceiver::recv_bytes) and its like. Of any
    /// length, also 0; what is longer than the pipe's room goes through it piece by piece.
    ///
    /// ```
    /// let (mut receiver, mut sender) = multiprocess::Pipe::simplex::<()>()?;
    /// sender.send_bytes(b"abc")?;
    /// assert_eq!(receiver.recv_bytes()?, b"abc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Closed`](crate::SendError) when the receiver is gone, [`SendError::ForeignFork`](crate::SendError).
    #[inline]
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), PutError<()>> {
        self.writer.send_bytes(bytes, Deadline::NEVER)
    }

    /// Sends bytes if there is room now. Long ones go in a block of their own.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::Full`](crate::SendError) and [`SendError::NoMemory`](crate::SendError).
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), PutError<()>> {
        self.writer.send_bytes(bytes, Deadline::NOW)
    }

    /// Sends bytes; waits for room, `timeout` at most. The receiver drops the part of a long message that was sent by then.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::Full`](crate::SendError) when the time is over.
    pub fn send_bytes_timeout(
        &mut self,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<(), PutError<()>> {
        self.writer.send_bytes(bytes, Deadline::from(timeout))
    }
}

impl Reader {
    /// Lets go of a message that nobody wants.
    pub(super) fn discard(&mut self, arrived: Arrived) {
        if let Arrived::Record(record) = arrived {
            match record.kind {
                BLOCK_BYTES | BLOCK_VALUE => drop(self.take_block(record)),
                _ => self.release(record.len),
            }
        }
    }

    /// The message's bytes, copied with `copy` from where they are.
    fn bytes_of<R>(&mut self, arrived: Arrived, copy: impl FnOnce(&[u8]) -> R) -> R {
        match arrived {
            Arrived::Record(record) if matches!(record.kind, BLOCK_BYTES | BLOCK_VALUE) => {
                copy(self.take_block(record).bytes())
            }
            Arrived::Record(record) => {
                let copied = copy(self.end.ring.payload(&record));
                self.release(record.len);
                copied
            }
            Arrived::Whole { bytes, .. } => copy(&bytes),
            Arrived::Filled(_) => copy(&[]),
        }
    }

    fn recv_bytes(&mut self, deadline: Deadline) -> Result<Vec<u8>, GetError> {
        match self.next(deadline, None)? {
            Arrived::Whole { bytes, .. } => Ok(bytes),
            arrived => Ok(self.bytes_of(arrived, <[u8]>::to_vec)),
        }
    }

    #[inline]
    fn recv_bytes_into(
        &mut self,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize, RecvIntoError> {
        if self.end.is_ready() {
            if let Some(record) = self.cursor.peek(&self.end.ring) {
                if record.kind == BYTES && record.len <= buffer.len() {
                    buffer[..record.len].copy_from_slice(self.end.ring.payload(&record));
                    self.release(record.len);
                    return Ok(record.len);
                }
            }
        }
        self.recv_into_slowly(buffer, deadline)
    }

    #[cold]
    fn recv_into_slowly(
        &mut self,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize, RecvIntoError> {
        let arrived = match self.next(deadline, Some(&mut *buffer)) {
            Ok(Arrived::Filled(len)) => return Ok(len),
            Ok(arrived) => arrived,
            Err(refused) => return Err(GetError::from(refused).into()),
        };
        self.bytes_of(arrived, |bytes| match buffer.get_mut(..bytes.len()) {
            Some(buffer) => {
                buffer.copy_from_slice(bytes);
                Ok(bytes.len())
            }
            None => Err(RecvIntoError::TooShort(bytes.to_vec())),
        })
    }
}

impl<T> PipeReceiver<T> {
    /// Receives the next message's bytes; waits while there is none. Of an item that was sent as a value these are
    /// its encoding: of a number the eight bytes of a word.
    ///
    /// # Errors
    /// [`RecvError::Closed`](crate::RecvError) when the sender is gone and everything was received,
    /// [`RecvError::ForeignFork`](crate::RecvError).
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, GetError> {
        self.reader.recv_bytes(Deadline::NEVER)
    }

    /// Receives bytes if there is a message now.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Empty`](crate::RecvError).
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, GetError> {
        self.reader.recv_bytes(Deadline::NOW)
    }

    /// Receives bytes; waits for a message, `timeout` at most. What has arrived of a long message by then is kept, and the next
    /// call goes on with it.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Empty`](crate::RecvError) when the time is over.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, GetError> {
        self.reader.recv_bytes(Deadline::from(timeout))
    }

    /// Receives the next message's bytes into a buffer: how many it took. Waits while there is none.
    ///
    /// ```
    /// use multiprocess::{Pipe, RecvIntoError};
    ///
    /// let (mut receiver, mut sender) = Pipe::simplex::<()>()?;
    /// sender.send_bytes(b"abc")?;
    /// sender.send_bytes(b"too long")?;
    /// let mut buffer = [0; 4];
    /// assert_eq!(receiver.recv_bytes_into(&mut buffer)?, 3);
    /// let Err(RecvIntoError::TooShort(message)) = receiver.recv_bytes_into(&mut buffer) else { panic!() };
    /// assert_eq!(message, b"too long");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvIntoError::TooShort`] with the message when the buffer is too short for it; else as [`recv_bytes`](Self::recv_bytes).
    #[inline]
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.reader.recv_bytes_into(buffer, Deadline::NEVER)
    }

    /// The same for a message that is there now.
    ///
    /// # Errors
    /// As [`recv_bytes_into`](Self::recv_bytes_into), and [`RecvError::Empty`](crate::RecvError).
    pub fn try_recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.reader.recv_bytes_into(buffer, Deadline::NOW)
    }

    /// The same with a wait of at most `timeout`; what has arrived of a long message by then is kept.
    ///
    /// # Errors
    /// As [`recv_bytes_into`](Self::recv_bytes_into), and [`RecvError::Empty`](crate::RecvError) when the time is over.
    pub fn recv_bytes_into_timeout(
        &mut self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, RecvIntoError> {
        self.reader.recv_bytes_into(buffer, Deadline::from(timeout))
    }
}

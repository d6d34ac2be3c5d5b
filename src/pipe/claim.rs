//! Messages in place: written where they will be read, and read where they were written.
#![forbid(unsafe_code)]

use super::bytes::ALIGN;
use super::end::{BORROWED, Refused};
use super::receiver::{PipeReceiver, Reader};
use super::sender::{PipeSender, Writer};
use super::stream::{Arrived, BLOCK_BYTES, BLOCK_VALUE, BYTES};
use crate::arena::HeldParcel;
use crate::error::{Error, GetError, PutError};
use crate::os::clock::Deadline;
use crate::ring::Room;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

const FOREIGN: &str = "this process was forked by other code and does not have the family's memory";

/// Room for a message at its place in shared memory: fill it, then [`commit`](Claim::commit) it. Nothing is copied.
///
/// At first it holds whatever was in that memory before. Dropped or forgotten without a `commit` nothing is sent. The memory of a
/// forgotten one that is longer than the pipe has room for comes back when the process has ended.
#[must_use = "what is not committed is not sent"]
pub struct Claim<'a> {
    writer: &'a mut Writer,
    room: Room,
    len: usize,
    /// For what is too long for the ring.
    held: Option<HeldParcel>,
}

impl Claim<'_> {
    /// Keeps the first `len` bytes, when the message turned out shorter.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if let Some(held) = &mut self.held {
            held.truncate(len);
        }
    }

    /// Sends it. Never waits.
    ///
    /// # Errors
    /// [`SendError::Closed`](crate::SendError) when the receiver is gone, [`SendError::ForeignFork`](crate::SendError).
    pub fn commit(self) -> Result<(), PutError<()>> {
        self.writer.check().map_err(|refused| refused.with(()))?;
        match self.held {
            None => self.writer.commit(self.len, BYTES),
            Some(held) => {
                let block = held.into_index();
                self.writer.commit_block(self.room, BLOCK_BYTES, block);
            }
        }
        Ok(())
    }
}

impl Claim<'_> {
    fn check(&self) {
        assert!(self.writer.end.arena().check().is_ok(), "{}", FOREIGN);
    }
}

impl Deref for Claim<'_> {
    type Target = [u8];

    /// # Panics
    /// In a process that a foreign `fork` made: the bytes are not there.
    fn deref(&self) -> &[u8] {
        self.check();
        match &self.held {
            None => &self.writer.end.ring.room(&self.room)[..self.len],
            Some(held) => held.bytes(),
        }
    }
}

impl DerefMut for Claim<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.check();
        match &mut self.held {
            None => &mut self.writer.end.ring.room_mut(&mut self.room)[..self.len],
            Some(held) => held.bytes_mut(),
        }
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<T> PipeSender<T> {
    /// Room for a message of `len` bytes, to be filled and [committed](Claim::commit); waits while there is none.
    ///
    /// ```
    /// let (mut receiver, mut sender) = multiprocess::Pipe::simplex::<()>()?;
    /// let mut frame = sender.claim(1 << 20)?;
    /// frame.fill(7);
    /// frame.commit()?;
    ///
    /// let frame = receiver.recv_ref()?; // in another process, as a rule
    /// assert_eq!((frame.len(), frame[0]), (1 << 20, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Closed`](crate::SendError) when the receiver is gone, [`SendError::NoMemory`](crate::SendError),
    /// [`SendError::ForeignFork`](crate::SendError).
    #[doc(alias = "loan")]
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, PutError<()>> {
        self.writer.claim(len, Deadline::NEVER)
    }

    /// The same if there is room now.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), and [`SendError::Full`](crate::SendError).
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, PutError<()>> {
        self.writer.claim(len, Deadline::NOW)
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), and [`SendError::Full`](crate::SendError) when the time is over.
    pub fn claim_timeout(
        &mut self,
        len: usize,
        timeout: Duration,
    ) -> Result<Claim<'_>, PutError<()>> {
        self.writer.claim(len, Deadline::from(timeout))
    }
}

impl Writer {
    fn claim(&mut self, len: usize, deadline: Deadline) -> Result<Claim<'_>, PutError<()>> {
        let refused = |refused: Refused| refused.with(());
        let (room, held) = if len <= self.largest {
            (self.room(len, deadline).map_err(refused)?, None)
        } else {
            // Also the room for the record, so that `commit` need not wait.
            let room = self.room_for_block(deadline).map_err(refused)?;
            let held = HeldParcel::new(self.end.arena(), len, ALIGN);
            let held = held.map_err(|error| match error {
                Error::ForeignFork => PutError::ForeignFork(()),
                _ => PutError::NoMemory(()),
            })?;
            (room, Some(held))
        };
        Ok(Claim {
            writer: self,
            room,
            len,
            held,
        })
    }
}

/// A message that was received and is read where it lies in shared memory.
///
/// Dropping it gives the memory back. Forgotten, a short message's memory comes back with the next receive, a long one's when the
/// process has ended; nobody receives it again.
pub struct Received<'a>(Bytes<'a>);

enum Bytes<'a> {
    InRing(InRing<'a>),
    Held(HeldParcel),
    Own(Vec<u8>),
}

struct InRing<'a> {
    reader: &'a mut Reader,
    record: crate::ring::Record,
}

impl Drop for InRing<'_> {
    fn drop(&mut self) {
        // In a copy of the process that others made there is nothing to give back.
        if self.reader.end.arena().check().is_ok() {
            self.reader.give_back();
        }
    }
}

impl Deref for Received<'_> {
    type Target = [u8];

    /// # Panics
    /// In a process that a foreign `fork` made: the bytes are not there.
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::InRing(InRing { reader, record }) => {
                assert!(reader.end.arena().check().is_ok(), "{}", FOREIGN);
                reader.end.ring.payload(record)
            }
            Bytes::Held(held) => held.bytes(),
            Bytes::Own(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").finish_non_exhaustive()
    }
}

impl<T> PipeReceiver<T> {
    /// Receives the next message's bytes, to be read where they lie; waits while there is none. Only a message that was sent in
    /// pieces is put together in this process's own memory.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes).
    pub fn recv_ref(&mut self) -> Result<Received<'_>, GetError> {
        self.reader.recv_ref(Deadline::NEVER)
    }

    /// The same for a message that is there now.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Empty`](crate::RecvError).
    pub fn try_recv_ref(&mut self) -> Result<Received<'_>, GetError> {
        self.reader.recv_ref(Deadline::NOW)
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Empty`](crate::RecvError) when the time is over.
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Received<'_>, GetError> {
        self.reader.recv_ref(Deadline::from(timeout))
    }
}

impl Reader {
    fn recv_ref(&mut self, deadline: Deadline) -> Result<Received<'_>, GetError> {
        let bytes = match self.next(deadline, None)? {
            Arrived::Record(record) if record.kind == BLOCK_BYTES => {
                Bytes::Held(self.take_block(record).hold())
            }
            // It may have handles, which are let go of.
            Arrived::Record(record) if record.kind == BLOCK_VALUE => {
                Bytes::Own(self.take_block(record).bytes().to_vec())
            }
            Arrived::Record(record) => {
                // Written down first: who forgets the borrow does not get the message again.
                self.borrowed = record.len;
                self.end.set(BORROWED, true);
                Bytes::InRing(InRing {
                    reader: self,
                    record,
                })
            }
            Arrived::Whole { bytes, .. } => Bytes::Own(bytes),
            Arrived::Filled(_) => Bytes::Own(Vec::new()),
        };
        Ok(Received(bytes))
    }
}

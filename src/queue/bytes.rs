//! Messages that are bytes and nothing else.
#![forbid(unsafe_code)]

use super::bounded::Queue;
use super::carry::sealed::Room;
use super::carry::{Holds, not_encoded, not_sent};
use super::lane::Taken;
use super::loan::{ALIGN, Loan, Ref};
use crate::arena::Parcel;
use crate::codec::Serde;
use crate::error::{GetError, PutError};
use crate::os::clock::Deadline;
use std::fmt;
use std::io;
use std::time::Duration;

/// The item of a queue of byte strings: `Queue<Bytes>` has calls of its own, which copy each byte once a side, or not at all.
///
/// ```
/// use multiprocess::{Bytes, Queue};
///
/// fn shout(words: Queue<Bytes>) {
///     let mut word = words.get_bytes().unwrap();
///     word.make_ascii_uppercase();
///     words.put_bytes(&word).unwrap();
/// }
///
/// let words = Queue::<Bytes>::bounded(8)?;
/// words.put_bytes(b"hello")?;
/// multiprocess::spawn(shout, words.clone())?.join()?;
///
/// let mut buffer = [0; 16];
/// let len = words.get_into(&mut buffer)?;
/// assert_eq!(&buffer[..len], b"HELLO");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Bytes {}

impl Holds<Bytes> for Serde {}

impl Room<Bytes> for Serde {
    fn usual_len() -> u64 {
        u64::MAX
    }
}

/// Why [`Queue::get_into`] filled no buffer.
#[non_exhaustive]
#[derive(Debug)]
pub enum GetIntoError {
    /// The message is longer than the buffer. It was taken from the queue and is here.
    TooShort(Box<Ref<[u8]>>),
    /// There is no message.
    Get(GetError),
}

impl From<GetError> for GetIntoError {
    fn from(error: GetError) -> Self {
        GetIntoError::Get(error)
    }
}

impl fmt::Display for GetIntoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetIntoError::TooShort(message) => {
                write!(f, "the buffer is too short for {} bytes", message.len())
            }
            GetIntoError::Get(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GetIntoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            GetIntoError::TooShort(_) => None,
            GetIntoError::Get(error) => Some(error),
        }
    }
}

impl Queue<Bytes> {
    /// Puts a copy of the bytes at the end; waits while there is no room.
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::NoMemory`], [`PutError::ForeignFork`]; nothing was sent.
    #[doc(alias = "send_bytes")]
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<(), PutError<()>> {
        self.put_bytes_until(bytes, Deadline::NEVER)
    }

    /// Puts a copy of the bytes if there is room now. A living peer in the middle of its own operation is waited for, 1 ms at
    /// most.
    ///
    /// # Errors
    /// As [`put_bytes`](Self::put_bytes), and [`PutError::Full`].
    pub fn try_put_bytes(&self, bytes: &[u8]) -> Result<(), PutError<()>> {
        self.put_bytes_until(bytes, Deadline::NOW)
    }

    /// Puts a copy of the bytes; waits for room, `timeout` at most.
    ///
    /// # Errors
    /// As [`put_bytes`](Self::put_bytes), and [`PutError::Full`] when the time is over.
    pub fn put_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), PutError<()>> {
        self.put_bytes_until(bytes, Deadline::from(timeout))
    }

    fn put_bytes_until(&self, bytes: &[u8], deadline: Deadline) -> Result<(), PutError<()>> {
        let local = &*self.local;
        if local.arena().check().is_err() {
            return Err(PutError::ForeignFork(()));
        }
        if local.is_closed() {
            return Err(PutError::Closed(()));
        }
        let sent = if bytes.len() <= local.inline() {
            local.send_bytes(bytes, deadline)
        } else {
            let mut parcel = Parcel::for_bytes(local.arena(), bytes.len(), ALIGN)
                .map_err(|error| not_encoded(error.into(), ()))?;
            parcel.bytes_mut().copy_from_slice(bytes);
            local.send_parcel(parcel, deadline)
        };
        sent.map_err(|refused| not_sent(refused, ()))
    }

    /// Gets the message at the front; waits while there is none.
    ///
    /// # Errors
    /// [`GetError::Closed`] when the queue is closed and drained, [`GetError::ForeignFork`].
    #[doc(alias = "recv_bytes")]
    pub fn get_bytes(&self) -> Result<Vec<u8>, GetError> {
        self.get_bytes_until(Deadline::NEVER)
    }

    /// Gets a message if there is one now. A living peer in the middle of its own operation is waited for, 1 ms at most.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes), and [`GetError::Empty`].
    pub fn try_get_bytes(&self) -> Result<Vec<u8>, GetError> {
        self.get_bytes_until(Deadline::NOW)
    }

    /// Gets a message; waits for one, `timeout` at most.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes), and [`GetError::Empty`] when the time is over.
    pub fn get_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, GetError> {
        self.get_bytes_until(Deadline::from(timeout))
    }

    fn get_bytes_until(&self, deadline: Deadline) -> Result<Vec<u8>, GetError> {
        let taken = self.take(deadline)?;
        if taken.is_in_block() {
            return Ok(self.local.receive_parcel(taken).bytes().to_vec());
        }
        let mut buffer = [0; crate::ring::Geometry::LARGEST];
        let bytes = &mut buffer[..taken.len()];
        self.local.receive_bytes(taken, bytes);
        Ok(bytes.to_vec())
    }

    /// Gets the message at the front into a buffer: how many of its bytes it took. Waits while there is no message.
    ///
    /// # Errors
    /// [`GetIntoError::TooShort`] with the message when the buffer is too short for it; else as
    /// [`get_bytes`](Self::get_bytes).
    #[doc(alias = "get_bytes_into")]
    #[doc(alias = "recv_bytes_into")]
    pub fn get_into(&self, buffer: &mut [u8]) -> Result<usize, GetIntoError> {
        self.get_into_until(buffer, Deadline::NEVER)
    }

    /// The same for a message that is there now.
    ///
    /// # Errors
    /// As [`get_into`](Self::get_into), and [`GetError::Empty`].
    pub fn try_get_into(&self, buffer: &mut [u8]) -> Result<usize, GetIntoError> {
        self.get_into_until(buffer, Deadline::NOW)
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    /// As [`get_into`](Self::get_into), and [`GetError::Empty`] when the time is over.
    pub fn get_into_timeout(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, GetIntoError> {
        self.get_into_until(buffer, Deadline::from(timeout))
    }

    fn get_into_until(&self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, GetIntoError> {
        match self.take_next()? {
            // A copy of its own: what is known of the usual case is not forgotten on the way.
            Some(taken) => self.receive_into(taken, buffer),
            None => self.receive_into(self.take(deadline)?, buffer),
        }
    }

    #[inline(always)]
    fn receive_into(&self, taken: Taken<'_>, buffer: &mut [u8]) -> Result<usize, GetIntoError> {
        let len = taken.len();
        let room = buffer.get_mut(..len).filter(|_| !taken.is_in_block());
        if let Some(buffer) = room {
            self.local.receive_bytes(taken, buffer);
            return Ok(len);
        }
        let message = self.borrow(taken)?;
        let Some(buffer) = buffer.get_mut(..message.len()) else {
            return Err(GetIntoError::TooShort(Box::new(message)));
        };
        buffer.copy_from_slice(&message);
        Ok(message.len())
    }

    /// Room for a message of `len` bytes in shared memory, aligned to 64: to be filled and [put](Loan::put), without a copy. It holds
    /// whatever was there before.
    ///
    /// ```
    /// use multiprocess::{Bytes, Queue};
    ///
    /// let frames = Queue::<Bytes>::bounded(2)?;
    /// let mut frame = frames.loan(1920 * 1080)?;
    /// frame.fill(128);
    /// frame.put()?;
    ///
    /// let frame = frames.get_ref()?; // in another process, as a rule
    /// assert_eq!((frame.len(), frame[0]), (1920 * 1080, 128));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn loan(&self, len: usize) -> io::Result<Loan<[u8]>> {
        Ok(Loan::new(&self.local, len)?)
    }

    /// Gets the message at the front, to be read where it lies; waits while there is none.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    pub fn get_ref(&self) -> Result<Ref<[u8]>, GetError> {
        self.borrow(self.take(Deadline::NEVER)?)
    }

    /// The same for a message that is there now.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes), and [`GetError::Empty`].
    pub fn try_get_ref(&self) -> Result<Ref<[u8]>, GetError> {
        self.borrow(self.take(Deadline::NOW)?)
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes), and [`GetError::Empty`] when the time is over.
    pub fn get_ref_timeout(&self, timeout: Duration) -> Result<Ref<[u8]>, GetError> {
        self.borrow(self.take(Deadline::from(timeout))?)
    }

    fn borrow(&self, taken: Taken<'_>) -> Result<Ref<[u8]>, GetError> {
        Ref::receive(&self.local, taken).map_err(GetError::Decode)
    }
}

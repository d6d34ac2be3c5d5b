//! Messages in place: written where they will be read, and read where they were written. Nothing is copied, so that the cost
//! does not depend on the size.
#![forbid(unsafe_code)]

use super::carry::not_sent;
use super::lane::Taken;
use super::local::LocalQueue;
use super::pod::wrong_size;
use crate::arena::HeldParcel;
use crate::error::{DecodeError, Error, PutError};
use crate::os::clock::Deadline;
use crate::ring::Geometry;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What messages in place are aligned to: a cache line.
pub(super) const ALIGN: usize = 64;

/// Room in shared memory for a message that is to be put into a queue: fill it, then [`put`](Self::put) it. Nothing is copied.
///
/// It is `Loan<[u8]>` from [`Queue::<Bytes>::loan`](crate::Queue::loan) and `Loan<T>` from a queue of plain old data, or from the sender of such
/// a channel. At first it
/// holds whatever was in that memory before. Dropped without a `put` it gives its memory back; forgotten, or when its process is killed,
/// the memory comes back when the process has ended. While one is alive the process cannot be forked
/// ([`Error::Borrowed`](crate::Error::Borrowed)).
#[must_use = "a loan that is dropped is not sent"]
pub struct Loan<T: ?Sized> {
    queue: Arc<LocalQueue>,
    held: HeldParcel,
    content: PhantomData<Box<T>>,
}

impl<T: ?Sized> Loan<T> {
    pub(super) fn new(queue: &Arc<LocalQueue>, len: usize) -> Result<Self, Error> {
        queue.arena().check()?;
        Ok(Loan {
            queue: queue.clone(),
            held: HeldParcel::new(queue.arena(), len, ALIGN)?,
            content: PhantomData,
        })
    }

    /// Sends it; waits while there is no room in the queue.
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::NoMemory`] (a queue without a bound could not grow), [`PutError::ForeignFork`]; the loan
    /// is inside.
    pub fn put(self) -> Result<(), PutError<Self>> {
        self.put_until(Deadline::NEVER)
    }

    /// Sends it if there is room now, with a wait of 1 ms at most for a living peer in the middle of its own operation.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`PutError::Full`].
    pub fn try_put(self) -> Result<(), PutError<Self>> {
        self.put_until(Deadline::NOW)
    }

    /// Sends it; waits for room, `timeout` at most.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`PutError::Full`] when the time is over.
    pub fn put_timeout(self, timeout: Duration) -> Result<(), PutError<Self>> {
        self.put_until(Deadline::from(timeout))
    }

    fn put_until(self, deadline: Deadline) -> Result<(), PutError<Self>> {
        if self.queue.arena().check().is_err() {
            return Err(PutError::ForeignFork(self));
        }
        if self.queue.is_closed() {
            return Err(PutError::Closed(self));
        }
        match self.queue.send_held(self.held, deadline) {
            Ok(()) => Ok(()),
            Err((refused, held)) => Err(not_sent(
                refused,
                Loan {
                    queue: self.queue,
                    held,
                    content: PhantomData,
                },
            )),
        }
    }
}

impl Loan<[u8]> {
    /// Keeps the first `len` bytes, when the message turned out shorter than the loan.
    pub fn truncate(&mut self, len: usize) {
        self.held.truncate(len);
    }
}

impl<T: ?Sized + FromBytes + Immutable + KnownLayout> Deref for Loan<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        value(self.held.bytes())
    }
}

impl<T: ?Sized + FromBytes + IntoBytes + Immutable + KnownLayout> DerefMut for Loan<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match T::mut_from_bytes(self.held.bytes_mut()) {
            Ok(value) => value,
            Err(_) => unreachable!("a loan has the size and alignment of its value"),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").finish_non_exhaustive()
    }
}

/// A message that was got and is read where it lies in shared memory. Nothing is copied, but for short messages that came in the
/// queue's own slot (up to 120 bytes).
///
/// It is `Ref<[u8]>` from [`Queue::<Bytes>::get_ref`](crate::Queue::get_ref) and `Ref<T>` from a queue of plain old data. The message
/// is this process's; dropping the `Ref` gives the memory back. Forgotten, or when its process is killed, the memory comes back
/// when the process has ended; nobody gets the message again. While one is alive the process cannot be forked
/// ([`Error::Borrowed`](crate::Error::Borrowed)).
pub struct Ref<T: ?Sized> {
    bytes: Bytes,
    content: PhantomData<Box<T>>,
}

enum Bytes {
    Held(HeldParcel),
    Inline(Inline),
}

/// A copy of a slot's payload, aligned as blocks are.
#[repr(align(64))]
struct Inline {
    bytes: [u8; Geometry::LARGEST],
    len: u8,
}

impl Bytes {
    #[inline]
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Held(held) => held.bytes(),
            Bytes::Inline(inline) => &inline.bytes[..inline.len.into()],
        }
    }
}

impl<T: ?Sized + FromBytes + Immutable + KnownLayout> Ref<T> {
    /// Makes the message this process's and acknowledges it.
    pub(super) fn receive(queue: &LocalQueue, taken: Taken<'_>) -> Result<Self, DecodeError> {
        let bytes = if taken.is_in_block() {
            Bytes::Held(queue.receive_parcel(taken).hold())
        } else {
            let len = taken.len().min(queue.inline());
            let mut inline = Inline {
                bytes: [0; Geometry::LARGEST],
                len: len as u8,
            };
            queue.receive_bytes(taken, &mut inline.bytes[..len]);
            Bytes::Inline(inline)
        };
        T::ref_from_bytes(bytes.as_slice()).map_err(|_| wrong_size())?;
        Ok(Ref {
            bytes,
            content: PhantomData,
        })
    }
}

impl<T: ?Sized + FromBytes + Immutable + KnownLayout> Deref for Ref<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        value(self.bytes.as_slice())
    }
}

impl<T: ?Sized> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ref").finish_non_exhaustive()
    }
}

#[inline]
fn value<T: ?Sized + FromBytes + Immutable + KnownLayout>(bytes: &[u8]) -> &T {
    match T::ref_from_bytes(bytes) {
        Ok(value) => value,
        Err(_) => unreachable!("size and alignment were right when it was made"),
    }
}

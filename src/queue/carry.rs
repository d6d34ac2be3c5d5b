//! How items become messages in slots and blocks, and items again; what the codecs do for queues.
#![forbid(unsafe_code)]

use super::kind::{IN_BLOCK, is_in_block};
use super::lane::Taken;
use super::local::{LocalQueue, Received, Refused, copy_out};
use crate::arena::Parcel;
use crate::codec::{self, Failure, Serde};
use crate::error::{DecodeError, PutError};
use crate::os::clock::Deadline;
use crate::ring::{Message, RingObject, Slot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::IntoBytes;

/// What a codec carries: [`Serde`] whatever serde can serialise and deserialise, [`Pod`](crate::Pod) plain old data. Not to be
/// implemented outside this crate.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot be the item of a queue with the codec `{Self}`",
    note = "`Serde` needs `serde::Serialize` and `serde::de::DeserializeOwned`",
    note = "`Pod` needs zerocopy's `FromBytes`, `IntoBytes`, `Immutable` and `KnownLayout`, and `Send + 'static`"
)]
pub trait Codec<T>: Holds<T> + sealed::Carry<T> {}

/// What a queue with this codec can be made for: what the codec carries, and [`Bytes`](crate::Bytes). Not to be implemented
/// outside this crate.
#[diagnostic::on_unimplemented(
    message = "there is no queue of `{T}` with the codec `{Self}`",
    note = "`Serde` needs `serde::Serialize` and `serde::de::DeserializeOwned`",
    note = "`Pod` needs zerocopy's `FromBytes`, `IntoBytes`, `Immutable` and `KnownLayout`, and `Send + 'static`"
)]
pub trait Holds<T>: sealed::Room<T> {}

pub(super) mod sealed {
    use super::*;

    pub trait Room<T> {
        /// How many bytes an item usually has in a slot.
        fn usual_len() -> u64;
    }

    pub trait Carry<T>: Sized {
        fn put(queue: &LocalQueue, item: T, deadline: Deadline) -> Result<(), PutError<T>>;

        /// Takes the item out of its slot, acknowledges, decodes.
        fn receive(queue: &LocalQueue, taken: Taken<'_>) -> Result<T, DecodeError>;

        /// Whether items go as they are from where they are into slots. Else a batch is staged first.
        const DIRECT: bool;

        /// Words of scratch memory for each item of a batch.
        fn words(queue: &LocalQueue) -> usize;

        /// Encodes an item of a batch, into its words or into a block.
        fn stage(queue: &LocalQueue, item: &T, words: &mut [u64]) -> Result<Staged, Failure>;

        /// Copies a staged item into a claimed slot. Runs no user code.
        fn fill(ring: &RingObject, slot: &Slot, item: &T, words: &[u64], staged: Staged);

        /// Copies a taken message of a batch out, or makes its block this member's. Runs no user code, and `items` has the
        /// room for one. What is left to do for it, once it is acknowledged.
        fn pull(
            queue: &LocalQueue,
            ring: &RingObject,
            message: &Message,
            words: &mut [u64],
            items: &mut Vec<T>,
        ) -> Option<Staged>;

        /// Makes an item of what was pulled, now that it is acknowledged.
        fn open(
            queue: &LocalQueue,
            staged: Staged,
            words: &[u64],
            items: &mut Vec<T>,
        ) -> Result<(), DecodeError>;
    }
}

/// A message of a batch, on this process's side: what is committed with it, and its block if it is in one.
#[derive(Clone, Copy, Debug)]
pub struct Staged {
    pub(super) meta: u16,
    pub(super) block: u32,
}

impl Staged {
    pub(super) fn inline(len: usize) -> Staged {
        Staged {
            meta: len as u16,
            block: 0,
        }
    }

    pub(super) fn in_block(parcel: Parcel<'_>) -> Staged {
        Staged {
            meta: IN_BLOCK,
            block: parcel.into_index(),
        }
    }

    /// The message's block, which is this member's.
    #[inline]
    pub(super) fn parcel(self, queue: &LocalQueue) -> Option<Parcel<'_>> {
        (self.meta == IN_BLOCK).then(|| Parcel::take(queue.arena(), self.block))
    }
}

use sealed::{Carry, Room};

impl<T: Serialize + DeserializeOwned> Codec<T> for Serde {}

impl<T: Serialize + DeserializeOwned> Holds<T> for Serde {}

impl<T: Serialize + DeserializeOwned> Room<T> for Serde {
    fn usual_len() -> u64 {
        if std::mem::needs_drop::<T>() {
            // Text, lists...: of any size, and short ones are frequent.
            u64::MAX
        } else {
            // Encoded integers may take a little more than in memory.
            size_of::<T>() as u64 + 2
        }
    }
}

/// Whether a smaller buffer is enough for the slots.
const fn is_small<T>() -> bool {
    size_of::<T>() <= 16 && !std::mem::needs_drop::<T>()
}

impl<T: Serialize + DeserializeOwned> Carry<T> for Serde {
    #[inline]
    fn put(queue: &LocalQueue, item: T, deadline: Deadline) -> Result<(), PutError<T>> {
        // The compiler keeps one of the two.
        if is_small::<T>() {
            put_through([0; 3], queue, item, deadline)
        } else {
            put_through([0; 15], queue, item, deadline)
        }
    }

    #[inline]
    fn receive(queue: &LocalQueue, taken: Taken<'_>) -> Result<T, DecodeError> {
        if is_small::<T>() {
            receive_through([0; 3], queue, taken)
        } else {
            receive_through([0; 15], queue, taken)
        }
    }

    const DIRECT: bool = false;

    fn words(queue: &LocalQueue) -> usize {
        queue.inline() / 8
    }

    #[inline]
    fn stage(queue: &LocalQueue, item: &T, words: &mut [u64]) -> Result<Staged, Failure> {
        let bytes = words.as_mut_bytes();
        let inline = queue.inline().min(bytes.len());
        match codec::encode(item, &mut bytes[..inline])? {
            Some(len) => Ok(Staged::inline(len)),
            None => codec::encode_parcel(queue.arena(), item, None).map(Staged::in_block),
        }
    }

    #[inline]
    fn fill(ring: &RingObject, slot: &Slot, _: &T, words: &[u64], staged: Staged) {
        if staged.meta == IN_BLOCK {
            ring.write(slot, &[staged.block.into()], 8);
        } else {
            ring.write(slot, words, staged.meta.into());
        }
    }

    #[inline]
    fn pull(
        queue: &LocalQueue,
        ring: &RingObject,
        message: &Message,
        words: &mut [u64],
        _: &mut Vec<T>,
    ) -> Option<Staged> {
        Some(if is_in_block(message) {
            Staged::in_block(queue.block_of(ring, message))
        } else {
            Staged::inline(copy_out(ring, message, words))
        })
    }

    #[inline]
    fn open(
        queue: &LocalQueue,
        staged: Staged,
        words: &[u64],
        items: &mut Vec<T>,
    ) -> Result<(), DecodeError> {
        items.push(match staged.parcel(queue) {
            Some(parcel) => codec::decode_parcel(queue.arena(), &parcel, Vec::new())?,
            None => codec::decode(&words.as_bytes()[..staged.meta.into()])?,
        });
        Ok(())
    }
}

#[inline]
fn put_through<const N: usize, T: Serialize>(
    mut small: [u64; N],
    queue: &LocalQueue,
    item: T,
    deadline: Deadline,
) -> Result<(), PutError<T>> {
    let inline = queue.inline().min(N * 8);
    match codec::encode(&item, &mut small.as_mut_bytes()[..inline]) {
        Ok(Some(len)) => match queue.send(&small, len, deadline) {
            Ok(()) => Ok(()),
            Err(refused) => Err(not_sent(refused, item)),
        },
        Ok(None) => put_in_block(queue, item, deadline),
        Err(failure) => Err(not_encoded(failure, item)),
    }
}

#[cold]
fn put_in_block<T: Serialize>(
    queue: &LocalQueue,
    item: T,
    deadline: Deadline,
) -> Result<(), PutError<T>> {
    match codec::encode_parcel(queue.arena(), &item, None) {
        Ok(parcel) => {
            let sent = queue.send_parcel(parcel, deadline);
            sent.map_err(|refused| not_sent(refused, item))
        }
        Err(failure) => Err(not_encoded(failure, item)),
    }
}

#[inline]
fn receive_through<const N: usize, T: DeserializeOwned>(
    mut small: [u64; N],
    queue: &LocalQueue,
    taken: Taken<'_>,
) -> Result<T, DecodeError> {
    match queue.receive(taken, &mut small) {
        Received::Inline(len) => codec::decode(&small.as_bytes()[..len]),
        Received::InBlock(taken) => open(queue, taken),
    }
}

#[cold]
fn open<T: DeserializeOwned>(queue: &LocalQueue, taken: Taken<'_>) -> Result<T, DecodeError> {
    let parcel = queue.receive_parcel(taken);
    codec::decode_parcel(queue.arena(), &parcel, Vec::new())
}

#[cold]
pub(super) fn not_encoded<T>(failure: Failure, item: T) -> PutError<T> {
    match failure {
        Failure::NoMemory => PutError::NoMemory(item),
        Failure::Encode(error) => PutError::Encode(item, error),
    }
}

#[cold]
pub(super) fn not_sent<T>(refused: Refused, item: T) -> PutError<T> {
    match refused {
        Refused::NotNow => PutError::Full(item),
        Refused::Closed => PutError::Closed(item),
        Refused::NoMemory => PutError::NoMemory(item),
    }
}

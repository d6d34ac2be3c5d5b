//! The end that sends.
#![forbid(unsafe_code)]

use super::end::{End, Refused};
use super::kind::WRITER;
use super::stream::{BLOCK_VALUE, VALUE, WORD};
use crate::arena::Parcel;
use crate::codec::{self, Encoded, Failure};
use crate::error::{EncodeError, Error, PutError};
use crate::os::clock::Deadline;
use crate::ring::{ByteStorage, Room, WriteCursor, largest};
use crate::sync::{Progress, Spin, Wait};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;
use zerocopy::IntoBytes;

/// What sends, whatever it sends.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) end: End<WRITER>,
    pub(super) cursor: WriteCursor,
    /// The longest record for which room comes for certain.
    pub(super) largest: usize,
    spin: Spin,
}

impl Writer {
    fn new(end: End<WRITER>) -> Self {
        let spin = Spin::default();
        spin.watch(end.other());
        let position = end.ring.tail().load(Relaxed);
        Writer {
            cursor: WriteCursor::new(&end.ring, position),
            largest: largest(end.ring.capacity()),
            end,
            spin,
        }
    }

    /// Room, if it is there now and nothing is unusual.
    #[inline(always)]
    pub(super) fn quick_room(&mut self, least: usize) -> Option<Room> {
        if !self.end.is_ready() || self.end.ring.is_reader_gone() {
            return None;
        }
        self.cursor.room(&self.end.ring, least)
    }

    /// Room for a payload of at least `least` bytes, which are at most `largest`.
    pub(super) fn room(&mut self, least: usize, deadline: Deadline) -> Result<Room, Refused> {
        match self.quick_room(least) {
            Some(room) => Ok(room),
            None => self.wait_for_room(least, false, deadline),
        }
    }

    /// With `place`, also for a message in a block.
    #[cold]
    fn wait_for_room(
        &mut self,
        least: usize,
        place: bool,
        deadline: Deadline,
    ) -> Result<Room, Refused> {
        self.end.check()?;
        let (ring, cursor) = (&self.end.ring, &mut self.cursor);
        let mut look = || {
            if ring.is_reader_gone() {
                return Some(Err(Refused::Closed));
            }
            let room = cursor.room(ring, least)?;
            (!place || ring.places().free().is_some()).then_some(Ok(room))
        };
        if let Some(done) = look() {
            return done;
        }
        let mut found = None;
        if !deadline.expired() {
            let wanted = match self.cursor.wanted(ring, least) {
                // There is room, but no place: any step of the reader may free one.
                wanted if wanted <= ring.head().load(Relaxed) => ring.head().load(Relaxed) + 1,
                wanted => wanted,
            };
            self.linger(wanted);
            let ring = &self.end.ring;
            ring.wanted().store(wanted, Relaxed);
            let cursor = &mut self.cursor;
            let wait = Wait {
                arena: self.end.arena(),
                event: ring.not_full(),
                spin: &self.spin,
            };
            let hint = || ring.head().load(Relaxed) >= wanted || ring.is_reader_gone();
            found = wait.until(deadline, hint, |_| {
                if ring.is_reader_gone() {
                    return Progress::Done(Err(Refused::Closed));
                }
                match cursor.room(ring, least) {
                    Some(room) if !place || ring.places().free().is_some() => {
                        Progress::Done(Ok(room))
                    }
                    _ => Progress::Blocked,
                }
            });
        }
        if let Some(done) = found {
            return done;
        }
        // Nobody said so, but the reader may have died.
        if self.spin.ask(self.end.arena()) && ring.is_reader_gone() {
            return Err(Refused::Closed);
        }
        Err(Refused::NotNow)
    }

    /// While the reader gets on, lets it get on: each look at its position costs it more than a record. Until there is
    /// room for many, or nothing happens.
    fn linger(&self, wanted: u64) {
        let ring = &self.end.ring;
        let head = || ring.head().load(Relaxed);
        let (enough, mut seen) = (wanted + ring.capacity() as u64 / 4, head());
        while seen < enough && self.spin.linger() {
            let now = head();
            if now == seen {
                break;
            }
            seen = now;
        }
    }

    /// Sends a number, if there is room now and nothing is unusual.
    #[inline]
    fn send_word(&mut self, word: u64) -> bool {
        let Some(room) = self.quick_room(8) else {
            return false;
        };
        self.commit_bytes(room, &word.to_ne_bytes(), WORD);
        true
    }

    #[inline(always)]
    pub(super) fn commit(&mut self, len: usize, kind: u8) {
        self.cursor.commit(&self.end.ring, len, kind);
        let fences = self.end.arena().fences();
        self.end.ring.not_empty().notify_one(fences);
    }

    /// Room for the record of a message in a block.
    pub(super) fn room_for_block(&mut self, deadline: Deadline) -> Result<Room, Refused> {
        self.wait_for_room(8, true, deadline)
    }

    /// Sends a block for which there is room.
    pub(super) fn commit_block(&mut self, mut room: Room, kind: u8, block: u32) {
        let ring = &self.end.ring;
        let place = ring
            .places()
            .free()
            .expect("it was free, and only readers use places");
        // From here on the ring lists the block.
        ring.places().set(place, block);
        ring.room_mut(&mut room)[..8].copy_from_slice(&(place as u64).to_le_bytes());
        self.commit(8, kind);
        // (G): if the reader is gone, either that was seen by who empties the ring, or this sees it.
        if self.end.ring.is_reader_gone() {
            self.end.arena().empty(self.end.ring_block());
        }
    }

    /// Says where its next owner goes on, before it is lent.
    fn announce(&self) {
        if self.end.arena().check().is_ok() && !self.end.is_passed_on() {
            let position = self.cursor.position();
            self.end.ring.tail().store(position, Release);
        }
    }

    /// What is unusual, before anything is encoded.
    pub(super) fn check(&self) -> Result<(), Refused> {
        self.end.check()?;
        match self.end.ring.is_reader_gone() {
            true => Err(Refused::Closed),
            false => Ok(()),
        }
    }
}

/// How many bytes an item usually has.
const fn usual_len<T>() -> usize {
    if std::mem::needs_drop::<T>() {
        64
    } else {
        // Encoded integers may take a little more than in memory.
        size_of::<T>() + size_of::<T>() / 4 + 2
    }
}

/// Bytes of a small value, in whole words.
const SMALL: usize = 24;

const fn is_small<T>() -> bool {
    size_of::<T>() <= 16 && !std::mem::needs_drop::<T>()
}

/// The sending end of a pipe, which has one owner. See [`Pipe`](crate::Pipe).
///
/// Dropping it ends the pipe: the receiver gets what was sent and then [`RecvError::Closed`](crate::RecvError). As an argument of a
/// process or part of a message it moves: when that was sent, it is the receiver's. When it was not, it is still this
/// process's own. Who kept it by way of a reference finds it closed once it was received.
pub struct PipeSender<T> {
    pub(super) writer: Box<Writer>,
    items: PhantomData<fn(T)>,
}

impl<T> fmt::Debug for PipeSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeSender")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl<T> PipeSender<T> {
    pub(super) fn new(end: End<WRITER>) -> Self {
        PipeSender {
            writer: Box::new(Writer::new(end)),
            items: PhantomData,
        }
    }

    /// Whether the receiver is known to be gone. That it was killed may become known only to a `send` that finds no room.
    #[doc(alias = "closed")]
    pub fn is_closed(&self) -> bool {
        self.writer.end.look().is_err() || self.writer.end.ring.is_reader_gone()
    }

    /// Ends the pipe, as dropping it does.
    pub fn close(self) {}

    /// Puts this end aside until it is used again, so that this process can be copied by a [`fork`](crate::Builder::fork): the copy's
    /// end is closed, and this process's own is as it was. Without that a fork is refused.
    ///
    /// ```no_run
    /// use multiprocess::{Connection, Pipe, Process};
    ///
    /// let (mut here, there) = Pipe::duplex::<u32, u32>()?;
    /// here.set_aside();
    /// let double = |mut there: Connection<u32, u32>| {
    ///     let number = there.recv().unwrap();
    ///     there.send(2 * number).unwrap();
    /// };
    /// let process = Process::builder().fork(double, there)?;
    /// here.send(21)?;
    /// assert_eq!(here.recv()?, 42);
    /// process.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_aside(&mut self) {
        self.writer.announce();
        self.writer.end.let_go();
    }
}

impl<T: Serialize + DeserializeOwned> PipeSender<T> {
    /// Sends an item; waits while there is no room.
    ///
    /// # Errors
    /// [`SendError::Closed`](crate::SendError) when the receiver is gone, [`SendError::NoMemory`](crate::SendError) for a large item with handles in
    /// it, [`SendError::Encode`](crate::SendError), [`SendError::ForeignFork`](crate::SendError); the item is inside, and nothing was sent.
    ///
    /// # Panics
    /// As the item's `Serialize` does; nothing was sent then. It runs once, for an item with handles or of 8 bytes and less up to three
    /// times.
    ///
    /// ```
    /// let (mut receiver, mut sender) = multiprocess::Pipe::simplex()?;
    /// sender.send(7)?;
    /// assert_eq!(receiver.recv()?, 7);
    /// drop(receiver);
    /// assert!(sender.send(8).unwrap_err().is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn send(&mut self, item: T) -> Result<(), PutError<T>> {
        self.send_until(item, Deadline::NEVER)
    }

    /// Sends an item if there is room now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Full`](crate::SendError).
    #[inline]
    pub fn try_send(&mut self, item: T) -> Result<(), PutError<T>> {
        self.send_until(item, Deadline::NOW)
    }

    /// Sends an item; waits for room, `timeout` at most. A timeout that the clock cannot hold is for ever.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Full`](crate::SendError) when the time is over.
    pub fn send_timeout(&mut self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.send_until(item, Deadline::from(timeout))
    }

    #[inline]
    fn send_until(&mut self, item: T, deadline: Deadline) -> Result<(), PutError<T>> {
        // The compiler keeps one of these.
        let word = if codec::may_be_word::<T>() {
            codec::to_word(&item)
        } else {
            None
        };
        let tried = if let Some(word) = word {
            self.writer.send_word(word).then_some(Ok(Encoded::Fits(8)))
        } else if is_small::<T>() {
            self.send_small(&item)
        } else {
            self.send_in_place(&item)
        };
        if let Some(Ok(Encoded::Fits(_))) = tried {
            return Ok(());
        }
        match self.send_slowly(&item, tried, deadline) {
            Ok(()) => Ok(()),
            Err(error) => Err(error.with(item)),
        }
    }

    /// A number is encoded byte by byte, and stores to a line that the reader looks at are dear: so it goes there as words.
    #[inline]
    fn send_small(&mut self, item: &T) -> Option<Result<Encoded, Failure>> {
        let mut words = [0_u64; SMALL / 8];
        let encoded = codec::encode_or_spill(item, words.as_mut_bytes());
        let Ok(Encoded::Fits(len)) = encoded else {
            return Some(encoded);
        };
        let mut room = self.writer.quick_room(SMALL)?;
        self.writer.end.ring.room_mut(&mut room)[..SMALL].copy_from_slice(words.as_bytes());
        self.writer.commit(len, VALUE);
        Some(encoded)
    }

    /// Right into its place: the room is nobody's until it is committed. `None` when there is no room.
    #[inline]
    fn send_in_place(&mut self, item: &T) -> Option<Result<Encoded, Failure>> {
        let least = usual_len::<T>().min(self.writer.largest);
        let room = self.writer.quick_room(least)?;
        Some(self.writer.encode(item, room))
    }

    #[cold]
    fn send_slowly(
        &mut self,
        item: &T,
        tried: Option<Result<Encoded, Failure>>,
        deadline: Deadline,
    ) -> Result<(), NotSent> {
        let writer = &mut self.writer;
        let encoded = match tried {
            Some(encoded) => encoded?,
            None => {
                writer.check()?;
                if codec::may_be_word::<T>() {
                    if let Some(word) = codec::to_word(item) {
                        let room = writer.room(8, deadline)?;
                        writer.commit_bytes(room, &word.to_ne_bytes(), WORD);
                        return Ok(());
                    }
                }
                let room = writer.room(usual_len::<T>().min(writer.largest), deadline)?;
                writer.encode(item, room)?
            }
        };
        match encoded {
            Encoded::Fits(_) => Ok(()),
            Encoded::Spilled(bytes) => writer.send_encoded(&bytes, deadline),
            Encoded::Handles => {
                let arena = writer.end.arena().clone();
                let parcel = codec::encode_parcel(&arena, item, None)?;
                let room = writer.room_for_block(deadline)?;
                writer.commit_block(room, BLOCK_VALUE, parcel.into_index());
                Ok(())
            }
        }
    }
}

impl Writer {
    /// Encodes an item once, into the room as far as it goes. It is sent if all of it fits there.
    #[inline]
    fn encode<T: Serialize>(&mut self, item: &T, mut room: Room) -> Result<Encoded, Failure> {
        let bytes = self.end.ring.room_mut(&mut room);
        let encoded = codec::encode_or_spill(item, bytes)?;
        if let Encoded::Fits(len) = encoded {
            self.commit(len, VALUE);
        }
        Ok(encoded)
    }

    /// Sends what did not fit into the room that there was.
    fn send_encoded(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), NotSent> {
        if bytes.len() <= self.largest {
            let room = self.room(bytes.len(), deadline)?;
            self.commit_bytes(room, bytes, VALUE);
            return Ok(());
        }
        let arena = self.end.arena().clone();
        match Parcel::new(&arena, bytes.len() as u64, &[]) {
            Ok(mut parcel) => {
                parcel.bytes_mut().copy_from_slice(bytes);
                let room = self.room_for_block(deadline)?;
                self.commit_block(room, BLOCK_VALUE, parcel.into_index());
                Ok(())
            }
            // Without a block it goes through the ring piece by piece, if there is time for that.
            Err(Error::NoMemory) if !deadline.expired() => Ok(self.stream(bytes, false, deadline)?),
            Err(error) => Err(Failure::from(error).into()),
        }
    }

    #[inline(always)]
    pub(super) fn commit_bytes(&mut self, mut room: Room, bytes: &[u8], kind: u8) {
        self.end.ring.room_mut(&mut room)[..bytes.len()].copy_from_slice(bytes);
        self.commit(bytes.len(), kind);
    }
}

/// Why an item was not sent.
enum NotSent {
    Refused(Refused),
    NoMemory,
    Encode(EncodeError),
}

impl From<Refused> for NotSent {
    fn from(refused: Refused) -> Self {
        NotSent::Refused(refused)
    }
}

impl From<Failure> for NotSent {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoMemory => NotSent::NoMemory,
            Failure::Encode(error) => NotSent::Encode(error),
        }
    }
}

impl NotSent {
    fn with<T>(self, item: T) -> PutError<T> {
        match self {
            NotSent::Refused(refused) => refused.with(item),
            NotSent::NoMemory => PutError::NoMemory(item),
            NotSent::Encode(error) => PutError::Encode(item, error),
        }
    }
}

impl Refused {
    pub(super) fn with<T>(self, item: T) -> PutError<T> {
        match self {
            Refused::NotNow => PutError::Full(item),
            Refused::Closed => PutError::Closed(item),
            Refused::ForeignFork => PutError::ForeignFork(item),
        }
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl<T> Serialize for PipeSender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.writer.announce();
        self.writer.end.lend(serializer, &())
    }
}

impl<'de, T> Deserialize<'de> for PipeSender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (end, ()) = End::take::<D, T, ()>(deserializer)?;
        Ok(PipeSender::new(end))
    }
}

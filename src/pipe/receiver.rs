//! The end that receives.
#![forbid(unsafe_code)]

use super::end::{BORROWED, End, PARTIAL, Refused};
use super::kind::READER;
use super::stream::{Arrived, BLOCK_VALUE, Partial, VALUE, WORD};
use crate::arena::Parcel;
use crate::codec;
use crate::error::{DecodeError, GetError};
use crate::os::clock::Deadline;
use crate::ring::{AtEnd, ByteStorage, ReadCursor, Record};
use crate::sync::{Progress, Source, Spin, Wait, Waitable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What receives, whatever it receives.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) end: End<READER>,
    pub(super) cursor: ReadCursor,
    pub(super) partial: Partial,
    /// The length of the record that user code reads in place.
    pub(super) borrowed: usize,
    /// For who looks while the end is lent.
    lent: Cell<LentView>,
    spin: Spin,
}

/// What a reader that puts its end into a message has seen last. From then on it leaves the ring alone, where somebody else may be
/// the reader already and writers put payload over headers.
#[derive(Clone, Copy, Debug, Default)]
struct LentView {
    /// Whether there was something to receive.
    there: bool,
    /// What was sent since moves the event count on from here.
    key: u32,
}

impl Reader {
    fn new(end: End<READER>) -> Self {
        let spin = Spin::default();
        spin.watch(end.other());
        Reader {
            cursor: ReadCursor::new(&end.ring),
            end,
            partial: Partial::default(),
            borrowed: 0,
            lent: Cell::default(),
            spin,
        }
    }

    /// Makes sure that the end is this process's, and is done with what was borrowed.
    pub(super) fn settle(&mut self) -> Result<(), Refused> {
        self.end.check()?;
        if self.end.has(BORROWED) {
            self.give_back();
        }
        Ok(())
    }

    pub(super) fn give_back(&mut self) {
        self.end.set(BORROWED, false);
        self.release(self.borrowed);
    }

    /// Gives a record's place back to the writer.
    #[inline]
    pub(super) fn release(&mut self, len: usize) {
        let ring = &self.end.ring;
        self.cursor.release(ring, len);
        let position = self.cursor.position();
        let enough = || ring.wanted().load(Relaxed) <= position;
        ring.not_full()
            .notify_one_if(self.end.arena().fences(), enough);
    }

    /// The next record.
    pub(super) fn record(&mut self, deadline: Deadline) -> Result<Record, Refused> {
        match self.cursor.peek_or_end(&self.end.ring) {
            Some(found) => Ok(found?),
            None => self.wait_for_record(deadline),
        }
    }

    #[cold]
    fn wait_for_record(&mut self, deadline: Deadline) -> Result<Record, Refused> {
        let mut found = None;
        let is_stream = self.cursor.is_stream();
        if !deadline.expired() {
            // In a stream the writer is just filling the line that is looked at here: each look would take it away from him.
            if is_stream {
                self.spin.linger();
            }
            let (ring, cursor) = (&self.end.ring, &mut self.cursor);
            let next = ring.word(cursor.place());
            let wait = Wait {
                arena: self.end.arena(),
                event: ring.not_empty(),
                spin: &self.spin,
            };
            let hint = || next.load(Relaxed) != 0 || ring.is_writer_gone();
            found = wait.until(deadline, hint, |_| {
                let found = cursor.peek_or_end(ring);
                found.map_or(Progress::Blocked, Progress::Done)
            });
        }
        if found.is_none() && self.spin.ask(self.end.arena()) {
            // Nobody said so, but the writer may have died.
            found = self.cursor.peek_or_end(&self.end.ring);
        }
        Ok(found.ok_or(Refused::NotNow)??)
    }

    /// Makes the block that a record names this member's.
    pub(super) fn take_block(&mut self, record: Record) -> Parcel<'_> {
        let ring = &self.end.ring;
        let place = ring.payload(&record).try_into().map(u64::from_le_bytes);
        let place = place.unwrap_or(u64::MAX) as usize;
        let block = ring.places().get(place).expect("the record names a block");
        // Its own before the ring forgets it.
        let index = Parcel::take(self.end.arena(), block).into_index();
        ring.places().clear(place);
        self.release(record.len);
        Parcel::take(self.end.arena(), index)
    }

    /// What user code borrowed and forgot is behind it for everybody.
    fn behind(&self) -> Option<usize> {
        self.end.has(BORROWED).then_some(self.borrowed)
    }

    /// Whether `next` would find something, or the end.
    pub(super) fn may_receive(&self) -> bool {
        let ring = &self.end.ring;
        self.end.look().is_err() || self.is_whole() || self.may_peek() || ring.is_writer_gone()
    }

    fn may_peek(&self) -> bool {
        let ring = &self.end.ring;
        if self.end.is_lent() {
            let LentView { there, key } = self.lent.get();
            return there || ring.not_empty().has_moved(key);
        }
        self.cursor.may_peek(ring, self.behind())
    }

    /// Before it is lent.
    fn look_a_last_time(&self) {
        let ring = &self.end.ring;
        // (L): either the record is seen here, or its writer sees that somebody may sleep.
        let key = ring.not_empty().prepare(self.end.arena().fences());
        let there = self.may_peek();
        self.lent.set(LentView { there, key });
    }
}

impl From<AtEnd> for Refused {
    fn from(_: AtEnd) -> Self {
        Refused::Closed
    }
}

/// Releases a record when what reads it ends, by a panic too.
struct Reading<'a> {
    reader: &'a mut Reader,
    len: usize,
}

impl Drop for Reading<'_> {
    #[inline]
    fn drop(&mut self) {
        self.reader.release(self.len);
    }
}

/// The receiving end of a pipe, which has one owner. See [`Pipe`](crate::Pipe).
///
/// Dropping it ends the pipe: the sender gets [`SendError::Closed`](crate::SendError), and what was sent and not received goes with it. As an
/// argument of a process or part of a message it moves, see [`PipeSender`](crate::PipeSender); what was sent before and is not
/// received yet is received by its next owner.
pub struct PipeReceiver<T> {
    pub(super) reader: Box<Reader>,
    items: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for PipeReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReceiver")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl<T> PipeReceiver<T> {
    pub(super) fn new(end: End<READER>) -> Self {
        PipeReceiver {
            reader: Box::new(Reader::new(end)),
            items: PhantomData,
        }
    }

    /// Whether the sender is known to be gone; there may be something left to receive.
    #[doc(alias = "closed")]
    pub fn is_closed(&self) -> bool {
        self.reader.end.look().is_err() || self.reader.end.ring.is_writer_gone()
    }

    /// Ends the pipe, as dropping it does.
    pub fn close(self) {}

    /// Puts this end aside until it is used again; see [`PipeSender::set_aside`](crate::PipeSender::set_aside).
    pub fn set_aside(&mut self) {
        // What was borrowed and forgotten is given back.
        if self.reader.settle().is_ok() {
            self.reader.look_a_last_time();
            self.reader.end.let_go();
        }
    }

    /// Waits until there is a message to receive, or the end, `timeout` at most: whether a `recv` would not wait. Nothing is
    /// received. Zero only looks.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let (mut receiver, mut sender) = multiprocess::Pipe::simplex()?;
    /// assert!(!receiver.poll(Duration::ZERO));
    /// sender.send(())?;
    /// assert!(receiver.poll(Duration::ZERO) && receiver.poll(Duration::MAX));
    /// receiver.recv()?;
    /// drop(sender);
    /// assert!(receiver.poll(Duration::ZERO), "the end");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll(&mut self, timeout: Duration) -> bool {
        self.reader.poll(Deadline::from(timeout))
    }
}

impl<T: Serialize + DeserializeOwned> PipeReceiver<T> {
    /// Receives the next item; waits while there is none.
    ///
    /// # Errors
    /// [`RecvError::Closed`](crate::RecvError) when the sender is gone and everything was received, [`RecvError::Decode`](crate::RecvError) when
    /// the message is no `T` or was sent as bytes (it is consumed), [`RecvError::ForeignFork`](crate::RecvError).
    ///
    /// # Panics
    /// As the item's `Deserialize` does; the message is consumed, the pipe goes on.
    #[inline]
    pub fn recv(&mut self) -> Result<T, GetError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives an item if there is one now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::Empty`](crate::RecvError).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, GetError> {
        self.recv_until(Deadline::NOW)
    }

    /// Receives an item; waits for one, `timeout` at most. The time bounds the whole call: what has arrived of a large message by
    /// then is kept, and the next call goes on with it.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::Empty`](crate::RecvError) when the time is over.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, GetError> {
        self.recv_until(Deadline::from(timeout))
    }

    #[inline]
    fn recv_until(&mut self, deadline: Deadline) -> Result<T, GetError> {
        if self.reader.end.is_ready() {
            if let Some(record) = self.reader.cursor.peek(&self.reader.end.ring) {
                if matches!(record.kind, VALUE | WORD) {
                    return self.decode(record);
                }
            }
        }
        self.recv_slowly(deadline)
    }

    #[inline]
    fn decode(&mut self, record: Record) -> Result<T, GetError> {
        let len = record.len;
        let reading = Reading {
            reader: &mut self.reader,
            len,
        };
        let bytes = reading.reader.end.ring.payload(&record);
        let item = match bytes.try_into() {
            Ok(word) if record.kind == WORD => codec::from_word(u64::from_ne_bytes(word)),
            _ => codec::decode(bytes),
        };
        item.map_err(GetError::Decode)
    }

    #[cold]
    fn recv_slowly(&mut self, deadline: Deadline) -> Result<T, GetError> {
        match self.reader.next(deadline, None)? {
            Arrived::Record(record) if matches!(record.kind, VALUE | WORD) => self.decode(record),
            Arrived::Record(record) if record.kind == BLOCK_VALUE => {
                let arena = self.reader.end.arena().clone();
                let parcel = self.reader.take_block(record);
                codec::decode_parcel(&arena, &parcel, Vec::new()).map_err(GetError::Decode)
            }
            Arrived::Whole { bytes, raw: false } => codec::decode(&bytes).map_err(GetError::Decode),
            other => {
                self.reader.discard(other);
                let error = DecodeError("it was sent as bytes".into());
                Err(GetError::Decode(error))
            }
        }
    }

    /// Receives one item after the other until the sender is gone and everything was received. A message that does not
    /// decode is yielded as an error, and the next call goes on behind it.
    pub fn iter(&mut self) -> PipeIter<'_, T> {
        PipeIter {
            receiver: self,
            over: false,
        }
    }
}

impl From<Refused> for GetError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotNow => GetError::Empty,
            Refused::Closed => GetError::Closed,
            Refused::ForeignFork => GetError::ForeignFork,
        }
    }
}

/// See [`PipeReceiver::iter`].
#[derive(Debug)]
pub struct PipeIter<'a, T> {
    receiver: &'a mut PipeReceiver<T>,
    over: bool,
}

impl<T: Serialize + DeserializeOwned> Iterator for PipeIter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.receiver.recv();
        self.over = matches!(item, Err(GetError::Closed | GetError::ForeignFork));
        (!matches!(item, Err(GetError::Closed))).then_some(item)
    }
}

impl<'a, T: Serialize + DeserializeOwned> IntoIterator for &'a mut PipeReceiver<T> {
    type Item = Result<T, GetError>;
    type IntoIter = PipeIter<'a, T>;

    fn into_iter(self) -> PipeIter<'a, T> {
        self.iter()
    }
}

/// A message of which a part has arrived: its length, whether it is bytes, the part.
type Part<B> = (u64, bool, B);

impl<T> Waitable for PipeReceiver<T> {
    fn source(&self) -> Source<'_> {
        let end = &self.reader.end;
        let ready = || self.reader.may_receive();
        let event = || end.ring.not_empty();
        let (arena, spin) = (end.arena(), &self.reader.spin);
        if end.is_lent() {
            // Who takes it sleeps there as well.
            return Source::queue(arena, spin, || [Some(event()), None], move |_| ready());
        }
        Source::event(arena, Some(spin), event, ready)
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl<T> Serialize for PipeReceiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Reader { end, cursor, .. } = &*self.reader;
        if end.arena().check().is_ok() && !end.is_passed_on() {
            self.reader.look_a_last_time();
            if end.has(BORROWED) {
                // Its next owner begins behind what was borrowed and forgotten.
                cursor.announce_release(&end.ring, self.reader.borrowed);
            }
        }
        let part: Option<Part<&[u8]>> = end.has(PARTIAL).then(|| {
            let partial = &self.reader.partial;
            (partial.total as u64, partial.raw, &*partial.bytes)
        });
        end.lend(serializer, &part)
    }
}

impl<'de, T> Deserialize<'de> for PipeReceiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (end, part) = End::take::<D, T, Option<Part<Vec<u8>>>>(deserializer)?;
        let mut receiver = PipeReceiver::new(end);
        if let Some((total, raw, bytes)) = part {
            receiver.reader.partial = Partial::resumed(total as usize, raw, bytes);
            receiver.reader.end.set(PARTIAL, true);
        }
        Ok(receiver)
    }
}

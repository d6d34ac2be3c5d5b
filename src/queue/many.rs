//! Many items in one call.
#![forbid(unsafe_code)]

use super::bounded::Queue;
use super::carry::{Codec, Staged, not_encoded, not_sent};
use super::lane::Taken;
use super::local::{LocalQueue, Refused};
use crate::codec::Failure;
use crate::error::{DecodeError, GetError, PutError};
use crate::os::clock::Deadline;
use std::cell::Cell;
use std::fmt;
use std::iter::Fuse;
use std::time::Duration;
use std::vec;

/// So many messages are claimed or taken at once.
const RUN: usize = 64;

/// Why not all items of a [`put_many`](crate::Queue::put_many) were put.
#[non_exhaustive]
pub struct PutManyError<I: Iterator> {
    /// How many were put, the first ones.
    pub sent: usize,
    /// What became of the next one.
    pub cause: PutError<()>,
    /// All others, the next one included.
    pub rest: Rest<I>,
}

/// The items that a [`put_many`](crate::Queue::put_many) did not put: those that it had taken from the iterator, then those
/// still in it.
pub struct Rest<I: Iterator> {
    taken: vec::IntoIter<I::Item>,
    left: Fuse<I>,
}

impl<I: Iterator> Iterator for Rest<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.taken.next().or_else(|| self.left.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let taken = self.taken.len();
        let (least, most) = self.left.size_hint();
        let most = most.and_then(|most| most.checked_add(taken));
        (least.saturating_add(taken), most)
    }
}

impl<I: Iterator> fmt::Debug for Rest<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

impl<I: Iterator> fmt::Debug for PutManyError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutManyError")
            .field("sent", &self.sent)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

impl<I: Iterator> fmt::Display for PutManyError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} items", self.cause, self.sent)
    }
}

impl<I: Iterator> std::error::Error for PutManyError<I> {}

/// Why a [`get_many`](crate::Queue::get_many) did not get, or not all that it took could be decoded.
#[non_exhaustive]
pub struct GetManyError<T> {
    /// What went wrong first.
    pub cause: GetError,
    /// The items that were got all the same, in their order.
    pub got: Vec<T>,
    /// How many messages were no `T`; they are consumed.
    pub failed: usize,
}

impl<T> From<GetManyError<T>> for GetError {
    fn from(error: GetManyError<T>) -> GetError {
        error.cause
    }
}

impl<T> fmt::Debug for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetManyError")
            .field("cause", &self.cause)
            .field("got", &self.got.len())
            .field("failed", &self.failed)
            .finish()
    }
}

impl<T> fmt::Display for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl<T> std::error::Error for GetManyError<T> {}

thread_local! {
    /// Scratch memory that is kept from one batch to the next.
    static SCRATCH: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// At least so many words. (A batch within a batch, of a nested encoder, has its own.)
fn scratch(words: usize) -> Vec<u64> {
    let mut scratch = SCRATCH.take();
    if scratch.len() < words {
        scratch.resize(words, 0);
    }
    scratch
}

/// Items on their way into the queue.
struct Outbox<'q, T> {
    queue: &'q LocalQueue,
    items: Vec<T>,
    staged: Vec<Staged>,
    words: Vec<u64>,
    /// Words for each item.
    each: usize,
    /// How many of them are sent.
    done: usize,
}

impl<'q, T> Outbox<'q, T> {
    fn new<C: Codec<T>>(queue: &'q LocalQueue, room: usize) -> Self {
        let each = C::words(queue);
        Outbox {
            queue,
            items: Vec::with_capacity(room),
            staged: Vec::with_capacity(if C::DIRECT { 0 } else { room }),
            words: scratch(each * room),
            each,
            done: 0,
        }
    }

    /// Takes items from the iterator until there are `room`, or one cannot be encoded: that is the last one then.
    fn collect<C: Codec<T>>(
        &mut self,
        from: &mut impl Iterator<Item = T>,
        room: usize,
    ) -> Result<(), Failure> {
        if C::DIRECT {
            self.items.extend(from.take(room));
            return Ok(());
        }
        while self.items.len() < room {
            let Some(item) = from.next() else {
                break;
            };
            let words = &mut self.words[self.items.len() * self.each..][..self.each];
            let staged = C::stage(self.queue, &item, words);
            self.items.push(item);
            self.staged.push(staged?);
        }
        Ok(())
    }

    /// Sends what is staged.
    fn send<C: Codec<T>>(&mut self, deadline: Deadline) -> Result<(), Refused> {
        let all = if C::DIRECT {
            self.items.len()
        } else {
            self.staged.len()
        };
        while self.done < all {
            if self.queue.is_closed() {
                return Err(Refused::Closed);
            }
            let (each, begin) = (self.each, self.done);
            let mut items = self.items[begin..].iter();
            if C::DIRECT {
                self.done += self.queue.send_run(all - begin, deadline, |ring, slot| {
                    let staged = Staged::inline(size_of::<T>());
                    if let Some(item) = items.next() {
                        C::fill(ring, slot, item, &[], staged);
                    }
                    staged.meta
                })?;
                continue;
            }
            let words = (begin..).map(|i| &self.words[i * each..][..each]);
            let mut messages = items.zip(words).zip(&self.staged[begin..]);
            self.done += self.queue.send_run(all - begin, deadline, |ring, slot| {
                let Some(((item, words), staged)) = messages.next() else {
                    unreachable!("as many as were claimed")
                };
                C::fill(ring, slot, item, words, *staged);
                staged.meta
            })?;
        }
        Ok(())
    }

    /// Makes room for the next ones.
    fn clear(&mut self) {
        self.staged.clear();
        self.done = 0;
        // Last: the items may be dropped by code that panics.
        self.items.clear();
    }

    fn into_rest(mut self) -> Vec<T> {
        let mut items = std::mem::take(&mut self.items);
        items.drain(..self.done);
        items
    }
}

impl<T> Drop for Outbox<'_, T> {
    fn drop(&mut self) {
        if self.queue.arena().check().is_ok() {
            for staged in self.staged.drain(..).skip(self.done) {
                drop(staged.parcel(self.queue));
            }
        }
        SCRATCH.set(std::mem::take(&mut self.words));
    }
}

/// Messages on their way out of the queue.
struct Inbox<'q> {
    queue: &'q LocalQueue,
    pulled: Vec<Staged>,
    words: Vec<u64>,
    /// Words for each message.
    each: usize,
    /// How many of them are opened.
    done: usize,
}

impl<'q> Inbox<'q> {
    fn new<T, C: Codec<T>>(queue: &'q LocalQueue, room: usize) -> Self {
        let each = C::words(queue);
        Inbox {
            queue,
            pulled: Vec::with_capacity(room),
            words: scratch(each * room),
            each,
            done: 0,
        }
    }

    /// Takes the first message and up to `most` with it.
    fn fetch<T, C: Codec<T>>(&mut self, first: Taken<'_>, most: usize, items: &mut Vec<T>) {
        let (queue, words, each) = (self.queue, &mut self.words, self.each);
        let pulled = &mut self.pulled;
        queue.receive_run(first, most, |ring, message| {
            let words = &mut words[pulled.len() * each..][..each];
            pulled.extend(C::pull(queue, ring, message, words, items));
        });
    }

    /// Makes items of the messages, and says for how many that failed, and why the first did.
    fn open<T, C: Codec<T>>(&mut self, items: &mut Vec<T>, failed: &mut Failed) {
        while let Some(&staged) = self.pulled.get(self.done) {
            let words = &self.words[self.done * self.each..][..self.each];
            self.done += 1;
            if let Err(error) = C::open(self.queue, staged, words, items) {
                failed.count += 1;
                failed.first.get_or_insert(error);
            }
        }
        self.pulled.clear();
        self.done = 0;
    }
}

impl Drop for Inbox<'_> {
    fn drop(&mut self) {
        if self.queue.arena().check().is_ok() {
            for staged in self.pulled.drain(..).skip(self.done) {
                drop(staged.parcel(self.queue));
            }
        }
        SCRATCH.set(std::mem::take(&mut self.words));
    }
}

#[derive(Default)]
struct Failed {
    count: usize,
    first: Option<DecodeError>,
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// Puts all items at the end, in their order; waits while there is no room. Says how many it put. Others' items may come
    /// between them.
    ///
    /// They are taken from the iterator and encoded up to 64 at a time, then put together: much cheaper than one by one, but an iterator
    /// that waits holds up the items that it gave before. Killed on the way, a process has put the first so many of them.
    ///
    /// ```
    /// use multiprocess::Queue;
    ///
    /// let queue = Queue::<u32>::bounded(4)?;
    /// assert_eq!(queue.put_many([1, 2, 3])?, 3);
    ///
    /// let error = queue.try_put_many(4..8).unwrap_err();
    /// assert_eq!(error.sent, 1);
    /// assert!(error.cause.is_full());
    /// assert_eq!(error.rest.collect::<Vec<_>>(), [5, 6, 7]);
    ///
    /// assert_eq!(queue.get_many(100)?, [1, 2, 3, 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A [`PutManyError`] says how many were put and why not the next one, and has the rest. The causes are those of
    /// [`put`](Self::put).
    ///
    /// # Panics
    /// As the iterator and the items' `Serialize` do; nothing is claimed at that moment. Up to 63 items that were encoded before are not
    /// put then.
    #[doc(alias = "extend")]
    pub fn put_many<I: IntoIterator<Item = T>>(
        &self,
        items: I,
    ) -> Result<usize, PutManyError<I::IntoIter>> {
        self.put_many_until(items, Deadline::NEVER)
    }

    /// Puts as many items as there is room for now.
    ///
    /// # Errors
    /// As [`put_many`](Self::put_many), and [`PutError::Full`] as the cause.
    pub fn try_put_many<I: IntoIterator<Item = T>>(
        &self,
        items: I,
    ) -> Result<usize, PutManyError<I::IntoIter>> {
        self.put_many_until(items, Deadline::NOW)
    }

    /// Puts all items; waits for room, `timeout` at most in all.
    ///
    /// # Errors
    /// As [`put_many`](Self::put_many), and [`PutError::Full`] as the cause when the time is over.
    pub fn put_many_timeout<I: IntoIterator<Item = T>>(
        &self,
        items: I,
        timeout: Duration,
    ) -> Result<usize, PutManyError<I::IntoIter>> {
        self.put_many_until(items, Deadline::from(timeout))
    }

    fn put_many_until<I: IntoIterator<Item = T>>(
        &self,
        items: I,
        deadline: Deadline,
    ) -> Result<usize, PutManyError<I::IntoIter>> {
        let mut left = items.into_iter().fuse();
        let mut sent = 0;
        if self.local.arena().check().is_err() {
            let (cause, taken) = (PutError::ForeignFork(()), Vec::new().into_iter());
            let rest = Rest { taken, left };
            return Err(PutManyError { sent, cause, rest });
        }
        // An iterator may say too little: then the batches stay small.
        let room = left.size_hint().1.map_or(RUN, |most| most.clamp(1, RUN));
        let mut outbox = Outbox::new::<C>(&self.local, room);
        loop {
            let staged = outbox.collect::<C>(&mut left, room);
            let refused = outbox.send::<C>(deadline);
            sent += outbox.done;
            let cause = match (refused, staged) {
                (Err(refused), _) => not_sent(refused, ()),
                (Ok(()), Err(failure)) => not_encoded(failure, ()),
                (Ok(()), Ok(())) if outbox.items.is_empty() => return Ok(sent),
                (Ok(()), Ok(())) => {
                    outbox.clear();
                    continue;
                }
            };
            let taken = outbox.into_rest().into_iter();
            let rest = Rest { taken, left };
            return Err(PutManyError { sent, cause, rest });
        }
    }

    /// Gets the items at the front, `max` at most: waits for one, then takes what is there. For a `max` of 0 that is nothing.
    ///
    /// Killed on the way, a process leaves those that it has not acknowledged to others, in their order.
    ///
    /// # Errors
    /// [`GetManyError`]: nothing was got, for the causes of [`get`](Self::get); or some messages that were taken are no `T`, and the
    /// others are inside.
    ///
    /// # Panics
    /// As the items' `Deserialize` does; what was taken in the same call is consumed.
    pub fn get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::NEVER)
    }

    /// Gets the items that are there now, `max` at most.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many), and [`GetError::Empty`] as the cause.
    pub fn try_get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::NOW)
    }

    /// Gets items; waits for the first, `timeout` at most.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many), and [`GetError::Empty`] as the cause when the time is over.
    pub fn get_many_timeout(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::from(timeout))
    }

    fn get_many_until(&self, max: usize, deadline: Deadline) -> Result<Vec<T>, GetManyError<T>> {
        let mut items = Vec::new();
        if max == 0 {
            return Ok(items);
        }
        // More than that was not there at one time, and a busy producer would keep this up for ever.
        let max = match max > RUN {
            true => max.min((self.local.most(max as u64) as usize).max(RUN)),
            false => max,
        };
        // Nothing is allocated while a message is taken.
        let room = max.min(RUN);
        items.reserve(room);
        let mut inbox = Inbox::new::<T, C>(&self.local, room);
        let mut failed = Failed::default();
        let mut next = self.take(deadline).map_err(|cause| GetManyError {
            cause,
            got: Vec::new(),
            failed: 0,
        })?;
        loop {
            let most = (max - items.len() - failed.count).min(RUN);
            inbox.fetch::<T, C>(next, most, &mut items);
            inbox.open::<T, C>(&mut items, &mut failed);
            if items.len() + failed.count >= max {
                break;
            }
            items.reserve(RUN);
            match self.local.take_if_there() {
                Some(message) => next = message,
                None => break,
            }
        }
        match failed.first {
            None => Ok(items),
            Some(error) => Err(GetManyError {
                cause: GetError::Decode(error),
                got: items,
                failed: failed.count,
            }),
        }
    }
}

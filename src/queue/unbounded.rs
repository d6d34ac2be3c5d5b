//! Queues that grow.
#![forbid(unsafe_code)]

use super::bounded::{Queue, type_hash};
use super::carry::Holds;
use super::local::LocalQueue;
use crate::arena::{self, Arena};
use crate::codec::{Pod, Serde};
use crate::error::Error;
use crate::ring::Geometry;
use std::io;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

impl<T> Queue<T>
where
    Serde: Holds<T>,
{
    /// A queue without a bound: a `put` never waits, and never says [`Full`](crate::PutError::Full).
    ///
    /// It grows by 32 KiB of shared memory at a time (some 700 numbers), until the family's memory is used up
    /// ([`PutError::NoMemory`](crate::PutError::NoMemory); the queue goes on), and gives them back as it is drained. Each process that has
    /// put something or got something keeps at most two such pieces until it moves on. Producers that are faster than their consumers
    /// for long are better served by a bounded queue, which makes them wait.
    ///
    /// A consumer that is *stopped* (not killed) in the middle of a `get` can hold up the others at the end of a piece.
    ///
    /// ```
    /// use multiprocess::Queue;
    ///
    /// fn count((from, to): (Queue<u64>, Queue<u64>)) {
    ///     to.put(from.iter().flatten().sum()).unwrap();
    /// }
    ///
    /// let (numbers, sums) = (Queue::unbounded()?, Queue::unbounded()?);
    /// for number in 1..=10_000 {
    ///     numbers.put(number)?; // nobody has to be there yet
    /// }
    /// assert_eq!((numbers.len(), numbers.capacity()), (10_000, None));
    /// numbers.close();
    /// multiprocess::spawn(count, (numbers, sums.clone()))?.join()?;
    /// assert_eq!(sums.get()?, 50_005_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::ForeignFork`].
    #[doc(alias = "SimpleQueue")]
    pub fn unbounded() -> io::Result<Self> {
        Ok(Queue::unbounded_in(arena::family()?)?)
    }
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Queue<T, Pod> {
    /// A queue of plain old data without a bound; see [`unbounded`](Queue::unbounded) and [`bounded_pod`](Queue::bounded_pod).
    ///
    /// ```
    /// use multiprocess::{Pod, Queue};
    ///
    /// let samples = Queue::<[f32; 4], Pod>::unbounded_pod()?;
    /// samples.put_many((0..5000).map(|i| [i as f32; 4]))?;
    /// assert_eq!(samples.get()?, [0.0; 4]);
    /// assert_eq!(samples.get_many(10_000)?.len(), 4999);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`unbounded`](Queue::unbounded).
    pub fn unbounded_pod() -> io::Result<Self> {
        Ok(Queue::unbounded_in(arena::family()?)?)
    }
}

impl<T, C: Holds<T>> Queue<T, C> {
    /// A queue without a bound in this arena.
    pub(crate) fn unbounded_in(arena: &Arena) -> Result<Self, Error> {
        Queue::unbounded_of(arena, Geometry::segment(C::usual_len()))
    }

    /// One with segments of this size.
    pub(crate) fn unbounded_of(arena: &Arena, segment: Geometry) -> Result<Self, Error> {
        let local = LocalQueue::create_chain(arena, segment, type_hash::<T, C>())?;
        let local = Arc::new(local);
        arena.register(&local);
        Ok(Queue::of(local))
    }
}

#[cfg(all(test, not(loom)))]
impl<T, C: Holds<T>> Queue<T, C> {
    /// One with segments of so few slots.
    pub(crate) fn unbounded_with(arena: &Arena, slots: u64) -> Result<Self, Error> {
        Queue::unbounded_of(arena, Geometry::new(slots, C::usual_len()))
    }
}

//! Plain old data: the value's own bytes go into the slot, or into a block when they are more than a slot holds.
#![forbid(unsafe_code)]

use super::bounded::Queue;
use super::carry::sealed::{Carry, Room};
use super::carry::{Codec, Holds, Staged, not_encoded, not_sent};
use super::kind::is_in_block;
use super::lane::Taken;
use super::loan::{ALIGN, Loan, Ref};
use super::local::LocalQueue;
use crate::arena::{self, Parcel};
use crate::codec::{Failure, Pod};
use crate::error::{DecodeError, GetError, PutError};
use crate::os::clock::Deadline;
use crate::ring::{Geometry, Message, RingObject, Slot};
use std::io;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Codec<T> for Pod {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Holds<T> for Pod {}

/// Whether the items travel in slots. (Those written in place are always in blocks.)
const fn is_inline<T>() -> bool {
    size_of::<T>() <= Geometry::LARGEST
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Room<T> for Pod {
    fn usual_len() -> u64 {
        if is_inline::<T>() {
            size_of::<T>() as u64
        } else {
            0
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Carry<T> for Pod {
    #[inline]
    fn put(queue: &LocalQueue, item: T, deadline: Deadline) -> Result<(), PutError<T>> {
        if is_inline::<T>() {
            return match queue.send_bytes(item.as_bytes(), deadline) {
                Ok(()) => Ok(()),
                Err(refused) => Err(not_sent(refused, item)),
            };
        }
        let bytes = item.as_bytes();
        let mut parcel = match Parcel::for_bytes(queue.arena(), bytes.len(), ALIGN) {
            Ok(parcel) => parcel,
            Err(error) => return Err(not_encoded(error.into(), item)),
        };
        parcel.bytes_mut().copy_from_slice(bytes);
        match queue.send_parcel(parcel, deadline) {
            Ok(()) => Ok(()),
            Err(refused) => Err(not_sent(refused, item)),
        }
    }

    #[inline]
    fn receive(queue: &LocalQueue, taken: Taken<'_>) -> Result<T, DecodeError> {
        if is_inline::<T>() && !taken.is_in_block() {
            let mut item = T::new_zeroed();
            queue.receive_bytes(taken, item.as_mut_bytes());
            return Ok(item);
        }
        let parcel = queue.receive_parcel(taken);
        T::read_from_bytes(parcel.bytes()).map_err(|_| wrong_size())
    }

    const DIRECT: bool = is_inline::<T>();

    fn words(_: &LocalQueue) -> usize {
        0
    }

    #[inline]
    fn stage(queue: &LocalQueue, item: &T, _: &mut [u64]) -> Result<Staged, Failure> {
        if is_inline::<T>() {
            return Ok(Staged::inline(size_of::<T>()));
        }
        let bytes = item.as_bytes();
        let mut parcel = Parcel::for_bytes(queue.arena(), bytes.len(), ALIGN)?;
        parcel.bytes_mut().copy_from_slice(bytes);
        Ok(Staged::in_block(parcel))
    }

    #[inline]
    fn fill(ring: &RingObject, slot: &Slot, item: &T, _: &[u64], staged: Staged) {
        if is_inline::<T>() {
            ring.write_bytes(slot, item.as_bytes());
        } else {
            ring.write(slot, &[staged.block.into()], 8);
        }
    }

    /// The item itself at once, so that it is copied once: nothing can go wrong with it that is the user's.
    #[inline]
    fn pull(
        queue: &LocalQueue,
        ring: &RingObject,
        message: &Message,
        _: &mut [u64],
        items: &mut Vec<T>,
    ) -> Option<Staged> {
        if is_inline::<T>() && !is_in_block(message) {
            let bytes = ring.bytes(message, size_of::<T>());
            items.push(T::new_zeroed());
            if let Some(item) = items.last_mut() {
                item.as_mut_bytes().copy_from_slice(bytes);
            }
            return None;
        }
        let parcel = queue.block_of(ring, message);
        items.extend(T::read_from_bytes(parcel.bytes()).ok());
        Some(Staged::in_block(parcel))
    }

    #[inline]
    fn open(
        queue: &LocalQueue,
        staged: Staged,
        _: &[u64],
        _: &mut Vec<T>,
    ) -> Result<(), DecodeError> {
        drop(staged.parcel(queue));
        Ok(())
    }
}

#[cold]
pub(super) fn wrong_size() -> DecodeError {
    DecodeError("it has another size".into())
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static> Queue<T, Pod> {
    /// A queue for `capacity` items of plain old data, which are copied as they are. (A name of its own, so that
    /// `Queue::bounded` always means [`Serde`](crate::Serde).)
    ///
    /// Items of up to 120 bytes travel in the queue's slots, each with 8 bytes beside it, rounded up to 16; larger ones in blocks of
    /// their own.
    ///
    /// ```
    /// use multiprocess::{Pod, Queue};
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
    ///
    /// #[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(C)]
    /// struct Particle {
    ///     place: [f32; 3],
    ///     mass: f32,
    /// }
    ///
    /// fn fall(particles: Queue<Particle, Pod>) {
    ///     let mut particle = particles.get().unwrap();
    ///     particle.place[2] -= 9.81;
    ///     particles.put(particle).unwrap();
    /// }
    ///
    /// let particles = Queue::<Particle, Pod>::bounded_pod(100)?;
    /// particles.put(Particle { place: [0.0; 3], mass: 1.5 })?;
    /// multiprocess::spawn(fall, particles.clone())?.join()?;
    /// assert_eq!(particles.get()?, Particle { place: [0.0, 0.0, -9.81], mass: 1.5 });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`bounded`](Queue::bounded).
    pub fn bounded_pod(capacity: usize) -> io::Result<Self> {
        Queue::bounded_in(arena::family()?, capacity)
    }

    /// Gets an item and does something with it before the queue forgets it: when this process is killed before that is done, another
    /// one gets the item. What is done must not wait, and run no user code. For items that travel in slots.
    pub(crate) fn get_marked<R>(&self, mark: impl FnOnce(T) -> R) -> Result<R, GetError> {
        const { assert!(is_inline::<T>()) };
        let taken = self.take(Deadline::NEVER)?;
        let mut item = T::new_zeroed();
        let bytes = taken.lane.storage.bytes(&taken.message, size_of::<T>());
        item.as_mut_bytes().copy_from_slice(bytes);
        let marked = mark(item);
        self.local.acknowledge(taken);
        Ok(marked)
    }

    /// Room for an item in shared memory: to be filled and [put](Loan::put), without a copy. It holds whatever was there before.
    /// The item's alignment is at most 64 (checked when compiled).
    ///
    /// ```
    /// use multiprocess::{Pod, Queue};
    ///
    /// type Picture = [[f32; 640]; 480];
    /// let pictures = Queue::<Picture, Pod>::bounded_pod(4)?;
    /// let mut picture = pictures.loan()?;
    /// picture.fill([0.5; 640]);
    /// picture.put()?;
    ///
    /// let picture = pictures.get_ref()?; // in another process, as a rule
    /// assert_eq!(picture[479][639], 0.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    /// ```compile_fail
    /// use multiprocess::{Pod, Queue};
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(C, align(128))]
    /// struct Wide([u8; 128]);
    ///
    /// let _ = Queue::<Wide, Pod>::bounded_pod(4)?.loan();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn loan(&self) -> io::Result<Loan<T>> {
        const {
            assert!(
                align_of::<T>() <= ALIGN,
                "items in place are aligned to 64 at most"
            )
        };
        Ok(Loan::new(&self.local, size_of::<T>())?)
    }

    /// Gets the item at the front, to be read where it lies; waits while there is none. The item's alignment is at most 64
    /// (checked when compiled).
    ///
    /// # Errors
    /// As [`get`](Queue::get).
    pub fn get_ref(&self) -> Result<Ref<T>, GetError> {
        self.get_ref_until(Deadline::NEVER)
    }

    /// The same for an item that is there now.
    ///
    /// # Errors
    /// As [`try_get`](Queue::try_get).
    pub fn try_get_ref(&self) -> Result<Ref<T>, GetError> {
        self.get_ref_until(Deadline::NOW)
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    /// As [`get_timeout`](Queue::get_timeout).
    pub fn get_ref_timeout(&self, timeout: Duration) -> Result<Ref<T>, GetError> {
        self.get_ref_until(Deadline::from(timeout))
    }

    fn get_ref_until(&self, deadline: Deadline) -> Result<Ref<T>, GetError> {
        const {
            assert!(
                align_of::<T>() <= ALIGN,
                "items in place are aligned to 64 at most"
            )
        };
        Ref::receive(&self.local, self.take(deadline)?).map_err(GetError::Decode)
    }
}

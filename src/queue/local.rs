//! A process's side of a queue: where this process is in it, and how to wait. A bounded queue is one ring; one without a bound
//! is a chain of them (`chained.rs`).
#![forbid(unsafe_code)]

use super::chained::Chained;
use super::kind::{IN_BLOCK, KIND, QueueKind};
use super::lane::{Hold, Lane, Taken};
use crate::arena::{Arena, HeldParcel, Local, Object, ObjectSpec, Parcel};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::ring::{
    self, ChainObject, Geometry, Message, PutError, RingObject, Run, Slot, TakeError,
};
use crate::sync::{EventCount, Progress, Spin, Wait};
use crossbeam_utils::CachePadded;
use std::fmt;

pub(super) struct LocalQueue {
    // Let go of in this order: whoever has a side holds the object.
    side: Side,
    object: Object,
    pub(super) put_spin: CachePadded<Spin>,
    pub(super) get_spin: CachePadded<Spin>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "a bounded queue's words are found without another look-up"
)]
enum Side {
    Ring(Lane),
    Chain(Box<Chained>),
}

impl fmt::Debug for LocalQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalQueue")
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Local for LocalQueue {
    fn object(&self) -> &Object {
        &self.object
    }
}

impl Drop for LocalQueue {
    fn drop(&mut self) {
        if let Side::Chain(chain) = &self.side {
            if self.arena().check().is_ok() {
                chain.leave(self.chain_object(), self.arena().my_word());
            }
        }
    }
}

/// Where a message's bytes are.
pub(super) enum Received<'q> {
    /// So many bytes of the small buffer; the message is out of the ring for good.
    Inline(usize),
    /// The message is still to be received, with its block.
    InBlock(Taken<'q>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `Full` or `Empty`.
    NotNow,
    Closed,
    /// A queue without a bound could not grow.
    NoMemory,
}

impl LocalQueue {
    pub(super) fn create(arena: &Arena, geometry: Geometry, type_hash: u64) -> Result<Self, Error> {
        let len = geometry.len().ok_or(Error::InvalidCapacity)?;
        let spec = ObjectSpec {
            kind: &QueueKind,
            type_hash,
            len,
        };
        let object = Object::create(arena, spec, |view| RingObject::init(view, geometry))?;
        LocalQueue::new(object)
    }

    /// One without a bound, of segments of this size.
    pub(super) fn create_chain(
        arena: &Arena,
        geometry: Geometry,
        type_hash: u64,
    ) -> Result<Self, Error> {
        let spec = ObjectSpec {
            kind: &QueueKind,
            type_hash,
            len: ChainObject::LEN,
        };
        let first = ring::new_segment(arena, geometry)?;
        let block = first.block();
        let object = Object::create(arena, spec, |view| ChainObject::init(view, geometry, block))?;
        // From here on the object lists it.
        first.into_block();
        LocalQueue::new(object)
    }

    /// A queue without a bound needs a word for this process, to say where it is; later there might be no memory for it.
    pub(super) fn new(object: Object) -> Result<Self, Error> {
        let view = object.view();
        let side = if ChainObject::is(view) {
            Side::Chain(Box::default())
        } else {
            Side::Ring(Lane::new(RingObject::new(view)))
        };
        let queue = LocalQueue {
            side,
            object,
            put_spin: CachePadded::default(),
            get_spin: CachePadded::default(),
        };
        if let Side::Chain(chain) = &queue.side {
            chain.claim_entry(&queue)?;
        }
        Ok(queue)
    }

    #[inline]
    pub(super) fn arena(&self) -> &Arena {
        self.object.arena()
    }

    pub(super) fn kind() -> u32 {
        KIND
    }

    pub(super) fn chain_object(&self) -> ChainObject<'_> {
        ChainObject::new(self.object.view())
    }

    /// Who waits for messages sleeps here.
    pub(super) fn not_empty(&self) -> &EventCount {
        match &self.side {
            Side::Ring(lane) => lane.storage.not_empty(),
            Side::Chain(_) => self.chain_object().not_empty(),
        }
    }

    pub(super) fn capacity(&self) -> Option<u64> {
        match &self.side {
            Side::Ring(lane) => Some(lane.storage.capacity()),
            Side::Chain(_) => None,
        }
    }

    /// As many messages as may be there at one time, if not more than `enough`.
    pub(super) fn most(&self, enough: u64) -> u64 {
        self.capacity().unwrap_or_else(|| self.len_up_to(enough))
    }

    pub(super) fn len(&self) -> u64 {
        self.len_up_to(u64::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len_up_to(1) == 0
    }

    /// How many messages there are, if not more than `enough`.
    fn len_up_to(&self, enough: u64) -> u64 {
        match &self.side {
            Side::Ring(lane) => {
                let (ring, cursors) = (lane.ring(), &lane.cursors);
                let len = ring.len(cursors) + ring.orphans(cursors, self.arena());
                len.min(lane.storage.capacity())
            }
            Side::Chain(chain) => chain.len_up_to(self, enough),
        }
    }

    /// Whether a put would have to wait.
    pub(super) fn is_full(&self) -> bool {
        match &self.side {
            Side::Ring(lane) => lane.ring().is_full(&lane.cursors),
            Side::Chain(_) => false,
        }
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        match &self.side {
            Side::Ring(lane) => lane.ring().closed(),
            Side::Chain(_) => self.chain_is_closed(),
        }
    }

    #[cold]
    fn chain_is_closed(&self) -> bool {
        self.chain_object().chain().is_closed()
    }

    /// The largest payload of a slot.
    #[inline]
    pub(super) fn inline(&self) -> usize {
        match &self.side {
            Side::Ring(lane) => lane.storage.inline(),
            Side::Chain(_) => self.chain_object().geometry().inline(),
        }
    }

    /// Sends what `fill` writes into a slot; it says what to commit with it, and runs no user code.
    #[inline(always)]
    fn send_with(
        &self,
        deadline: Deadline,
        fill: impl FnOnce(&RingObject, &Slot) -> u16,
    ) -> Result<(), Refused> {
        match &self.side {
            Side::Ring(lane) => {
                let slot = self.claim(lane, deadline)?;
                let meta = fill(&lane.storage, &slot);
                lane.ring().commit(slot, meta);
                lane.storage.not_empty().notify_one(self.arena().fences());
                Ok(())
            }
            Side::Chain(chain) => chain.send_with(self, fill),
        }
    }

    /// Sends the first `len` bytes of `small`.
    #[inline]
    pub(super) fn send(
        &self,
        small: &[u64],
        len: usize,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        self.send_with(deadline, |storage, slot| {
            storage.write(slot, small, len);
            len as u16
        })
    }

    /// Sends bytes that fit into a slot.
    #[inline]
    pub(super) fn send_bytes(&self, bytes: &[u8], deadline: Deadline) -> Result<(), Refused> {
        self.send_with(deadline, |storage, slot| {
            storage.write_bytes(slot, bytes);
            bytes.len() as u16
        })
    }

    /// Sends a block.
    pub(super) fn send_parcel(
        &self,
        parcel: Parcel<'_>,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        // From the commit on the ring lists the block; until then it is this member's by its own word.
        self.send_with(deadline, |storage, slot| {
            storage.write(slot, &[parcel.into_index().into()], 8);
            IN_BLOCK
        })
    }

    /// Sends a block that user code has filled; gives it back when it cannot.
    pub(super) fn send_held(
        &self,
        held: HeldParcel,
        deadline: Deadline,
    ) -> Result<(), (Refused, HeldParcel)> {
        let mut held = Some(held);
        let sent = self.send_with(deadline, |storage, slot| {
            if let Some(held) = held.take() {
                storage.write(slot, &[held.into_index().into()], 8);
            }
            IN_BLOCK
        });
        match (sent, held) {
            (Err(refused), Some(held)) => Err((refused, held)),
            _ => Ok(()),
        }
    }

    /// Sends as many messages as there are slots in a row, one at least and `most` at most: how many. `fill` writes each and
    /// says what to commit with it; it runs no user code.
    #[inline]
    pub(super) fn send_run(
        &self,
        most: usize,
        deadline: Deadline,
        mut fill: impl FnMut(&RingObject, &Slot) -> u16,
    ) -> Result<usize, Refused> {
        match &self.side {
            Side::Ring(lane) => {
                let first = self.claim(lane, deadline)?;
                let count = self.fill_run(lane, first, most, fill);
                let fences = self.arena().fences();
                lane.storage.not_empty().notify(count as u32, fences);
                Ok(count)
            }
            Side::Chain(chain) => chain.send_run(self, most, &mut fill),
        }
    }

    /// Claims what is free behind the first slot, then fills and commits all.
    #[inline]
    pub(super) fn fill_run(
        &self,
        lane: &Lane,
        first: Slot,
        most: usize,
        mut fill: impl FnMut(&RingObject, &Slot) -> u16,
    ) -> usize {
        let mut run = Run::of(first);
        let ring = lane.ring();
        ring.claim_more(&lane.cursors, self.arena().me(), &mut run, most);
        let count = run.count;
        ring.commit_all(run, |slot| fill(&lane.storage, slot));
        count
    }

    /// Takes what is there in a row from the first message on, up to `most`, hands it to `copy`, and acknowledges all of it.
    #[inline]
    pub(super) fn receive_run(
        &self,
        first: Taken<'_>,
        most: usize,
        mut copy: impl FnMut(&RingObject, &Message),
    ) {
        let Taken { message, lane } = first;
        let mut run = Run::of(message.slot);
        let (ring, arena) = (lane.ring(), self.arena());
        ring.take_more(&lane.cursors, arena, &mut run, most);
        let count = run.count as u32;
        ring.acknowledge_all(run, arena.me(), |message| copy(&lane.storage, message));
        self.acknowledged(&lane, count);
    }

    /// Wakes who may have waited for it.
    #[inline(always)]
    fn acknowledged(&self, lane: &Hold<'_>, count: u32) {
        let fences = self.arena().fences();
        match lane {
            Hold::Only(lane) => lane.storage.not_full().notify(count, fences),
            // Nobody waits for room, but for a message that is being taken out of a segment before the next one is entered.
            Hold::Chained(_) if lane.ring().closed() => self.not_empty().notify_all(fences),
            Hold::Chained(_) => {}
        }
    }

    /// A message that is there now, without any waiting.
    #[inline]
    pub(super) fn take_if_there(&self) -> Option<Taken<'_>> {
        match &self.side {
            Side::Ring(lane) => {
                let message = lane.ring().take(&lane.cursors, self.arena()).ok()?;
                let lane = Hold::Only(lane);
                Some(Taken { message, lane })
            }
            Side::Chain(chain) => match chain.try_take(self, false, false) {
                Progress::Done(taken) => taken.ok(),
                _ => None,
            },
        }
    }

    /// Until the commit no user code runs.
    #[inline(always)]
    fn claim(&self, lane: &Lane, deadline: Deadline) -> Result<Slot, Refused> {
        match lane.ring().claim_next(&lane.cursors, self.arena().me()) {
            Some(slot) => Ok(slot),
            None => self.claim_slowly(lane, deadline),
        }
    }

    #[cold]
    fn claim_slowly(&self, lane: &Lane, deadline: Deadline) -> Result<Slot, Refused> {
        let (ring, cursors) = (lane.ring(), &lane.cursors);
        match ring.claim(cursors, self.arena().me()) {
            Ok(slot) => return Ok(slot),
            Err(PutError::Closed) => return Err(Refused::Closed),
            Err(_) => {}
        }
        let wait = Wait {
            arena: self.arena(),
            event: lane.storage.not_full(),
            spin: &self.put_spin,
        };
        let attempt = |slow: bool| match ring.claim(cursors, self.arena().me()) {
            Ok(slot) => Progress::Done(Ok(slot)),
            Err(PutError::Closed) => Progress::Done(Err(Refused::Closed)),
            Err(PutError::Full) => Progress::Blocked,
            Err(PutError::Orphaned) => {
                lane.storage.not_empty().notify_one(self.arena().fences());
                Progress::Blocked
            }
            Err(PutError::Busy(_)) => {
                if slow && ring.orphan_if_dead(cursors, self.arena()) {
                    self.arena().count_repair();
                    lane.storage.not_empty().notify_all(self.arena().fences());
                }
                Progress::Busy
            }
        };
        let done = if deadline.expired() {
            wait.once(attempt)
        } else {
            wait.until(deadline, || ring.may_claim(cursors), attempt)
        };
        done.unwrap_or(Err(Refused::NotNow))
    }

    /// The next message, in the usual case, without waiting. Until it is received no user code may run.
    #[inline(always)]
    pub(super) fn take_next(&self) -> Option<Taken<'_>> {
        match &self.side {
            Side::Ring(lane) => {
                let message = lane.ring().take_next(&lane.cursors, self.arena())?;
                let lane = Hold::Only(lane);
                Some(Taken { message, lane })
            }
            Side::Chain(_) => None,
        }
    }

    /// Copies the message out, acknowledges, wakes. How many bytes of `small` it has; none when it is in a block.
    #[inline(always)]
    pub(super) fn receive<'q>(&self, taken: Taken<'q>, small: &mut [u64]) -> Received<'q> {
        if taken.is_in_block() {
            return Received::InBlock(taken);
        }
        let len = copy_out(&taken.lane.storage, &taken.message, small);
        self.acknowledge(taken);
        Received::Inline(len)
    }

    /// The first words of a message in its slot.
    pub(super) fn read(&self, taken: &Taken<'_>, to: &mut [u64], len: usize) {
        taken.lane.storage.read(&taken.message, to, len);
    }

    /// Makes the message's block this member's.
    pub(super) fn block_of(&self, storage: &RingObject, message: &Message) -> Parcel<'_> {
        Parcel::take(self.arena(), storage.block_in(message.slot.index))
    }

    /// Copies out a message in its slot of which the caller knows the length, acknowledges, wakes.
    #[inline(always)]
    pub(super) fn receive_bytes(&self, taken: Taken<'_>, to: &mut [u8]) {
        to.copy_from_slice(taken.lane.storage.bytes(&taken.message, to.len()));
        self.acknowledge(taken);
    }

    /// Makes the message's block this member's, acknowledges, wakes.
    pub(super) fn receive_parcel(&self, taken: Taken<'_>) -> Parcel<'_> {
        let parcel = self.block_of(&taken.lane.storage, &taken.message);
        self.acknowledge(taken);
        parcel
    }

    #[inline(always)]
    pub(super) fn acknowledge(&self, taken: Taken<'_>) {
        let Taken { message, lane } = taken;
        lane.ring().acknowledge(message, self.arena().me());
        self.acknowledged(&lane, 1);
    }

    /// Waits for a message. Until it is received no user code may run.
    #[cold]
    pub(super) fn wait_for_message(&self, deadline: Deadline) -> Result<Taken<'_>, Refused> {
        let lane = match &self.side {
            Side::Ring(lane) => lane,
            Side::Chain(chain) => return chain.wait_for_message(self, deadline),
        };
        let ring = lane.ring();
        let taken = |message| Taken {
            message,
            lane: Hold::Only(lane),
        };
        if let Ok(message) = ring.take(&lane.cursors, self.arena()) {
            return Ok(taken(message));
        }
        let now = deadline.expired();
        let take = || ring.take(&lane.cursors, self.arena());
        let attempt = |slow: bool| self.try_lane(lane, slow || now, slow, take);
        let hint = || ring.may_take(&lane.cursors) || ring.closed();
        let message = self.wait_to_get(deadline, hint, attempt)?;
        Ok(taken(message))
    }

    /// One attempt at the front of a ring, with `take`. With `look`, what was taken by processes that died is looked for; with
    /// `slow`, so is whether the one in the way is dead.
    fn try_lane<R>(
        &self,
        lane: &Lane,
        look: bool,
        slow: bool,
        take: impl Fn() -> Result<R, TakeError>,
    ) -> Progress<Result<R, Refused>> {
        let taken = || lane.ring().taken(&lane.cursors, self.arena());
        loop {
            let error = match take() {
                Ok(message) => return Progress::Done(Ok(message)),
                Err(error) => error,
            };
            let again = match error {
                TakeError::Busy(_) => slow && self.skip_dead(lane),
                // What a dead consumer took and did not acknowledge is not gone.
                TakeError::Empty => look && taken() == ring::Taken::ByDead,
                TakeError::Closed => match taken() {
                    ring::Taken::Settled => return Progress::Done(Err(Refused::Closed)),
                    ring::Taken::Held => return Progress::Busy,
                    ring::Taken::ByDead => true,
                },
            };
            if !again {
                return match error {
                    TakeError::Busy(_) => Progress::Busy,
                    _ => Progress::Blocked,
                };
            }
        }
    }

    /// Whether a message could be taken now, or why none ever will be; `None`: not now. With `slow`, the dead are asked about.
    pub(super) fn front(&self, slow: bool) -> Option<Result<(), Refused>> {
        let look = |lane: &Lane| lane.ring().look(&lane.cursors, self.arena());
        let found = match &self.side {
            Side::Ring(lane) => self.try_lane(lane, slow, slow, || look(lane)),
            Side::Chain(chain) => chain.look(self, slow, look),
        };
        match found {
            Progress::Done(found) => Some(found),
            _ => None,
        }
    }

    /// The blocking loop of who gets.
    pub(super) fn wait_to_get<T>(
        &self,
        deadline: Deadline,
        hint: impl Fn() -> bool,
        attempt: impl FnMut(bool) -> Progress<Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let wait = Wait {
            arena: self.arena(),
            event: self.not_empty(),
            spin: &self.get_spin,
        };
        let done = if deadline.expired() {
            wait.once(attempt)
        } else {
            wait.until(deadline, hint, attempt)
        };
        done.unwrap_or(Err(Refused::NotNow))
    }

    /// Passes over what a dead producer claimed in front of everybody. True when something may have changed.
    pub(super) fn skip_dead(&self, lane: &Lane) -> bool {
        let skipped = lane.ring().skip_dead(&lane.cursors, self.arena());
        if skipped {
            self.arena().count_repair();
            // The slot is free for a producer now, and other consumers wait behind it.
            let fences = self.arena().fences();
            lane.storage.not_full().notify_all(fences);
            self.not_empty().notify_all(fences);
        }
        skipped
    }

    pub(super) fn close(&self) {
        let fences = self.arena().fences();
        match &self.side {
            Side::Ring(lane) => {
                lane.ring().close();
                lane.storage.not_full().notify_all(fences);
            }
            Side::Chain(chain) => chain.close(self),
        }
        self.not_empty().notify_all(fences);
    }
}

/// Copies a message out of its slot: how many bytes.
#[inline]
pub(super) fn copy_out(storage: &RingObject, message: &Message, to: &mut [u64]) -> usize {
    let len = usize::from(message.meta).min(storage.inline());
    let len = len.min(to.len() * 8);
    storage.read(message, to, len);
    len
}

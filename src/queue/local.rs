//! A process's side of a queue: the ring, where this process is in it, and how to wait.
#![forbid(unsafe_code)]

use super::kind::{IN_BLOCK, KIND, QueueKind};
use crate::arena::{Arena, HeldParcel, Local, Object, ObjectSpec, Parcel};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::ring::{
    Cursors, Geometry, Message, Mpmc, PutError, RingObject, Run, Slot, TakeError, Taken,
};
use crate::sync::{Progress, Spin, Wait};
use crossbeam_utils::CachePadded;
use std::fmt;

pub(super) struct LocalQueue {
    object: Object,
    pub(super) storage: RingObject,
    cursors: Cursors,
    pub(super) put_spin: CachePadded<Spin>,
    pub(super) get_spin: CachePadded<Spin>,
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

/// Where a message's bytes are.
pub(super) enum Received {
    /// So many bytes of the small buffer; the message is out of the ring for good.
    Inline(usize),
    /// The message is still to be received, with its block.
    InBlock(Message),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `Full` or `Empty`.
    NotNow,
    Closed,
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
        Ok(LocalQueue::new(object))
    }

    pub(super) fn new(object: Object) -> Self {
        let storage = RingObject::new(object.view());
        let cursors = Mpmc::new(&storage).cursors();
        LocalQueue {
            object,
            storage,
            cursors,
            put_spin: CachePadded::default(),
            get_spin: CachePadded::default(),
        }
    }

    #[inline]
    pub(super) fn arena(&self) -> &Arena {
        self.object.arena()
    }

    #[inline]
    pub(super) fn ring(&self) -> Mpmc<&RingObject> {
        Mpmc::new(&self.storage)
    }

    pub(super) fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    pub(super) fn capacity(&self) -> u64 {
        self.storage.capacity()
    }

    pub(super) fn kind() -> u32 {
        KIND
    }

    #[inline]
    pub(super) fn inline(&self) -> usize {
        self.storage.inline()
    }

    /// Sends the first `len` bytes of `small`.
    #[inline]
    pub(super) fn send(
        &self,
        small: &[u64],
        len: usize,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        let slot = self.claim(deadline)?;
        self.storage.write(&slot, small, len);
        self.commit(slot, len as u16);
        Ok(())
    }

    /// Sends bytes that fit into a slot.
    #[inline]
    pub(super) fn send_bytes(&self, bytes: &[u8], deadline: Deadline) -> Result<(), Refused> {
        let slot = self.claim(deadline)?;
        self.storage.write_bytes(&slot, bytes);
        self.commit(slot, bytes.len() as u16);
        Ok(())
    }

    /// Sends a block.
    pub(super) fn send_parcel(
        &self,
        parcel: Parcel<'_>,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        let slot = self.claim(deadline)?;
        // From the commit on the ring lists the block; until then it is this member's by its own word.
        self.storage.write(&slot, &[parcel.into_index().into()], 8);
        self.commit(slot, IN_BLOCK);
        Ok(())
    }

    /// Claims as many slots as there are in a row, one at least and `most` at most. They are to be committed at once: until
    /// [`commit_all`](Self::commit_all) no user code runs.
    pub(super) fn claim_run(&self, most: usize, deadline: Deadline) -> Result<Run, Refused> {
        let mut run = Run::of(self.claim(deadline)?);
        self.ring()
            .claim_more(&self.cursors, self.arena().me(), &mut run, most);
        Ok(run)
    }

    /// Fills and commits slots in their order; `fill` says what to commit with each.
    #[inline]
    pub(super) fn commit_all(&self, run: Run, mut fill: impl FnMut(&RingObject, &Slot) -> u16) {
        let count = run.count as u32;
        self.ring()
            .commit_all(run, |slot| fill(&self.storage, slot));
        let fences = self.arena().fences();
        self.storage.not_empty().notify(count, fences);
    }

    /// Takes what is there in a row from the first message on, up to `most`.
    pub(super) fn take_run(&self, first: Message, most: usize) -> Run {
        let mut run = Run::of(first.slot);
        self.ring()
            .take_more(&self.cursors, self.arena(), &mut run, most);
        run
    }

    /// Copies messages out and acknowledges them.
    #[inline]
    pub(super) fn receive_all(&self, run: Run, copy: impl FnMut(&Message)) {
        let count = run.count as u32;
        self.ring().acknowledge_all(run, self.arena().me(), copy);
        self.storage.not_full().notify(count, self.arena().fences());
    }

    /// A message that is there now, without any waiting.
    #[inline]
    pub(super) fn take_if_there(&self) -> Option<Message> {
        self.ring().take(&self.cursors, self.arena()).ok()
    }

    /// Sends a block that user code has filled; gives it back when it cannot.
    pub(super) fn send_held(
        &self,
        held: HeldParcel,
        deadline: Deadline,
    ) -> Result<(), (Refused, HeldParcel)> {
        let slot = match self.claim(deadline) {
            Ok(slot) => slot,
            Err(refused) => return Err((refused, held)),
        };
        self.storage.write(&slot, &[held.into_index().into()], 8);
        self.commit(slot, IN_BLOCK);
        Ok(())
    }

    /// Until `commit` no user code runs.
    #[inline]
    fn claim(&self, deadline: Deadline) -> Result<Slot, Refused> {
        match self.ring().claim_next(&self.cursors, self.arena().me()) {
            Some(slot) => Ok(slot),
            None => self.claim_slowly(deadline),
        }
    }

    #[inline]
    fn commit(&self, slot: Slot, meta: u16) {
        self.ring().commit(slot, meta);
        self.storage.not_empty().notify_one(self.arena().fences());
    }

    #[cold]
    fn claim_slowly(&self, deadline: Deadline) -> Result<Slot, Refused> {
        let ring = self.ring();
        match ring.claim(&self.cursors, self.arena().me()) {
            Ok(slot) => return Ok(slot),
            Err(PutError::Closed) => return Err(Refused::Closed),
            Err(_) => {}
        }
        let wait = Wait {
            arena: self.arena(),
            event: self.storage.not_full(),
            spin: &self.put_spin,
        };
        let attempt = |slow: bool| match ring.claim(&self.cursors, self.arena().me()) {
            Ok(slot) => Progress::Done(Ok(slot)),
            Err(PutError::Closed) => Progress::Done(Err(Refused::Closed)),
            Err(PutError::Full) => Progress::Blocked,
            Err(PutError::Orphaned) => {
                self.storage.not_empty().notify_one(self.arena().fences());
                Progress::Blocked
            }
            Err(PutError::Busy(_)) => {
                if slow && ring.orphan_if_dead(&self.cursors, self.arena()) {
                    self.arena().count_repair();
                    self.storage.not_empty().notify_all(self.arena().fences());
                }
                Progress::Busy
            }
        };
        let done = if deadline.expired() {
            wait.once(attempt)
        } else {
            wait.until(deadline, || ring.may_claim(&self.cursors), attempt)
        };
        done.unwrap_or(Err(Refused::NotNow))
    }

    /// The next message, in the usual case, without waiting. Until it is received no user code may run.
    #[inline]
    pub(super) fn take_next(&self) -> Option<Message> {
        self.ring().take_next(&self.cursors, self.arena())
    }

    /// Copies the message out, acknowledges, wakes. How many bytes of `small` it has; none when it is in a block.
    #[inline]
    pub(super) fn receive(&self, message: Message, small: &mut [u64]) -> Received {
        if message.meta == IN_BLOCK {
            return Received::InBlock(message);
        }
        let len = self.copy_out(&message, small);
        self.acknowledge(message);
        Received::Inline(len)
    }

    /// Copies a message out of its slot: how many bytes.
    #[inline]
    pub(super) fn copy_out(&self, message: &Message, to: &mut [u64]) -> usize {
        let len = usize::from(message.meta).min(self.storage.inline());
        let len = len.min(to.len() * 8);
        self.storage.read(message, to, len);
        len
    }

    /// The bytes of a message in its slot, when the caller knows their number.
    #[inline]
    pub(super) fn bytes_of<'a>(&'a self, message: &'a Message, len: usize) -> &'a [u8] {
        self.storage.bytes(message, len)
    }

    /// Makes the message's block this member's.
    pub(super) fn block_of(&self, message: &Message) -> Parcel<'_> {
        Parcel::take(self.arena(), self.storage.block_in(message.slot.index))
    }

    /// The same for a message in its slot of which the caller knows the length.
    #[inline]
    pub(super) fn receive_bytes(&self, message: Message, to: &mut [u8]) {
        to.copy_from_slice(self.bytes_of(&message, to.len()));
        self.acknowledge(message);
    }

    /// Makes the message's block this member's, acknowledges, wakes.
    pub(super) fn receive_parcel(&self, message: Message) -> Parcel<'_> {
        let parcel = self.block_of(&message);
        self.acknowledge(message);
        parcel
    }

    #[inline]
    pub(super) fn acknowledge(&self, message: Message) {
        self.ring().acknowledge(message, self.arena().me());
        self.storage.not_full().notify_one(self.arena().fences());
    }

    /// Waits for a message. Until it is received no user code may run.
    #[cold]
    pub(super) fn wait_for_message(&self, deadline: Deadline) -> Result<Message, Refused> {
        let ring = self.ring();
        if let Ok(message) = ring.take(&self.cursors, self.arena()) {
            return Ok(message);
        }
        let wait = Wait {
            arena: self.arena(),
            event: self.storage.not_empty(),
            spin: &self.get_spin,
        };
        let now = deadline.expired();
        let attempt = |slow: bool| loop {
            let error = match ring.take(&self.cursors, self.arena()) {
                Ok(message) => return Progress::Done(Ok(message)),
                Err(error) => error,
            };
            let again = match error {
                TakeError::Busy(_) => slow && self.skip_dead(),
                // What a dead consumer took and did not acknowledge is not gone.
                TakeError::Empty if !(slow || now) => false,
                TakeError::Empty => ring.taken(&self.cursors, self.arena()) == Taken::ByDead,
                TakeError::Closed => match ring.taken(&self.cursors, self.arena()) {
                    Taken::Settled => return Progress::Done(Err(Refused::Closed)),
                    Taken::Held => return Progress::Busy,
                    Taken::ByDead => true,
                },
            };
            if !again {
                return match error {
                    TakeError::Busy(_) => Progress::Busy,
                    _ => Progress::Blocked,
                };
            }
        };
        let done = if now {
            wait.once(attempt)
        } else {
            let hint = || ring.may_take(&self.cursors) || self.storage_is_closed();
            wait.until(deadline, hint, attempt)
        };
        done.unwrap_or(Err(Refused::NotNow))
    }

    fn skip_dead(&self) -> bool {
        let skipped = self.ring().skip_dead(&self.cursors, self.arena());
        if skipped {
            self.arena().count_repair();
            // The slot is free for a producer now, and other consumers wait behind it.
            let fences = self.arena().fences();
            self.storage.not_full().notify_all(fences);
            self.storage.not_empty().notify_all(fences);
        }
        skipped
    }

    fn storage_is_closed(&self) -> bool {
        self.ring().closed()
    }

    pub(super) fn close(&self) {
        self.ring().close();
        let fences = self.arena().fences();
        self.storage.not_empty().notify_all(fences);
        self.storage.not_full().notify_all(fences);
    }
}

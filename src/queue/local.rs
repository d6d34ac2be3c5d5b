//! A process's side of a queue: the ring, where this process is in it, and how to wait.
#![forbid(unsafe_code)]

use super::kind::{IN_BLOCK, KIND, QueueKind};
use crate::arena::{Arena, Local, Object, ObjectSpec, Parcel};
use crate::codec::{Encoded, Small};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::ring::{Cursors, Geometry, Message, Mpmc, PutError, RingObject, Slot, TakeError, Taken};
use crate::sync::{Progress, Spin, Wait};
use crossbeam_utils::CachePadded;
use std::fmt;

pub(super) struct LocalQueue {
    object: Object,
    storage: RingObject,
    cursors: Cursors,
    put_spin: CachePadded<Spin>,
    get_spin: CachePadded<Spin>,
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

/// A message's bytes, taken out of the ring for good.
pub(super) enum Received<'a> {
    /// So many bytes of the small buffer.
    Inline(usize),
    Parcel(Parcel<'a>),
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

    /// Claims a slot, fills it, commits, wakes. No user code runs in here.
    #[inline]
    pub(super) fn send(
        &self,
        message: Encoded<'_>,
        small: &Small,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        let ring = self.ring();
        let slot = match ring.claim(&self.cursors, self.arena().me()) {
            Ok(slot) => slot,
            Err(error) => self.claim_slowly(error, deadline)?,
        };
        match message {
            Encoded::Inline(len) => {
                self.storage.write(&slot, &small[..len.div_ceil(8)]);
                ring.commit(slot, len as u16);
            }
            Encoded::Parcel(parcel) => {
                // From the commit on the ring lists the block; until then it is this member's by its own word.
                self.storage.write(&slot, &[parcel.into_index().into()]);
                ring.commit(slot, IN_BLOCK);
            }
        }
        self.storage.not_empty().notify_one(self.arena().fences());
        Ok(())
    }

    #[cold]
    fn claim_slowly(&self, error: PutError, deadline: Deadline) -> Result<Slot, Refused> {
        if error == PutError::Closed {
            return Err(Refused::Closed);
        }
        let ring = self.ring();
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

    /// Takes a message, copies it out or makes its block this member's, acknowledges, wakes. No user code runs in here.
    #[inline]
    pub(super) fn receive(
        &self,
        small: &mut Small,
        deadline: Deadline,
    ) -> Result<Received<'_>, Refused> {
        let ring = self.ring();
        let message = match ring.take(&self.cursors, self.arena()) {
            Ok(message) => message,
            Err(_) => self.take_slowly(deadline)?,
        };
        let received = if message.meta == IN_BLOCK {
            let index = self.storage.block_in(message.slot.index);
            Received::Parcel(Parcel::take(self.arena(), index))
        } else {
            let len = usize::from(message.meta).min(self.storage.inline());
            self.storage.read(&message, &mut small[..len.div_ceil(8)]);
            Received::Inline(len)
        };
        ring.acknowledge(message, self.arena().me());
        self.storage.not_full().notify_one(self.arena().fences());
        Ok(received)
    }

    #[cold]
    fn take_slowly(&self, deadline: Deadline) -> Result<Message, Refused> {
        let ring = self.ring();
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

//! Who owns an end. An end is known by its object and an epoch: the owner is who raised the epoch last, and is named beside it. An
//! end in a message is on loan from then on: whoever raises the epoch first has it, the receiver of the message or, when the
//! message was not sent, the one who has it still. So there is never a second owner, and the end ends with him, whatever is done
//! with a message or with a reference to an end.
#![forbid(unsafe_code)]

use super::kind::{
    self, Fields, OTHER, PIPE, PipeKind, READER, READER_KIND, RING, WRITER, WRITER_KIND, pack,
    unpack,
};
use crate::arena::{Arena, Block, Kind, Local, Object, ObjectSpec};
use crate::codec;
use crate::error::Error;
use crate::ring::{ByteRing, Title};
use crate::sync;
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The end is in a message, or was.
const LENT: u8 = 1;
/// Somebody else took it.
const LOST: u8 = 2;
/// A borrowed record was forgotten by its borrower.
pub(super) const BORROWED: u8 = 4;
/// A part of a message has arrived.
pub(super) const PARTIAL: u8 = 8;

/// Why nothing was sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotNow,
    Closed,
    ForeignFork,
}

pub(super) fn type_hash<T>() -> u64 {
    sync::type_hash::<T>()
}

/// This process's hold on an object. Not shared by other handles: there are none.
#[derive(Debug)]
struct Hold(Object);

impl Local for Hold {
    fn object(&self) -> &Object {
        &self.0
    }
}

#[derive(Debug)]
pub(super) struct End<const KIND: u32> {
    // Let go of in this order: who holds an end holds the ring.
    end: Arc<Hold>,
    ring_object: Arc<Hold>,
    pub(super) ring: ByteRing,
    /// What is not as usual; 0 lets the quick paths go ahead.
    flags: Cell<u8>,
    epoch: Cell<u64>,
    /// The process that has this handle. A fork copies one that is in a message: the copy holds no object and owns nothing.
    holder: u64,
}

/// The two ends of a new pipe.
pub(super) fn create(
    arena: &Arena,
    capacity: usize,
    type_hash: u64,
) -> Result<(End<WRITER>, End<READER>), Error> {
    let spec = ObjectSpec {
        kind: &PipeKind,
        type_hash,
        len: ByteRing::len(capacity),
    };
    let ring = Object::create(arena, spec, |view| ByteRing::init(view, capacity))?;
    let again = Object::attach(arena, ring.block(), PIPE, type_hash)?;
    let end = |kind: &'static dyn Kind| {
        let spec = ObjectSpec {
            kind,
            type_hash: 0,
            len: size_of::<Fields>() as u64,
        };
        Object::create(arena, spec, |view| {
            view.get::<Fields>().0[RING].store(pack(ring.block()), Relaxed);
            kind::own(view);
        })
    };
    let (writer, reader) = (end(&WRITER_KIND)?, end(&READER_KIND)?);
    let set_other = |end: &Object, other: &Object| {
        end.view().get::<Fields>().0[OTHER].store(pack(other.block()), Relaxed);
    };
    set_other(&writer, &reader);
    set_other(&reader, &writer);
    Ok((
        End::own_from(Arc::new(Hold(writer)), Arc::new(Hold(again)), 0),
        End::own_from(Arc::new(Hold(reader)), Arc::new(Hold(ring)), 0),
    ))
}

impl<const KIND: u32> End<KIND> {
    fn own_from(end: Arc<Hold>, ring_object: Arc<Hold>, epoch: u64) -> Self {
        let ring = ByteRing::new(ring_object.0.view());
        end.0.arena().keep_alone();
        let holder = end.0.arena().my_word();
        End {
            end,
            ring_object,
            ring,
            flags: Cell::new(0),
            epoch: Cell::new(epoch),
            holder,
        }
    }

    #[inline]
    pub(super) fn arena(&self) -> &Arena {
        self.ring.arena()
    }

    pub(super) fn ring_block(&self) -> Block {
        self.ring_object.0.block()
    }

    /// The ring, for a test that looks on.
    #[cfg(all(test, not(loom)))]
    pub(super) fn another_view(&self) -> ByteRing {
        ByteRing::new(self.ring_object.0.view())
    }

    fn fields(&self) -> &Fields {
        self.end.0.view().get()
    }

    fn title(&self) -> Title<'_> {
        kind::title(self.end.0.view())
    }

    /// The other end's object.
    pub(super) fn other(&self) -> Block {
        unpack(self.fields().0[OTHER].load(Relaxed))
    }

    /// Whether the quick path may be taken.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        self.flags.get() == 0 && self.arena().check().is_ok()
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    /// It is in a message, or was taken out of one by somebody else.
    pub(super) fn is_passed_on(&self) -> bool {
        self.has(LENT | LOST)
    }

    #[inline]
    pub(super) fn set(&self, flag: u8, on: bool) {
        let others = self.flags.get() & !flag;
        self.flags.set(others | if on { flag } else { 0 });
    }

    /// It is in a message from which it may come back.
    pub(super) fn is_lent(&self) -> bool {
        self.has(LENT)
    }

    /// For who only looks: whether this process is a member and the end its own, or would be if it were used. One that is in a message
    /// stays there.
    pub(super) fn look(&self) -> Result<(), Refused> {
        if self.arena().check().is_err() {
            return Err(Refused::ForeignFork);
        }
        let is_taken = || !self.title().is_lent(self.epoch.get());
        if self.has(LOST) || self.is_lent_copy() || (self.has(LENT) && is_taken()) {
            return Err(Refused::Closed);
        }
        Ok(())
    }

    /// Whether it is in a message that another process lent, of which this one is a copy.
    fn is_lent_copy(&self) -> bool {
        self.has(LENT) && self.holder != self.arena().my_word()
    }

    fn lose(&self) {
        self.set(LENT, false);
        self.set(LOST, true);
    }

    fn lose_copy(&self) {
        if self.is_lent_copy() {
            self.lose();
        }
    }

    /// For who would put it into one more message: not when somebody has taken it out of one.
    fn lose_taken(&self) {
        self.lose_copy();
        let is_there = || self.arena().check().is_ok();
        if self.has(LENT) && is_there() && !self.title().is_lent(self.epoch.get()) {
            self.lose();
        }
    }

    /// Makes sure that this process is a member and the end its own: one that was in a message which did not go comes back.
    pub(super) fn check(&self) -> Result<(), Refused> {
        if self.arena().check().is_err() {
            return Err(Refused::ForeignFork);
        }
        self.lose_copy();
        if self.has(LENT) {
            let epoch = self.epoch.get();
            if self.title().take(epoch, self.arena().me()) {
                self.epoch.set(epoch + 1);
                self.set(LENT, false);
                self.arena().keep_alone();
            } else {
                self.lose();
            }
        }
        if self.has(LOST) {
            return Err(Refused::Closed);
        }
        Ok(())
    }

    /// Puts the end into a message, with what its next owner must know besides.
    pub(super) fn lend<S: Serializer, X: Serialize>(
        &self,
        serializer: S,
        state: &X,
    ) -> Result<S::Ok, S::Error> {
        self.lose_taken();
        let mut parts = serializer.serialize_tuple(4)?;
        parts.serialize_element(&OnlyHandle(self))?;
        parts.serialize_element(&RingHandle(&self.ring_object))?;
        self.let_go();
        parts.serialize_element(&self.epoch.get())?;
        parts.serialize_element(state)?;
        parts.end()
    }

    /// From here on whoever has a message with it may take it, and this process may take it back.
    pub(super) fn let_go(&self) {
        if self.arena().check().is_ok() && !self.is_passed_on() {
            // Those in which it was before are nobody's way to it.
            self.end.0.view().outdate_messages();
            self.set(LENT, true);
            self.title().lend(self.epoch.get(), self.arena().me());
            self.arena().keep_no_more();
        }
    }

    /// Takes the end out of a message.
    pub(super) fn take<'de, D: Deserializer<'de>, T, X: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<(Self, X), D::Error> {
        let parts = <(Taken<KIND>, Ring<T>, u64, X)>::deserialize(deserializer)?;
        let (Taken(end), Ring(ring, _), epoch, state) = parts;
        let fields: &Fields = end.0.view().get();
        if unpack(fields.0[RING].load(Relaxed)) != ring.0.block() {
            return Err(de::Error::custom(codec::refuse(Error::StaleHandle)));
        }
        if !kind::title(end.0.view()).take(epoch, end.0.arena().me()) {
            return Err(de::Error::custom(codec::refuse(Error::Moved)));
        }
        Ok((End::own_from(end, ring, epoch + 1), state))
    }
}

impl<const KIND: u32> Drop for End<KIND> {
    fn drop(&mut self) {
        if self.is_passed_on() {
            // Whoever has it closes it; if nobody has, its object ends here, or soon if others hold that.
            if self.has(LENT) && self.arena().check().is_ok() && !self.is_lent_copy() {
                self.title().renounce(self.epoch.get(), self.arena().me());
            }
            return;
        }
        self.arena().keep_no_more();
        if self.arena().check().is_ok() {
            // Others may hold its object: what was sent to it goes all the same.
            self.title().end(self.epoch.get());
            kind::close::<KIND>(self.ring_object.0.view());
        }
    }
}

struct OnlyHandle<'a, const KIND: u32>(&'a End<KIND>);

impl<const KIND: u32> Serialize for OnlyHandle<'_, KIND> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.has(LOST) {
            return Err(serde::ser::Error::custom(codec::refuse(Error::Moved)));
        }
        codec::serialize_only_handle(&self.0.end, serializer)
    }
}

/// Both ends of a pipe may be in one message.
struct RingHandle<'a>(&'a Arc<Hold>);

impl Serialize for RingHandle<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(self.0, serializer)
    }
}

struct Taken<const KIND: u32>(Arc<Hold>);

impl<'de, const KIND: u32> Deserialize<'de> for Taken<KIND> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        codec::deserialize_only_handle(deserializer, KIND, 0, Hold).map(Taken)
    }
}

struct Ring<T>(Arc<Hold>, std::marker::PhantomData<fn() -> T>);

impl<'de, T> Deserialize<'de> for Ring<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hold = codec::deserialize_only_handle(deserializer, PIPE, type_hash::<T>(), Hold)?;
        Ok(Ring(hold, std::marker::PhantomData))
    }
}

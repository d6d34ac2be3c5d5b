//! The roles of a channel. Each is an object of its own, without content but for the name of the ring; who may send holds the one,
//! who may receive the other, and both hold the ring. An object ends with its last holder, whatever became of him, and with a
//! role ends what it was for: so nobody counts anything.
#![forbid(unsafe_code)]

use super::Queue;
use super::kind::Content;
use crate::arena::{
    Arena, Block, Dead, Kind, Local, Object, ObjectSpec, OwnedBlock, View, Visitor, Words,
};
use crate::codec;
use crate::error::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// The places of the roles in the table of kinds.
pub(super) const SENDERS: u32 = 2;
pub(super) const RECEIVERS: u32 = 3;

/// What a role is: the blocks of its ring and of the other role.
type Fields = Words<2>;

const RING: usize = 0;
const OTHER: usize = 1;

fn pack(block: Block) -> u64 {
    u64::from(block.generation) << 32 | u64::from(block.index)
}

fn unpack(word: u64) -> Block {
    Block {
        index: word as u32,
        generation: (word >> 32) as u32,
    }
}

#[derive(Debug)]
pub(crate) struct RoleKind<const KIND: u32>;

pub(crate) const SENDERS_KIND: RoleKind<SENDERS> = RoleKind;
pub(crate) const RECEIVERS_KIND: RoleKind<RECEIVERS> = RoleKind;

impl<const KIND: u32> Kind for RoleKind<KIND> {
    fn id(&self) -> u32 {
        KIND
    }

    fn name(&self) -> &'static str {
        if KIND == SENDERS {
            "senders"
        } else {
            "receivers"
        }
    }

    /// Nothing in a role is tagged with a member.
    fn repair(&self, _: View<'_>, _: &Dead) {}

    fn visit(&self, _: View<'_>, _: &mut Visitor<'_>) {}

    /// The last of a role is gone: closes the ring. What is in it can still be received, but when nobody is left to receive
    /// goes at once, and with it the ends that it may hold. All of it can be done again after a kill.
    fn destroy(&self, role: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        let ring = unpack(role.get::<Fields>().0[RING].load(Acquire));
        // Who held the role held the ring; without a holder of either it may have gone first.
        let Some(ring) = Content::find(role.arena, ring) else {
            return;
        };
        ring.close();
        if KIND == RECEIVERS {
            ring.drain(role.arena, taken);
        }
        ring.wake_all(role.arena);
    }
}

/// A process's hold on a role.
#[derive(Debug)]
pub(super) struct LocalRole {
    object: Object,
}

impl Local for LocalRole {
    fn object(&self) -> &Object {
        &self.object
    }
}

impl LocalRole {
    fn create(arena: &Arena, kind: &'static dyn Kind, ring: Block) -> Result<Arc<Self>, Error> {
        let spec = ObjectSpec {
            kind,
            type_hash: 0,
            len: size_of::<Fields>() as u64,
        };
        let object = Object::create(arena, spec, |view| {
            view.get::<Fields>().0[RING].store(pack(ring), Relaxed);
        })?;
        let role = Arc::new(LocalRole::new(object));
        arena.register(&role);
        Ok(role)
    }

    fn new(object: Object) -> Self {
        LocalRole { object }
    }

    fn fields(&self) -> &Fields {
        self.object.view().get()
    }

    fn ring(&self) -> Block {
        unpack(self.fields().0[RING].load(Relaxed))
    }

    fn other(&self) -> Block {
        unpack(self.fields().0[OTHER].load(Relaxed))
    }

    fn set_other(&self, other: &LocalRole) {
        self.fields().0[OTHER].store(pack(other.object.block()), Relaxed);
    }
}

/// One end of a channel: a role and the ring.
pub(super) struct End<T, C, const KIND: u32> {
    // Let go of in this order: who holds a role holds the ring.
    role: Arc<LocalRole>,
    pub(super) queue: Queue<T, C>,
}

type Ends<T, C> = (End<T, C, SENDERS>, End<T, C, RECEIVERS>);

/// The two roles of a new queue that has no other handle.
pub(super) fn split<T, C>(queue: Queue<T, C>) -> io::Result<Ends<T, C>> {
    let arena = queue.local.arena();
    let ring = queue.local.object().block();
    let senders = LocalRole::create(arena, &SENDERS_KIND, ring)?;
    let receivers = LocalRole::create(arena, &RECEIVERS_KIND, ring)?;
    senders.set_other(&receivers);
    receivers.set_other(&senders);
    Ok((End::new(senders, queue.clone()), End::new(receivers, queue)))
}

impl<T, C, const KIND: u32> End<T, C, KIND> {
    fn new(role: Arc<LocalRole>, queue: Queue<T, C>) -> Self {
        let other = role.other();
        if KIND == SENDERS {
            queue.local.put_spin.watch(other);
        } else {
            queue.local.get_spin.watch(other);
        }
        End { role, queue }
    }

    /// For who does not wait and found nothing to do: now and then looks whether the other side has died. True when it has
    /// looked.
    #[cold]
    pub(super) fn ask(&self) -> bool {
        let local = &self.queue.local;
        let spin = if KIND == SENDERS {
            &local.put_spin
        } else {
            &local.get_spin
        };
        spin.ask(local.arena())
    }
}

impl<T, C, const KIND: u32> Clone for End<T, C, KIND> {
    fn clone(&self) -> Self {
        End {
            role: self.role.clone(),
            queue: self.queue.clone(),
        }
    }
}

impl<T, C, const KIND: u32> fmt::Debug for End<T, C, KIND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}

/// A role as it stands in a message.
struct Handle<const KIND: u32>(Arc<LocalRole>);

impl<const KIND: u32> Serialize for Handle<KIND> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(&self.0, serializer)
    }
}

impl<'de, const KIND: u32> Deserialize<'de> for Handle<KIND> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalRole::new(object));
        codec::deserialize_handle(deserializer, KIND, 0, make).map(Handle)
    }
}

impl<T, C, const KIND: u32> Serialize for End<T, C, KIND> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Handle::<KIND>(self.role.clone()), &self.queue).serialize(serializer)
    }
}

impl<'de, T, C, const KIND: u32> Deserialize<'de> for End<T, C, KIND> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Handle(role), queue) = <(Handle<KIND>, Queue<T, C>)>::deserialize(deserializer)?;
        // The queue's type was checked, and nobody's role opens another channel.
        if role.ring() != queue.local.object().block() {
            return Err(de::Error::custom(Error::StaleHandle));
        }
        Ok(End::new(role, queue))
    }
}

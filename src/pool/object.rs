//! The pool in shared memory, as the parent and its workers hold it.
#![forbid(unsafe_code)]

use crate::arena::{Arena, Dead, Kind, Local, Object, ObjectSpec, OwnedBlock, View, Visitor};
use crate::codec;
use crate::error::Error;
use crate::ring::{Cards, Jobs};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// The number of pools among the kinds.
const KIND: u32 = 20;

#[derive(Debug)]
pub(crate) struct PoolKind;

impl Kind for PoolKind {
    fn id(&self) -> u32 {
        KIND
    }

    fn name(&self) -> &'static str {
        "pool"
    }

    /// Nothing in it is tagged with a member: workers have numbers of their own, and their parent looks after them.
    fn repair(&self, _: View<'_>, _: &Dead) {}

    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>) {
        Cards::new(object).visit(block);
    }

    fn destroy(&self, object: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        Cards::new(object).destroy(taken);
    }
}

/// A process's hold on a pool.
#[derive(Debug)]
pub(super) struct LocalPool(Object);

impl Local for LocalPool {
    fn object(&self) -> &Object {
        &self.0
    }
}

impl LocalPool {
    pub(super) fn create(arena: &Arena, seats: usize) -> Result<Arc<LocalPool>, Error> {
        let spec = ObjectSpec {
            kind: &PoolKind,
            type_hash: 0,
            len: Cards::len(seats),
        };
        let local = Arc::new(LocalPool(Object::create(arena, spec, |_| ())?));
        arena.register(&local);
        Ok(local)
    }

    pub(super) fn arena(&self) -> &Arena {
        self.0.arena()
    }

    pub(super) fn cards(&self) -> Cards<'_> {
        Cards::new(self.0.view())
    }

    pub(super) fn jobs(&self) -> Jobs<Cards<'_>> {
        Jobs(self.cards())
    }

    /// The same through the family's own arena, for who holds this until the process ends.
    pub(super) fn cards_for_good(self: &Arc<Self>, arena: &'static Arena) -> Cards<'static> {
        std::mem::forget(self.clone());
        let block = self.0.block();
        Cards::new(View { arena, block })
    }
}

/// A pool among the arguments of its workers.
#[derive(Debug)]
pub(super) struct PoolHandle(pub(super) Arc<LocalPool>);

impl Serialize for PoolHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for PoolHandle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalPool(object));
        codec::deserialize_handle(deserializer, KIND, 0, make).map(PoolHandle)
    }
}

//! What the arena does with queues whose users are gone.
#![forbid(unsafe_code)]

use crate::arena::{Dead, Kind, OwnedBlock, View, Visitor};
use crate::ring::{Message, Mpmc, RingObject, TakeError};

/// The place of queues in the table of kinds.
pub(crate) const KIND: u32 = 0;
/// In a slot's word: the message is in a block, the payload is its number.
pub(super) const IN_BLOCK: u16 = u16::MAX;

#[inline]
pub(super) fn is_in_block(message: &Message) -> bool {
    message.meta == IN_BLOCK
}

#[derive(Debug)]
pub(crate) struct QueueKind;

impl Kind for QueueKind {
    fn id(&self) -> u32 {
        KIND
    }

    fn name(&self) -> &'static str {
        "queue"
    }

    fn repair(&self, object: View<'_>, dead: &Dead) {
        let storage = RingObject::new(object);
        let changed = Mpmc::new(&storage).sweep(|owner| dead.contains(owner.into()));
        for _ in 0..changed {
            object.arena.count_repair();
        }
        // Also when nothing was changed: the dead may have been the one whom the last wake-up went to.
        let fences = object.arena.fences();
        storage.not_empty().notify_all(fences);
        storage.not_full().notify_all(fences);
    }

    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>) {
        let storage = RingObject::new(object);
        Mpmc::new(&storage).for_each_message(|index, meta| {
            if meta == IN_BLOCK {
                block(storage.block_in(index));
            }
        });
    }

    /// Takes every message as a consumer would, so that a killed predecessor is just one more dead consumer.
    fn destroy(&self, object: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        let storage = RingObject::new(object);
        let ring = Mpmc::new(&storage);
        let cursors = ring.cursors();
        loop {
            match ring.take(&cursors, object.arena) {
                Ok(message) => {
                    let block = (message.meta == IN_BLOCK)
                        .then(|| object.arena.take_over(storage.block_in(message.slot.index)));
                    ring.acknowledge(message, object.arena.me());
                    if let Some(block) = block {
                        taken(block);
                    }
                }
                Err(TakeError::Busy(_)) if ring.skip_dead(&cursors, object.arena) => {}
                Err(_) => return,
            }
        }
    }
}

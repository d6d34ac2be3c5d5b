//! What the arena does with queues whose users are gone.
#![forbid(unsafe_code)]

use crate::arena::{Arena, Block, Dead, Kind, OwnedBlock, View, Visitor};
use crate::ring::{ChainObject, Message, Mpmc, Next, RingObject, TakeError, Taken};

/// The place of queues in the table of kinds.
pub(crate) const KIND: u32 = 0;
/// In a slot's word: the message is in a block, the payload is its number.
pub(super) const IN_BLOCK: u16 = u16::MAX;

#[inline]
pub(super) fn is_in_block(message: &Message) -> bool {
    message.meta == IN_BLOCK
}

/// With a bound or without: one kind, as a handle does not say which it is.
#[derive(Debug)]
pub(crate) struct QueueKind;

/// A queue as who has the maintenance role sees it: nothing of it is freed meanwhile.
pub(super) enum Content<'a> {
    Ring(RingObject),
    Chain(ChainObject<'a>),
}

impl<'a> Content<'a> {
    pub(super) fn of(view: View<'a>) -> Self {
        if ChainObject::is(view) {
            Content::Chain(ChainObject::new(view))
        } else {
            Content::Ring(RingObject::new(view))
        }
    }

    /// A queue that the caller does not hold, if it is still there.
    pub(super) fn find(arena: &'a Arena, block: Block) -> Option<Self> {
        arena.find(block, KIND).map(Content::of)
    }

    fn for_each_ring(&self, mut f: impl FnMut(&RingObject)) {
        match self {
            Content::Ring(ring) => f(ring),
            Content::Chain(chain) => chain.chain().for_each(|link| f(&chain.ring(link))),
        }
    }

    /// Every message that was committed and not acknowledged.
    pub(super) fn for_each_message(&self, mut f: impl FnMut(&RingObject, u64, u16)) {
        self.for_each_ring(|ring| {
            Mpmc::new(ring).for_each_message(|index, meta| f(ring, index, meta));
        });
    }

    /// Wakes everybody who waits for a message or for room.
    pub(super) fn wake_all(&self, arena: &Arena) {
        let fences = arena.fences();
        match self {
            Content::Ring(ring) => {
                ring.not_empty().notify_all(fences);
                ring.not_full().notify_all(fences);
            }
            Content::Chain(chain) => chain.not_empty().notify_all(fences),
        }
    }

    pub(super) fn close(&self) {
        match self {
            Content::Ring(ring) => Mpmc::new(ring).close(),
            Content::Chain(chain) => chain.close_as_maintainer(),
        }
    }

    /// Takes every message out, as a consumer would.
    pub(super) fn drain(&self, arena: &Arena, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        let chain = match self {
            Content::Ring(ring) => {
                drain(ring, arena, taken);
                return;
            }
            Content::Chain(chain) => *chain,
        };
        while let Some(at) = chain.first() {
            let drained = drain(&chain.ring(at), arena, taken);
            if !drained || !matches!(chain.chain().behind(at), Next::Segment(_)) {
                break;
            }
            chain.chain().leave_first(at);
        }
        chain.release();
    }
}

/// Takes every message as a consumer would, so that a killed predecessor is just one more dead consumer. Whether there is
/// nothing left for ever.
fn drain(storage: &RingObject, arena: &Arena, taken: &mut dyn FnMut(OwnedBlock<'_>)) -> bool {
    let ring = Mpmc::new(storage);
    let cursors = ring.cursors();
    loop {
        match ring.take(&cursors, arena) {
            Ok(message) => {
                let block = is_in_block(&message)
                    .then(|| arena.take_over(storage.block_in(message.slot.index)));
                ring.acknowledge(message, arena.me());
                if let Some(block) = block {
                    taken(block);
                }
            }
            Err(TakeError::Busy(_)) if ring.skip_dead(&cursors, arena) => {}
            Err(TakeError::Closed) => return ring.taken(&cursors, arena) == Taken::Settled,
            Err(_) => return false,
        }
    }
}

impl Kind for QueueKind {
    fn id(&self) -> u32 {
        KIND
    }

    fn name(&self) -> &'static str {
        "queue"
    }

    fn repair(&self, object: View<'_>, dead: &Dead) {
        let arena = object.arena;
        let content = Content::of(object);
        let is_dead = |owner| dead.contains(u64::from(owner));
        let mut changed = 0;
        content.for_each_ring(|ring| changed += Mpmc::new(ring).sweep(is_dead));
        if let Content::Chain(chain) = &content {
            changed += chain.repair_entries(is_dead);
        }
        for _ in 0..changed {
            arena.count_repair();
        }
        // Also when nothing was changed: the dead may have been the one whom the last wake-up went to.
        content.wake_all(arena);
    }

    fn tidy(&self, object: View<'_>) {
        if let Content::Chain(chain) = Content::of(object) {
            chain.release();
        }
    }

    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>) {
        let content = Content::of(object);
        content.for_each_message(|ring, index, meta| {
            if meta == IN_BLOCK {
                block(ring.block_in(index));
            }
        });
        if let Content::Chain(chain) = &content {
            chain.visit(block);
        }
    }

    fn destroy(&self, object: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        let arena = object.arena;
        match Content::of(object) {
            Content::Ring(ring) => {
                drain(&ring, arena, taken);
            }
            Content::Chain(chain) => chain.destroy(|ring| {
                drain(ring, arena, taken);
            }),
        }
    }
}

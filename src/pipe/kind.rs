//! What the arena does with pipes whose owners are gone. A pipe is three objects: the ring, which both sides hold, and an object
//! for each end, which names its owner. When he is gone, the end closes the ring: as a rule its object has no holder then and goes
//! with him; if somebody else still has a reference to it, or an old message, it is his name that tells.
#![forbid(unsafe_code)]

use crate::arena::{Block, Dead, Depends, Kind, OwnedBlock, View, Visitor, Words};
use crate::ring::{BLOCKS, ByteRing, Title};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// The places of the kinds in the table.
pub(super) const PIPE: u32 = 13;
pub(super) const WRITER: u32 = 14;
pub(super) const READER: u32 = 15;

/// What an end's object is.
pub(super) type Fields = Words<3>;
/// The blocks of the ring and of the other end.
pub(super) const RING: usize = 0;
pub(super) const OTHER: usize = 1;
/// A [`Title`].
const TITLE: usize = 2;

/// Whose the end is.
pub(super) fn title(end: View<'_>) -> Title<'_> {
    Title::new(&end.get::<Fields>().0[TITLE])
}

/// Makes it that of this process.
pub(super) fn own(end: View<'_>) {
    end.get::<Fields>().0[TITLE].store(Title::first(end.arena.me()), Relaxed);
}

pub(super) fn pack(block: Block) -> u64 {
    u64::from(block.generation) << 32 | u64::from(block.index)
}

pub(super) fn unpack(word: u64) -> Block {
    Block {
        index: word as u32,
        generation: (word >> 32) as u32,
    }
}

#[derive(Debug)]
pub(crate) struct PipeKind;

impl Kind for PipeKind {
    fn id(&self) -> u32 {
        PIPE
    }

    fn name(&self) -> &'static str {
        "pipe"
    }

    /// Nothing in a ring is tagged with a member. Whom the dead were about to wake is woken when their ends are closed, and
    /// nobody else is: who looks at an end in a message goes by that.
    fn repair(&self, _: View<'_>, _: &Dead) {}

    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>) {
        let ring = ByteRing::new(object);
        (0..BLOCKS)
            .filter_map(|place| ring.places().get(place))
            .for_each(block);
    }

    /// Also when the reader alone is gone: what was sent and not received goes with it.
    fn destroy(&self, object: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        let ring = ByteRing::new(object);
        for place in 0..BLOCKS {
            if let Some(block) = ring.places().get(place) {
                let owned = object.arena.take_over(block);
                ring.places().clear(place);
                taken(owned);
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct EndKind<const KIND: u32>;

pub(crate) const WRITER_KIND: EndKind<WRITER> = EndKind;
pub(crate) const READER_KIND: EndKind<READER> = EndKind;

impl<const KIND: u32> Kind for EndKind<KIND> {
    fn id(&self) -> u32 {
        KIND
    }

    fn name(&self) -> &'static str {
        if KIND == WRITER {
            "pipe writer"
        } else {
            "pipe reader"
        }
    }

    /// What is over then is seen to by `tidy`, when the messages that the dead had not sent are gone.
    fn repair(&self, end: View<'_>, dead: &Dead) {
        if title(end).repair(|owner| dead.contains(owner.into())) {
            end.arena.count_repair();
        }
    }

    /// Each time again while somebody holds it: whoever was at it before may have been killed.
    fn tidy(&self, end: View<'_>) {
        self.settle(end, &mut |owned| owned.let_go());
    }

    fn settle(&self, end: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        if title(end).is_over(|| end.is_in_message()) {
            self.destroy(end, taken);
        }
    }

    fn depends(&self, end: View<'_>) -> Option<Depends> {
        Some(title(end).depends())
    }

    fn visit(&self, _: View<'_>, _: &mut Visitor<'_>) {}

    /// The owner is gone. All of it can be done again, after a kill too.
    fn destroy(&self, end: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        let ring = unpack(end.get::<Fields>().0[RING].load(Acquire));
        // Who held the end held the ring; without a holder of either it may have gone first.
        let Some(view) = end.arena.find(ring, PIPE) else {
            return;
        };
        close::<KIND>(view);
        if KIND == READER {
            // (G) pairs with the look at the flag behind a message in a block: either the writer sees it, or its block is
            // seen here.
            end.arena.fences().heavy();
            PipeKind.destroy(view, taken);
        }
    }
}

/// Says on the ring that this end is gone, and wakes the other one.
pub(super) fn close<const KIND: u32>(view: View<'_>) {
    let ring = ByteRing::new(view);
    let fences = view.arena.fences();
    if KIND == WRITER {
        ring.set_writer_gone();
        ring.not_empty().notify_all(fences);
    } else {
        ring.set_reader_gone();
        ring.not_full().notify_all(fences);
    }
}

//! A message in a block: the handles in it, then its bytes. The handles stand in a table of their own so that a message that
//! nobody receives is let go without running anybody's decoder.
//!
//! ```text
//! 0   number of handles (u64)
//! 8   number of bytes (u64)
//! 16  handles, 16 bytes each: index (u32), generation (u32), offset of the holder word (u64)
//! ..  bytes
//! ```

use super::alloc::OwnedBlock;
use super::object::{Holder, Object};
use super::{Arena, Block};
use crate::error::Error;

const HEAD: usize = 16;
const ENTRY: usize = 16;

/// A message in a block of this member's.
#[derive(Debug)]
pub(crate) struct Parcel<'a> {
    arena: &'a Arena,
    /// `None` once it was moved on.
    block: Option<OwnedBlock<'a>>,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The handle entries of a block, as many as it can really hold.
fn entries(bytes: &[u8]) -> impl Iterator<Item = (Block, u64)> + '_ {
    let count = (u64_at(bytes, 0) as usize).min((bytes.len() - HEAD) / ENTRY);
    (0..count).map(move |i| {
        let at = HEAD + i * ENTRY;
        let id = u64_at(bytes, at);
        (
            Block {
                index: id as u32,
                generation: (id >> 32) as u32,
            },
            u64_at(bytes, at + 8),
        )
    })
}

impl<'a> Parcel<'a> {
    /// Room for `len` bytes, with these objects held by the message.
    pub(crate) fn new(
        arena: &'a Arena,
        len: u64,
        handles: &[&Object],
    ) -> Result<Parcel<'a>, Error> {
        let head = HEAD as u64 + (handles.len() * ENTRY) as u64;
        let mut block = arena.alloc(head.checked_add(len).ok_or(Error::NoMemory)?)?;
        let id = block.block();
        block.bytes_mut()[..8].copy_from_slice(&0_u64.to_le_bytes());
        block.bytes_mut()[8..16].copy_from_slice(&len.to_le_bytes());
        let mut parcel = Parcel {
            arena,
            block: Some(block),
        };
        for (i, object) in handles.iter().enumerate() {
            let holder = object.hold_for(id)?;
            let named = object.block();
            let bytes = parcel.block_mut().bytes_mut();
            let at = HEAD + i * ENTRY;
            bytes[at..at + 4].copy_from_slice(&named.index.to_le_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&named.generation.to_le_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&holder.offset.to_le_bytes());
            bytes[..8].copy_from_slice(&(i as u64 + 1).to_le_bytes());
        }
        Ok(parcel)
    }

    /// Makes a message in a block, of which the caller has taken the slot or record, this member's.
    pub(crate) fn take(arena: &'a Arena, index: u32) -> Parcel<'a> {
        Parcel {
            arena,
            block: Some(arena.take_over(index)),
        }
    }

    fn block_ref(&self) -> &OwnedBlock<'a> {
        self.block.as_ref().expect("not moved on")
    }

    fn block_mut(&mut self) -> &mut OwnedBlock<'a> {
        self.block.as_mut().expect("not moved on")
    }

    fn range(&self) -> std::ops::Range<usize> {
        let bytes = self.block_ref().bytes();
        let start = HEAD + entries(bytes).count() * ENTRY;
        let len = (u64_at(bytes, 8) as usize).min(bytes.len() - start);
        start..start + len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.block_ref().bytes()[self.range()]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        &mut self.block_mut().bytes_mut()[range]
    }

    /// The objects that the message holds.
    pub(crate) fn handles(&self) -> Vec<Block> {
        entries(self.block_ref().bytes())
            .map(|(block, _)| block)
            .collect()
    }

    /// Moves it on: from now on whatever lists the block answers for it.
    pub(crate) fn into_index(mut self) -> u32 {
        self.block.take().expect("not moved on").into_block().index
    }
}

impl Drop for Parcel<'_> {
    fn drop(&mut self) {
        let Some(block) = self.block.take() else {
            return;
        };
        if self.arena.check().is_ok() {
            for object in dismantle(block) {
                self.arena.destroy_if_unheld(object);
            }
        }
    }
}

impl OwnedBlock<'_> {
    /// Frees the message in the block. Objects that it alone held are left for the next collection.
    pub(crate) fn let_go(self) {
        dismantle(self);
    }
}

/// Frees a message. Gives back the objects that it held: they may have no holder left.
pub(super) fn dismantle(block: OwnedBlock<'_>) -> Vec<Block> {
    let id = block.block();
    let named: Vec<_> = entries(block.bytes()).collect();
    for &(_, offset) in &named {
        let holder: Holder = Arena::message_holder(offset, id);
        block.arena().remove_holder(holder);
    }
    drop(block);
    named.into_iter().map(|(object, _)| object).collect()
}

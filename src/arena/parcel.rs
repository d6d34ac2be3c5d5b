//! A message in a block: the handles in it, then its bytes. The handles stand in a table of their own so that a message that
//! nobody receives is let go without running anybody's decoder.
//!
//! ```text
//! 0   number of handles (u32), where the bytes begin (u32)
//! 8   number of bytes (u64)
//! 16  handles, 16 bytes each: index (u32), generation (u32), offset of the holder word (u64)
//! ..  bytes
//! ```

use super::alloc::OwnedBlock;
use super::held::HeldParcel;
use super::object::{Holder, Object};
use super::{Arena, Block};
use crate::error::Error;

const HEAD: usize = 16;
const ENTRY: usize = 16;
/// What every block is aligned to.
const MAX_ALIGN: usize = super::layout::MIN_BLOCK as usize;

/// A message in a block of this member's.
#[derive(Debug)]
pub(crate) struct Parcel<'a> {
    arena: &'a Arena,
    /// `None` once it was moved on.
    block: Option<OwnedBlock<'a>>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The handle entries of a block, as many as it can really hold.
fn entries(bytes: &[u8]) -> impl Iterator<Item = (Block, u64)> + '_ {
    let count = (u32_at(bytes, 0) as usize).min((bytes.len() - HEAD) / ENTRY);
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
        let mut parcel = Parcel::with_start(arena, HEAD + handles.len() * ENTRY, len)?;
        let id = parcel.block_ref().block();
        for (i, object) in handles.iter().enumerate() {
            let holder = object.hold_for(id)?;
            let named = object.block();
            let bytes = parcel.block_mut().bytes_mut();
            let at = HEAD + i * ENTRY;
            bytes[at..at + 4].copy_from_slice(&named.index.to_le_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&named.generation.to_le_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&holder.offset.to_le_bytes());
            bytes[..4].copy_from_slice(&(i as u32 + 1).to_le_bytes());
        }
        Ok(parcel)
    }

    /// Room for `len` bytes that begin at a multiple of `align`, with whatever was there before.
    pub(crate) fn for_bytes(
        arena: &'a Arena,
        len: usize,
        align: usize,
    ) -> Result<Parcel<'a>, Error> {
        debug_assert!(align.is_power_of_two() && align <= MAX_ALIGN);
        Parcel::with_start(arena, HEAD.max(align), len as u64)
    }

    fn with_start(arena: &'a Arena, start: usize, len: u64) -> Result<Parcel<'a>, Error> {
        let mut block = arena.alloc(len.checked_add(start as u64).ok_or(Error::NoMemory)?)?;
        let head = &mut block.bytes_mut()[..HEAD];
        head[..8].copy_from_slice(&((start as u64) << 32).to_le_bytes());
        head[8..].copy_from_slice(&len.to_le_bytes());
        Ok(Parcel {
            arena,
            block: Some(block),
        })
    }

    /// Makes a message in a block, of which the caller has taken the slot or record, this member's.
    pub(crate) fn take(arena: &'a Arena, index: u32) -> Parcel<'a> {
        Parcel {
            arena,
            block: Some(arena.take_over(index)),
        }
    }

    pub(super) fn of(arena: &'a Arena, block: OwnedBlock<'a>) -> Parcel<'a> {
        Parcel {
            arena,
            block: Some(block),
        }
    }

    /// Lets user code hold it. Only for messages without handles.
    pub(crate) fn hold(mut self) -> HeldParcel {
        let range = self.range();
        HeldParcel::of(self.block.take().expect("not moved on"), range)
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.block_mut().bytes_mut()[8..HEAD].copy_from_slice(&(len as u64).to_le_bytes());
    }

    fn block_ref(&self) -> &OwnedBlock<'a> {
        self.block.as_ref().expect("not moved on")
    }

    fn block_mut(&mut self) -> &mut OwnedBlock<'a> {
        self.block.as_mut().expect("not moved on")
    }

    fn range(&self) -> std::ops::Range<usize> {
        let bytes = self.block_ref().bytes();
        let start = (u32_at(bytes, 4) as usize).min(bytes.len());
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

impl<'a> From<OwnedBlock<'a>> for Parcel<'a> {
    /// The message in a block that is this member's already.
    fn from(block: OwnedBlock<'a>) -> Self {
        Parcel {
            arena: block.arena(),
            block: Some(block),
        }
    }
}

impl OwnedBlock<'_> {
    /// Frees the message in the block. Objects that it alone held are left for the next collection.
    pub(crate) fn let_go(self) {
        dismantle(self);
    }
}

/// A block that something lists for as long as this is used, to be read. It is left where it is.
pub(crate) struct Lent<'a>(std::mem::ManuallyDrop<Parcel<'a>>);

impl<'a> Lent<'a> {
    pub(crate) fn new(arena: &'a Arena, index: u32) -> Self {
        let block = arena.own_again(Block {
            index,
            generation: 0,
        });
        Lent(std::mem::ManuallyDrop::new(Parcel::of(arena, block)))
    }

    /// The whole block.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.block_ref().bytes()
    }

    /// The bytes of the message in it.
    pub(crate) fn message(self) -> &'a [u8] {
        let bytes = self.parcel().bytes();
        let (base, len) = (bytes.as_ptr(), bytes.len());
        // SAFETY: the block lies in the mapping, which outlives `arena`, and is listed as long as these are used.
        unsafe { std::slice::from_raw_parts(base, len) }
    }

    /// The message in it.
    pub(crate) fn parcel(&self) -> &Parcel<'a> {
        &self.0
    }
}

impl std::fmt::Debug for Lent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
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

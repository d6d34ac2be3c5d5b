//! Blocks that an object lists for as long as it likes, and takes on and gives up while it lives. Each has a header as objects
//! have, for its size alone: what it is and whose is for the object to say.

use super::alloc::{Block, OwnedBlock};
use super::object::{HEADER, View};
use super::{Arena, layout};
use crate::error::Error;

/// How many bytes of its own a part in a block of this many bytes has.
pub(crate) const fn part_room(block: u64) -> u64 {
    block - HEADER
}

/// The largest block that shares its chunk with another one.
pub(crate) const LARGEST_SMALL: u64 = layout::MAX_SMALL;

impl Arena {
    /// A part with `len` bytes of its own, which are zero when `init` sees them. It is this member's until it is listed.
    pub(crate) fn new_part(
        &self,
        len: u64,
        init: impl FnOnce(View<'_>),
    ) -> Result<OwnedBlock<'_>, Error> {
        let whole = HEADER.checked_add(len).ok_or(Error::NoMemory)?;
        let mut owned = self.alloc(whole)?;
        let bytes = &mut owned.bytes_mut()[..whole as usize];
        bytes.fill(0);
        // The second word of an object's header.
        bytes[8..16].copy_from_slice(&len.to_ne_bytes());
        init(View {
            arena: self,
            block: owned.block(),
        });
        Ok(owned)
    }

    /// A part that is listed. The caller sees to it that it stays so.
    pub(crate) fn part(&self, block: Block) -> View<'_> {
        assert!(u64::from(block.index) < self.slots());
        let view = View { arena: self, block };
        assert!(HEADER + view.len() <= self.size_of(block));
        view
    }

    /// Does this in the maintenance role, if nobody has it now.
    pub(crate) fn as_maintainer(&self, work: impl FnOnce()) {
        if let Some(role) = self.try_maintain(false) {
            work();
            self.release(role);
        }
    }
}

//! A message in a block that user code holds for as long as it likes: one that it fills before it is sent, or one that it
//! reads where it is. The block is this member's all the while; forgotten, it stays so until the process ends.

use super::Arena;
use super::alloc::{Block, OwnedBlock};
use super::parcel::Parcel;
use crate::error::Error;
use std::mem;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(crate) struct HeldParcel {
    arena: Arena,
    block: Block,
    bytes: *mut u8,
    len: usize,
}

// SAFETY: the block's bytes belong to whoever owns this value, on whatever thread.
unsafe impl Send for HeldParcel {}
// SAFETY: shared, it only lends its bytes to be read.
unsafe impl Sync for HeldParcel {}

impl HeldParcel {
    /// Room for `len` bytes that begin at a multiple of `align`, with whatever was there before.
    pub(crate) fn new(arena: &Arena, len: usize, align: usize) -> Result<HeldParcel, Error> {
        Ok(Parcel::for_bytes(arena, len, align)?.hold())
    }

    pub(super) fn of(mut owned: OwnedBlock<'_>, range: std::ops::Range<usize>) -> HeldParcel {
        let arena = owned.arena().clone();
        let bytes = &mut owned.bytes_mut()[range];
        let (bytes, len) = (bytes.as_mut_ptr(), bytes.len());
        arena.0.held.fetch_add(1, Relaxed);
        HeldParcel {
            arena,
            block: owned.into_block(),
            bytes,
            len,
        }
    }

    /// The bytes.
    ///
    /// # Panics
    /// In a process that a foreign `fork` made: they are not there.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.check();
        // SAFETY: the bytes lie in a block that is this member's (see `of`) in a mapping that `arena` keeps.
        unsafe { std::slice::from_raw_parts(self.bytes, self.len) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.check();
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.bytes, self.len) }
    }

    #[inline]
    fn check(&self) {
        assert!(
            self.arena.check().is_ok(),
            "this process was forked by other code and does not have the family's memory"
        );
    }

    /// Keeps the first `len` bytes of them.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            self.with_parcel(|parcel| parcel.set_len(len));
        }
    }

    fn with_parcel<R>(&self, f: impl FnOnce(&mut Parcel<'_>) -> R) -> R {
        self.check();
        let mut parcel = Parcel::of(&self.arena, self.arena.own_again(self.block));
        let result = f(&mut parcel);
        parcel.into_index();
        result
    }

    /// Moves it on: from now on whatever lists the block answers for it.
    #[inline]
    pub(crate) fn into_index(self) -> u32 {
        let index = self.block.index;
        self.arena.0.held.fetch_sub(1, Relaxed);
        let mut this = mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so that its arena is dropped once, here.
        unsafe { std::ptr::drop_in_place(&raw mut this.arena) };
        index
    }
}

impl Drop for HeldParcel {
    fn drop(&mut self) {
        self.arena.0.held.fetch_sub(1, Relaxed);
        if self.arena.check().is_ok() {
            drop(self.arena.own_again(self.block));
        }
    }
}

impl Arena {
    /// From now on this process has something that a copy of it must not have as well.
    pub(crate) fn keep_alone(&self) {
        self.0.held.fetch_add(1, Relaxed);
    }

    pub(crate) fn keep_no_more(&self) {
        self.0.held.fetch_sub(1, Relaxed);
    }

    /// Whether user code of this process holds a message's block or something else with one owner, or forgot that it does.
    pub(crate) fn is_lent(&self) -> bool {
        self.0.held.load(Relaxed) != 0
    }
}

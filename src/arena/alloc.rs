//! Blocks. There are no free lists that a killed process could leave half linked: a block is free when its word says so.
//! Taking one is a compare-exchange on a word that this process believes to be free; giving one back is one store.
//! What makes it quick (which chunks to look at, where the next free block probably is) is private to each process.

use super::Arena;
use super::layout::{CHUNK, CLASSES, MAX_SMALL, SLOTS, blocks_in, class_of};
use super::words::{BlockWord, ChunkWord};
use crate::error::Error;
use std::fmt;
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A block by its number, and the generation it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Where this process looks for free blocks of each size class, and for free runs.
#[derive(Default)]
pub(super) struct Caches {
    classes: [Mutex<Cache>; CLASSES.len()],
    pub(super) runs: Mutex<super::runs::Cache>,
}

#[derive(Default)]
struct Cache {
    /// Chunks of this class that this process has used.
    spans: Vec<u32>,
    /// The span and the block in it to try next.
    span: usize,
    slot: u32,
    /// Where to look for spans that others left.
    adopt_at: u64,
}

/// A block that belongs to this process alone until it is dropped (freed) or moved into something shared.
pub(crate) struct OwnedBlock<'a> {
    arena: &'a Arena,
    block: Block,
    base: *mut u8,
    len: usize,
}

// SAFETY: the block's bytes belong to whoever owns this value, on whatever thread.
unsafe impl Send for OwnedBlock<'_> {}

impl fmt::Debug for OwnedBlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedBlock")
            .field("block", &self.block)
            .field("len", &self.len)
            .finish()
    }
}

impl<'a> OwnedBlock<'a> {
    pub(super) fn arena(&self) -> &'a Arena {
        self.arena
    }
}

impl OwnedBlock<'_> {
    pub(crate) fn block(&self) -> Block {
        self.block
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the block lies in the mapping, which outlives `arena`, and nobody else touches what this member owns.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len) }
    }

    /// Leaves the block to the object that lists it from now on.
    pub(crate) fn into_block(self) -> Block {
        let block = self.block;
        mem::forget(self);
        block
    }
}

impl Drop for OwnedBlock<'_> {
    fn drop(&mut self) {
        if self.arena.check().is_ok() {
            self.arena.free(self.block);
        }
    }
}

impl Arena {
    /// A block of at least `len` bytes, with whatever bytes were there before. What the dead left is collected before
    /// this says `NoMemory`.
    #[inline]
    pub(crate) fn alloc(&self, len: u64) -> Result<OwnedBlock<'_>, Error> {
        self.check()?;
        let found = self.try_alloc(len);
        if found.is_err() {
            self.alloc_again(len)
        } else {
            found
        }
    }

    #[cold]
    fn alloc_again(&self, len: u64) -> Result<OwnedBlock<'_>, Error> {
        self.collect(true);
        self.try_alloc(len)
    }

    fn try_alloc(&self, len: u64) -> Result<OwnedBlock<'_>, Error> {
        if len <= MAX_SMALL {
            self.alloc_small(class_of(len))
        } else {
            let block = self.alloc_run(len.div_ceil(CHUNK))?;
            Ok(self.owned(block))
        }
    }

    fn owned(&self, block: Block) -> OwnedBlock<'_> {
        OwnedBlock {
            arena: self,
            block,
            base: self.address(block),
            len: self.size_of(block) as usize,
        }
    }

    /// A block that is this member's already, by a value that was given up for this one.
    pub(super) fn own_again(&self, block: Block) -> OwnedBlock<'_> {
        self.owned(block)
    }

    /// Makes the block this member's. The caller has the sole right to it: it took the slot or the record that lists it.
    pub(crate) fn take_over(&self, index: u32) -> OwnedBlock<'_> {
        let word = BlockWord(self.block_word(index).load(Acquire));
        let mine = word.with_state(BlockWord::OWNED, self.me().into());
        self.block_word(index).store(mine.0, Relaxed);
        self.owned(Block {
            index,
            generation: word.generation() as u32,
        })
    }

    #[inline]
    pub(super) fn address(&self, block: Block) -> *mut u8 {
        let chunk = u64::from(block.index) / SLOTS;
        let slot = u64::from(block.index) % SLOTS;
        let word = ChunkWord(self.chunk_word(chunk).load(Relaxed));
        let offset = if slot == 0 {
            0
        } else {
            slot * CLASSES[word.class() as usize]
        };
        self.chunk_base(chunk).wrapping_add(offset as usize)
    }

    /// How many bytes the block has; at least what was asked for.
    #[inline]
    pub(super) fn size_of(&self, block: Block) -> u64 {
        let word = ChunkWord(
            self.chunk_word(u64::from(block.index) / SLOTS)
                .load(Relaxed),
        );
        match word.state() {
            ChunkWord::LARGE => word.length() * CHUNK,
            _ => CLASSES[word.class() as usize],
        }
    }

    fn alloc_small(&self, class: usize) -> Result<OwnedBlock<'_>, Error> {
        let mut cache = self.0.caches.classes[class]
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        // A part of the spans is enough to look at: when all of them are full, the work stays in proportion to growth.
        let spans = cache.spans.len();
        let budget = spans.min(8.max(spans / 8)) + 1;
        if let Some(block) = self.search(&mut cache, class, budget) {
            return Ok(self.owned(block));
        }
        loop {
            match self
                .adopt_span(&mut cache, class)
                .map_or_else(|| self.new_span(class), Ok)
            {
                Ok(chunk) => {
                    cache.spans.push(chunk as u32);
                    cache.span = cache.spans.len() - 1;
                    cache.slot = 0;
                    if let Some(block) = self.search(&mut cache, class, 1) {
                        return Ok(self.owned(block));
                    }
                }
                Err(error) => {
                    let all = cache.spans.len() + 1;
                    return self
                        .search(&mut cache, class, all)
                        .map(|b| self.owned(b))
                        .ok_or(error);
                }
            }
        }
    }

    /// Looks through `budget` spans, beginning where the last search ended: blocks come back in about the order in which
    /// they went out, so that the next one is usually free again.
    fn search(&self, cache: &mut Cache, class: usize, budget: usize) -> Option<Block> {
        let mut left = budget;
        let count = blocks_in(class) as u32;
        while left > 0 && !cache.spans.is_empty() {
            cache.span %= cache.spans.len();
            let chunk = cache.spans[cache.span];
            let word = ChunkWord(self.chunk_word(chunk.into()).load(Acquire));
            if word.state() != ChunkWord::SPAN || word.class() != class as u64 {
                cache.spans.swap_remove(cache.span);
                cache.slot = 0;
                left -= 1;
                continue;
            }
            // The first round sees only the rest of a span, so `budget` has one more to see its beginning at the end.
            while cache.slot < count {
                let index = chunk * SLOTS as u32 + cache.slot;
                cache.slot += 1;
                if let Some(block) = self.claim_block(index, class) {
                    return Some(block);
                }
            }
            cache.slot = 0;
            cache.span += 1;
            left -= 1;
        }
        None
    }

    /// Claims a block of a chunk that was a span of this class a moment ago.
    pub(super) fn claim_block(&self, index: u32, class: usize) -> Option<Block> {
        self.claim_if(index, |chunk| {
            matches!(chunk.state(), ChunkWord::SPAN | ChunkWord::CLOSING)
                && chunk.class() == class as u64
        })
    }

    /// Claims a block of a chunk of which this was true a moment ago.
    pub(super) fn claim_if(&self, index: u32, is: impl Fn(ChunkWord) -> bool) -> Option<Block> {
        let at = self.block_word(index);
        let word = BlockWord(at.load(Relaxed));
        if word.state() != BlockWord::FREE {
            return None;
        }
        let mine = word.with_state(BlockWord::OWNED, self.me().into());
        // (A) pairs with (F): what the last owner did with the bytes comes before what this one does.
        at.compare_exchange(word.0, mine.0, Acquire, Relaxed).ok()?;
        // The chunk may have been given up meanwhile, and used again for something else, or be on its way there. Block words are
        // stored before the chunk's: if this one is ours still, the chunk stays what it is, as it has a used block.
        let chunk = ChunkWord(self.chunk_word(u64::from(index) / SLOTS).load(Acquire));
        if is(chunk) && at.load(Relaxed) == mine.0 {
            return Some(Block {
                index,
                generation: word.generation() as u32,
            });
        }
        // Unless whoever uses the chunk now has overwritten it.
        let free = BlockWord::new(BlockWord::FREE, 0, word.generation() + 1);
        let _ = at.compare_exchange(mine.0, free.0, Release, Relaxed);
        None
    }

    /// A span of this class that other processes left behind and that has a free block.
    fn adopt_span(&self, cache: &mut Cache, class: usize) -> Option<u64> {
        let end = self.high_water();
        for _ in 0..end.min(64) {
            cache.adopt_at = if cache.adopt_at + 1 >= end {
                0
            } else {
                cache.adopt_at + 1
            };
            let chunk = cache.adopt_at;
            let word = ChunkWord(self.chunk_word(chunk).load(Acquire));
            if word.state() == ChunkWord::SPAN
                && word.class() == class as u64
                && self.has_free_block(chunk, class)
                && !cache.spans.contains(&(chunk as u32))
            {
                return Some(chunk);
            }
        }
        None
    }

    fn has_free_block(&self, chunk: u64, class: usize) -> bool {
        let first = (chunk * SLOTS) as u32;
        (first..first + blocks_in(class) as u32)
            .any(|index| BlockWord(self.block_word(index).load(Relaxed)).state() == BlockWord::FREE)
    }

    /// Takes a free chunk and makes blocks of it.
    fn new_span(&self, class: usize) -> Result<u64, Error> {
        let chunk = self.claim_chunks(1)?;
        let word = ChunkWord(self.chunk_word(chunk).load(Relaxed));
        for slot in 0..blocks_in(class) {
            let at = self.block_word((chunk * SLOTS + slot) as u32);
            let generation = BlockWord(at.load(Relaxed)).generation();
            at.store(
                BlockWord::new(BlockWord::FREE, 0, generation + 1).0,
                Relaxed,
            );
        }
        self.chunk_word(chunk).store(word.span(class).0, Release);
        Ok(chunk)
    }

    /// Gives back a block that this member owns. A run stays one for now: the next that asks for as much takes it whole.
    #[inline]
    pub(super) fn free(&self, block: Block) {
        let free = BlockWord::new(BlockWord::FREE, 0, u64::from(block.generation) + 1);
        // (F) pairs with (A).
        self.block_word(block.index).store(free.0, Release);
    }

    /// Whether the block is still the one it was.
    pub(super) fn is_current(&self, index: u64, generation: u64) -> bool {
        let word = BlockWord(self.block_word(index as u32).load(Acquire));
        word.generation() == generation
            && matches!(word.state(), BlockWord::OWNED | BlockWord::OBJECT)
    }
}

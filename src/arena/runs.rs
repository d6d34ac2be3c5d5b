//! Chunks: claimed one by one, each naming its claimer, and published as a whole by one store on the head. A member that
//! dies on the way leaves `BUSY` chunks that no `LARGE` head covers; those are free again once it is known to be dead.

use super::layout::{CHUNK, PAGE, SLOTS};
use super::words::{BlockWord, ChunkWord};
use super::{Arena, Block};
use crate::error::Error;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

impl Arena {
    /// A block of `count` whole chunks.
    pub(super) fn alloc_run(&self, count: u64) -> Result<Block, Error> {
        let head = self.claim_chunks(count)?;
        let index = (head * SLOTS) as u32;
        let generation = self.own_head(index);
        let busy = ChunkWord(self.chunk_word(head).load(Relaxed));
        self.chunk_word(head).store(busy.large(count).0, Release);
        Ok(Block {
            index,
            generation: generation as u32,
        })
    }

    /// Makes the head's block this member's, with the next generation: somebody who still takes the chunk for the span that it was
    /// may be claiming and unclaiming the block, and must not find a word of his own.
    fn own_head(&self, index: u32) -> u64 {
        let at = self.block_word(index);
        let mut word = BlockWord(at.load(Relaxed));
        loop {
            let mine = BlockWord::new(BlockWord::OWNED, self.me().into(), word.generation() + 1);
            match at.compare_exchange(word.0, mine.0, Acquire, Relaxed) {
                Ok(_) => return mine.generation(),
                Err(now) => word = BlockWord(now),
            }
        }
    }

    /// Gives a run back whose block this member owns. Until the head's word changes it is still the whole block, to be
    /// freed again by whoever finds the owner dead; after that every chunk stands for itself.
    pub(super) fn free_run(&self, head: u64, word: ChunkWord) {
        let chunks = head..head + word.length();
        for chunk in chunks.clone().skip(1) {
            let part = ChunkWord(self.chunk_word(chunk).load(Relaxed));
            self.chunk_word(chunk)
                .store(part.busy(self.me()).0, Relaxed);
        }
        self.chunk_word(head).store(word.busy(self.me()).0, Release);
        self.end_block((head * SLOTS) as u32);
        for chunk in chunks.rev() {
            let part = ChunkWord(self.chunk_word(chunk).load(Relaxed));
            // (F) pairs with (A) in `claim_range`.
            self.chunk_word(chunk)
                .store(part.free(ChunkWord::DIRTY).0, Release);
        }
    }

    /// The next generation for the block word of a chunk that is given back.
    pub(super) fn end_block(&self, index: u32) {
        let at = self.block_word(index);
        let word = BlockWord(at.load(Relaxed));
        if matches!(word.state(), BlockWord::OWNED | BlockWord::OBJECT) {
            at.store(
                BlockWord::new(BlockWord::FREE, 0, word.generation() + 1).0,
                Relaxed,
            );
        }
    }

    /// Claims `count` chunks in a row, with their pages and the head's block words secured; first fit, so that low memory is
    /// used again before new pages are touched.
    pub(super) fn claim_chunks(&self, count: u64) -> Result<u64, Error> {
        let chunks = self.0.layout.chunks;
        let (mut run, mut at) = (0, 0);
        while at < chunks {
            let word = ChunkWord(self.chunk_word(at).load(Relaxed));
            if !word.is_free() {
                run = 0;
                at += if word.state() == ChunkWord::LARGE {
                    word.length().max(1)
                } else {
                    1
                };
                continue;
            }
            at += 1;
            run += 1;
            if run == count {
                let head = at - count;
                if self.claim_range(head, count) {
                    return self.secure_chunks(head, count).map(|()| head);
                }
                // Somebody else was quicker somewhere in the range.
                (run, at) = (0, head + 1);
            }
        }
        Err(Error::NoMemory)
    }

    fn claim_range(&self, head: u64, count: u64) -> bool {
        self.header().high_water.fetch_max(head + count, Relaxed);
        for chunk in head..head + count {
            let word = ChunkWord(self.chunk_word(chunk).load(Relaxed));
            // (A) pairs with (F) in `free_run` and `release_chunks`.
            let claimed = word.is_free()
                && self
                    .chunk_word(chunk)
                    .compare_exchange(word.0, self.claim_of(word).0, AcqRel, Relaxed)
                    .is_ok();
            if !claimed {
                self.release_chunks(head, chunk - head);
                return false;
            }
        }
        true
    }

    /// The claimed word keeps in `length` whether the chunk was clean: a claimer that fails or dies gives it back as it was.
    fn claim_of(&self, word: ChunkWord) -> ChunkWord {
        let busy = word.claimed(self.me());
        if word.state() == ChunkWord::CLEAN {
            busy.with_clean()
        } else {
            busy
        }
    }

    pub(super) fn release_chunks(&self, head: u64, count: u64) {
        for chunk in head..head + count {
            let word = ChunkWord(self.chunk_word(chunk).load(Relaxed));
            self.chunk_word(chunk).store(word.released().0, Release);
        }
    }

    /// Makes the pages of freshly claimed chunks exist, or gives the chunks back.
    fn secure_chunks(&self, head: u64, count: u64) -> Result<(), Error> {
        let secured = self.try_secure(head, count);
        if secured.is_err() {
            self.release_chunks(head, count);
        }
        secured
    }

    fn try_secure(&self, head: u64, count: u64) -> Result<(), Error> {
        let first = ChunkWord(self.chunk_word(head).load(Relaxed));
        if first.secured() == 0 {
            self.secure(self.0.layout.block_words_at + head * PAGE, PAGE)?;
            self.chunk_word(head).store(first.with_secured().0, Relaxed);
        }
        let clean = |chunk: u64| ChunkWord(self.chunk_word(chunk).load(Relaxed)).is_clean_claim();
        let mut chunk = head;
        while chunk < head + count {
            let from = chunk;
            while chunk < head + count && clean(chunk) {
                chunk += 1;
            }
            if chunk > from {
                let at = self.0.layout.chunks_at + from * CHUNK;
                self.secure(at, (chunk - from) * CHUNK)?;
            }
            chunk += 1;
        }
        for chunk in head..head + count {
            let word = ChunkWord(self.chunk_word(chunk).load(Acquire));
            self.chunk_word(chunk)
                .store(word.busy(self.me()).0, Relaxed);
        }
        Ok(())
    }
}

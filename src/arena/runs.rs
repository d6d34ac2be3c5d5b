//! Chunks: claimed one by one, each naming its claimer, and published as a whole by one store on the head. A member that
//! dies on the way leaves `BUSY` chunks that no `LARGE` head covers; those are free again once it is known to be dead.

use super::layout::{CHUNK, PAGE, SLOTS};
use super::words::{BlockWord, ChunkWord};
use super::{Arena, Block};
use crate::error::Error;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Runs that this process has used: where to look for a free one of the same size. Only a hint, as all caches.
#[derive(Debug, Default)]
pub(super) struct Cache {
    heads: Vec<u32>,
    /// Where to begin: runs come back in about the order in which they went out.
    next: usize,
}

impl Cache {
    fn remember(&mut self, head: u32) {
        if self.heads.contains(&head) {
            return;
        }
        if self.heads.len() < REMEMBERED {
            self.heads.push(head);
        } else {
            let at = self.next % REMEMBERED;
            self.heads[at] = head;
            self.next = at + 1;
        }
    }
}

enum Found {
    Chunks(u64),
    Run(Block),
}

/// So many runs are remembered.
const REMEMBERED: usize = 64;

/// Whether a free run of this length is taken whole for so many chunks.
fn fits(length: u64, count: u64) -> bool {
    (count..=count + count / 8).contains(&length)
}

impl Arena {
    /// A block of `count` whole chunks: a free run of that size, at a cost that does not depend on it, or else a new one.
    pub(super) fn alloc_run(&self, count: u64) -> Result<Block, Error> {
        if let Some(block) = self.take_known_run(count) {
            return Ok(block);
        }
        let block = match self.find_chunks(count, true)? {
            Found::Run(block) => block,
            Found::Chunks(head) => self.make_run(head, count),
        };
        self.run_cache().remember(block.index / SLOTS as u32);
        Ok(block)
    }

    fn run_cache(&self) -> MutexGuard<'_, Cache> {
        self.0.caches.runs.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn take_known_run(&self, count: u64) -> Option<Block> {
        let mut cache = self.run_cache();
        let known = cache.heads.len();
        (0..known).find_map(|i| {
            let at = (cache.next + i) % known;
            let block = self.take_run(cache.heads[at].into(), count)?;
            cache.next = at + 1;
            Some(block)
        })
    }

    /// Makes one block of claimed chunks.
    fn make_run(&self, head: u64, count: u64) -> Block {
        let index = (head * SLOTS) as u32;
        let generation = self.own_head(index);
        let busy = ChunkWord(self.chunk_word(head).load(Relaxed));
        self.chunk_word(head).store(busy.large(count).0, Release);
        Block {
            index,
            generation: generation as u32,
        }
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

    /// Takes the free run at `head` if there is one that fits.
    fn take_run(&self, head: u64, count: u64) -> Option<Block> {
        let fits = |word: ChunkWord| word.state() == ChunkWord::LARGE && fits(word.length(), count);
        if !fits(ChunkWord(self.chunk_word(head).load(Acquire))) {
            return None;
        }
        self.claim_if((head * SLOTS) as u32, fits)
    }

    /// Makes single chunks of a free run again. False when it is not, or no longer, one.
    pub(super) fn dissolve(&self, head: u64) -> bool {
        let is_run = |word: ChunkWord| word.state() == ChunkWord::LARGE;
        let chunk = || ChunkWord(self.chunk_word(head).load(Acquire));
        let dissolves = is_run(chunk()) && self.claim_if((head * SLOTS) as u32, is_run).is_some();
        if dissolves {
            self.free_run(head, chunk());
        }
        dissolves
    }

    /// Makes chunks of a run whose block this member owns. Until the head's word changes it is still the whole block, to be
    /// freed again by whoever finds the owner dead; after that every chunk stands for itself.
    fn free_run(&self, head: u64, word: ChunkWord) {
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

    /// Claims `count` chunks in a row, with their pages and the head's block words secured.
    pub(super) fn claim_chunks(&self, count: u64) -> Result<u64, Error> {
        match self.find_chunks(count, false)? {
            Found::Chunks(head) => Ok(head),
            Found::Run(_) => unreachable!("no run was asked for"),
        }
    }

    /// First fit, so that low memory is used again before new pages are touched. Free runs on the way are taken whole if one
    /// is wanted and they fit, otherwise they become chunks.
    fn find_chunks(&self, count: u64, whole: bool) -> Result<Found, Error> {
        let chunks = self.0.layout.chunks;
        let (mut run, mut at) = (0, 0);
        while at < chunks {
            let word = ChunkWord(self.chunk_word(at).load(Relaxed));
            if !word.is_free() {
                if word.state() == ChunkWord::LARGE {
                    if let Some(block) = whole.then(|| self.take_run(at, count)).flatten() {
                        return Ok(Found::Run(block));
                    }
                    if self.dissolve(at) {
                        continue;
                    }
                    at += word.length().max(1) - 1;
                }
                at += 1;
                run = 0;
                continue;
            }
            at += 1;
            run += 1;
            if run == count {
                let head = at - count;
                if self.claim_range(head, count) {
                    return self
                        .secure_chunks(head, count)
                        .map(|()| Found::Chunks(head));
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

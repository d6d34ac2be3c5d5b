//! The one role in the family that destroys objects, collects what the dead left and returns memory to the kernel. It is
//! a lock that names its holder, taken over from a holder that died; nothing under it is on the path of a message, and
//! whatever a killed holder left half done is done again by the next one.

use super::Arena;
use super::layout::{CHUNK, SLOTS, blocks_in};
use super::words::{BlockWord, ChunkWord, MemberId};
use crate::os::clock::milliseconds;
use crate::primitive::private::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// How long one waits for the role before leaving the work to whoever holds it.
const PATIENCE: Duration = Duration::from_millis(50);
/// Free memory that stays with the family: returning and fetching it again costs more than it is worth.
const KEEP: u64 = 32 * 1024 * 1024;
/// The least time between two returns of memory by an idle process.
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// When this process last returned memory.
#[derive(Debug, Default)]
pub(super) struct TrimState {
    role: Mutex<()>,
    /// By `clock::milliseconds`.
    last: AtomicU64,
}

/// The role, given up when dropped.
pub(super) struct Maintenance<'a> {
    arena: &'a Arena,
    word: u64,
    _thread: MutexGuard<'a, ()>,
}

impl Drop for Maintenance<'_> {
    fn drop(&mut self) {
        // It is this process's as long as it lives, so nobody has taken it over.
        let _ = self
            .arena
            .header()
            .maintenance
            .compare_exchange(self.word, 0, AcqRel, Relaxed);
    }
}

impl Arena {
    /// Takes the role, from a dead holder if need be. `None` when somebody else keeps it for long: then the wish is noted
    /// and the holder does the work.
    pub(super) fn maintain(&self) -> Option<Maintenance<'_>> {
        let since = Instant::now();
        let mut tries = 0_u32;
        loop {
            if let Some(role) = self.try_maintain(tries > 8) {
                return Some(role);
            }
            if since.elapsed() > PATIENCE {
                self.header().maintenance_wanted.store(1, Release);
                // The holder may have let go before it could see the wish.
                return self.try_maintain(true);
            }
            tries += 1;
            if tries < 64 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }

    pub(super) fn try_maintain(&self, ask: bool) -> Option<Maintenance<'_>> {
        let thread = match self.0.trim.role.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let word = self.my_generation() << 32 | u64::from(self.me());
        let at = &self.header().maintenance;
        let held = at.load(Acquire);
        let free = held == 0 || (ask && self.is_gone(held));
        if !free || at.compare_exchange(held, word, AcqRel, Relaxed).is_err() {
            return None;
        }
        if held != 0 {
            self.count_repair();
        }
        Some(Maintenance {
            arena: self,
            word,
            _thread: thread,
        })
    }

    /// Whether the member that a role word names is gone: its row belongs to a later member, or it is dead.
    fn is_gone(&self, held: u64) -> bool {
        let id = held as u32 as MemberId;
        held >> 32 != self.generation_of(id) || self.is_dead(id)
    }

    /// Whether somebody left work because the role was taken.
    pub(super) fn is_wanted(&self) -> bool {
        self.header().maintenance_wanted.swap(0, AcqRel) != 0
    }

    /// For a process that finds nothing to do: now and then gives large free memory back to the kernel.
    pub(crate) fn idle(&self) {
        let now = milliseconds();
        let last = self.0.trim.last.load(Relaxed);
        // Another thread may have been here since `now`.
        if now.saturating_sub(last) < TRIM_EVERY.as_millis() as u64 {
            return;
        }
        self.0.trim.last.store(now, Relaxed);
        if let Some(role) = self.try_maintain(false) {
            role.retire();
            role.trim();
        }
    }
}

impl Maintenance<'_> {
    /// Turns free runs and spans without a used block into free chunks.
    pub(super) fn retire(&self) {
        let arena = self.arena;
        for chunk in 0..arena.high_water() {
            let word = ChunkWord(arena.chunk_word(chunk).load(Acquire));
            if word.state() == ChunkWord::LARGE {
                arena.dissolve(chunk);
                continue;
            }
            if word.state() != ChunkWord::SPAN || !is_unused(arena, chunk, word) {
                continue;
            }
            let closing = word.closing(arena.me());
            if arena
                .chunk_word(chunk)
                .compare_exchange(word.0, closing.0, AcqRel, Relaxed)
                .is_ok()
            {
                close_span(arena, chunk, closing);
            }
        }
    }

    /// Gives the pages of free chunks back to the kernel, but for [`KEEP`] bytes in low memory.
    pub(super) fn trim(&self) {
        let arena = self.arena;
        let mut kept = 0;
        let mut chunk = 0;
        let end = arena.high_water();
        while chunk < end {
            let from = chunk;
            while chunk < end && chunk - from < 1024 && kept >= KEEP && claim_dirty(arena, chunk) {
                chunk += 1;
            }
            if chunk > from {
                let at = arena.0.layout.chunks_at + from * CHUNK;
                // A kernel that refuses keeps the pages; the chunks may be called clean all the same.
                let _ = arena
                    .0
                    .mapping
                    .discard(at as usize, ((chunk - from) * CHUNK) as usize);
                arena.release_chunks(from, chunk - from);
            } else {
                let word = ChunkWord(arena.chunk_word(chunk).load(Relaxed));
                kept += if word.state() == ChunkWord::DIRTY {
                    CHUNK
                } else {
                    0
                };
                chunk += 1;
            }
        }
    }

    /// Puts in order what dead members did to chunks. `covered` chunks of runs are left alone.
    pub(super) fn repair_chunks(&self, dead: &super::Dead) {
        let arena = self.arena;
        let mut chunk = 0;
        while chunk < arena.high_water() {
            let word = ChunkWord(arena.chunk_word(chunk).load(Acquire));
            match word.state() {
                ChunkWord::LARGE => chunk += word.length().max(1),
                ChunkWord::BUSY if dead.contains(word.owner()) => {
                    if word.secured() == 1 {
                        arena.end_block((chunk * SLOTS) as u32);
                    }
                    arena.chunk_word(chunk).store(word.released().0, Release);
                    arena.count_repair();
                    chunk += 1;
                }
                ChunkWord::CLOSING if dead.contains(word.owner()) => {
                    reopen_span(arena, chunk, word);
                    arena.count_repair();
                    chunk += 1;
                }
                _ => chunk += 1,
            }
        }
    }
}

fn blocks(chunk: u64, word: ChunkWord) -> std::ops::Range<u32> {
    let first = (chunk * SLOTS) as u32;
    first..first + blocks_in(word.class() as usize) as u32
}

fn is_unused(arena: &Arena, chunk: u64, word: ChunkWord) -> bool {
    blocks(chunk, word)
        .all(|index| BlockWord(arena.block_word(index).load(Relaxed)).state() == BlockWord::FREE)
}

/// Takes every block of a closing span; opens it again when one is in use.
fn close_span(arena: &Arena, chunk: u64, word: ChunkWord) {
    for index in blocks(chunk, word) {
        let block = BlockWord(arena.block_word(index).load(Relaxed));
        let retired = block.with_state(BlockWord::RETIRED, 0);
        let taken = block.state() == BlockWord::FREE
            // (A) pairs with (F): the last owner is done with the bytes.
            && arena.block_word(index).compare_exchange(block.0, retired.0, Acquire, Relaxed).is_ok();
        if !taken {
            return reopen_span(arena, chunk, word);
        }
    }
    arena
        .chunk_word(chunk)
        .store(word.free(ChunkWord::DIRTY).0, Release);
}

fn reopen_span(arena: &Arena, chunk: u64, word: ChunkWord) {
    for index in blocks(chunk, word) {
        let block = BlockWord(arena.block_word(index).load(Relaxed));
        if block.state() == BlockWord::RETIRED {
            let free = BlockWord::new(BlockWord::FREE, 0, block.generation() + 1);
            arena.block_word(index).store(free.0, Release);
        }
    }
    arena
        .chunk_word(chunk)
        .store(word.span(word.class() as usize).0, Release);
}

/// Claims a free chunk that has pages, to take them away. Marked as clean first, so that a claimer that dies on the way
/// leaves a chunk whose pages will be secured again.
fn claim_dirty(arena: &Arena, chunk: u64) -> bool {
    let word = ChunkWord(arena.chunk_word(chunk).load(Relaxed));
    let claimed = word.claimed(arena.me()).with_clean();
    word.state() == ChunkWord::DIRTY
        && arena
            .chunk_word(chunk)
            .compare_exchange(word.0, claimed.0, AcqRel, Relaxed)
            .is_ok()
}

//! What the dead left: their tags in objects, half-claimed chunks, blocks that no object lists, objects that nobody holds,
//! and last their rows in the members table. Done when members come and go, when memory runs short and when statistics
//! are asked for; never on the path of a message.

use super::layout::SLOTS;
use super::maintenance::Maintenance;
use super::words::{BlockWord, ChunkWord};
use super::{Arena, Block, Dead};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// What is in the arena at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) bytes_in_use: u64,
    pub(crate) limit: u64,
    pub(crate) members: usize,
    pub(crate) objects: BTreeMap<&'static str, usize>,
    pub(crate) repairs: u64,
}

impl Arena {
    /// Collects what the dead left. With `ask`, every member is asked for first; else only deaths already known count.
    pub(crate) fn collect(&self, ask: bool) {
        if self.check().is_err() {
            return;
        }
        // Found out before the role is taken: nothing that is dead now changes by itself afterwards.
        let dead = self.dead_members(ask);
        if dead.is_empty() && !ask {
            return;
        }
        if let Some(role) = self.maintain() {
            self.collect_as(&role, ask);
            self.release(role);
        }
    }

    fn collect_as(&self, role: &Maintenance<'_>, tidy: bool) {
        let dead = self.dead_members(false);
        if !dead.is_empty() {
            self.for_each_object(|block| {
                if let Some((kind, view)) = self.kind_and_view(block) {
                    kind.repair(view, &dead);
                }
            });
            role.repair_chunks(&dead);
            self.free_unlisted(&dead);
        }
        if tidy || !dead.is_empty() {
            self.for_each_object(|block| {
                if let Some((kind, view)) = self.kind_and_view(block) {
                    kind.tidy(view);
                }
            });
            // First: a seat that nobody will take holds nothing.
            self.free_reserved(&dead);
            self.destroy_unheld();
            self.recycle(&dead);
            role.retire();
            role.trim();
        }
    }

    /// Gives the role up, and does what others wished for meanwhile.
    pub(super) fn release(&self, role: Maintenance<'_>) {
        let mut role = Some(role);
        loop {
            drop(role.take());
            if !self.is_wanted() {
                return;
            }
            // Without the role its new holder sees to it; the wish is noted again.
            let Some(next) = self.maintain() else { return };
            self.destroy_unheld();
            role = Some(next);
        }
    }

    /// Every block of an object. Objects may come and go meanwhile, those that nobody can destroy are all seen.
    pub(super) fn for_each_object(&self, mut f: impl FnMut(Block)) {
        self.for_each_block(|index, word| {
            if word.state() == BlockWord::OBJECT {
                f(Block {
                    index,
                    generation: word.generation() as u32,
                });
            }
        });
    }

    fn for_each_block(&self, mut f: impl FnMut(u32, BlockWord)) {
        let end = self.high_water();
        let mut chunk = 0;
        while chunk < end {
            let word = ChunkWord(self.chunk_word(chunk).load(Acquire));
            let first = (chunk * SLOTS) as u32;
            let (blocks, chunks) = match word.state() {
                ChunkWord::SPAN | ChunkWord::CLOSING => {
                    (super::layout::blocks_in(word.class() as usize) as u32, 1)
                }
                ChunkWord::LARGE => (1, word.length().max(1)),
                _ => (0, 1),
            };
            for index in first..first + blocks {
                f(index, BlockWord(self.block_word(index).load(Acquire)));
            }
            chunk += chunks;
        }
    }

    /// Frees the blocks of the dead that no object lists. A block leaves an object's list only after a living member made
    /// it its own, and a dead member puts nothing on a list any more, so what is not listed now is nobody's.
    fn free_unlisted(&self, dead: &Dead) {
        let mut theirs = Vec::new();
        self.for_each_block(|index, word| {
            if word.state() == BlockWord::OWNED && dead.contains(word.owner()) {
                theirs.push((index, word));
            }
        });
        if theirs.is_empty() {
            return;
        }
        let mut listed = HashSet::new();
        self.for_each_object(|block| {
            if let Some((kind, view)) = self.kind_and_view(block) {
                view.holder_pages(&mut |index| {
                    listed.insert(index);
                });
                kind.visit(view, &mut |index| {
                    listed.insert(index);
                });
            }
        });
        for (index, word) in theirs {
            let mine = word.with_state(BlockWord::OWNED, self.me().into());
            if !listed.contains(&index)
                && self
                    .block_word(index)
                    .compare_exchange(word.0, mine.0, AcqRel, Relaxed)
                    .is_ok()
            {
                self.free(Block {
                    index,
                    generation: word.generation() as u32,
                });
                self.count_repair();
            }
        }
    }

    /// Destroys every object without a holder, and those that only their messages held. Under the maintenance role.
    fn destroy_unheld(&self) {
        let mut unheld = Vec::new();
        self.for_each_object(|block| {
            if !self.is_held(block) {
                unheld.push(block);
            }
        });
        self.destroy_all(unheld);
    }

    /// Collects, then counts.
    pub(crate) fn stats(&self) -> Stats {
        self.collect(true);
        let mut stats = Stats {
            limit: self.0.layout.chunks * super::layout::CHUNK,
            members: self.members(),
            repairs: self.repairs(),
            ..Stats::default()
        };
        self.for_each_block(|index, word| {
            if matches!(word.state(), BlockWord::OWNED | BlockWord::OBJECT) {
                let block = Block {
                    index,
                    generation: word.generation() as u32,
                };
                stats.bytes_in_use += self.size_of(block);
                // Only the words are read: what lies behind them may be destroyed and used again meanwhile.
                let kind = word.kind().and_then(|kind| self.kind(kind as u64));
                if let Some(kind) = kind {
                    *stats.objects.entry(kind.name()).or_default() += 1;
                }
            }
        });
        stats
    }
}

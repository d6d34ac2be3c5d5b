//! A lock that its holder can take again. How often it has is its own business: a word that nobody else changes, and that a new
//! holder sets, whatever a dead one has left there.

use super::owner::Owners;
use super::raw_lock::{RawLock, Refused, Taken};
use super::wait::Patience;
use crate::os::clock::Deadline;
use crate::primitive::{AtomicU32, Fences};
use std::sync::atomic::Ordering::Relaxed;

#[repr(C)]
#[derive(Debug)]
pub(super) struct Recursive {
    pub(super) raw: RawLock,
    /// How often its holder holds it, and how many of these it has left to `release`. Only the holder's, which (L) and (U) pass on.
    depth: AtomicU32,
    kept: AtomicU32,
}

/// How often a holder had taken the lock.
#[derive(Clone, Copy)]
pub(super) struct Depth {
    depth: u32,
    kept: u32,
}

impl Recursive {
    #[cfg(all(test, loom))]
    pub(super) fn new() -> Self {
        Recursive {
            raw: RawLock::new(),
            depth: AtomicU32::new(0),
            kept: AtomicU32::new(0),
        }
    }

    /// Takes the lock, once more if the calling thread has it.
    ///
    /// # Panics
    /// When it has it 2^32 - 1 times.
    pub(super) fn lock(
        &self,
        owners: &impl Owners,
        patience: &Patience,
        deadline: Deadline,
    ) -> Result<Taken, Refused> {
        let word = self.raw.load();
        if word.is_of(owners.me()) {
            let deeper = self.depth.load(Relaxed).checked_add(1);
            let deeper = deeper.expect("fewer guards than 2^32");
            self.depth.store(deeper, Relaxed);
            return Ok(word.outcome());
        }
        let taken = self.raw.lock(owners, patience, deadline)?;
        self.set(Depth { depth: 1, kept: 0 });
        Ok(taken)
    }

    fn set(&self, depth: Depth) {
        self.depth.store(depth.depth, Relaxed);
        self.kept.store(depth.kept, Relaxed);
    }

    /// Gives up one of the times that the calling thread has taken the lock; with the last one it is free.
    pub(super) fn unlock_once(&self, fences: Fences) {
        let depth = self.depth.load(Relaxed) - 1;
        self.depth.store(depth, Relaxed);
        if depth == 0 {
            self.raw.unlock(fences);
        }
    }

    /// Gives up all these times.
    pub(super) fn unlock_whole(&self, fences: Fences) -> Depth {
        let depth = Depth {
            depth: self.depth.load(Relaxed),
            kept: self.kept.load(Relaxed),
        };
        self.raw.unlock(fences);
        depth
    }

    /// Takes the lock as often as the calling thread had it.
    pub(super) fn lock_whole(
        &self,
        depth: Depth,
        owners: &impl Owners,
        patience: &Patience,
    ) -> Taken {
        let taken = self.raw.lock_again(owners, patience);
        self.set(depth);
        taken
    }

    /// Leaves one of these times to [`release_kept`](Self::release_kept).
    pub(super) fn keep_once(&self) {
        self.kept.store(self.kept.load(Relaxed) + 1, Relaxed);
    }

    /// Gives up one that was left; false when there is none, or the lock is another thread's.
    pub(super) fn release_kept(&self, owners: &impl Owners) -> bool {
        if !self.raw.load().is_of(owners.me()) {
            return false;
        }
        let kept = self.kept.load(Relaxed);
        if kept == 0 {
            return false;
        }
        self.kept.store(kept - 1, Relaxed);
        self.unlock_once(owners.fences());
        true
    }
}

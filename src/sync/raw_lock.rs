//! A lock in one word that names its holder in the same atomic step that takes it, so that whoever finds a dead one's name
//! takes the lock over. The states, the orderings and the proof sketch are in LOCK.md beside this file.

use super::owner::{Me, Owners};
use super::wait::{Patience, SLICE};
use crate::arena::{MEMBER_BITS, MemberId, Shared};
use crate::os::clock::Deadline;
use crate::primitive::WideFutexWord;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// `sequence:26 | thread:22 | owner:12 | flags:4`. The sequence rises whenever the lock is taken, so that a word that a slow
/// repairer has seen does not come again. Sleepers compare the low half: the flags, the owner and 16 bits of the thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockWord(u64);

/// Somebody may sleep; only in the word of a lock that is held.
const CONTENDED: u64 = 1;
/// A holder died, and nobody has said since that the data is consistent.
const DIED: u64 = 2;
/// The holder left it locked, for anybody to release.
const FORGOTTEN: u64 = 4;

const OWNER_SHIFT: u32 = 4;
const THREAD_SHIFT: u32 = OWNER_SHIFT + MEMBER_BITS;
const THREAD_BITS: u32 = 22;
const SEQUENCE_SHIFT: u32 = THREAD_SHIFT + THREAD_BITS;
const SEQUENCE: u64 = u64::MAX << SEQUENCE_SHIFT;
const OWNER: u64 = ((1 << MEMBER_BITS) - 1) << OWNER_SHIFT;
const THREAD: u64 = ((1 << THREAD_BITS) - 1) << THREAD_SHIFT;

impl LockWord {
    #[inline]
    fn is_free(self) -> bool {
        self.0 & OWNER == 0
    }

    #[inline]
    pub(crate) fn owner(self) -> MemberId {
        ((self.0 & OWNER) >> OWNER_SHIFT) as MemberId
    }

    #[inline]
    pub(crate) fn is_of(self, me: Me) -> bool {
        self.0 & (OWNER | THREAD) == tag(me)
    }

    pub(crate) fn is_forgotten(self) -> bool {
        self.0 & FORGOTTEN != 0
    }

    pub(crate) fn is_contended(self) -> bool {
        self.0 & CONTENDED != 0
    }

    /// Whether a holder died and the data may be inconsistent.
    #[inline]
    pub(crate) fn has_died(self) -> bool {
        self.0 & DIED != 0
    }

    /// The word after `me` has taken it.
    #[inline]
    fn taken(self, me: Me, flags: u64) -> LockWord {
        let sequence = (self.0 & SEQUENCE).wrapping_add(1 << SEQUENCE_SHIFT);
        LockWord(sequence | tag(me) | self.0 & DIED | flags)
    }

    #[inline]
    fn freed(self) -> LockWord {
        LockWord(self.0 & (SEQUENCE | DIED))
    }

    #[inline]
    fn outcome(self) -> Taken {
        if self.has_died() {
            Taken::OwnerDied
        } else {
            Taken::Sound
        }
    }
}

#[inline]
fn tag(me: Me) -> u64 {
    u64::from(me.thread) << THREAD_SHIFT | u64::from(me.member) << OWNER_SHIFT
}

/// How a lock was found when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Sound,
    /// A holder died, and nobody has said since that the data is consistent.
    OwnerDied,
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Somebody holds it, and the time is over.
    NotNow,
    /// The caller holds it itself.
    Deadlock,
}

/// How long one sleeps at first who could not ask whether the holder lives, having asked just before.
const SHORT_SLICE: Duration = Duration::from_millis(10);

#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct RawLock {
    word: WideFutexWord,
}

// SAFETY: one atomic word, any value of which is valid.
unsafe impl Shared for RawLock {}

impl RawLock {
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        RawLock {
            word: WideFutexWord::new(0),
        }
    }

    /// In a model: somebody has died, and all sleeps end by their time limit.
    #[cfg(all(test, loom))]
    pub(crate) fn expire(&self) {
        self.word.expire();
    }

    /// In a model: what somebody does for the lock who dies when he is woken.
    #[cfg(all(test, loom))]
    pub(crate) fn sleep_once(&self) {
        let seen = self.load();
        let marked = LockWord(seen.0 | CONTENDED);
        if !seen.is_free() && (seen == marked || self.swap(seen, marked)) {
            self.word.wait(marked.0, SLICE);
        }
    }

    #[inline]
    pub(crate) fn load(&self) -> LockWord {
        LockWord(self.word.word().load(Relaxed))
    }

    /// Takes a free lock.
    #[inline]
    fn take(&self, seen: LockWord, me: Me, flags: u64) -> Option<Taken> {
        let mine = seen.taken(me, flags);
        // (L) pairs with (U).
        let swapped = self
            .word
            .word()
            .compare_exchange(seen.0, mine.0, Acquire, Relaxed);
        swapped.is_ok().then(|| mine.outcome())
    }

    #[inline]
    pub(crate) fn lock(
        &self,
        owners: &impl Owners,
        patience: &Patience,
        deadline: Deadline,
    ) -> Result<Taken, Refused> {
        let (seen, me) = (self.load(), owners.me());
        if seen.is_free() {
            if let Some(taken) = self.take(seen, me, 0) {
                return Ok(taken);
            }
        }
        self.lock_slowly(owners, me, patience, deadline)
    }

    #[cold]
    fn lock_slowly(
        &self,
        owners: &impl Owners,
        me: Me,
        patience: &Patience,
        deadline: Deadline,
    ) -> Result<Taken, Refused> {
        let seen = self.load();
        if seen.is_of(me) && !seen.is_forgotten() {
            return Err(Refused::Deadlock);
        }
        if !deadline.expired() {
            if let Some(taken) = self.spin(me, patience, 0) {
                return Ok(taken);
            }
        }
        // Whether to ask if the holder lives: at once, unless that was done just now, and after every slice.
        let mut slow = patience.may_ask();
        // Who has slept may not have been the only one: from then on it sees to it that its successor wakes another.
        let mut slept = 0;
        loop {
            let seen = self.load();
            if seen.is_free() {
                if let Some(taken) = self.take(seen, me, slept) {
                    return Ok(taken);
                }
                continue;
            }
            if slow && owners.is_dead(seen.owner()) {
                if let Some(taken) = self.take_over(seen, me) {
                    owners.repaired();
                    return Ok(taken);
                }
                continue;
            }
            let expired = deadline.expired();
            if expired && slept == 0 {
                return Err(Refused::NotNow);
            }
            // Also when it goes without the lock: the wake-up that it got was perhaps meant for all.
            let marked = LockWord(seen.0 | CONTENDED);
            if marked != seen && !self.swap(seen, marked) {
                continue;
            }
            if expired {
                return Err(Refused::NotNow);
            }
            let slice = deadline.slice(if slow { SLICE } else { SHORT_SLICE });
            let since = Instant::now();
            self.word.wait(marked.0, slice);
            slept = CONTENDED;
            slow = since.elapsed() >= slice || cfg!(all(test, loom));
            if slow {
                owners.quiet();
            } else if let Some(taken) = self.spin(me, patience, slept) {
                return Ok(taken);
            }
        }
    }

    fn swap(&self, seen: LockWord, new: LockWord) -> bool {
        let word = self.word.word();
        word.compare_exchange(seen.0, new.0, Relaxed, Relaxed)
            .is_ok()
    }

    /// Takes the lock of a dead member. The others may have slept on its word.
    fn take_over(&self, seen: LockWord, me: Me) -> Option<Taken> {
        let mine = LockWord(seen.taken(me, CONTENDED).0 | DIED);
        let swapped = self
            .word
            .word()
            .compare_exchange(seen.0, mine.0, Acquire, Relaxed);
        swapped.is_ok().then_some(Taken::OwnerDied)
    }

    /// Tries for a short time that depends on what trying has earned.
    fn spin(&self, me: Me, patience: &Patience, slept: u64) -> Option<Taken> {
        patience.spin.spin(|| {
            let seen = self.load();
            if seen.is_free() {
                self.take(seen, me, slept)
            } else {
                None
            }
        })
    }

    /// Releases the lock of the caller.
    #[inline]
    pub(crate) fn unlock(&self) {
        // Nobody else changes more of it than the mark of sleepers while the holder lives.
        let free = self.load().freed();
        // (U) pairs with (L).
        let held = LockWord(self.word.word().swap(free.0, Release));
        if held.is_contended() {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        self.word.wake(1);
    }

    /// Says that the data is what it should be.
    pub(crate) fn mark_consistent(&self) {
        self.word.word().fetch_and(!DIED, Relaxed);
    }

    /// The caller leaves its lock locked, for anybody to release.
    pub(crate) fn forget(&self) {
        // (U), in two steps: who releases it goes on from here.
        self.word.word().fetch_or(FORGOTTEN, Release);
    }

    /// Releases a lock that was left locked; false when it was not.
    pub(crate) fn release_forgotten(&self) -> bool {
        loop {
            let seen = self.load();
            if seen.is_free() || !seen.is_forgotten() {
                return false;
            }
            let word = self.word.word();
            // Release: passes on what the forgetter did.
            let swapped = word.compare_exchange(seen.0, seen.freed().0, Release, Relaxed);
            if swapped.is_ok() {
                if seen.is_contended() {
                    self.wake_one();
                }
                return true;
            }
        }
    }

    /// Frees the lock if its holder is among the dead, and says so to the next one. Wakes all who sleep, also otherwise: the
    /// dead may have been the one whom the last wake-up went to.
    pub(crate) fn repair(&self, is_dead: impl Fn(MemberId) -> bool) -> bool {
        let seen = self.load();
        let free = LockWord(seen.freed().0 | DIED);
        let repaired = !seen.is_free() && is_dead(seen.owner()) && self.swap(seen, free);
        self.word.wake(u32::MAX);
        repaired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap() {
        let all = Me {
            member: (1 << MEMBER_BITS) - 1,
            thread: (1 << THREAD_BITS) - 1,
        };
        let held = LockWord(SEQUENCE).taken(all, CONTENDED);
        assert_eq!(held.0 & SEQUENCE, 0, "the sequence wraps");
        assert!(held.is_of(all) && held.is_contended() && !held.has_died());
        assert_eq!(held.owner(), all.member);
        assert!(held.freed().is_free());
        let other = Me { thread: 1, ..all };
        assert!(!held.is_of(other));
        let dead = LockWord(held.0 | DIED | FORGOTTEN);
        assert!(dead.freed().has_died() && !dead.freed().is_forgotten());
        let again = dead.freed().taken(other, 0);
        assert_eq!(again.outcome(), Taken::OwnerDied);
        assert_ne!(again.0 & SEQUENCE, dead.0 & SEQUENCE, "each time another");
    }
}

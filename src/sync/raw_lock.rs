//! A lock in one word that names its holder in the same atomic step that takes it, so that whoever finds a dead one's name
//! takes the lock over. The states, the orderings and the proof sketch are in LOCK.md beside this file.

use super::owner::{Me, Owners};
use super::wait::{Patience, SLICE, Turn};
use crate::arena::{MEMBER_BITS, MemberId, Shared};
use crate::os::clock::Deadline;
use crate::primitive::{AtomicU64, Fences, FutexWord};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// `sequence:26 | thread:22 | owner:12 | flags:4`. The sequence rises whenever the lock is taken, so that a word that a slow
/// repairer has seen does not come again. While the lock is held and its holder lives, nobody else changes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockWord(u64);

/// A holder died, and nobody has said since that the data is consistent.
const DIED: u64 = 1;
/// The holder left it locked, for anybody to release.
const FORGOTTEN: u64 = 2;
/// Free, for those who have slept: one of them has waited for long.
const RESERVED: u64 = 4;

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

    /// Free, also for who has just come.
    #[inline]
    fn is_open(self) -> bool {
        self.0 & (OWNER | RESERVED) == 0
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

    /// Whether a holder died and the data may be inconsistent.
    #[inline]
    pub(crate) fn has_died(self) -> bool {
        self.0 & DIED != 0
    }

    /// The word after `me` has taken it.
    #[inline]
    fn taken(self, me: Me) -> LockWord {
        let sequence = (self.0 & SEQUENCE).wrapping_add(1 << SEQUENCE_SHIFT);
        LockWord(sequence | tag(me) | self.0 & DIED)
    }

    #[inline]
    fn freed(self) -> LockWord {
        LockWord(self.0 & (SEQUENCE | DIED))
    }

    #[inline]
    pub(super) fn outcome(self) -> Taken {
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
/// Measured: fewer looks before the sleep, and more, both cost throughput when two processes or eight are at it.
const PAUSES: u32 = 4;
const YIELDS: u32 = 7;

#[repr(C)]
#[derive(Debug)]
pub(crate) struct RawLock {
    word: AtomicU64,
    /// [`NONE`], or [`SOME`] who may sleep: then whoever releases the lock wakes one, who says the same again for the others. With
    /// [`LONG`] one of them has waited for long, and the lock is released for sleepers alone.
    sleepers: FutexWord,
}

const NONE: u32 = 0;
const SOME: u32 = 1;
const LONG: u32 = 2;

// SAFETY: atomics, any value of which is valid.
unsafe impl Shared for RawLock {}

impl RawLock {
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        RawLock {
            word: AtomicU64::new(0),
            sleepers: FutexWord::new(NONE),
        }
    }

    /// In a model: somebody has died, and all sleeps end by their time limit.
    #[cfg(all(test, loom))]
    pub(crate) fn expire(&self) {
        self.sleepers.expire();
    }

    /// In a model: what somebody does who has waited for long, and then leaves.
    #[cfg(all(test, loom))]
    pub(crate) fn long_for(&self, fences: Fences) {
        self.announce(SOME | LONG, fences);
    }

    /// In a model: what somebody does for the lock who dies when he is woken, perhaps after a long wait.
    #[cfg(all(test, loom))]
    pub(crate) fn sleep_once(&self, is_long: bool, fences: Fences) {
        let sleepers = if is_long { SOME | LONG } else { SOME };
        let key = self.announce(sleepers, fences);
        if !self.load().is_free() {
            self.sleepers.wait(key, SLICE);
        }
    }

    #[inline]
    pub(crate) fn load(&self) -> LockWord {
        LockWord(self.word.load(Relaxed))
    }

    /// The word for who is about to ask whether its owner lives. (Q) pairs with (L): whose number it is, is settled before the
    /// question; numbers of the dead are used again.
    fn load_to_ask(&self) -> LockWord {
        LockWord(self.word.load(Acquire))
    }

    /// Takes a free lock.
    #[inline]
    fn take(&self, seen: LockWord, me: Me) -> Option<Taken> {
        let mine = seen.taken(me);
        // (L) pairs with (U); Release for (Q).
        let swapped = self.word.compare_exchange(seen.0, mine.0, AcqRel, Relaxed);
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
        if seen.is_open() {
            if let Some(taken) = self.take(seen, me) {
                return Ok(taken);
            }
        }
        self.lock_slowly(owners, me, patience, deadline)
    }

    /// For one who gave it up for a while, and does not hold it.
    pub(crate) fn lock_again(&self, owners: &impl Owners, patience: &Patience) -> Taken {
        loop {
            if let Ok(taken) = self.lock(owners, patience, Deadline::NEVER) {
                return taken;
            }
        }
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
            if let Some(taken) = self.spin(me, LockWord::is_open) {
                return Ok(taken);
            }
        }
        // Whether to ask if the holder lives: at once, unless that was done just now, and after every slice.
        let mut slow = patience.may_ask();
        // Since it first slept after the last question: a slice however often it is woken in between, for others' sake or by
        // a signal, and a sleep after every question, however long that took.
        let mut asleep_since = None;
        let mut ask_after = if slow { SLICE } else { SHORT_SLICE };
        let mut turn = Turn::default();
        let mut announced = None;
        loop {
            let seen = self.load_to_ask();
            let expired = deadline.expired();
            // What is reserved also for who would go without it: nobody else may be left.
            let is_for_me = seen.is_open() || turn.is_next() || expired;
            let taken = if seen.is_free() && is_for_me {
                self.take(seen, me)
            } else if slow && !seen.is_free() && owners.is_dead(seen.owner()) {
                let taken = self.take_over(seen, me);
                taken.inspect(|_| owners.repaired())
            } else {
                if expired && (announced.is_some() || !turn.has_slept()) {
                    return Err(Refused::NotNow);
                }
                let Some(key) = announced else {
                    // Also by who goes without the lock: the wake-up that it got was perhaps meant for all.
                    let sleepers = if turn.is_long() { SOME | LONG } else { SOME };
                    announced = Some(self.announce(sleepers, owners.fences()));
                    continue;
                };
                let since = Instant::now();
                let asleep = *asleep_since.get_or_insert(since);
                let rest = ask_after.saturating_sub(since - asleep);
                let slice = deadline.slice(rest.min(turn.sleep(since)));
                let woken = self.sleepers.wait(key, slice);
                announced = None;
                let now = Instant::now();
                turn.awake(now, woken);
                slow = now - asleep >= ask_after || deadline.expired() || cfg!(all(test, loom));
                if slow {
                    (asleep_since, ask_after) = (None, SLICE);
                    owners.quiet();
                    None
                } else {
                    let is_for_me = match turn.is_next() {
                        true => LockWord::is_free,
                        false => LockWord::is_open,
                    };
                    self.spin(me, is_for_me)
                }
            };
            if taken.is_some() && (turn.has_slept() || slow) {
                // Others may sleep still; whoever releases it is this one. A swap, like all changes of this word: in the models a store
                // among read-modify-writes has no place in their order.
                self.sleepers.word().swap(SOME, Relaxed);
            }
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
    }

    /// Says that somebody may sleep. The caller then looks at the lock again, and sleeps as long as the word is still the one that
    /// this returns.
    fn announce(&self, sleepers: u32, fences: Fences) -> u32 {
        let before = self.sleepers.word().fetch_or(sleepers, Relaxed);
        // (W) pairs with (S).
        fences.heavy();
        before | sleepers
    }

    /// Takes the lock of a dead member.
    fn take_over(&self, seen: LockWord, me: Me) -> Option<Taken> {
        let mine = LockWord(seen.taken(me).0 | DIED);
        let swapped = self.word.compare_exchange(seen.0, mine.0, AcqRel, Relaxed);
        swapped.is_ok().then_some(Taken::OwnerDied)
    }

    /// Tries for a moment: with longer and longer pauses, since every look takes the line from the holder, then giving way. In a
    /// model others get on only when this one sleeps.
    fn spin(&self, me: Me, is_for_me: fn(LockWord) -> bool) -> Option<Taken> {
        let rounds = if cfg!(all(test, loom)) {
            0..0
        } else {
            1..PAUSES + YIELDS
        };
        for round in rounds {
            if round < PAUSES {
                (0..1 << round).for_each(|_| std::hint::spin_loop());
            } else {
                std::thread::yield_now();
            }
            let seen = self.load();
            if is_for_me(seen) {
                if let Some(taken) = self.take(seen, me) {
                    return Some(taken);
                }
            }
        }
        None
    }

    /// Releases the lock of the caller.
    #[inline]
    pub(crate) fn unlock(&self, fences: Fences) {
        let free = LockWord(self.load().freed().0 | self.reservation());
        // (U) pairs with (L).
        self.word.store(free.0, Release);
        self.wake_one(free, fences);
    }

    /// [`RESERVED`] when somebody has waited for long. A mark that comes just now counts the next time.
    #[inline]
    fn reservation(&self) -> u64 {
        u64::from(self.sleepers.word().load(Relaxed) & LONG) * (RESERVED / LONG as u64)
    }

    /// Wakes one of those who sleep, if there are any, after the lock was released with this word.
    #[inline]
    fn wake_one(&self, free: LockWord, fences: Fences) {
        // (S) pairs with (W): either this sees the word set, or the waiter sees the lock free.
        fences.light();
        if self.sleepers.word().load(Relaxed) != NONE || !free.is_open() {
            self.wake_sleeper(free, fences);
        }
    }

    #[cold]
    fn wake_sleeper(&self, free: LockWord, fences: Fences) {
        // Who was about to sleep sees another word and looks again.
        let woken = self.sleepers.word().swap(NONE, Relaxed) != NONE && self.sleepers.wake(1) > 0;
        if woken || free.is_open() {
            return;
        }
        // The one that it is reserved for has gone, or is about to look, or another who releases the lock has just taken the mark for
        // his: then it is for everybody, as for one who has gone to sleep meanwhile. Relaxed: a read-modify-write goes on with (U).
        let open = free.0 & !RESERVED;
        let swapped = self.word.compare_exchange(free.0, open, Relaxed, Relaxed);
        if swapped.is_ok() {
            self.wake_one(LockWord(open), fences);
        }
    }

    /// Says that the data of the caller's lock is what it should be.
    pub(crate) fn mark_consistent(&self) {
        // Release for (Q), like every word with an owner.
        self.word.store(self.load().0 & !DIED, Release);
    }

    /// The caller leaves its lock locked, for anybody to release.
    pub(crate) fn forget(&self) {
        // (U), in two steps: who releases it goes on from here.
        self.word.store(self.load().0 | FORGOTTEN, Release);
    }

    /// Releases a lock that was left locked; false when it was not, or by one who has died since: then the next one is told.
    pub(crate) fn release_forgotten(&self, owners: &impl Owners) -> bool {
        loop {
            let seen = self.load_to_ask();
            if seen.is_free() || !seen.is_forgotten() {
                return false;
            }
            let died = owners.is_dead(seen.owner());
            let free = seen.freed().0 | self.reservation() | if died { DIED } else { 0 };
            // Release: it passes on what the forgetter did.
            let swapped = self.word.compare_exchange(seen.0, free, Release, Relaxed);
            if swapped.is_ok() {
                if died {
                    owners.repaired();
                }
                self.wake_one(LockWord(free), owners.fences());
                return !died;
            }
        }
    }

    /// Frees the lock if its holder is among the dead, and says so to the next one. Wakes all who sleep, also otherwise: the
    /// dead may have been the one whom the last wake-up went to.
    pub(crate) fn repair(&self, is_dead: impl Fn(MemberId) -> bool, fences: Fences) -> bool {
        let seen = self.load_to_ask();
        let repaired = !seen.is_free() && is_dead(seen.owner()) && {
            let free = LockWord(seen.freed().0 | DIED);
            // Release: it passes on what the dead one did.
            let swapped = self.word.compare_exchange(seen.0, free.0, Release, Relaxed);
            swapped.is_ok()
        };
        // (S), before the word is set: who sets it later sees the lock free.
        fences.light();
        // Who was about to sleep sees another word; who finds the lock held says again that it sleeps.
        self.sleepers.word().swap(NONE, Relaxed);
        self.sleepers.wake(u32::MAX);
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
        let held = LockWord(SEQUENCE).taken(all);
        assert_eq!(held.0 & SEQUENCE, 0, "the sequence wraps");
        assert!(held.is_of(all) && !held.has_died());
        assert_eq!(held.owner(), all.member);
        assert!(held.freed().is_free());
        let other = Me { thread: 1, ..all };
        assert!(!held.is_of(other));
        let dead = LockWord(held.0 | DIED | FORGOTTEN);
        assert!(dead.freed().has_died() && !dead.freed().is_forgotten());
        let again = dead.freed().taken(other);
        assert_eq!(again.outcome(), Taken::OwnerDied);
        assert_ne!(again.0 & SEQUENCE, dead.0 & SEQUENCE, "each time another");
    }
}

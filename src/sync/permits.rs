//! Permits, each a word that names who holds it: taking and giving one back is one step on one word, so that a count and a
//! record of holders cannot part. See LOCK.md beside this file.

use super::event_count::EventCount;
use super::slots::{SlotWord, Slots};
use crate::arena::MemberId;
use crate::primitive::{AtomicU64, Fences};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

/// No permit: room for one.
const ABSENT: u64 = 0;
/// To be had.
const FREE: u64 = 1;
/// In the hands of its owner.
const HELD: u64 = 2;
/// To be had by those who have slept: one of them has waited for long.
const RESERVED: u64 = 3;

/// Who may have what is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    All,
    /// Those who have slept, and who would go without it otherwise.
    Sleepers,
}

impl For {
    fn state(self) -> u64 {
        match self {
            For::All => FREE,
            For::Sleepers => RESERVED,
        }
    }
}

/// Where those who give permits back meet those who wait for them.
#[derive(Clone, Copy)]
pub(super) struct Counter<'a> {
    pub(super) available: &'a EventCount,
    /// Not zero: somebody has waited for long. Only the order of those who wait depends on it.
    pub(super) long_wait: &'a AtomicU64,
    pub(super) fences: Fences,
}

impl Counter<'_> {
    /// For whom the next permit is to be given back.
    #[inline]
    pub(super) fn next(self) -> For {
        match self.long_wait.load(Relaxed) {
            0 => For::All,
            _ => For::Sleepers,
        }
    }

    /// Says whether somebody has waited for long.
    pub(super) fn mark(self, waits: bool) {
        self.long_wait.store(waits.into(), Relaxed);
    }

    /// Gives a permit back that the caller holds.
    #[inline]
    pub(super) fn give_back(self, slot: &AtomicU64) {
        let whom = self.next();
        // Nobody else changes it while its holder lives. (V) pairs with (P).
        let word = SlotWord::of(slot).next(whom.state(), 0);
        slot.store(word.0, Release);
        self.announce(slot, whom);
    }

    /// Wakes one who waits, after the permit was made free for them.
    #[inline]
    pub(super) fn announce(self, slot: &AtomicU64, whom: For) {
        match whom {
            For::All => self.available.notify_one(self.fences),
            For::Sleepers => self.hand_on(slot),
        }
    }

    #[cold]
    fn hand_on(self, slot: &AtomicU64) {
        // Once: the next time somebody says so again.
        self.mark(false);
        if self.available.has_woken_one(self.fences) {
            return;
        }
        // The one that it is reserved for has gone, or is about to look: then it is for everybody, as for one who has gone to sleep
        // meanwhile. Relaxed: a read-modify-write goes on with (V).
        let word = SlotWord::of(slot);
        if word.state() == RESERVED && word.replace(slot, word.next(FREE, 0), Relaxed) {
            self.available.notify_one(self.fences);
        }
    }
}

/// Access to the permits of a semaphore.
#[derive(Clone, Copy)]
pub(super) struct Permits<'a>(pub(super) Slots<'a>);

impl<'a> Permits<'a> {
    /// Makes the first `count` words permits, in a table that nobody else knows yet.
    pub(super) fn init(self, count: usize) {
        for slot in self.0.each().take(count) {
            slot.store(SlotWord::new(0, FREE, 0).0, Release);
        }
    }

    /// Takes this permit if it is free.
    #[inline]
    pub(super) fn take_this(slot: &AtomicU64, me: MemberId) -> Option<&AtomicU64> {
        let word = SlotWord::of(slot);
        // (P) pairs with (V). Release for who asks whether the owner lives: whose number it is, is settled before the question.
        let taken = word.state() == FREE && word.replace(slot, word.next(HELD, me), AcqRel);
        taken.then_some(slot)
    }

    /// Takes a free permit; looks at those from the number `from` on first. What is reserved only for one who has slept, or would
    /// go without it.
    pub(super) fn take(self, me: MemberId, from: usize, who: For) -> Option<&'a AtomicU64> {
        if who == For::Sleepers {
            // First: those who come later would leave it alone, with nobody else awake to take it.
            let reserved = self.0.each_from(from).find(|slot| {
                let word = SlotWord::of(slot);
                word.state() == RESERVED && word.replace(slot, word.next(HELD, me), AcqRel)
            });
            if reserved.is_some() {
                return reserved;
            }
        }
        let is_for_me = |state| state == FREE || state == RESERVED && who == For::Sleepers;
        self.search(is_for_me, HELD, me, from)
    }

    /// Adds a permit where there is room for one, and says where.
    pub(super) fn add(self, whom: For) -> Option<&'a AtomicU64> {
        self.search(|state| state == ABSENT, whom.state(), 0, 0)
    }

    /// Brings a word from one state to another. "None" is true of one moment, though the words are looked at one after the
    /// other: two looks found all of them unchanged (a sequence only rises, and so does their sum).
    fn search(
        self,
        is_it: impl Fn(u64) -> bool,
        to: u64,
        owner: MemberId,
        from: usize,
    ) -> Option<&'a AtomicU64> {
        let mut last = None;
        loop {
            let mut sum = 0_u64;
            for slot in self.0.each_from(from) {
                let word = SlotWord::of(slot);
                let order = if to == HELD { AcqRel } else { Release };
                if is_it(word.state()) && word.replace(slot, word.next(to, owner), order) {
                    return Some(slot);
                }
                sum = sum.wrapping_add(word.0);
            }
            if last == Some(sum) {
                return None;
            }
            last = Some(sum);
        }
    }

    /// Takes a permit that a dead member held.
    #[cold]
    pub(super) fn take_over(
        self,
        me: MemberId,
        is_dead: impl Fn(MemberId) -> bool,
    ) -> Option<&'a AtomicU64> {
        let mut living = Vec::new();
        self.0.each().find(|slot| {
            let word = SlotWord::of(slot);
            if word.state() != HELD || living.contains(&word.owner()) {
                return false;
            }
            if !is_dead(word.owner()) {
                living.push(word.owner());
                return false;
            }
            word.replace(slot, word.next(HELD, me), AcqRel)
        })
    }

    /// Makes the caller's permit nobody's: there is one less.
    pub(super) fn forget(slot: &AtomicU64) {
        let word = SlotWord::of(slot).next(ABSENT, 0);
        slot.store(word.0, Release);
    }

    /// How many are to be had.
    pub(super) fn count(self) -> usize {
        let is_free = |slot: &&AtomicU64| matches!(SlotWord::of(slot).state(), FREE | RESERVED);
        self.0.each().filter(is_free).count()
    }

    /// Whether this member holds one.
    pub(super) fn is_held_by(self, member: MemberId) -> bool {
        let is_theirs = |word: SlotWord| word.state() == HELD && word.owner() == member;
        self.0.each().any(|slot| is_theirs(SlotWord::of(slot)))
    }

    /// Gives back what the dead held; how many permits that were.
    pub(super) fn repair(self, is_dead: impl Fn(MemberId) -> bool) -> usize {
        let given_back = |slot: &&AtomicU64| {
            let word = SlotWord::of(slot);
            word.state() == HELD
                && is_dead(word.owner())
                && word.replace(slot, word.next(FREE, 0), Release)
        };
        self.0.each().filter(given_back).count()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_taken_by_sleepers_first() {
        let words = [FREE, RESERVED].map(|state| AtomicU64::new(SlotWord::new(0, state, 0).0));
        let permits = Permits(Slots::fixed(&words));
        let slot = permits.take(1, 0, For::Sleepers).expect("two to be had");
        assert!(std::ptr::eq(slot, &words[1]));
        let slot = permits.take(2, 0, For::All).expect("nobody need wait");
        assert!(std::ptr::eq(slot, &words[0]));
        assert!(permits.take(3, 0, For::Sleepers).is_none());
    }
}

//! Permits, each a word that names who holds it: taking and giving one back is one step on one word, so that a count and a
//! record of holders cannot part. See LOCK.md beside this file.

use super::slots::{SlotWord, Slots};
use crate::arena::MemberId;
use crate::primitive::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Release};

/// No permit: room for one.
const ABSENT: u64 = 0;
/// To be had.
const FREE: u64 = 1;
/// In the hands of its owner.
const HELD: u64 = 2;

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

    /// Takes a free permit; looks at those from the number `from` on first.
    pub(super) fn take(self, me: MemberId, from: usize) -> Option<&'a AtomicU64> {
        self.search(FREE, HELD, me, from)
    }

    /// Adds a permit where there is room for one.
    pub(super) fn add(self) -> bool {
        self.search(ABSENT, FREE, 0, 0).is_some()
    }

    /// Brings a word from one state to another. "None" is true of one moment, though the words are looked at one after the
    /// other: two looks found all of them unchanged (a sequence only rises, and so does their sum).
    fn search(self, state: u64, to: u64, owner: MemberId, from: usize) -> Option<&'a AtomicU64> {
        let mut last = None;
        loop {
            let mut sum = 0_u64;
            for slot in self.0.each_from(from) {
                let word = SlotWord::of(slot);
                let order = if to == HELD { AcqRel } else { Release };
                if word.state() == state && word.replace(slot, word.next(to, owner), order) {
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

    /// Gives a permit back that the caller holds.
    #[inline]
    pub(super) fn give_back(slot: &AtomicU64) {
        // Nobody else changes it while its holder lives. (V) pairs with (P).
        let word = SlotWord::of(slot).next(FREE, 0);
        slot.store(word.0, Release);
    }

    /// Makes the caller's permit nobody's: there is one less.
    pub(super) fn forget(slot: &AtomicU64) {
        let word = SlotWord::of(slot).next(ABSENT, 0);
        slot.store(word.0, Release);
    }

    /// How many are to be had.
    pub(super) fn count(self) -> usize {
        let is_free = |slot: &&AtomicU64| SlotWord::of(slot).state() == FREE;
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

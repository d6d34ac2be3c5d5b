//! The parties of a barrier and its rounds: each party is a word that names it, and a round ends by one step on one word. See
//! LOCK.md beside this file.

use super::event_count::EventCount;
use super::slots::{SlotWord, Slots};
use crate::arena::MemberId;
use crate::primitive::{AtomicU64, Fences};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// `number:47 | how the 16 rounds before ended, the last one lowest: 16 | broken:1`. A set bit is a round that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round(u64);

const BROKEN: u64 = 1;
const ENDS_SHIFT: u32 = 1;
const NUMBER_SHIFT: u32 = 17;

impl Round {
    /// The first round of a new barrier: above the number that fresh places bear.
    pub(super) fn first() -> u64 {
        Round(0).next(false).0
    }

    fn number(self) -> u64 {
        self.0 >> NUMBER_SHIFT
    }

    pub(super) fn is_broken(self) -> bool {
        self.0 & BROKEN != 0
    }

    /// The round after this one, which ended so.
    fn next(self, broken: bool) -> Round {
        let ends = (self.0 >> ENDS_SHIFT << 1 | u64::from(broken)) & 0xffff;
        Round((self.number() + 1) << NUMBER_SHIFT | ends << ENDS_SHIFT)
    }

    fn broken(self) -> Round {
        Round(self.0 | BROKEN)
    }

    /// How the round with this number went; `None` while it goes on.
    fn end_of(self, number: u64) -> Option<End> {
        match self.number().wrapping_sub(number) {
            0 if self.is_broken() => Some(End::Broken),
            0 => None,
            // As long as somebody is still to leave no round ends by all being there: these were resets.
            back if back > 16 => Some(End::Broken),
            back if self.0 >> (ENDS_SHIFT as u64 + back - 1) & 1 != 0 => Some(End::Broken),
            _ => Some(End::Met),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Met,
    Broken,
}

/// A place is free, or taken in the round of its sequence by a party. A free one keeps the number of its last round.
const FREE: u64 = 0;
const TAKEN: u64 = 1;

/// Access to the places of a barrier.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    /// A round has ended.
    pub(super) over: &'a EventCount,
    /// A place was left.
    pub(super) left: &'a EventCount,
    pub(super) round: &'a AtomicU64,
    pub(super) slots: Slots<'a>,
    pub(super) fences: Fences,
}

/// A party's place, which one it is, and in which round.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    slot: &'a AtomicU64,
    pub(super) index: usize,
    round: u64,
}

/// What a party that comes finds.
pub(super) enum Arrival<'a> {
    Here(Place<'a>),
    Broken,
    /// Somebody of an earlier round has not left yet.
    Draining,
}

impl<'a> Places<'a> {
    pub(super) fn round(self) -> Round {
        // (R) pairs with (T).
        Round(self.round.load(Acquire))
    }

    fn replace(self, seen: Round, new: Round) -> bool {
        // (T) pairs with (R).
        let word = self.round;
        word.compare_exchange(seen.0, new.0, AcqRel, Relaxed)
            .is_ok()
    }

    /// Takes the first place that nobody has in this round.
    pub(super) fn arrive(self, me: MemberId) -> Arrival<'a> {
        'again: loop {
            let round = self.round();
            if round.is_broken() {
                return Arrival::Broken;
            }
            for (index, slot) in self.slots.inline().iter().enumerate() {
                let word = SlotWord::of(slot);
                if word.state() == TAKEN && word.sequence() == round.number() {
                    continue;
                }
                if word.state() == TAKEN {
                    return match self.round() == round {
                        true => Arrival::Draining,
                        false => continue 'again,
                    };
                }
                // One that was left in this round: it has ended, or is broken.
                let is_stale = word.sequence() >= round.number();
                let mine = SlotWord::new(round.number(), TAKEN, me);
                if is_stale || !word.replace(slot, mine, AcqRel) {
                    continue 'again;
                }
                return Arrival::Here(Place {
                    slot,
                    index,
                    round: round.number(),
                });
            }
            // All are there: the last of them is about to end the round.
            if self.round() == round {
                return Arrival::Draining;
            }
        }
    }

    /// How the place's round went; `None` while it goes on.
    pub(super) fn end_of(self, place: Place<'_>) -> Option<End> {
        self.round().end_of(place.round)
    }

    /// Ends the round of the last party to come; false when it is broken meanwhile, by a time that was over, or a death.
    pub(super) fn meet(self, place: Place<'_>) -> bool {
        let round = self.round();
        let met = round.end_of(place.round).is_none() && self.replace(round, round.next(false));
        if met {
            self.wake();
        }
        met
    }

    /// Breaks the round of a party that waits no longer; how it went if it has just ended otherwise.
    pub(super) fn give_up(self, place: Place<'_>) -> Option<End> {
        let round = self.round();
        let goes_on = round.end_of(place.round).is_none();
        if goes_on && self.break_round(round) {
            return None;
        }
        self.end_of(place)
    }

    /// Frees a party's place, when its round is over.
    pub(super) fn leave(self, place: Place<'_>) {
        let free = SlotWord::new(place.round, FREE, 0);
        place.slot.store(free.0, Release);
        self.left.notify_all(self.fences);
    }

    /// Breaks the barrier until it is reset.
    pub(super) fn abort(self) {
        loop {
            let round = self.round();
            if round.is_broken() || self.break_round(round) {
                return;
            }
        }
    }

    /// Begins a new round; those who wait in the old one find it broken.
    pub(super) fn reset(self) {
        loop {
            let round = self.round();
            let is_fresh = !round.is_broken() && self.parties(round).next().is_none();
            if is_fresh || self.replace(round, round.next(true)) {
                self.wake();
                return;
            }
        }
    }

    /// How many wait in the round that goes on.
    pub(super) fn waiting(self) -> usize {
        let round = self.round();
        match round.is_broken() {
            true => 0,
            false => self.parties(round).count(),
        }
    }

    /// Whether this member is one of the parties, of whatever round.
    pub(super) fn has(self, member: MemberId) -> bool {
        let is_theirs = |word: SlotWord| word.state() == TAKEN && word.owner() == member;
        self.slots.each().any(|slot| is_theirs(SlotWord::of(slot)))
    }

    /// Who takes part in this round.
    fn parties(self, round: Round) -> impl Iterator<Item = (&'a AtomicU64, SlotWord)> {
        let of_round =
            move |word: SlotWord| word.state() == TAKEN && word.sequence() == round.number();
        let words = self.slots.inline().iter();
        let words = words.map(|slot| (slot, SlotWord::of(slot)));
        words.filter(move |&(_, word)| of_round(word))
    }

    /// Breaks this round, if it still goes on.
    fn break_round(self, round: Round) -> bool {
        let broken = !round.is_broken() && self.replace(round, round.broken());
        if broken {
            self.wake();
        }
        broken
    }

    pub(super) fn wake(self) {
        self.over.notify_all(self.fences);
        self.left.notify_all(self.fences);
    }

    /// Breaks the round if a dead member takes part in it, then takes the dead off their places; how many these were.
    pub(super) fn repair(self, is_dead: impl Fn(MemberId) -> bool) -> usize {
        let mut living = Vec::new();
        let mut repaired = 0;
        for slot in self.slots.inline() {
            let word = SlotWord::of(slot);
            if word.state() != TAKEN || living.contains(&word.owner()) {
                continue;
            }
            if !is_dead(word.owner()) {
                living.push(word.owner());
                continue;
            }
            // First this: once the place is free nobody knows that one of the round is missing.
            loop {
                let round = self.round();
                let goes_on = round.number() == word.sequence() && !round.is_broken();
                if !goes_on || self.break_round(round) {
                    break;
                }
            }
            let free = SlotWord::new(word.sequence(), FREE, 0);
            repaired += usize::from(word.replace(slot, free, Release));
        }
        if repaired > 0 {
            self.wake();
        }
        repaired
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_round_knows_how_those_before_it_ended() {
        let mut round = Round(Round::first());
        assert_eq!((round.number(), round.end_of(1)), (1, None));
        assert_eq!(round.broken().end_of(1), Some(End::Broken));
        let ends = [false, true, true, false];
        for broken in ends {
            round = round.next(broken);
        }
        assert!(!round.is_broken());
        for (number, broken) in (1..).zip(ends) {
            let end = if broken { End::Broken } else { End::Met };
            assert_eq!(round.end_of(number), Some(end), "{number}");
        }
        assert_eq!(round.end_of(5), None);
        for _ in 0..16 {
            round = round.next(false);
        }
        assert_eq!(round.end_of(5), Some(End::Met));
        assert_eq!(round.end_of(4), Some(End::Broken), "too long ago to tell");
    }
}

//! A meeting point in the arena. Each party is a word of a table that names it; see LOCK.md beside this file.
//!
//! ```text
//! 0    event count: a round has ended
//! 128  event count: a place was left
//! 256  the round; the table's head
//! 320  the places
//! ```

use super::event_count::EventCount;
use super::slots::{SlotWord, Slots, SlotsHead};
use super::wait::{Progress, Spin, Wait};
use crate::arena::{Arena, Dead, Kind, Local, MemberId, Object, ObjectSpec, OwnedBlock};
use crate::arena::{Shared, View, Visitor};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::primitive::AtomicU64;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

#[repr(C, align(64))]
struct Header {
    over: EventCount,
    left: EventCount,
    round: AtomicU64,
    slots: SlotsHead,
}

// SAFETY: atomics of any value.
unsafe impl Shared for Header {}

/// `number:47 | how the 16 rounds before ended, the last one lowest: 16 | broken:1`. A set bit is a round that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round(u64);

const BROKEN: u64 = 1;
const ENDS_SHIFT: u32 = 1;
const NUMBER_SHIFT: u32 = 17;

impl Round {
    fn number(self) -> u64 {
        self.0 >> NUMBER_SHIFT
    }

    fn is_broken(self) -> bool {
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
enum End {
    Met,
    Broken,
}

/// A place is free, or taken in the round of its sequence by a party. A free one keeps the number of its last round.
const FREE: u64 = 0;
const TAKEN: u64 = 1;

#[derive(Debug)]
pub(crate) struct BarrierKind {
    pub(crate) id: u32,
}

#[derive(Clone, Copy)]
struct Places<'a> {
    header: &'a Header,
    slots: Slots<'a>,
}

fn places(view: View<'_>) -> Places<'_> {
    let header = view.get::<Header>();
    let slots = Slots::new(view, &header.slots, size_of::<Header>());
    Places { header, slots }
}

/// What a party that comes finds.
enum Arrival<'a> {
    /// Its place, and which one it is.
    Here(&'a AtomicU64, usize),
    Broken,
    /// Somebody of an earlier round has not left yet.
    Draining,
}

impl<'a> Places<'a> {
    fn round(self) -> Round {
        // (R) pairs with (T).
        Round(self.header.round.load(Acquire))
    }

    fn replace(self, seen: Round, new: Round) -> bool {
        // (T) pairs with (R).
        let word = &self.header.round;
        word.compare_exchange(seen.0, new.0, AcqRel, Relaxed)
            .is_ok()
    }

    /// Takes the first place that nobody has in this round.
    fn arrive(self, me: MemberId) -> Arrival<'a> {
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
                return Arrival::Here(slot, index);
            }
            // All are there: the last of them is about to end the round.
            if self.round() == round {
                return Arrival::Draining;
            }
        }
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
    fn break_round(self, round: Round, arena: &Arena) -> bool {
        let broken = !round.is_broken() && self.replace(round, round.broken());
        if broken {
            self.wake(arena);
        }
        broken
    }

    fn wake(self, arena: &Arena) {
        self.header.over.notify_all(arena.fences());
        self.header.left.notify_all(arena.fences());
    }

    /// Breaks the round if a dead member takes part in it, then takes the dead off their places; how many these were.
    fn repair(self, arena: &Arena, is_dead: impl Fn(MemberId) -> bool) -> usize {
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
                if !goes_on || self.break_round(round, arena) {
                    break;
                }
            }
            let free = SlotWord::new(word.sequence(), FREE, 0);
            repaired += usize::from(word.replace(slot, free, Release));
        }
        if repaired > 0 {
            self.wake(arena);
        }
        repaired
    }
}

impl Kind for BarrierKind {
    fn id(&self) -> u32 {
        self.id
    }

    fn name(&self) -> &'static str {
        "barrier"
    }

    fn repair(&self, object: View<'_>, dead: &Dead) {
        let places = places(object);
        let is_dead = |owner: MemberId| dead.contains(owner.into());
        for _ in 0..places.repair(object.arena, is_dead) {
            object.arena.count_repair();
        }
        // Also when there was nothing: the dead may have ended a round and woken nobody.
        places.wake(object.arena);
    }

    fn visit(&self, _: View<'_>, _: &mut Visitor<'_>) {}

    fn destroy(&self, _: View<'_>, _: &mut dyn FnMut(OwnedBlock<'_>)) {}

    fn is_in_use(&self, object: View<'_>) -> bool {
        let is_mine = |word: SlotWord| word.state() == TAKEN && word.owner() == object.arena.me();
        let places = places(object);
        places.slots.each().any(|slot| is_mine(SlotWord::of(slot)))
    }
}

/// A process's side of a barrier.
pub(crate) struct LocalBarrier {
    object: Object,
    spin: Spin,
}

impl fmt::Debug for LocalBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBarrier")
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Local for LocalBarrier {
    fn object(&self) -> &Object {
        &self.object
    }
}

/// Why the parties did not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotMet {
    Broken,
    TimedOut,
}

/// The most parties of a barrier.
pub(crate) const MOST_PARTIES: usize = 1 << 20;

/// A party's place; left when dropped.
struct Place<'a> {
    places: Places<'a>,
    arena: &'a Arena,
    slot: &'a AtomicU64,
    round: u64,
    /// Whether the round ends as broken if nothing else has ended it: when user code panics.
    ends: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.arena.check().is_err() {
            return;
        }
        if self.ends {
            let round = self.places.round();
            if round.number() == self.round {
                self.places.break_round(round, self.arena);
            }
        }
        let free = SlotWord::new(self.round, FREE, 0);
        self.slot.store(free.0, Release);
        self.places.header.left.notify_all(self.arena.fences());
    }
}

impl LocalBarrier {
    pub(crate) fn create(
        arena: &Arena,
        kind: &'static BarrierKind,
        parties: usize,
    ) -> Result<Arc<LocalBarrier>, Error> {
        if parties == 0 || parties > MOST_PARTIES {
            return Err(Error::InvalidCapacity);
        }
        let spec = ObjectSpec {
            kind,
            type_hash: 0,
            len: (size_of::<Header>() + parties * size_of::<AtomicU64>()) as u64,
        };
        let object = Object::create(arena, spec, |view| {
            let header = view.get::<Header>();
            header.slots.init(parties);
            // Above the number that fresh places bear.
            header.round.store(Round(0).next(false).0, Relaxed);
        })?;
        let local = Arc::new(LocalBarrier::new(object));
        arena.register(&local);
        Ok(local)
    }

    /// This process's hold on a barrier.
    pub(crate) fn new(object: Object) -> LocalBarrier {
        LocalBarrier {
            object,
            spin: Spin::default(),
        }
    }

    #[inline]
    pub(crate) fn arena(&self) -> &Arena {
        self.object.arena()
    }

    fn places(&self) -> Places<'_> {
        places(self.object.view())
    }

    /// Waits for the other parties. The last to come runs `action` before anybody goes on. Which one the caller was.
    pub(crate) fn wait(&self, deadline: Deadline, action: impl FnOnce()) -> Result<usize, NotMet> {
        let (places, arena) = (self.places(), self.arena());
        let (slot, index) = self.arrive(deadline)?;
        let mut place = Place {
            places,
            arena,
            slot,
            round: SlotWord::of(slot).sequence(),
            ends: true,
        };
        let number = place.round;
        if index + 1 == places.slots.inline().len() {
            action();
            let round = places.round();
            // It may be broken meanwhile, by a time that was over, or a death.
            let met = round.end_of(number).is_none() && places.replace(round, round.next(false));
            place.ends = !met;
            if met {
                places.wake(arena);
            }
            return met.then_some(index).ok_or(NotMet::Broken);
        }
        let attempt = |slow: bool| {
            if slow {
                places.repair(arena, |owner| arena.is_dead(owner));
            }
            match places.round().end_of(number) {
                Some(end) => Progress::Done(end),
                None => Progress::Blocked,
            }
        };
        let end = self.until(&places.header.over, deadline, attempt);
        let end = end.or_else(|| {
            // Unless it has ended just now, that ends it.
            let round = places.round();
            let goes_on = round.end_of(number).is_none();
            if goes_on && places.break_round(round, arena) {
                return None;
            }
            places.round().end_of(number)
        });
        place.ends = false;
        match end {
            Some(End::Met) => Ok(index),
            Some(End::Broken) => Err(NotMet::Broken),
            None => Err(NotMet::TimedOut),
        }
    }

    /// Takes a place; waits until those of the last round have left theirs.
    fn arrive(&self, deadline: Deadline) -> Result<(&AtomicU64, usize), NotMet> {
        let (places, arena) = (self.places(), self.arena());
        let attempt = |slow: bool| {
            if slow {
                places.repair(arena, |owner| arena.is_dead(owner));
            }
            match places.arrive(arena.me()) {
                Arrival::Here(slot, index) => Progress::Done(Ok((slot, index))),
                Arrival::Broken => Progress::Done(Err(NotMet::Broken)),
                Arrival::Draining => Progress::Blocked,
            }
        };
        if let Progress::Done(arrived) = attempt(false) {
            return arrived;
        }
        let arrived = self.until(&places.header.left, deadline, attempt);
        // Who cannot even come in time breaks nothing: nobody counts on it yet.
        arrived.unwrap_or(Err(NotMet::TimedOut))
    }

    fn until<R>(
        &self,
        event: &EventCount,
        deadline: Deadline,
        mut attempt: impl FnMut(bool) -> Progress<R>,
    ) -> Option<R> {
        if deadline.expired() {
            return match attempt(true) {
                Progress::Done(value) => Some(value),
                _ => None,
            };
        }
        let wait = Wait {
            arena: self.arena(),
            event,
            spin: &self.spin,
        };
        wait.until(deadline, || true, attempt)
    }

    /// Breaks it, until it is reset.
    pub(crate) fn abort(&self) {
        let places = self.places();
        loop {
            let round = places.round();
            if round.is_broken() || places.break_round(round, self.arena()) {
                return;
            }
        }
    }

    /// Begins a new round; those who wait in the old one find it broken.
    pub(crate) fn reset(&self) {
        let places = self.places();
        loop {
            let round = places.round();
            let is_fresh = !round.is_broken() && places.parties(round).next().is_none();
            if is_fresh || places.replace(round, round.next(true)) {
                places.wake(self.arena());
                return;
            }
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.places().round().is_broken()
    }

    pub(crate) fn parties(&self) -> usize {
        self.places().slots.inline().len()
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        let places = self.places();
        let round = places.round();
        match round.is_broken() {
            true => 0,
            false => places.parties(round).count(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_round_knows_how_those_before_it_ended() {
        let mut round = Round(0).next(false);
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

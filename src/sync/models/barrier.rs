//! Models of a barrier: who has met sees what the others did before, all parties of a round are told the same, and a death breaks the
//! round but not the barrier.

use super::parties::{Deaths, FENCES, at_each_write, beside, large_model, model};
use crate::arena::MemberId;
use crate::primitive::AtomicU64;
use crate::sync::EventCount;
use crate::sync::places::{Arrival, End, Place, Places, Round};
use crate::sync::slots::Slots;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::time::Duration;

struct Shared {
    over: EventCount,
    left: EventCount,
    round: AtomicU64,
    words: Vec<AtomicU64>,
    deaths: Deaths,
    /// What each party does before the others go on.
    work: Vec<UnsafeCell<u32>>,
}

/// Why a party did not meet the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotMet {
    Broken,
    TimedOut,
}

/// How long a party waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Endless,
    /// Its time is over when it has looked once.
    None,
    /// It goes when somebody has died.
    UntilDeath,
}

impl Shared {
    fn new(parties: usize) -> Arc<Shared> {
        Arc::new(Shared {
            over: EventCount::new(),
            left: EventCount::new(),
            round: AtomicU64::new(Round::first()),
            words: (0..parties).map(|_| AtomicU64::new(0)).collect(),
            deaths: Deaths::new(),
            work: (0..parties).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    fn places(&self) -> Places<'_> {
        Places {
            over: &self.over,
            left: &self.left,
            round: &self.round,
            slots: Slots::fixed(&self.words),
            fences: FENCES,
        }
    }

    /// As who has waited for a while: the places of others are looked at only when somebody has died.
    fn repair(&self) {
        if self.deaths.are_any() {
            self.places().repair(|member| self.deaths.have(member));
        }
    }

    fn arrive(&self, me: MemberId) -> Result<Place<'_>, NotMet> {
        let mut key = None;
        loop {
            match self.places().arrive(me) {
                Arrival::Here(place) => return Ok(place),
                Arrival::Broken => return Err(NotMet::Broken),
                Arrival::Draining => {}
            }
            if let Some(key) = key {
                self.left.sleep(key, Duration::ZERO);
            }
            key = Some(self.left.prepare(FENCES));
            self.repair();
        }
    }

    /// Waits, and what the others did before is seen, without the help of any fence.
    fn meet(&self, me: MemberId) -> usize {
        let place = self.arrive(me).unwrap();
        assert_eq!(self.await_end(place, Patience::Endless), Some(End::Met));
        (0..self.work.len()).for_each(|party| assert!(self.seen(party) > 0));
        self.places().leave(place);
        place.index
    }

    /// As `LocalBarrier::wait`.
    fn wait(&self, me: MemberId, patience: Patience) -> Result<usize, NotMet> {
        let place = self.arrive(me)?;
        let end = self.await_end(place, patience);
        self.places().leave(place);
        match end {
            Some(End::Met) => Ok(place.index),
            Some(End::Broken) => Err(NotMet::Broken),
            None => Err(NotMet::TimedOut),
        }
    }

    fn await_end(&self, place: Place<'_>, patience: Patience) -> Option<End> {
        let places = self.places();
        if place.index + 1 == self.words.len() {
            return match places.meet(place) {
                true => Some(End::Met),
                false => Some(End::Broken),
            };
        }
        loop {
            let key = self.over.prepare(FENCES);
            // Before the look, so that nothing of the dead comes after it.
            let is_over = match patience {
                Patience::Endless => false,
                Patience::None => true,
                Patience::UntilDeath => self.deaths.have(1),
            };
            self.repair();
            let end = places.end_of(place);
            if end.is_some() {
                return end;
            }
            if is_over {
                return places.give_up(place);
            }
            self.over.sleep(key, Duration::ZERO);
        }
    }

    fn bury(&self, member: MemberId) {
        self.deaths.add(member);
        self.over.expire();
        self.left.expire();
    }

    /// As many as there are parties meet, one after the other.
    fn assert_whole(&self) {
        self.places().reset();
        let places: Vec<_> = (1..=self.words.len())
            .map(|me| match self.places().arrive(me as MemberId) {
                Arrival::Here(place) => place,
                Arrival::Broken => panic!("reset"),
                Arrival::Draining => panic!("somebody is still in there"),
            })
            .collect();
        assert!(self.places().meet(places[places.len() - 1]));
        for place in places {
            assert_eq!(self.places().end_of(place), Some(End::Met));
            self.places().leave(place);
        }
    }

    fn work(&self, party: usize) {
        // SAFETY: before they meet each has its own; loom checks it.
        self.work[party].with_mut(|work| unsafe { *work += 1 });
    }

    fn seen(&self, party: usize) -> u32 {
        // SAFETY: after they met nobody changes them; loom checks it.
        self.work[party].with(|work| unsafe { *work })
    }
}

/// Twice, so that places and rounds are used again.
#[test]
fn loom_barrier_two_meet_again() {
    model(|| {
        let shared = Shared::new(2);
        let meet = |shared: &Shared, me: usize| {
            let mut numbers = 0;
            for round in 1..=2 {
                shared.work(me);
                numbers += shared.meet(me as MemberId + 1) << round;
                assert!(
                    shared.seen(1 - me) >= round,
                    "it goes on before the other came"
                );
                if round == 1 {
                    // Nobody works on before all have seen it.
                    shared.wait(me as MemberId + 1, Patience::Endless).unwrap();
                }
            }
            numbers
        };
        let other = beside(&shared, move |shared| meet(&shared, 1));
        let numbers = meet(&shared, 0);
        // One of them was first, each time.
        assert_eq!(numbers + other.join().unwrap(), 2 + 4);
        assert_eq!(shared.places().waiting(), 0);
    });
}

#[test]
fn loom_barrier_three_meet() {
    model(|| {
        let shared = Shared::new(3);
        let others = [1, 2].map(|me| {
            beside(&shared, move |shared| {
                shared.work(me);
                let number = shared.meet(me as MemberId + 1);
                (0..3).for_each(|party| assert_eq!(shared.seen(party), 1));
                number
            })
        });
        shared.work(0);
        let number = shared.meet(1);
        (0..3).for_each(|party| assert_eq!(shared.seen(party), 1));
        let sum: usize = others.map(|other| other.join().unwrap()).iter().sum();
        assert_eq!(sum + number, 3);
    });
}

/// More than there are places: who does not fit in waits for the next round.
#[test]
fn loom_barrier_drains_before_it_is_used_again() {
    model(|| {
        let shared = Shared::new(1);
        let other = beside(&shared, move |shared| {
            for _ in 0..2 {
                assert_eq!(shared.wait(2, Patience::Endless), Ok(0));
            }
        });
        assert_eq!(shared.wait(1, Patience::Endless), Ok(0));
        other.join().unwrap();
    });
}

#[test]
fn loom_barrier_last_arrival_against_abort() {
    model(|| {
        let shared = Shared::new(2);
        let other = beside(&shared, move |shared| shared.wait(2, Patience::Endless));
        let aborting = beside(&shared, move |shared| shared.places().abort());
        let mine = shared.wait(1, Patience::Endless);
        let other = other.join().unwrap();
        aborting.join().unwrap();
        assert_eq!(mine.is_ok(), other.is_ok(), "{mine:?} {other:?}");
        assert!(shared.places().round().is_broken());
        shared.assert_whole();
    });
}

#[test]
fn loom_barrier_last_arrival_against_time_over() {
    model(|| {
        let shared = Shared::new(2);
        let other = beside(&shared, move |shared| shared.wait(2, Patience::None));
        let mine = shared.wait(1, Patience::Endless);
        let other = other.join().unwrap();
        assert_eq!(mine.is_ok(), other.is_ok(), "{mine:?} {other:?}");
        if mine.is_err() {
            assert_eq!(
                (mine, other),
                (Err(NotMet::Broken), Err(NotMet::TimedOut)),
                "each is told its own"
            );
        }
        shared.assert_whole();
    });
}

/// Those that a reset sends away come again, and meet in the new round.
#[test]
fn loom_barrier_reset_against_those_who_come() {
    large_model(|| {
        let shared = Shared::new(2);
        let others = beside(&shared, move |shared| {
            let come = || shared.wait(2, Patience::Endless);
            come().or_else(|_| come())
        });
        let resetting = beside(&shared, move |shared| shared.places().reset());
        let come = || shared.wait(1, Patience::Endless);
        let mine = come().or_else(|_| come());
        assert!(mine.is_ok() && others.join().unwrap().is_ok());
        resetting.join().unwrap();
        shared.assert_whole();
    });
}

/// A party is killed anywhere in its wait.
#[test]
fn loom_barrier_dead_party() {
    at_each_write(|victim| {
        let shared = Shared::new(2);
        let dying = beside(&shared, move |shared| {
            let wait = || shared.wait(1, Patience::Endless);
            victim.live(wait, || shared.bury(1))
        });
        let mine = shared.wait(2, Patience::UntilDeath);
        let dead = dying.join().unwrap();
        if let Some(met) = dead {
            assert!(met.is_ok() && mine.is_ok());
        }
        shared.repair();
        shared.assert_whole();
    });
}

/// Who takes a dead party off its place is killed on the way; those who wait are told all the same.
#[test]
fn loom_barrier_dead_repairer() {
    at_each_write(|victim| {
        let shared = Shared::new(2);
        let Arrival::Here(_) = shared.places().arrive(1) else {
            panic!("it is new");
        };
        shared.bury(1);
        let repairing = beside(&shared, move |shared| {
            victim.live(|| shared.repair(), || shared.bury(3));
        });
        // It would be the last one, but the first is dead, which it finds out before.
        shared.repair();
        let mine = shared.wait(2, Patience::Endless);
        assert_eq!(mine, Err(NotMet::Broken));
        repairing.join().unwrap();
        shared.assert_whole();
    });
}

/// Who aborts or resets is killed on the way.
#[test]
fn loom_barrier_dead_breaker() {
    for resets in [false, true] {
        at_each_write(move |victim| {
            let shared = Shared::new(2);
            let breaking = beside(&shared, move |shared| {
                let disturb = || match resets {
                    true => shared.places().reset(),
                    false => shared.places().abort(),
                };
                // In the end it is dead whether it was killed or not: nobody else comes.
                victim.live(disturb, || {});
                shared.bury(1);
            });
            let mine = shared.wait(2, Patience::UntilDeath);
            assert!(mine.is_err());
            breaking.join().unwrap();
            shared.assert_whole();
        });
    }
}

/// One that a reset has sent away dies before it has left its place: that breaks nothing any more, and who waits for the place is
/// woken when it is collected.
#[test]
fn loom_barrier_dead_party_of_an_earlier_round() {
    model(|| {
        let shared = Shared::new(1);
        let Arrival::Here(place) = shared.places().arrive(1) else {
            panic!("it is new");
        };
        shared.places().reset();
        assert_eq!(shared.places().end_of(place), Some(End::Broken));
        let other = beside(&shared, move |shared| shared.wait(2, Patience::Endless));
        assert_eq!(shared.places().repair(|member| member == 1), 1);
        assert_eq!(other.join().unwrap(), Ok(0));
        shared.assert_whole();
    });
}

/// A new member has the number of a dead one: it is not taken off its place for that.
#[test]
fn loom_barrier_new_member_with_a_dead_ones_number() {
    model(|| {
        let shared = Shared::new(2);
        shared.deaths.add(1);
        let repairing = beside(&shared, move |shared| shared.repair());
        shared.deaths.remove(1);
        let Arrival::Here(place) = shared.places().arrive(1) else {
            panic!("it is new");
        };
        repairing.join().unwrap();
        assert_eq!(shared.places().give_up(place), None, "it went on");
        shared.places().leave(place);
        shared.assert_whole();
    });
}

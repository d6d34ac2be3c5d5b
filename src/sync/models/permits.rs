//! Models of permits: never more at a time than there are, none lost, none found missing that was always there.

use super::parties::{Deaths, FENCES, at_each_write, beside, model};
use crate::arena::MemberId;
use crate::primitive::AtomicU64;
use crate::sync::EventCount;
use crate::sync::permits::{Counter, For, Permits};
use crate::sync::slots::Slots;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::time::Duration;

struct Shared {
    words: Vec<AtomicU64>,
    available: EventCount,
    long_wait: AtomicU64,
    deaths: Deaths,
    data: UnsafeCell<u32>,
}

impl Shared {
    fn new(room: usize, permits: usize) -> Arc<Shared> {
        let words: Vec<_> = (0..room).map(|_| AtomicU64::new(0)).collect();
        let shared = Shared {
            words,
            available: EventCount::new(),
            long_wait: AtomicU64::new(0),
            deaths: Deaths::new(),
            data: UnsafeCell::new(0),
        };
        shared.permits().init(permits);
        Arc::new(shared)
    }

    fn permits(&self) -> Permits<'_> {
        Permits(Slots::fixed(&self.words))
    }

    fn counter(&self) -> Counter<'_> {
        Counter {
            available: &self.available,
            long_wait: &self.long_wait,
            fences: FENCES,
        }
    }

    /// As `LocalSemaphore::acquire`, without end; every sleep is a long one.
    fn acquire(&self, me: MemberId) -> &AtomicU64 {
        let mut who = For::All;
        loop {
            let key = self.available.prepare(FENCES);
            let over = || {
                self.permits()
                    .take_over(me, |member| self.deaths.have(member))
            };
            if let Some(slot) = self.permits().take(me, 0, who).or_else(over) {
                return slot;
            }
            if who == For::Sleepers {
                self.counter().mark(true);
            }
            self.available.sleep(key, Duration::ZERO);
            who = For::Sleepers;
        }
    }

    fn give_back(&self, slot: &AtomicU64) {
        self.counter().give_back(slot);
    }

    fn cycle(&self, me: MemberId) {
        let slot = self.acquire(me);
        self.raise();
        self.give_back(slot);
    }

    fn bury(&self, member: MemberId) {
        self.deaths.add(member);
        self.available.expire();
    }

    fn raise(&self) {
        self.data.with_mut(|data| {
            // SAFETY: only who holds the only permit comes here; loom checks it.
            unsafe { *data += 1 }
        });
    }
}

#[test]
fn loom_permit_is_one_persons_at_a_time() {
    model(|| {
        let shared = Shared::new(1, 1);
        let others = [1, 2].map(|me| {
            beside(&shared, move |shared| {
                let Some(slot) = shared.permits().take(me, 0, For::All) else {
                    return 0;
                };
                shared.raise();
                shared.counter().give_back(slot);
                1
            })
        });
        let done: u32 = others.map(|other| other.join().unwrap()).iter().sum();
        assert!(done >= 1);
        let slot = shared
            .permits()
            .take(3, 0, For::All)
            .expect("it was given back");
        // SAFETY: the permit is held.
        shared.data.with(|data| assert_eq!(unsafe { *data }, done));
        shared.counter().give_back(slot);
    });
}

/// Two permits for two: each finds one, wherever the other is.
#[test]
fn loom_permit_that_is_always_there_is_found() {
    model(|| {
        let shared = Shared::new(2, 2);
        let other = beside(&shared, move |shared| {
            for from in [0, 1] {
                let slot = shared
                    .permits()
                    .take(1, from, For::All)
                    .expect("two for two");
                shared.counter().give_back(slot);
            }
        });
        let slot = shared.permits().take(2, 0, For::All).expect("two for two");
        shared.counter().give_back(slot);
        other.join().unwrap();
        assert_eq!(shared.permits().count(), 2);
    });
}

/// What a dead member held goes to one: to who takes it over, or to who finds it repaired.
#[test]
fn loom_permit_of_the_dead_comes_back_once() {
    model(|| {
        let shared = Shared::new(1, 1);
        shared.permits().take(1, 0, For::All).expect("the only one");
        shared.raise();
        let over = beside(&shared, move |shared| {
            let slot = shared.permits().take_over(2, |owner| owner == 1);
            slot.map(|_| shared.raise()).is_some()
        });
        let repaired = shared.permits().repair(|owner| owner == 1);
        let taken = shared
            .permits()
            .take(3, 0, For::All)
            .map(|_| shared.raise())
            .is_some();
        let over = over.join().unwrap();
        assert_eq!(u32::from(over) + repaired as u32, 1);
        assert_eq!(taken, repaired == 1);
    });
}

/// Permits that are made nobody's leave room for as many.
#[test]
fn loom_permit_forgotten_is_added_again() {
    model(|| {
        let shared = Shared::new(1, 1);
        let slot = shared.permits().take(1, 0, For::All).expect("the only one");
        let other = beside(&shared, move |shared| {
            if shared.permits().add(For::All).is_none() {
                return false;
            }
            assert!(
                !shared.permits().add(For::All).is_some(),
                "there is room for one"
            );
            shared.permits().take(2, 0, For::All).expect("it was added");
            shared.raise();
            true
        });
        shared.raise();
        Permits::forget(slot);
        if !other.join().unwrap() {
            assert!(shared.permits().add(For::All).is_some());
            shared.permits().take(2, 0, For::All).expect("it was added");
        }
    });
}

/// One permit, three who want it and sleep for it.
#[test]
fn loom_permit_wakes_who_sleeps_for_it() {
    model(|| {
        let shared = Shared::new(1, 1);
        let others = [1, 2].map(|me| beside(&shared, move |shared| shared.cycle(me)));
        shared.cycle(3);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(shared.permits().count(), 1);
    });
}

/// One has waited for long and goes; what was reserved for it goes to who has come meanwhile.
#[test]
fn loom_permit_reserved_for_one_who_has_gone() {
    model(|| {
        let shared = Shared::new(1, 1);
        let slot = shared.permits().take(1, 0, For::All).expect("the only one");
        let other = beside(&shared, move |shared| shared.cycle(2));
        let going = beside(&shared, move |shared| {
            shared.available.prepare(FENCES);
            shared.counter().mark(true);
        });
        shared.raise();
        shared.give_back(slot);
        other.join().unwrap();
        going.join().unwrap();
        shared.cycle(3);
        assert_eq!(shared.permits().count(), 1);
    });
}

/// One that is added is as good as one that is given back.
#[test]
fn loom_permit_added_wakes_who_sleeps_for_it() {
    model(|| {
        let shared = Shared::new(2, 0);
        let others = [1, 2].map(|me| {
            beside(&shared, move |shared| {
                shared.acquire(me);
                // SAFETY: nobody changes it any more, once there is a permit; loom checks it.
                shared.data.with(|data| assert_eq!(unsafe { *data }, 1));
            })
        });
        shared.raise();
        for _ in 0..2 {
            let whom = shared.counter().next();
            let slot = shared.permits().add(whom).expect("room for it");
            shared.counter().announce(slot, whom);
        }
        for other in others {
            other.join().unwrap();
        }
    });
}

/// One of three is killed anywhere between; the others have the permit one after the other.
#[test]
fn loom_permit_of_a_dead_holder_or_sleeper() {
    at_each_write(|victim| {
        let shared = Shared::new(1, 1);
        let dying = beside(&shared, move |shared| {
            victim.live(|| shared.cycle(1), || shared.bury(1));
        });
        shared.cycle(2);
        dying.join().unwrap();
        shared.cycle(3);
        assert_eq!(shared.permits().count(), 1);
    });
}

/// Who takes it over from the dead is killed, and so is who collects.
#[test]
fn loom_permit_of_a_dead_heir_or_collector() {
    for collects in [false, true] {
        at_each_write(move |victim| {
            let shared = Shared::new(1, 1);
            shared.permits().take(1, 0, For::All).expect("the only one");
            shared.raise();
            shared.bury(1);
            let dying = beside(&shared, move |shared| {
                let work = || match collects {
                    true => _ = shared.permits().repair(|member| member == 1),
                    false => shared.cycle(2),
                };
                victim.live(work, || shared.bury(2));
            });
            shared.cycle(3);
            dying.join().unwrap();
            shared.cycle(4);
            assert_eq!(shared.permits().count(), 1);
        });
    }
}

/// Who has a permit that was collected sees what the dead one did.
#[test]
fn loom_permit_collected_passes_on_what_was_done() {
    model(|| {
        let shared = Shared::new(1, 1);
        let dying = beside(&shared, move |shared| {
            let slot = shared.permits().take(1, 0, For::All);
            if slot.is_some() {
                shared.raise();
            }
            shared.deaths.add(1);
        });
        let collecting = beside(&shared, move |shared| {
            shared.permits().repair(|member| shared.deaths.have(member))
        });
        if shared.permits().take(2, 0, For::All).is_some() {
            shared.raise();
        }
        dying.join().unwrap();
        collecting.join().unwrap();
    });
}

/// Whoever has seen the word of a dead member is slow: meanwhile the permit is a new member's with the same number, or was taken
/// over by a member with another dead one's.
#[test]
fn loom_permit_of_a_new_member_with_a_dead_ones_number() {
    model(|| {
        let shared = Shared::new(1, 1);
        shared.permits().take(1, 0, For::All).expect("the only one");
        shared.bury(1);
        shared.deaths.add(3);
        let slow = beside(&shared, move |shared| {
            let over = shared
                .permits()
                .take_over(2, |member| shared.deaths.have(member));
            if let Some(slot) = over {
                shared.raise();
                shared.give_back(slot);
            }
        });
        shared.deaths.remove(3);
        let over = shared.permits().take_over(3, |member| member == 1);
        if let Some(slot) = over {
            shared.raise();
            shared.give_back(slot);
        }
        shared.deaths.remove(1);
        if let Some(slot) = shared.permits().take(1, 0, For::All) {
            shared.raise();
            shared.give_back(slot);
        }
        slow.join().unwrap();
        assert_eq!(shared.permits().count(), 1);
    });
}

//! Models of waiters for a notification: none is missed, none goes to two, and none dies with its waiter.

use super::parties::{Deaths, FENCES, Member, at_each_write, beside, model};
use crate::arena::MemberId;
use crate::os::clock::Deadline;
use crate::primitive::AtomicU64;
use crate::sync::EventCount;
use crate::sync::raw_lock::RawLock;
use crate::sync::slots::Slots;
use crate::sync::wait::Patience;
use crate::sync::waiters::{Waiter, Waiters};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::time::Duration;

struct Shared {
    notified: [EventCount; 1],
    tickets: AtomicU64,
    words: Vec<AtomicU64>,
    deaths: Deaths,
    lock: RawLock,
    items: UnsafeCell<u32>,
}

impl Shared {
    fn new(room: usize) -> Arc<Shared> {
        Arc::new(Shared {
            notified: [EventCount::new()],
            tickets: AtomicU64::new(0),
            words: (0..room).map(|_| AtomicU64::new(0)).collect(),
            deaths: Deaths::new(),
            lock: RawLock::new(),
            items: UnsafeCell::new(0),
        })
    }

    fn waiters(&self) -> Waiters<'_> {
        Waiters {
            notified: &self.notified,
            tickets: &self.tickets,
            slots: Slots::fixed(&self.words),
            fences: FENCES,
        }
    }

    fn enter(&self, me: MemberId) -> Waiter<'_> {
        self.waiters().enter(me).expect("room for all")
    }

    /// As `Entered::wait`, without end.
    fn wait(&self, waiter: Waiter<'_>) {
        let event = self.waiters().event_of(waiter);
        let is_dead = |member| self.deaths.have(member);
        loop {
            let key = event.prepare(FENCES);
            if self.waiters().look(waiter, Some(&is_dead)) {
                return;
            }
            event.sleep(key, Duration::ZERO);
        }
    }

    fn wait_and_take_note(&self, waiter: Waiter<'_>) {
        self.wait(waiter);
        self.waiters().take_note(waiter);
    }

    /// As a process that has entered as `me` in the place `index`, which is the order of entering here.
    fn entered(&self, index: usize) -> Waiter<'_> {
        Waiter::in_place(&self.words, index)
    }

    fn notify_one(&self) {
        self.waiters().notify(1, |_| false);
    }

    fn bury(&self, member: MemberId) {
        self.deaths.add(member);
        self.notified[0].expire();
    }

    /// Nobody waits, and nobody has a notification that is not noted.
    fn assert_over(&self) {
        self.waiters().repair(|member| self.deaths.have(member));
        assert_eq!(self.waiters().unfinished(), 0);
    }
}

/// What is added under a lock is found by who looks under it and then waits.
#[test]
fn loom_condition_no_notification_is_missed() {
    model(|| {
        let shared = Shared::new(1);
        let consumer = beside(&shared, move |shared| {
            let (lock, patience) = (&shared.lock, Patience::default());
            let deaths = &shared.deaths;
            let me = Member { id: 1, deaths };
            lock.lock(&me, &patience, Deadline::NEVER).unwrap();
            // SAFETY: the lock is held.
            while shared.items.with(|items| unsafe { *items }) == 0 {
                let waiter = shared.enter(1);
                lock.unlock(FENCES);
                shared.wait(waiter);
                lock.lock_again(&me, &patience);
                shared.waiters().take_note(waiter);
            }
            lock.unlock(FENCES);
        });
        let deaths = &shared.deaths;
        let me = Member { id: 2, deaths };
        let patience = Patience::default();
        shared.lock.lock(&me, &patience, Deadline::NEVER).unwrap();
        // SAFETY: the lock is held.
        shared.items.with_mut(|items| unsafe { *items += 1 });
        shared.lock.unlock(FENCES);
        shared.notify_one();
        consumer.join().unwrap();
    });
}

#[test]
fn loom_condition_two_notifiers_do_not_notify_the_same() {
    model(|| {
        let shared = Shared::new(2);
        let first = shared.enter(1);
        shared.enter(2);
        let notifier = beside(&shared, move |shared| shared.notify_one());
        let second = beside(&shared, move |shared| {
            shared.wait_and_take_note(shared.entered(1))
        });
        shared.notify_one();
        shared.wait_and_take_note(first);
        notifier.join().unwrap();
        second.join().unwrap();
        shared.assert_over();
    });
}

#[test]
fn loom_condition_all_are_notified() {
    model(|| {
        let shared = Shared::new(2);
        let first = shared.enter(1);
        shared.enter(2);
        let second = beside(&shared, move |shared| {
            shared.wait_and_take_note(shared.entered(1))
        });
        let notifier = beside(&shared, move |shared| shared.waiters().notify_all());
        shared.wait_and_take_note(first);
        second.join().unwrap();
        notifier.join().unwrap();
        shared.assert_over();
    });
}

/// One whose time is over either has the notification or leaves it to the next.
#[test]
fn loom_condition_notification_against_time_over() {
    model(|| {
        let shared = Shared::new(2);
        shared.enter(1);
        let second = shared.enter(2);
        let leaving = beside(&shared, move |shared| {
            let (waiters, waiter) = (shared.waiters(), shared.entered(0));
            let notified = !waiters.leave(waiter);
            if notified {
                waiters.take_note(waiter);
            }
            notified
        });
        shared.notify_one();
        if leaving.join().unwrap() {
            assert!(!shared.waiters().look(second, None), "there was one");
            shared.notify_one();
        }
        shared.wait_and_take_note(second);
        shared.assert_over();
    });
}

/// Who enters in the place that another leaves has no notification of the other's.
#[test]
fn loom_condition_a_place_is_used_again() {
    model(|| {
        let shared = Shared::new(2);
        shared.enter(1);
        let first = beside(&shared, move |shared| {
            shared.wait_and_take_note(shared.entered(0));
            let again = shared.enter(1);
            let notified = shared.waiters().look(again, None);
            assert!(shared.waiters().leave(again) != notified);
            notified
        });
        let notified = {
            shared.notify_one();
            let waiter = shared.enter(2);
            let notified = shared.waiters().look(waiter, None);
            assert!(shared.waiters().leave(waiter) != notified);
            notified
        };
        assert!(
            !first.join().unwrap() && !notified,
            "there was one, for one"
        );
        shared.assert_over();
    });
}

/// The first of two is killed anywhere in its wait. One notification is meant for it: the other has it, or it was the dead one's,
/// who took note of it.
#[test]
fn loom_condition_dead_waiter_swallows_nothing() {
    at_each_write(|victim| {
        let shared = Shared::new(2);
        shared.enter(1);
        shared.enter(2);
        let first = beside(&shared, move |shared| {
            let wait = || shared.wait_and_take_note(shared.entered(0));
            victim.live(wait, || shared.bury(1)).is_some()
        });
        let second = beside(&shared, move |shared| {
            shared.wait_and_take_note(shared.entered(1))
        });
        shared.notify_one();
        if first.join().unwrap() {
            shared.notify_one();
        }
        second.join().unwrap();
        shared.assert_over();
    });
}

/// Who takes over the notification of a dead one is killed on the way: there may be one too many then, but not one too few.
#[test]
fn loom_condition_dead_heir() {
    at_each_write(|victim| {
        let shared = Shared::new(3);
        for member in [1, 2, 3] {
            shared.enter(member);
        }
        shared.notify_one();
        shared.bury(1);
        let heir = beside(&shared, move |shared| {
            let wait = || shared.wait_and_take_note(shared.entered(1));
            victim.live(wait, || shared.bury(2));
        });
        // The one of the dead, and this one: two for two.
        shared.notify_one();
        shared.wait_and_take_note(shared.entered(2));
        heir.join().unwrap();
        shared.assert_over();
    });
}

/// Who collects what a dead one left is killed on the way, while another finds out for itself.
#[test]
fn loom_condition_dead_collector() {
    at_each_write(|victim| {
        let shared = Shared::new(3);
        for member in [1, 2, 3] {
            shared.enter(member);
        }
        shared.notify_one();
        shared.bury(1);
        shared.bury(2);
        let collector = beside(&shared, move |shared| {
            let collect = || shared.waiters().repair(|member| member < 3);
            victim.live(collect, || shared.bury(4));
        });
        shared.wait_and_take_note(shared.entered(2));
        collector.join().unwrap();
        shared.assert_over();
    });
}

/// The same for one who can only wait for the collection: an orphan reaches it.
#[test]
fn loom_condition_orphan() {
    model(|| {
        let shared = Shared::new(2);
        shared.enter(1);
        shared.enter(2);
        shared.notify_one();
        shared.deaths.add(1);
        let collector = beside(&shared, move |shared| {
            shared.waiters().repair(|member| member == 1)
        });
        let (waiters, waiter) = (shared.waiters(), shared.entered(1));
        loop {
            let key = shared.notified[0].prepare(FENCES);
            if waiters.look(waiter, None) {
                break;
            }
            shared.notified[0].sleep(key, Duration::ZERO);
        }
        waiters.take_note(waiter);
        assert_eq!(collector.join().unwrap(), 1);
        shared.assert_over();
    });
}

/// A notifier is killed on the way: who is notified by it finds out, and nobody else is hindered.
#[test]
fn loom_condition_dead_notifier() {
    at_each_write(|victim| {
        let shared = Shared::new(2);
        shared.enter(1);
        shared.enter(2);
        let first = beside(&shared, move |shared| {
            shared.wait_and_take_note(shared.entered(0))
        });
        let notifier = beside(&shared, move |shared| {
            let notify = || shared.notify_one();
            victim.live(notify, || shared.bury(3));
        });
        shared.waiters().notify_all();
        shared.wait_and_take_note(shared.entered(1));
        first.join().unwrap();
        notifier.join().unwrap();
        shared.assert_over();
    });
}

/// Longest first, whatever its place; who is known to be dead is passed over; and what a dead one had is not for those who come later.
#[test]
fn loom_condition_who_is_entitled() {
    model(|| {
        let shared = Shared::new(3);
        let waiters = shared.waiters();
        let first = shared.enter(1);
        let second = shared.enter(2);
        assert!(waiters.leave(first));
        let third = shared.enter(3);
        shared.notify_one();
        assert!(waiters.look(second, None) && !waiters.look(third, None));
        waiters.take_note(second);
        let fourth = shared.enter(4);
        waiters.notify(1, |member| member == 3);
        assert!(waiters.look(fourth, None));
        shared.bury(4);
        let late = shared.enter(5);
        let is_dead = |member| shared.deaths.have(member);
        assert!(!waiters.look(late, Some(&is_dead)), "it came later");
        assert!(waiters.look(third, Some(&is_dead)));
        waiters.take_note(third);
        assert!(waiters.leave(late));
        shared.assert_over();
    });
}

/// A new member has the number of a dead one: its notification is its own.
#[test]
fn loom_condition_new_member_with_a_dead_ones_number() {
    model(|| {
        let shared = Shared::new(2);
        shared.deaths.add(1);
        let heir = beside(&shared, move |shared| {
            let (waiters, waiter) = (shared.waiters(), shared.enter(2));
            let is_dead = |member| shared.deaths.have(member);
            if waiters.look(waiter, Some(&is_dead)) || !waiters.leave(waiter) {
                waiters.take_note(waiter);
            }
        });
        let notifier = beside(&shared, move |shared| shared.notify_one());
        shared.deaths.remove(1);
        let waiter = shared.enter(1);
        notifier.join().unwrap();
        heir.join().unwrap();
        shared.waiters().notify_all();
        shared.wait_and_take_note(waiter);
        shared.assert_over();
    });
}

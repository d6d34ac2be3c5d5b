//! Sweeps of semaphores, events, conditions and barriers: of who takes, gives and waits, and of who does it for a sleeper.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use multiprocess::{
    Barrier, BarrierError, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore, spawn,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ring::LONG;
use crate::sleepers::await_sleep;
use crate::sweep::{Corpse, Outcome, Sweep, alone};
use crate::victim::marked;

/// Something shared, and threads of the survivors that sleep for it.
pub struct World<T> {
    pub shared: T,
    sleepers: Vec<JoinHandle<bool>>,
}

impl<T: Clone + Send + 'static> World<T> {
    pub fn new(shared: T) -> World<T> {
        World {
            shared,
            sleepers: Vec::new(),
        }
    }

    pub fn with_sleeper(mut self, wait: fn(T) -> bool) -> World<T> {
        let shared = self.shared.clone();
        let (send, receive) = mpsc::channel();
        self.sleepers.push(thread::spawn(move || {
            // SAFETY: takes nothing.
            let id = unsafe { libc::gettid() };
            send.send(id).expect("the test thread waits for it");
            wait(shared)
        }));
        await_sleep(receive.recv().expect("the sleeper begins with it"));
        self
    }

    /// What each sleeper found. All must come back.
    pub fn woken(self) -> Vec<bool> {
        let start = Instant::now();
        while self.sleepers.iter().any(|sleeper| !sleeper.is_finished()) {
            assert!(start.elapsed() < LONG, "a sleeper was not woken");
            thread::sleep(Duration::from_millis(1));
        }
        let joined = self.sleepers.into_iter().map(JoinHandle::join);
        joined
            .map(|found| found.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    }
}

pub struct Case<T: 'static> {
    pub name: &'static str,
    pub setup: fn() -> World<T>,
    pub victim: fn(T),
    pub unblock: Option<fn(&T)>,
    pub steady: bool,
    pub check: fn(World<T>, Corpse) -> Outcome,
    pub whole: Outcome,
}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Case<T> {
    /// An operation that never waits and whose effect can be told.
    pub fn steady(
        name: &'static str,
        setup: fn() -> World<T>,
        victim: fn(T),
        check: fn(World<T>, Corpse) -> Outcome,
    ) -> Case<T> {
        Case {
            name,
            setup,
            victim,
            unblock: None,
            steady: true,
            check,
            whole: Outcome::Done,
        }
    }

    pub fn run(self) {
        let unblock = self.unblock;
        let unblock = unblock.map(|unblock| move |world: &mut World<T>| unblock(&world.shared));
        let victim = self.victim;
        Sweep {
            name: self.name,
            setup: &self.setup,
            victim: &|world: &mut World<T>| spawn(victim, world.shared.clone()).expect("spawn"),
            unblock: unblock.as_ref().map(|f| f as &dyn Fn(&mut World<T>)),
            steady: self.steady,
            check: &self.check,
            whole: self.whole,
        }
        .run(&alone());
    }
}

fn done_if(done: bool) -> Outcome {
    if done {
        Outcome::Done
    } else {
        Outcome::NotDone
    }
}

/// All permits are to be had, and no more than these.
fn has(semaphore: &Semaphore, count: usize) {
    let permits: Vec<_> = (0..count)
        .map(|_| semaphore.acquire_timeout(LONG).expect("a permit is lost"))
        .collect();
    assert!(semaphore.try_acquire().is_err(), "a permit too many");
    drop(permits);
}

#[test]
fn permits_taken_and_given_back() {
    for held in [0, 1] {
        Case {
            name: "acquire and drop",
            setup: match held {
                0 => || World::new(Semaphore::new(2).expect("a semaphore")),
                _ => || World::new(Semaphore::new(1).expect("a semaphore")),
            },
            victim: |semaphore| {
                marked(|| drop(semaphore.acquire().expect("acquire")));
            },
            unblock: None,
            steady: true,
            check: if held == 0 {
                |world, _| {
                    has(&world.shared, 2);
                    Outcome::Untold
                }
            } else {
                |world, _| {
                    has(&world.shared, 1);
                    Outcome::Untold
                }
            },
            whole: Outcome::Untold,
        }
        .run();
    }
}

#[test]
fn a_permit_forgotten_and_one_added() {
    Case {
        name: "forget",
        setup: || World::new(Semaphore::new(2).expect("a semaphore")),
        victim: |semaphore| {
            let permit = semaphore.acquire().expect("acquire");
            marked(|| permit.forget());
        },
        unblock: None,
        steady: true,
        check: |world, _| {
            let first = world.shared.acquire_timeout(LONG).expect("a free one");
            // Killed before, it comes back.
            let done = world.shared.try_acquire().is_err();
            drop(first);
            has(&world.shared, if done { 1 } else { 2 });
            done_if(done)
        },
        whole: Outcome::Done,
    }
    .run();
    Case {
        name: "release of a bounded semaphore",
        setup: || {
            let semaphore = BoundedSemaphore::new(1).expect("a semaphore");
            semaphore.acquire().expect("acquire").forget();
            World::new(semaphore)
        },
        victim: |semaphore| marked(|| semaphore.release()).expect("release"),
        unblock: None,
        steady: true,
        check: |world, _| {
            let done = world.shared.value() == 1;
            assert_eq!(world.shared.release().is_ok(), !done);
            drop(world.shared.acquire_timeout(LONG).expect("the only one"));
            done_if(done)
        },
        whole: Outcome::Done,
    }
    .run();
    Case {
        name: "release that takes another block",
        setup: || {
            let semaphore = Semaphore::new(0).expect("a semaphore");
            (0..8).for_each(|_| semaphore.release().expect("release"));
            World::new(semaphore)
        },
        victim: |semaphore| marked(|| semaphore.release()).expect("release"),
        unblock: None,
        steady: true,
        check: |world, _| {
            let done = world.shared.value() == 9;
            has(&world.shared, if done { 9 } else { 8 });
            done_if(done)
        },
        whole: Outcome::Done,
    }
    .run();
}

fn sleep_for_permit(semaphore: Semaphore) -> bool {
    semaphore.acquire_timeout(LONG).is_ok()
}

#[test]
fn a_permit_that_somebody_sleeps_for() {
    Case {
        name: "drop of a permit for a sleeper",
        setup: || World::new(Semaphore::new(1).expect("a semaphore")),
        victim: |semaphore| {
            let permit = semaphore.acquire().expect("acquire");
            marked(|| drop(permit));
        },
        unblock: None,
        steady: true,
        check: |world, _| {
            let shared = world.shared.clone();
            assert_eq!(world.with_sleeper_awake().woken(), [true]);
            has(&shared, 1);
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
    Case {
        name: "release for a sleeper",
        setup: || {
            World::new(Semaphore::new(0).expect("a semaphore")).with_sleeper(sleep_for_permit)
        },
        victim: |semaphore| marked(|| semaphore.release()).expect("release"),
        unblock: None,
        steady: true,
        check: |world, _| {
            thread::sleep(Duration::from_millis(1));
            let shared = world.shared.clone();
            let done = shared.value() == 1 || {
                let start = Instant::now();
                while !world.sleepers[0].is_finished() && start.elapsed().as_millis() < 250 {
                    thread::sleep(Duration::from_millis(1));
                }
                world.sleepers[0].is_finished()
            };
            if !done {
                shared.release().expect("release");
            }
            assert_eq!(world.woken(), [true]);
            has(&shared, 1);
            done_if(done)
        },
        whole: Outcome::Done,
    }
    .run();
    Case {
        name: "acquire, none there",
        setup: || World::new(Semaphore::new(0).expect("a semaphore")),
        victim: |semaphore| marked(|| drop(semaphore.acquire().expect("acquire"))),
        unblock: Some(|semaphore| semaphore.release().expect("release")),
        steady: false,
        check: |world, _| {
            if world.shared.value() == 0 && world.shared.try_acquire().is_err() {
                world.shared.release().expect("release");
            }
            has(&world.shared, 1);
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

impl World<Semaphore> {
    /// One that waits although there may be a permit already.
    fn with_sleeper_awake(mut self) -> Self {
        let shared = self.shared.clone();
        self.sleepers
            .push(thread::spawn(move || sleep_for_permit(shared)));
        self
    }
}

#[test]
fn an_event_that_somebody_sleeps_for() {
    Case {
        name: "set for sleepers",
        setup: || {
            let world = World::new(Event::new().expect("an event"));
            let wait = |event: Event| event.wait_timeout(LONG);
            world.with_sleeper(wait).with_sleeper(wait)
        },
        victim: |event| marked(|| event.set()),
        unblock: None,
        steady: true,
        check: |world, _| {
            let done = world.shared.is_set();
            if !done {
                world.shared.set();
            }
            assert_eq!(world.woken(), [true, true]);
            done_if(done)
        },
        whole: Outcome::Done,
    }
    .run();
    Case {
        name: "wait for an event",
        setup: || World::new(Event::new().expect("an event")),
        victim: |event| assert!(marked(|| event.wait())),
        unblock: Some(|event| event.set()),
        steady: false,
        check: |world, _| {
            world.shared.clear();
            assert!(!world.shared.wait_timeout(Duration::from_millis(1)));
            world.shared.set();
            assert!(world.shared.wait_timeout(LONG));
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

pub type Place = (Lock<u64>, Condition);

pub fn place() -> Place {
    (
        Lock::new(0).expect("a lock"),
        Condition::new().expect("a condition"),
    )
}

/// Waits until the number is not zero, and takes one from it.
pub fn take_one((lock, condition): Place) -> bool {
    let guard = match lock.lock_timeout(LONG) {
        Ok(guard) => guard,
        Err(error) => error.into_guard().expect("the lock"),
    };
    let waited = condition.wait_timeout_while(guard, LONG, |number| **number == 0);
    let mut guard = match waited {
        Ok((guard, _)) => guard,
        Err(error) => error.into_guard(),
    };
    guard.mark_consistent();
    let found = *guard > 0;
    *guard = guard.saturating_sub(1);
    found
}

pub fn add_one((lock, condition): &Place) {
    let mut guard = match lock.lock_timeout(LONG) {
        Ok(guard) => guard,
        Err(error) => error.into_guard().expect("the lock"),
    };
    guard.mark_consistent();
    *guard += 1;
    drop(guard);
    condition.notify_one();
}

#[test]
fn a_notification_for_a_sleeper() {
    Case {
        name: "notify_one for a sleeper",
        setup: || World::new(place()).with_sleeper(take_one),
        victim: |(lock, condition)| {
            *lock.lock().expect("lock") += 1;
            marked(|| condition.notify_one());
        },
        unblock: None,
        steady: true,
        check: |world, _| {
            // The number is there whether the notification was sent or not.
            world.shared.1.notify_one();
            assert_eq!(world.woken(), [true]);
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

/// One notification, two who wait, of whom one is killed: the other has it, or it was the dead one's.
#[test]
fn a_waiter_that_dies_swallows_no_notification() {
    Case {
        name: "wait for a notification",
        setup: || World::new(place()),
        victim: |(lock, condition)| {
            let guard = lock.lock().expect("lock");
            let guard = marked(|| condition.wait(guard)).expect("wait");
            drop(guard);
        },
        unblock: Some(add_one),
        steady: false,
        check: |world, _| {
            let shared = world.shared.clone();
            let (lock, _) = &shared;
            // This one came later and waits only if there is nothing.
            let world = world.with_sleeper_at_will(take_one);
            add_one(&shared);
            assert_eq!(world.woken(), [true]);
            drop(lock.lock_timeout(LONG).expect("free and consistent"));
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

impl World<Place> {
    pub fn with_sleeper_at_will(mut self, wait: fn(Place) -> bool) -> Self {
        let shared = self.shared.clone();
        self.sleepers.push(thread::spawn(move || wait(shared)));
        self
    }
}

pub fn meets(barrier: &Barrier) {
    let other = {
        let barrier = barrier.clone();
        thread::spawn(move || barrier.wait_timeout(LONG))
    };
    barrier.wait_timeout(LONG).expect("whole again");
    other.join().expect("no panic").expect("whole again");
}

#[test]
fn a_party_that_dies_breaks_the_barrier_or_has_met() {
    Case {
        name: "barrier wait of the last",
        setup: || {
            let world = World::new(Barrier::new(2).expect("a barrier"));
            world.with_sleeper(|barrier| match barrier.wait_timeout(LONG) {
                Ok(_) => true,
                Err(BarrierError::Broken) => false,
                Err(error) => panic!("{error}"),
            })
        },
        victim: |barrier| {
            marked(|| barrier.wait()).expect("wait");
        },
        unblock: None,
        steady: true,
        check: |world, _| {
            let barrier = world.shared.clone();
            // Killed before it came, it broke nothing, and another must come.
            let start = Instant::now();
            while !world.sleepers[0].is_finished() && start.elapsed().as_millis() < 250 {
                thread::sleep(Duration::from_millis(1));
            }
            let came = world.sleepers[0].is_finished();
            if !came {
                barrier.wait_timeout(LONG).expect("two are there");
            }
            let met = world.woken() == [true];
            assert_eq!(barrier.is_broken(), !met);
            barrier.reset();
            meets(&barrier);
            done_if(came && met)
        },
        whole: Outcome::Done,
    }
    .run();
    Case {
        name: "barrier wait of the first",
        setup: || World::new(Barrier::new(2).expect("a barrier")),
        victim: |barrier| {
            marked(|| barrier.wait()).expect("wait");
        },
        unblock: Some(|barrier| {
            barrier.wait_timeout(LONG).expect("two are there");
        }),
        steady: false,
        check: |world, _| {
            // It may have come; then its death breaks the round for who comes.
            let barrier = world.shared;
            let mut end = barrier.wait_timeout(Duration::from_millis(1));
            if end.is_ok() {
                end = barrier.wait_timeout(Duration::from_millis(1));
            }
            assert!(end.is_err(), "nobody else is there");
            assert!(barrier.is_broken());
            barrier.reset();
            meets(&barrier);
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

#[test]
fn a_recursive_lock_taken_twice() {
    Case {
        name: "lock, lock, drop, drop",
        setup: || World::new(RLock::new().expect("a lock")),
        victim: |lock| {
            marked(|| {
                let outer = lock.lock().expect("lock");
                drop(lock.lock().expect("again"));
                drop(outer);
            });
        },
        unblock: None,
        steady: true,
        check: |world, _| {
            match world.shared.lock_timeout(LONG) {
                Ok(_) => {}
                Err(error) => {
                    let guard = error.into_guard().expect("the lock");
                    guard.mark_consistent();
                }
            }
            assert!(!world.shared.is_locked(), "one guard was one too few");
            drop(world.shared.lock_timeout(LONG).expect("consistent"));
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

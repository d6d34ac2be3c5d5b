//! Sweeps of those who disturb a meeting, who notify all, and who collect what a dead party, waiter or holder left.

use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{
    Barrier, BarrierError, BoundedSemaphore, Condition, Event, Lock, Process, RLock, family, spawn,
};

use crate::lock::await_zombie;
use crate::ring::LONG;
use crate::stepper::End;
use crate::sweep::{Corpse, Outcome, Sweep, Victim, alone};
use crate::sync::{Case, World, add_one, meets, place, take_one};
use crate::victim::marked;

/// A barrier for two at which one waits: true if they met.
fn one_waits() -> World<Barrier> {
    let world = World::new(Barrier::new(2).expect("a barrier"));
    world.with_sleeper(|barrier| match barrier.wait_timeout(LONG) {
        Ok(_) => true,
        Err(BarrierError::Broken) => false,
        Err(error) => panic!("{error}"),
    })
}

#[test]
fn a_barrier_aborted() {
    Case {
        name: "abort of a barrier at which somebody waits",
        setup: one_waits,
        victim: |barrier| marked(|| barrier.abort()),
        unblock: None,
        steady: true,
        check: |world, _| {
            let barrier = world.shared.clone();
            let done = barrier.is_broken();
            if !done {
                assert_eq!(barrier.waiting(), 1);
                barrier.abort();
            }
            assert_eq!(world.woken(), [false]);
            assert_eq!(barrier.wait(), Err(BarrierError::Broken));
            barrier.reset();
            meets(&barrier);
            done.into()
        },
        whole: Outcome::Done,
    }
    .run();
}

#[test]
fn a_barrier_reset() {
    Case {
        name: "reset of a barrier at which somebody waits",
        setup: one_waits,
        victim: |barrier| marked(|| barrier.reset()),
        unblock: None,
        steady: true,
        check: |world, _| {
            let barrier = world.shared.clone();
            let done = barrier.waiting() == 0;
            if !done {
                barrier.reset();
            }
            assert_eq!(world.woken(), [false]);
            assert!(!barrier.is_broken());
            meets(&barrier);
            done.into()
        },
        whole: Outcome::Done,
    }
    .run();
    Case {
        name: "reset of a broken barrier",
        setup: || {
            let barrier = Barrier::new(2).expect("a barrier");
            barrier.abort();
            World::new(barrier)
        },
        victim: |barrier| marked(|| barrier.reset()),
        unblock: None,
        steady: true,
        check: |world, _| {
            let done = !world.shared.is_broken();
            if !done {
                world.shared.reset();
            }
            meets(&world.shared);
            done.into()
        },
        whole: Outcome::Done,
    }
    .run();
}

#[test]
fn all_who_sleep_are_notified() {
    Case {
        name: "notify_all for sleepers",
        setup: || {
            World::new(place())
                .with_sleeper(take_one)
                .with_sleeper(take_one)
        },
        victim: |(lock, condition)| {
            *lock.lock().expect("lock") += 2;
            marked(|| condition.notify_all());
        },
        unblock: None,
        steady: true,
        check: |world, _| {
            // The numbers are there whether the notifications were sent or not.
            world.shared.1.notify_all();
            assert_eq!(world.woken(), [true, true]);
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

/// The lock is taken three times, and given up whole for the wait.
#[test]
fn a_wait_with_a_recursive_lock() {
    Case {
        name: "wait with a lock taken three times",
        setup: || {
            let lock = RLock::new().expect("a lock");
            World::new((lock, Condition::new().expect("a condition")))
        },
        victim: |(lock, condition)| {
            let _outer = [lock.lock().expect("lock"), lock.lock().expect("again")];
            let guard = lock.lock().expect("again");
            drop(marked(|| condition.wait(guard)).expect("wait"));
        },
        unblock: Some(|(_, condition)| condition.notify_one()),
        steady: false,
        check: |world, _| {
            let (lock, condition) = &world.shared;
            let guard = match lock.lock_timeout(LONG) {
                Ok(guard) => guard,
                Err(error) => error.into_guard().expect("the lock"),
            };
            guard.mark_consistent();
            let (guard, notified) = condition
                .wait_timeout(guard, Duration::from_millis(1))
                .expect("the lock is consistent");
            assert!(!notified, "the dead one's was for nobody who comes later");
            drop(guard);
            assert!(!lock.is_locked(), "it was taken once");
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

/// Something shared, and a process that was killed with a part in it. Nobody has been told.
struct Grave<T> {
    shared: T,
    dead: Process<()>,
}

type Held = (BoundedSemaphore, Event);

fn die_with_permits((permits, ready): Held) {
    std::mem::forget((permits.acquire(), permits.acquire()));
    ready.set();
    thread::sleep(LONG);
}

fn die_at_barrier((barrier, _): (Barrier, Event)) {
    let _ = barrier.wait();
}

fn until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < LONG, "it never comes");
        thread::sleep(Duration::from_micros(100));
    }
}

impl<T> Grave<T> {
    fn new(shared: T, dead: Process<()>) -> Grave<T> {
        dead.kill().expect("kill");
        await_zombie(dead.pid());
        Grave { shared, dead }
    }
}

fn collect<T>(shared: T) {
    marked(family::stats);
    drop(shared);
}

/// Sweeps one who collects what the dead process left.
fn sweep_collection<T>(name: &str, setup: fn() -> Grave<T>, check: fn(T))
where
    T: Clone + serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    Sweep {
        name,
        setup: &setup,
        victim: &|grave: &mut Grave<T>| spawn(collect::<T>, grave.shared.clone()).expect("spawn"),
        unblock: None,
        steady: true,
        check: &|grave: Grave<T>, _: Corpse| {
            check(grave.shared);
            grave
                .dead
                .reap(End::Killed(libc::SIGKILL))
                .expect("it was killed");
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run(&alone());
}

#[test]
fn collecting_what_a_holder_of_permits_left() {
    sweep_collection(
        "collecting permits",
        || {
            let permits = BoundedSemaphore::new(2).expect("a semaphore");
            let held = (permits, Event::new().expect("an event"));
            let dead = spawn(die_with_permits, held.clone()).expect("spawn");
            assert!(held.1.wait_timeout(LONG));
            Grave::new(held, dead)
        },
        |(permits, _)| {
            let both = [(); 2].map(|()| permits.acquire_timeout(LONG).expect("both come back"));
            assert!(permits.try_acquire().is_err(), "a permit too many");
            drop(both);
            assert_eq!(permits.value(), 2);
        },
    );
}

#[test]
fn collecting_what_a_party_left() {
    sweep_collection(
        "collecting a party",
        || {
            let shared = (
                Barrier::new(3).expect("a barrier"),
                Event::new().expect("an event"),
            );
            let dead = spawn(die_at_barrier, shared.clone()).expect("spawn");
            until(|| shared.0.waiting() == 1);
            Grave::new(shared, dead)
        },
        |(barrier, _)| {
            assert_eq!(barrier.wait_timeout(LONG), Err(BarrierError::Broken));
            barrier.reset();
            let others = [(); 2].map(|()| {
                let barrier = barrier.clone();
                thread::spawn(move || barrier.wait_timeout(LONG))
            });
            barrier.wait_timeout(LONG).expect("whole again");
            for other in others {
                other.join().expect("no panic").expect("whole again");
            }
        },
    );
}

type Rest = (Lock<u64>, Condition);

fn die_waiting((lock, condition): Rest) {
    drop(condition.wait(lock.lock().expect("lock")).expect("wait"));
}

/// The dead process has the only notification; a thread of the survivors waits since before that.
#[test]
fn collecting_what_a_waiter_left() {
    sweep_collection(
        "collecting a notification",
        || {
            let shared = place();
            let waits = |count: u32| {
                until(|| format!("{:?}", shared.1).contains(&format!("waiting: {count},")));
            };
            let dead = spawn(die_waiting, shared.clone()).expect("spawn");
            waits(1);
            drop(shared.0.lock().expect("it waits"));
            // SAFETY: the process is a child that nobody has reaped.
            unsafe { libc::kill(dead.pid() as i32, libc::SIGSTOP) };
            await_stop(dead.pid());
            Grave::new(shared, dead)
        },
        |shared| {
            let world = World::new(shared).with_sleeper_at_will(take_one);
            add_one(&world.shared);
            assert_eq!(world.woken(), [true]);
        },
    );
}

fn await_stop(pid: u32) {
    let path = format!("/proc/{pid}/stat");
    until(|| std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") T ")));
}

/// The holder is killed while the victim sleeps for its lock; the victim takes it over, and is killed on the way.
#[test]
fn taking_over_what_one_slept_for() {
    for reaped in [false, true] {
        let corpse = if reaped { "reaped" } else { "zombie" };
        Sweep {
            name: &format!("taking over after a sleep, {corpse}"),
            setup: &|| {
                let shared = place();
                let ready = Event::new().expect("an event");
                let holder = spawn(hold, (shared.0.clone(), ready.clone())).expect("spawn");
                assert!(ready.wait_timeout(LONG));
                (shared.0, Some(holder))
            },
            victim: &|world: &mut (Lock<u64>, Option<Process<()>>)| {
                spawn(take_over, world.0.clone()).expect("spawn")
            },
            unblock: Some(&|world: &mut (Lock<u64>, Option<Process<()>>)| {
                let Some(holder) = world.1.take() else {
                    return;
                };
                holder.kill().expect("kill");
                if reaped {
                    holder.wait();
                } else {
                    await_zombie(holder.pid());
                    world.1 = Some(holder);
                }
            }),
            steady: false,
            check: &|(lock, holder), _| {
                if let Some(holder) = holder {
                    // Unless the victim slept it lives still.
                    holder.kill().expect("kill");
                    holder.wait();
                }
                let told = match lock.lock_timeout(LONG) {
                    Ok(_) => false,
                    Err(error) => {
                        error
                            .into_guard()
                            .expect("nobody holds it")
                            .mark_consistent();
                        true
                    }
                };
                drop(lock.lock_timeout(LONG).expect("free and consistent"));
                (!told).into()
            },
            whole: Outcome::Done,
        }
        .run(&alone());
    }
}

fn hold((lock, ready): (Lock<u64>, Event)) {
    let _guard = lock.lock().expect("lock");
    ready.set();
    thread::sleep(LONG);
}

fn take_over(lock: Lock<u64>) {
    marked(|| match lock.lock() {
        Err(error) => error
            .into_guard()
            .expect("its holder died")
            .mark_consistent(),
        Ok(_) => panic!("its holder died with it"),
    });
}

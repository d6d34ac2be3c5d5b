//! Sweeps of what is taken and released while somebody has waited for it for long: then it is released for sleepers alone, and who
//! comes stands back. Whoever is killed meanwhile, the others get it.

use std::thread;
use std::time::Duration;

use multiprocess::{Lock, LockError, Semaphore};

use crate::ring::LONG;
use crate::sweep::Outcome;
use crate::sync::{Case, World};
use crate::victim::marked;

/// Long enough for a sleeper to say so.
fn wait_for_long() {
    thread::sleep(Duration::from_millis(5));
}

/// Takes it and releases it; whoever died with it.
fn use_lock(lock: Lock) -> bool {
    match lock.lock_timeout(LONG) {
        Ok(guard) => drop(guard),
        Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
        Err(error) => panic!("the lock is lost: {error:?}"),
    }
    true
}

fn use_permit(permits: Semaphore) -> bool {
    drop(permits.acquire_timeout(LONG).expect("a permit is lost"));
    true
}

/// A lock that is left locked, and somebody who has slept for it for long.
fn left_with_sleeper() -> World<Lock> {
    let lock = Lock::new(()).expect("a lock");
    lock.lock().expect("a free lock").forget();
    let world = World::new(lock).with_sleeper(use_lock);
    wait_for_long();
    world
}

fn without_permits(count: usize) -> World<Semaphore> {
    let permits = Semaphore::new(0).expect("a semaphore");
    let world = (0..count).fold(World::new(permits), |world, _| {
        world.with_sleeper(use_permit)
    });
    wait_for_long();
    world
}

#[test]
fn taking_what_others_have_waited_for_for_long() {
    Case {
        name: "lock, and somebody sleeps for long",
        setup: left_with_sleeper,
        victim: |lock| assert!(marked(|| use_lock(lock))),
        unblock: Some(|lock| _ = lock.release()),
        steady: false,
        check: |world, _| {
            let lock = world.shared.clone();
            let _ = lock.release();
            assert_eq!(world.woken(), [true]);
            assert!(use_lock(lock));
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
    Case {
        name: "acquire, and somebody sleeps for long",
        setup: || without_permits(1),
        victim: |permits| assert!(marked(|| use_permit(permits))),
        unblock: Some(|permits| permits.release().expect("release")),
        steady: false,
        check: |world, _| {
            let permits = world.shared.clone();
            if permits.value() == 0 {
                permits.release().expect("release");
            }
            assert_eq!(world.woken(), [true]);
            assert!(use_permit(permits));
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

#[test]
fn releasing_what_others_have_waited_for_for_long() {
    Case {
        name: "release for one who has slept for long",
        setup: left_with_sleeper,
        victim: |lock| marked(|| lock.release()).expect("left locked"),
        unblock: None,
        steady: false,
        check: |world, _| {
            let lock = world.shared.clone();
            let _ = lock.release();
            assert_eq!(world.woken(), [true]);
            assert!(use_lock(lock));
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
    Case {
        name: "release of a permit for two who have slept for long",
        setup: || without_permits(2),
        victim: |permits| marked(|| permits.release()).expect("release"),
        unblock: None,
        steady: false,
        check: |world, _| {
            let permits = world.shared.clone();
            permits.release().expect("release");
            assert_eq!(world.woken(), [true; 2]);
            assert!(use_permit(permits));
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run();
}

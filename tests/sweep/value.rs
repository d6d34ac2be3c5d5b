//! Sweeps of values and arrays, and of locks that are left locked and released by the same process.

use multiprocess::{Array, ItemError, Lock, LockError, RLock, Value};

use crate::ring::LONG;
use crate::sweep::Outcome;
use crate::sync::{Case, World};
use crate::victim::marked;

fn value() -> World<Value<[u64; 4]>> {
    World::new(Value::new([1; 4]).expect("a value"))
}

/// What a call that changes all four from 1 to 2 left: done when the change is there and nobody died with the lock.
fn judge(world: World<Value<[u64; 4]>>) -> Outcome {
    let value = world.shared;
    let (found, died) = match value.get() {
        Ok(found) => (found, false),
        Err(LockError::OwnerDied(found)) => (found, true),
        Err(error) => panic!("{error}"),
    };
    if died {
        assert!(found.iter().all(|n| [1, 2].contains(n)), "{found:?}");
        let refused = value.update(|_| ());
        assert!(refused.is_err_and(|error| error.is_owner_died()));
        value.set([1; 4]).expect("it mends");
    } else {
        assert!(found == [1; 4] || found == [2; 4], "{found:?}");
    }
    value
        .update(|numbers| numbers[0] += 1)
        .expect("sound again");
    (!died && found == [2; 4]).into()
}

#[test]
fn a_value_set_or_updated() {
    Case::steady(
        "set of a value",
        value,
        |value| marked(|| value.set([2; 4])).expect("set"),
        |world, _| judge(world),
    )
    .run();
    Case::steady(
        "update of a value",
        value,
        |value| {
            let raise = |numbers: &mut [u64; 4]| numbers.iter_mut().for_each(|n| *n += 1);
            marked(|| value.update(raise)).expect("update");
        },
        |world, _| judge(world),
    )
    .run();
}

/// A value that a dead process left is mended by one that is killed too.
#[test]
fn a_value_mended() {
    Case::steady(
        "set of a value that the dead left",
        || {
            let world = value();
            let fall = |value: Value<[u64; 4]>| {
                std::mem::forget(value.lock());
            };
            let fallen = multiprocess::spawn(fall, world.shared.clone()).expect("spawn");
            fallen.wait();
            world
        },
        |value| marked(|| value.set([2; 4])).expect("set"),
        |world, _| judge(world),
    )
    .run();
}

#[test]
fn an_item_set() {
    Case::steady(
        "set of an item",
        || World::new(Array::from_slice(&[1_u64; 3]).expect("an array")),
        |array| marked(|| array.set(1, 2)).expect("set"),
        |world, _| {
            let array = world.shared;
            let (found, died) = match array.get(1) {
                Ok(found) => (found, false),
                Err(ItemError::Lock(LockError::OwnerDied(found))) => (found, true),
                Err(error) => panic!("{error}"),
            };
            if died {
                assert!(array.set(1, 1).is_err_and(|error| error.is_owner_died()));
                let guard = array.lock().err().and_then(LockError::into_guard);
                guard.expect("the lock").mark_consistent();
            }
            array.set(1, 5).expect("sound again");
            assert_eq!(*array.lock().expect("sound"), [1, 5, 1]);
            (!died && found == 2).into()
        },
    )
    .run();
}

#[test]
fn left_locked_and_released() {
    Case::steady(
        "forget and release",
        || World::new(Lock::new(0_u64).expect("a lock")),
        |lock| {
            let guard = lock.lock().expect("lock");
            marked(|| {
                guard.forget();
                lock.release()
            })
            .expect("release");
        },
        |world, _| {
            let lock = world.shared;
            assert!(
                lock.release().is_err(),
                "nobody releases what a dead one left"
            );
            let died = match lock.lock_timeout(LONG) {
                Ok(_) => false,
                Err(error) => {
                    error.into_guard().expect("the lock").mark_consistent();
                    true
                }
            };
            drop(lock.lock_timeout(LONG).expect("free and consistent"));
            (!died).into()
        },
    )
    .run();
    Case {
        whole: Outcome::Untold,
        ..Case::steady(
            "forget and release of a recursive lock",
            || World::new(RLock::new().expect("a lock")),
            |lock| {
                let _outer = lock.lock().expect("lock");
                let inner = lock.lock().expect("again");
                marked(|| {
                    inner.forget();
                    lock.release()
                })
                .expect("release");
            },
            |world, _| {
                let lock = world.shared;
                // Whole, it ends with its guard dropped; killed, with the lock.
                match lock.lock_timeout(LONG) {
                    Ok(guard) => drop(guard),
                    Err(error) => error.into_guard().expect("the lock").mark_consistent(),
                }
                assert!(!lock.is_locked(), "it was taken once");
                drop(lock.lock_timeout(LONG).expect("free and consistent"));
                Outcome::Untold
            },
        )
    }
    .run();
}

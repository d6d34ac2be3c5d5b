#![forbid(unsafe_code)]

use super::{LONG, SOON, arena};
use crate::arena::Arena;
use crate::{Condition, Lock, RLock, codec};
use std::thread;
use std::time::{Duration, Instant};

fn pair() -> (Arena, Lock<u32>, Condition) {
    let arena = arena();
    let lock = Lock::new_in(&arena, 0).unwrap();
    let condition = Condition::new_in(&arena).unwrap();
    (arena, lock, condition)
}

fn await_waiting(condition: &Condition, count: usize) {
    let text = format!("waiting: {count},");
    while !format!("{condition:?}").contains(&text) {
        thread::yield_now();
    }
}

#[test]
fn a_notification_goes_to_who_waits() {
    let (arena, lock, condition) = pair();
    condition.notify_one();
    condition.notify_all();
    let guard = lock.lock().unwrap();
    let begin = Instant::now();
    let (guard, notified) = condition.wait_timeout(guard, SOON).unwrap();
    assert!(!notified && begin.elapsed() >= SOON, "nothing is saved up");
    let (guard, notified) = condition.wait_timeout(guard, Duration::ZERO).unwrap();
    assert!(!notified && lock.is_locked());
    drop(guard);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = lock.lock().unwrap();
            condition.wait_timeout(guard, LONG).unwrap().1
        });
        await_waiting(&condition, 1);
        drop(lock.lock().unwrap());
        condition.notify_one();
        assert!(waiter.join().unwrap());
    });
    drop((lock, condition));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn as_many_as_are_notified_go_on_the_longest_first() {
    let (_arena, lock, condition) = pair();
    thread::scope(|scope| {
        let mut waiters = Vec::new();
        for order in 0..5 {
            await_waiting(&condition, order);
            waiters.push(scope.spawn(|| {
                let guard = lock.lock().unwrap();
                let mut guard = condition.wait(guard).unwrap();
                *guard += 1;
                *guard
            }));
        }
        await_waiting(&condition, 5);
        condition.notify_one();
        assert_eq!(waiters.remove(0).join().unwrap(), 1);
        condition.notify(2);
        let next = [waiters.remove(0), waiters.remove(0)].map(|w| w.join().unwrap());
        assert_eq!(next[0] + next[1], 5);
        thread::sleep(SOON);
        assert_eq!(*lock.lock().unwrap(), 3, "two still wait");
        condition.notify_all();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn more_waiters_than_the_first_block_holds() {
    let (arena, lock, condition) = pair();
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let guard = lock.lock().unwrap();
                let woken = condition.wait_timeout_while(guard, LONG, |n| **n == 0);
                assert!(woken.unwrap().1);
            });
        }
        await_waiting(&condition, 40);
        *lock.lock().unwrap() = 1;
        condition.notify_all();
    });
    drop((lock, condition));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn nothing_is_missed_between_producers_and_consumers() {
    let (_arena, lock, condition) = pair();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let items = lock.lock().unwrap();
                    let waited = condition.wait_timeout_while(items, LONG, |n| **n == 0);
                    let (mut items, found) = waited.unwrap();
                    assert!(found);
                    *items -= 1;
                }
            });
            scope.spawn(|| {
                for _ in 0..1000 {
                    *lock.lock().unwrap() += 1;
                    condition.notify_one();
                }
            });
        }
    });
    assert_eq!(*lock.lock().unwrap(), 0);
}

#[test]
fn a_recursive_lock_is_given_up_whole_and_restored() {
    let arena = arena();
    let lock = RLock::new_in(&arena).unwrap();
    let condition = Condition::new_in(&arena).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let outer = lock.lock().unwrap();
            let inner = condition.wait(lock.lock().unwrap()).unwrap();
            drop(inner);
            assert!(lock.is_locked());
            drop(outer);
        });
        await_waiting(&condition, 1);
        drop(lock.lock_timeout(LONG).unwrap());
        condition.notify_one();
    });
    assert!(!lock.is_locked());
}

#[test]
fn a_condition_travels_as_what_it_is() {
    let (arena, _lock, condition) = pair();
    let parcel = codec::encode_parcel(&arena, &condition, None).unwrap();
    assert!(codec::decode_parcel::<crate::Event>(&arena, &parcel, Vec::new()).is_err());
    let same: Condition = codec::decode_parcel(&arena, &parcel, Vec::new()).unwrap();
    assert_eq!(format!("{same:?}"), "Condition { waiting: 0, .. }");
}

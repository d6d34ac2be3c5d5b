#![forbid(unsafe_code)]

use super::{LONG, SOON, arena};
use crate::primitive::private::AtomicU32;
use crate::{Lock, LockError, RLock, ReleaseError, codec};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

#[test]
fn its_holder_takes_it_again() {
    let arena = arena();
    let lock = RLock::new_in(&arena).unwrap();
    let first = lock.lock().unwrap();
    let second = lock.try_lock().unwrap();
    let third = lock.lock_timeout(SOON).unwrap();
    drop(first);
    drop(third);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
            let late = lock.lock_timeout(SOON);
            assert!(matches!(late, Err(LockError::TimedOut)));
        });
    });
    assert!(lock.is_locked() && arena.is_in_use());
    drop(second);
    assert!(!lock.is_locked() && !arena.is_in_use());
    thread::scope(|scope| {
        scope.spawn(|| drop(lock.try_lock().unwrap()));
    });
}

#[test]
fn one_thread_at_a_time() {
    let arena = arena();
    let lock = RLock::new_in(&arena).unwrap();
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for turn in 0..2_000 {
                    let _outer = lock.lock_timeout(LONG).unwrap();
                    assert_eq!(inside.fetch_add(1, Relaxed), 0);
                    if turn % 32 == 0 {
                        thread::yield_now();
                    }
                    drop(lock.lock().unwrap());
                    assert_eq!(inside.fetch_sub(1, Relaxed), 1);
                }
            });
        }
    });
    assert!(!lock.is_locked());
}

#[test]
fn what_was_left_is_released_by_the_same_thread() {
    let arena = arena();
    let lock = RLock::new_in(&arena).unwrap();
    assert_eq!(lock.release(), Err(ReleaseError::NotOwned));
    let guard = lock.lock().unwrap();
    assert_eq!(lock.release(), Err(ReleaseError::NotOwned));
    lock.lock().unwrap().forget();
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(lock.release(), Err(ReleaseError::NotOwned)));
    });
    drop(guard);
    assert!(lock.is_locked());
    assert_eq!(lock.release(), Ok(()));
    assert!(!lock.is_locked());
    assert_eq!(lock.release(), Err(ReleaseError::NotOwned));
}

#[test]
fn an_rlock_is_no_lock() {
    let arena = arena();
    let lock = RLock::new_in(&arena).unwrap();
    let parcel = codec::encode_parcel(&arena, &lock, None).unwrap();
    assert!(codec::decode_parcel::<Lock>(&arena, &parcel, Vec::new()).is_err());
    let same: RLock = codec::decode_parcel(&arena, &parcel, Vec::new()).unwrap();
    let guard = lock.lock().unwrap();
    assert!(same.is_locked());
    let text = format!("{same:?}");
    assert!(text.contains(&std::process::id().to_string()));
    assert!(
        !text.contains("left_locked"),
        "it is never anybody's: {text}"
    );
    assert_eq!(format!("{guard:?}"), "RLockGuard");
}

#![forbid(unsafe_code)]

use super::{LONG, SOON, arena};
use crate::codec;
use crate::{Error, Lock, LockError, ReleaseError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

#[derive(FromBytes, IntoBytes, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Point {
    x: u64,
    y: u64,
}

#[derive(FromBytes, IntoBytes)]
#[repr(C, align(128))]
struct Wide([u8; 384]);

#[test]
fn data_of_any_shape_lies_in_the_arena() {
    let arena = arena();
    let nothing = Lock::new_in(&arena, ()).unwrap();
    let byte = Lock::new_in(&arena, 7_u8).unwrap();
    let point = Lock::new_in(&arena, Point { x: 1, y: 2 }).unwrap();
    let large = Lock::new_in(&arena, [3_u32; 50_000]).unwrap();
    let wide = Lock::new_in(&arena, Wide([9; 384])).unwrap();
    assert_eq!(*nothing.lock().unwrap(), ());
    assert_eq!(*byte.lock().unwrap(), 7);
    point.lock().unwrap().y = 5;
    assert_eq!(*point.lock().unwrap(), Point { x: 1, y: 5 });
    large.lock().unwrap()[49_999] = 4;
    assert_eq!(large.lock().unwrap().iter().sum::<u32>(), 150_001);
    let guard = wide.lock().unwrap();
    assert_eq!(std::ptr::from_ref(&*guard).addr() % 128, 0);
    assert!(guard.0.iter().all(|&byte| byte == 9));
    drop(guard);
    assert_eq!(arena.stats().objects["lock"], 5);
    drop((nothing, byte, point, large, wide));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn one_thread_at_a_time() {
    let arena = arena();
    let lock = Lock::new_in(&arena, Point { x: 0, y: 0 }).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let mut point = lock.lock().unwrap();
                    assert_eq!(point.x, point.y);
                    point.x += 1;
                    if point.x % 64 == 0 {
                        thread::yield_now();
                    }
                    point.y += 1;
                }
            });
        }
    });
    assert_eq!(lock.lock().unwrap().x, 20_000);
}

#[test]
fn a_held_lock_is_not_to_be_had() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 0).unwrap();
    let guard = lock.lock().unwrap();
    assert!(lock.is_locked());
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
            let begin = Instant::now();
            let late = lock.lock_timeout(SOON);
            assert!(matches!(late, Err(LockError::TimedOut)));
            assert!(begin.elapsed() >= SOON);
            let late = lock.lock_timeout(Duration::ZERO);
            assert!(matches!(late, Err(LockError::TimedOut)));
        });
    });
    drop(guard);
    assert!(!lock.is_locked());
    drop(lock.try_lock().unwrap());
    drop(lock.lock_timeout(Duration::MAX).unwrap());
}

#[test]
fn who_sleeps_is_woken() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 0_u32).unwrap();
    for _ in 0..20 {
        let mut guard = lock.lock().unwrap();
        thread::scope(|scope| {
            let sleepers = [(); 3].map(|()| scope.spawn(|| *lock.lock_timeout(LONG).unwrap() += 1));
            thread::sleep(Duration::from_millis(2));
            *guard += 1;
            drop(guard);
            for sleeper in sleepers {
                sleeper.join().unwrap();
            }
        });
    }
    assert_eq!(*lock.lock().unwrap(), 80);
}

#[test]
fn taking_it_twice_is_an_error() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 0).unwrap();
    let guard = lock.lock().unwrap();
    for again in [lock.lock(), lock.try_lock(), lock.lock_timeout(LONG)] {
        assert!(matches!(again, Err(LockError::Deadlock)));
    }
    drop(guard);
    drop(lock.lock().unwrap());
}

#[test]
fn a_panic_releases() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 1).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.lock().unwrap();
        panic!("held");
    }));
    assert!(panicked.is_err());
    assert_eq!(*lock.lock().unwrap(), 1);
}

#[test]
fn left_locked_it_is_released_by_anybody_once() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 1).unwrap();
    assert_eq!(lock.release(), Err(ReleaseError::NotOwned));
    let guard = lock.lock().unwrap();
    assert_eq!(
        lock.release(),
        Err(ReleaseError::NotOwned),
        "it has a guard"
    );
    guard.forget();
    // Not a deadlock: somebody else may release it.
    let late = lock.lock_timeout(Duration::from_millis(1));
    assert!(matches!(late, Err(LockError::TimedOut)));
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| drop(lock.lock_timeout(LONG).unwrap()));
        thread::sleep(SOON);
        assert_eq!(lock.release(), Ok(()));
        sleeper.join().unwrap();
    });
    assert_eq!(lock.release(), Err(ReleaseError::NotOwned));
}

#[test]
fn a_forgotten_guard_keeps_it() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 1).unwrap();
    std::mem::forget(lock.lock().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock))));
    });
    assert!(arena.is_in_use());
}

#[test]
fn a_process_with_a_guard_is_in_use() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 1).unwrap();
    let clone = lock.clone();
    assert!(!arena.is_in_use());
    let guard = clone.lock().unwrap();
    assert!(arena.is_in_use());
    drop(guard);
    assert!(!arena.is_in_use());
    lock.lock().unwrap().forget();
    assert!(!arena.is_in_use(), "it may be released by anybody");
}

#[test]
fn a_lock_shows_its_state() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 1).unwrap();
    let text = format!("{lock:?}");
    assert!(
        text.contains("locked: false") && !text.contains("holder"),
        "{text}"
    );
    let guard = lock.lock().unwrap();
    let text = format!("{lock:?}");
    let holder = format!("holder: {}", std::process::id());
    assert!(text.contains(&holder), "{text}");
    assert_eq!(format!("{guard:?} {guard}"), "1 1");
}

#[test]
fn a_lock_travels_as_what_it_is() {
    let arena = arena();
    let lock = Lock::new_in(&arena, 5_u64).unwrap();
    let parcel = codec::encode_parcel(&arena, &lock, None).unwrap();
    drop(lock);
    let wrong = codec::decode_parcel::<Lock<i64>>(&arena, &parcel, Vec::new());
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.contains(&Error::WrongType.to_string()), "{wrong}");
    let lock: Lock<u64> = codec::decode_parcel(&arena, &parcel, Vec::new()).unwrap();
    assert_eq!(*lock.lock().unwrap(), 5);
    drop(parcel);
    assert_eq!(arena.stats().objects["lock"], 1);
    drop(lock);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

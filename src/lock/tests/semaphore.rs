#![forbid(unsafe_code)]

use super::{LONG, SOON, arena};
use crate::primitive::private::AtomicU32;
use crate::{AcquireError, BoundedSemaphore, Error, ReleaseError, Semaphore, codec};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn as_many_as_there_are() {
    let arena = arena();
    let semaphore = Semaphore::new_in(&arena, 3).unwrap();
    let permits = [(); 3].map(|()| semaphore.try_acquire().unwrap());
    assert_eq!(semaphore.value(), 0);
    assert_eq!(
        semaphore.try_acquire().unwrap_err(),
        AcquireError::WouldBlock
    );
    let begin = Instant::now();
    let late = semaphore.acquire_timeout(SOON);
    assert_eq!(late.unwrap_err(), AcquireError::TimedOut);
    assert!(begin.elapsed() >= SOON);
    let late = semaphore.acquire_timeout(Duration::ZERO);
    assert_eq!(late.unwrap_err(), AcquireError::TimedOut);
    assert!(arena.is_in_use());
    drop(permits);
    assert_eq!(semaphore.value(), 3);
    assert!(!arena.is_in_use());
    drop(semaphore.acquire_timeout(Duration::MAX).unwrap());
    drop(semaphore);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn senseless_numbers_are_errors() {
    let arena = arena();
    for (count, error) in [
        (usize::MAX, Error::InvalidCapacity),
        ((1 << 24) + 1, Error::InvalidCapacity),
        (1 << 24, Error::NoMemory),
    ] {
        let refused = Semaphore::new_in(&arena, count).unwrap_err();
        assert_eq!(Error::from_io(&refused), Some(error));
        let refused = BoundedSemaphore::new_in(&arena, count).unwrap_err();
        assert_eq!(Error::from_io(&refused), Some(error));
    }
    assert_eq!(arena.stats().bytes_in_use, 0);
    let none = BoundedSemaphore::new_in(&arena, 0).unwrap();
    assert_eq!(none.try_acquire().unwrap_err(), AcquireError::WouldBlock);
    assert_eq!(none.release(), Err(ReleaseError::OverRelease));
}

#[test]
fn permits_can_be_added_without_end() {
    let arena = arena();
    let semaphore = Semaphore::new_in(&arena, 0).unwrap();
    for _ in 0..1000 {
        semaphore.release().unwrap();
    }
    assert_eq!(semaphore.value(), 1000);
    let permits: Vec<_> = std::iter::from_fn(|| semaphore.try_acquire().ok()).collect();
    assert_eq!(permits.len(), 1000);
    for permit in permits {
        permit.forget();
    }
    assert_eq!(semaphore.value(), 0);
    let before = arena.stats().bytes_in_use;
    (0..1000).for_each(|_| semaphore.release().unwrap());
    assert_eq!(arena.stats().bytes_in_use, before, "the room is used again");
    drop(semaphore);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_bound_holds_whoever_has_the_permits() {
    let arena = arena();
    let semaphore = BoundedSemaphore::new_in(&arena, 2).unwrap();
    let first = semaphore.acquire().unwrap();
    assert_eq!(semaphore.release(), Err(ReleaseError::OverRelease));
    first.forget();
    assert_eq!(semaphore.value(), 1);
    assert_eq!(semaphore.release(), Ok(()));
    assert_eq!(semaphore.release(), Err(ReleaseError::OverRelease));
    assert_eq!(semaphore.value(), 2);
}

#[test]
fn never_more_at_a_time() {
    let arena = arena();
    let semaphore = Semaphore::new_in(&arena, 3).unwrap();
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for turn in 0..2_000 {
                    let permit = semaphore.acquire_timeout(LONG).unwrap();
                    assert!(inside.fetch_add(1, Relaxed) < 3);
                    if turn % 16 == 0 {
                        thread::yield_now();
                    }
                    inside.fetch_sub(1, Relaxed);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(semaphore.value(), 3);
}

/// Two permits and two threads: there is always one for a third that looks, wherever it looks.
#[test]
fn one_that_is_always_there_is_found() {
    let arena = arena();
    let semaphore = Semaphore::new_in(&arena, 3).unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    drop(semaphore.try_acquire().expect("three for three"));
                }
            });
        }
        for _ in 0..20_000 {
            drop(semaphore.try_acquire().expect("three for three"));
        }
    });
}

#[test]
fn who_sleeps_is_woken() {
    let arena = arena();
    let semaphore = Semaphore::new_in(&arena, 0).unwrap();
    for _ in 0..20 {
        thread::scope(|scope| {
            let sleepers =
                [(); 3].map(|()| scope.spawn(|| semaphore.acquire_timeout(LONG).unwrap().forget()));
            thread::sleep(Duration::from_millis(2));
            (0..3).for_each(|_| semaphore.release().unwrap());
            for sleeper in sleepers {
                sleeper.join().unwrap();
            }
        });
    }
    assert_eq!(semaphore.value(), 0);
}

#[test]
fn a_semaphore_travels_as_what_it_is() {
    let arena = arena();
    let semaphore = Semaphore::new_in(&arena, 2).unwrap();
    let parcel = codec::encode_parcel(&arena, &semaphore, None).unwrap();
    drop(semaphore);
    let wrong = codec::decode_parcel::<BoundedSemaphore>(&arena, &parcel, Vec::new());
    assert!(wrong.is_err());
    let semaphore: Semaphore = codec::decode_parcel(&arena, &parcel, Vec::new()).unwrap();
    assert_eq!(format!("{semaphore:?}"), "Semaphore { value: 2, .. }");
    let permit = semaphore.acquire().unwrap();
    assert_eq!(format!("{permit:?}"), "Permit");
}

#![forbid(unsafe_code)]

use super::{LONG, SOON, arena};
use crate::primitive::private::AtomicU32;
use crate::{Barrier, BarrierError, Error, codec};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

#[test]
fn senseless_numbers_are_errors() {
    let arena = arena();
    for parties in [0, usize::MAX, (1 << 20) + 1] {
        let error = Barrier::new_in(&arena, parties).unwrap_err();
        assert_eq!(Error::from_io(&error), Some(Error::InvalidCapacity));
    }
    let alone = Barrier::new_in(&arena, 1).unwrap();
    assert_eq!(alone.wait(), Ok(0));
    assert_eq!(alone.wait_timeout(std::time::Duration::ZERO), Ok(0));
    drop(alone);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn round_after_round_each_has_a_number_of_its_own() {
    let arena = arena();
    for parties in [2, 3, 5] {
        let barrier = Barrier::new_in(&arena, parties).unwrap();
        let (inside, numbers) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..parties {
                scope.spawn(|| {
                    for round in 1..=300 {
                        inside.fetch_add(1, Relaxed);
                        let action = || {
                            assert_eq!(inside.load(Relaxed), round * parties as u32);
                            assert_eq!(
                                numbers.swap(0, Relaxed).count_ones(),
                                if round == 1 { 0 } else { parties as u32 }
                            );
                        };
                        let number = barrier.wait_with(action).unwrap();
                        assert_eq!(numbers.fetch_or(1 << number, Relaxed) & 1 << number, 0);
                        barrier.wait_timeout(LONG).unwrap();
                    }
                });
            }
        });
        assert_eq!(barrier.waiting(), 0);
    }
}

/// More threads than parties: who comes too early waits for the next round.
#[test]
fn more_than_can_meet_at_once() {
    let arena = arena();
    let barrier = Barrier::new_in(&arena, 2).unwrap();
    let met = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                // The one that is left over is told by a broken barrier.
                while barrier.wait_timeout(LONG) != Err(BarrierError::Broken) {
                    if met.fetch_add(1, Relaxed) > 1000 {
                        barrier.abort();
                    }
                }
            });
        }
    });
    assert!(met.load(Relaxed) > 1000);
}

fn broken_by(barrier: &Barrier, breaker: impl FnOnce()) {
    thread::scope(|scope| {
        let waiters = [(); 2].map(|()| scope.spawn(|| barrier.wait_timeout(LONG)));
        while barrier.waiting() < 2 {
            thread::yield_now();
        }
        breaker();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
        }
    });
}

#[test]
fn it_breaks_for_all_and_is_whole_again_after_a_reset() {
    let arena = arena();
    let barrier = Barrier::new_in(&arena, 4).unwrap();
    broken_by(&barrier, || barrier.abort());
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    barrier.reset();
    assert!(!barrier.is_broken());
    broken_by(&barrier, || {
        assert_eq!(barrier.wait_timeout(SOON), Err(BarrierError::TimedOut));
    });
    assert!(barrier.is_broken());
    barrier.reset();
    broken_by(&barrier, || barrier.reset());
    assert!(!barrier.is_broken(), "a reset leaves it whole");
    barrier.reset();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| barrier.wait_timeout(LONG).unwrap());
        }
    });
}

#[test]
fn a_panic_in_the_action_breaks_it() {
    let arena = arena();
    let barrier = Barrier::new_in(&arena, 3).unwrap();
    broken_by(&barrier, || {
        let wait = || barrier.wait_with(|| panic!("action"));
        assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
    });
    assert!(barrier.is_broken() && !arena.is_in_use());
}

#[test]
fn a_barrier_travels_as_what_it_is() {
    let arena = arena();
    let barrier = Barrier::new_in(&arena, 3).unwrap();
    let parcel = codec::encode_parcel(&arena, &barrier, None).unwrap();
    assert!(codec::decode_parcel::<crate::Event>(&arena, &parcel, Vec::new()).is_err());
    let same: Barrier = codec::decode_parcel(&arena, &parcel, Vec::new()).unwrap();
    barrier.abort();
    let text = format!("{same:?}");
    assert_eq!(text, "Barrier { parties: 3, waiting: 0, broken: true, .. }");
}

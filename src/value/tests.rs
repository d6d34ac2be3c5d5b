#![forbid(unsafe_code)]

use crate::arena::Arena;
use crate::primitive::plain::{AtomicU8, AtomicU64};
use crate::{Array, Bool, Error, ItemError, LockError, Value, codec};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(20);

fn arena() -> Arena {
    Arena::heap(256, crate::KINDS).unwrap()
}

#[test]
fn a_value_is_what_was_set() {
    let arena = arena();
    let value = Value::new_in(&arena, 1_u16).unwrap();
    assert_eq!(value.get().unwrap(), 1);
    value.set(u16::MAX).unwrap();
    assert_eq!(value.update(|v| std::mem::replace(v, 7)).unwrap(), u16::MAX);
    *value.lock().unwrap() += 1;
    assert_eq!(value.clone().get().unwrap(), 8);
    assert_eq!(arena.stats().objects["value"], 1);
    drop(value);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn updates_are_single_steps() {
    let arena = arena();
    let value = Value::new_in(&arena, 0_u64).unwrap();
    let quick = Value::new_in(&arena, AtomicU64::new(0)).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    value.update(|v| *v += 1).unwrap();
                    quick.as_atomic().fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert_eq!(value.get().unwrap(), 20_000);
    assert_eq!(quick.lock().unwrap().load(Relaxed), 20_000);
}

#[test]
fn using_it_under_its_own_guard_is_an_error() {
    let arena = arena();
    let value = Value::new_in(&arena, 1).unwrap();
    let guard = value.lock().unwrap();
    assert!(matches!(value.get(), Err(LockError::Deadlock)));
    assert!(matches!(value.set(2), Err(LockError::Deadlock)));
    assert!(matches!(value.update(|_| ()), Err(LockError::Deadlock)));
    drop(guard);
    assert_eq!(value.get().unwrap(), 1);
}

#[test]
fn a_panic_in_an_update_releases() {
    let arena = arena();
    let value = Value::new_in(&arena, 1).unwrap();
    let update = || {
        let _ = value.update(|v| {
            *v = 2;
            panic!("half way");
        });
    };
    assert!(catch_unwind(AssertUnwindSafe(update)).is_err());
    assert_eq!(value.get().unwrap(), 2);
}

#[test]
fn a_bool_is_any_byte() {
    let arena = arena();
    let value = Value::new_in(&arena, Bool::default()).unwrap();
    assert_eq!(value.get().unwrap(), false);
    value.set(true.into()).unwrap();
    assert!(bool::from(value.get().unwrap()));
    let odd: Bool = zerocopy::transmute!(0x80_u8);
    assert_eq!(odd, Bool::new(true));
    assert_eq!(format!("{odd:?}"), "true");
}

#[test]
fn an_array_is_read_and_written_by_items_and_as_a_slice() {
    let arena = arena();
    let array = Array::from_slice_in(&arena, &[1_i32, 2, 3]).unwrap();
    assert_eq!((array.len(), array.is_empty()), (3, false));
    array.set(2, -3).unwrap();
    assert_eq!(array.get(2).unwrap(), -3);
    array.lock().unwrap()[..2].fill(9);
    assert_eq!(*array.lock().unwrap(), [9, 9, -3]);
    let error = array.get(3).unwrap_err();
    assert!(matches!(error, ItemError::OutOfRange { index: 3, len: 3 }));
    assert_eq!(error.to_string(), "there is no item 3 in an array of 3");
    assert!(matches!(
        array.set(usize::MAX, 1),
        Err(ItemError::OutOfRange { .. })
    ));
    let guard = array.lock().unwrap();
    let refused = array.set(0, 1);
    assert!(matches!(refused, Err(ItemError::Lock(LockError::Deadlock))));
    drop(guard);
}

#[test]
fn arrays_of_all_lengths() {
    let arena = arena();
    let empty = Array::<u64>::zeroed_in(&arena, 0).unwrap();
    assert!(empty.is_empty() && empty.lock().unwrap().is_empty());
    assert!(empty.get(0).is_err());
    let long = Array::<[u8; 3]>::zeroed_in(&arena, 100_000).unwrap();
    assert!(long.lock().unwrap().iter().all(|item| *item == [0; 3]));
    for senseless in [usize::MAX, usize::MAX / 8, isize::MAX as usize / 8, 1 << 40] {
        let error = Array::<u64>::zeroed_in(&arena, senseless).unwrap_err();
        assert_eq!(Error::from_io(&error), Some(Error::NoMemory));
    }
    let nothing = Array::<()>::zeroed_in(&arena, usize::MAX).unwrap();
    assert_eq!(nothing.lock().unwrap().len(), usize::MAX);
    drop((empty, long, nothing));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn atomics_need_no_lock() {
    let arena = arena();
    let bytes = Array::<AtomicU8>::zeroed_in(&arena, 5).unwrap();
    let guard = bytes.lock().unwrap();
    bytes.as_atomics()[4].store(1, Relaxed);
    assert_eq!(guard[4].load(Relaxed), 1);
}

#[test]
fn a_value_is_no_array_and_no_lock() {
    let arena = arena();
    let value = Value::new_in(&arena, 5_u64).unwrap();
    let parcel = codec::encode_parcel(&arena, &value, None).unwrap();
    let array = codec::decode_parcel::<Array<u64>>(&arena, &parcel, Vec::new());
    assert!(array.is_err());
    let lock = codec::decode_parcel::<crate::Lock<u64>>(&arena, &parcel, Vec::new());
    assert!(lock.is_err());
    let other = codec::decode_parcel::<Value<u32>>(&arena, &parcel, Vec::new());
    assert!(other.is_err());
    let same: Value<u64> = codec::decode_parcel(&arena, &parcel, Vec::new()).unwrap();
    assert_eq!(same.get().unwrap(), 5);
}

#[test]
fn they_show_their_state() {
    let arena = arena();
    let array = Array::<u8>::zeroed_in(&arena, 3).unwrap();
    let text = format!("{array:?}");
    assert!(text.starts_with("Array { len: 3, locked: false"), "{text}");
    let value = Value::new_in(&arena, 3).unwrap();
    let guard = value.lock().unwrap();
    assert!(format!("{value:?}").contains(&std::process::id().to_string()));
    assert_eq!(format!("{guard:?}"), "3");
}

#[test]
fn a_guard_that_is_not_to_be_had() {
    let arena = arena();
    let value = Value::new_in(&arena, 1_u32).unwrap();
    let array = Array::from_slice_in(&arena, &[1_u32]).unwrap();
    *value.try_lock().unwrap() += 1;
    array.lock_timeout(SOON).unwrap()[0] += 1;
    let guards = (value.lock().unwrap(), array.lock().unwrap());
    assert!(matches!(value.try_lock(), Err(LockError::Deadlock)));
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(value.try_lock(), Err(LockError::WouldBlock)));
            assert!(matches!(value.lock_timeout(SOON), Err(LockError::TimedOut)));
            assert!(matches!(array.try_lock(), Err(LockError::WouldBlock)));
            assert!(matches!(array.lock_timeout(SOON), Err(LockError::TimedOut)));
        });
    });
    assert_eq!((*guards.0, guards.1[0]), (2, 2));
}

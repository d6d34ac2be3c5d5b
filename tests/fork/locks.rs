//! Locks and what is built on them, when a process is copied: by this crate, and by other code.

#![allow(clippy::disallowed_types, reason = "no models here")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use multiprocess::{
    AcquireError, Array, Barrier, BarrierError, BoundedSemaphore, Condition, Error, Event,
    LockError, RLock, ReleaseError, Semaphore, Value, WaitError,
};

use crate::{LONG, builder};

type Lock = multiprocess::Lock<u32>;

fn assert_refused(what: &str) {
    let refused = builder().fork(|()| (), ()).expect_err(what);
    assert_eq!(
        Error::from_io(refused.error()),
        Some(Error::Borrowed),
        "{what}"
    );
}

fn assert_copied(what: &str) {
    let process = builder().fork(|()| (), ()).expect(what);
    assert!(process.join().is_ok());
}

/// A copy would believe that it holds what its parent holds.
pub fn a_process_that_holds_a_lock_is_not_copied() {
    let lock = Lock::new(1).unwrap();
    let guard = lock.lock().unwrap();
    assert_refused("a guard is alive");
    guard.forget();
    assert_copied("anybody may release it");
    lock.release().unwrap();

    let lock = RLock::new().unwrap();
    let outer = lock.lock().unwrap();
    drop(lock.lock().unwrap());
    assert_refused("it is held once still");
    drop(outer);
    assert_copied("it is free");

    let value = Value::new(1_u32).unwrap();
    let guard = value.lock().unwrap();
    assert_refused("a value's guard is alive");
    drop(guard);
    let array = Array::from_slice(&[1_u32]).unwrap();
    let guard = array.lock().unwrap();
    assert_refused("an array's guard is alive");
    drop(guard);

    let permits = Semaphore::new(2).unwrap();
    let permit = permits.acquire().unwrap();
    assert_refused("a permit is alive");
    permit.forget();
    assert_copied("it is nobody's");
    let bounded = BoundedSemaphore::new(1).unwrap();
    let permit = bounded.acquire().unwrap();
    assert_refused("a permit is alive");
    drop(permit);
    assert_copied("it was given back");
    drop((lock, permits, bounded));

    // Nobody gives this one back.
    let held = Semaphore::new(1).unwrap();
    std::mem::forget(held.acquire().unwrap());
    assert_refused("a forgotten permit is held until the process ends");
    drop(held);
    // Its only handle is gone, and it with that.
    assert_copied("there is nothing left that could be held");
}

/// A copy that this crate makes is another member: it waits for its parent's locks, and its own are its own.
pub fn a_copy_is_another_holder() {
    let (lock, recursive) = (Lock::new(0).unwrap(), RLock::new().unwrap());
    let shared = (lock.clone(), recursive.clone(), Event::new().unwrap());
    let work = |(lock, recursive, ready): (Lock, RLock, Event)| {
        let _held = recursive.lock().unwrap();
        ready.set();
        *lock.lock_timeout(LONG).unwrap() += 1;
        recursive.try_lock().is_ok()
    };
    let process = builder().fork(work, shared.clone()).unwrap();
    assert!(shared.2.wait_timeout(LONG));
    *lock.lock_timeout(LONG).unwrap() += 1;
    drop(recursive.lock_timeout(LONG).unwrap_or_else(|error| {
        panic!("it released it before it ended: {error:?}");
    }));
    assert!(process.join().unwrap());
    assert_eq!(*lock.lock().unwrap(), 2);
}

/// A copy that other code makes has no part in anything: its calls say so, and its drops do nothing.
pub fn a_foreign_fork_holds_nothing() {
    let lock = Lock::new(1).unwrap();
    let recursive = RLock::new().unwrap();
    let permits = Semaphore::new(2).unwrap();
    let bounded = BoundedSemaphore::new(2).unwrap();
    let event = Event::new().unwrap();
    let condition = Condition::new().unwrap();
    let barrier = Barrier::new(2).unwrap();
    let value = Value::new(1_u32).unwrap();
    let quick = Value::new(AtomicU32::new(1)).unwrap();
    let array = Array::from_slice(&[1_u32]).unwrap();
    let guard = lock.lock().unwrap();
    let recursive_guard = recursive.lock().unwrap();
    let permit = permits.acquire().unwrap();
    let bounded_permit = bounded.acquire().unwrap();
    event.set();
    // SAFETY: the process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        assert!(matches!(lock.lock(), Err(LockError::ForeignFork)));
        assert!(matches!(lock.try_lock(), Err(LockError::ForeignFork)));
        assert!(matches!(
            lock.lock_timeout(LONG),
            Err(LockError::ForeignFork)
        ));
        assert_eq!(lock.release(), Err(ReleaseError::ForeignFork));
        assert!(!lock.is_locked());
        assert!(matches!(recursive.lock(), Err(LockError::ForeignFork)));
        assert!(matches!(recursive.try_lock(), Err(LockError::ForeignFork)));
        assert_eq!(recursive.release(), Err(ReleaseError::ForeignFork));
        assert!(!recursive.is_locked());
        assert_eq!(permits.acquire().unwrap_err(), AcquireError::ForeignFork);
        assert_eq!(
            permits.try_acquire().unwrap_err(),
            AcquireError::ForeignFork
        );
        assert_eq!(permits.release(), Err(ReleaseError::ForeignFork));
        assert_eq!(bounded.release(), Err(ReleaseError::ForeignFork));
        assert_eq!((permits.value(), bounded.value()), (0, 0));
        assert!(!event.is_set() && !event.wait() && !event.wait_timeout(LONG));
        event.clear();
        condition.notify_one();
        condition.notify_all();
        assert_eq!(barrier.wait(), Err(BarrierError::ForeignFork));
        assert_eq!(barrier.wait_timeout(LONG), Err(BarrierError::ForeignFork));
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
        barrier.abort();
        barrier.reset();
        assert!(matches!(value.try_lock(), Err(LockError::ForeignFork)));
        assert!(array.lock_timeout(LONG).is_err());
        let told = multiprocess::wait(&[&event], None).unwrap_err();
        assert_eq!(Error::from_io(&told), Some(Error::ForeignFork));
        assert!(matches!(value.get(), Err(LockError::ForeignFork)));
        assert!(matches!(value.set(2), Err(LockError::ForeignFork)));
        assert!(matches!(value.update(|_| ()), Err(LockError::ForeignFork)));
        assert!(array.get(0).is_err() && array.set(0, 2).is_err() && array.lock().is_err());
        std::panic::set_hook(Box::new(|_| {}));
        let panics = |f: &dyn Fn()| catch_unwind(AssertUnwindSafe(f)).is_err();
        assert!(panics(&|| _ = quick.as_atomic().load(Relaxed)));
        assert!(panics(&|| _ = *guard));
        for text in [
            format!("{lock:?} {recursive:?} {permits:?} {bounded:?} {event:?}"),
            format!("{condition:?} {barrier:?} {value:?} {array:?} {quick:?}"),
        ] {
            assert!(!text.is_empty());
        }
        let Err(WaitError::ForeignFork(guard)) = condition.wait(guard) else {
            panic!("it is no member");
        };
        for made in [
            Lock::new(1).map(drop),
            RLock::new().map(drop),
            Semaphore::new(1).map(drop),
            BoundedSemaphore::new(1).map(drop),
            Event::new().map(drop),
            Condition::new().map(drop),
            Barrier::new(1).map(drop),
            Value::new(1_u32).map(drop),
            Array::<u32>::zeroed(1).map(drop),
        ] {
            assert_eq!(Error::from_io(&made.unwrap_err()), Some(Error::ForeignFork));
        }
        permit.forget();
        drop((guard, recursive_guard, bounded_permit));
        drop((lock, recursive, permits, bounded, event, condition));
        drop((barrier, value, quick, array));
        // SAFETY: ends this process, with what it would have to end like nothing else.
        unsafe { libc::_exit(9) };
    }
    let mut status = 0;
    // SAFETY: the status is written to a variable of that type.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(libc::WEXITSTATUS(status), 9, "what was said is above");
    assert!(lock.is_locked() && recursive.is_locked() && event.is_set());
    assert_eq!((permits.value(), bounded.value()), (1, 1));
    assert!(!barrier.is_broken());
    assert_eq!(*guard, 1);
    drop((guard, recursive_guard, permit, bounded_permit));
    assert!(!lock.is_locked() && !recursive.is_locked());
    assert_eq!((permits.value(), bounded.value()), (2, 2));
    assert_eq!(bounded.release(), Err(ReleaseError::OverRelease));
    assert_eq!(
        barrier.wait_timeout(Duration::ZERO),
        Err(BarrierError::TimedOut)
    );
    assert_eq!((value.get().unwrap(), array.get(0).unwrap()), (1, 1));
    assert_eq!(quick.as_atomic().load(Relaxed), 1);
}

//! Deaths that nobody collects: the dead stay unreaped, and who wants what they held finds out by itself.

use std::thread;

use multiprocess::{Event, Lock, LockError, Process, RLock, ReleaseError};

use crate::{LONG, start, until, watch};

/// Ends a process and leaves its body: no parent has been told, and nobody has collected what it held.
fn fell<R>(process: &Process<R>) {
    process.kill().unwrap();
    let stat = format!("/proc/{}/stat", process.pid());
    until(|| std::fs::read_to_string(&stat).unwrap().contains(") Z "));
}

/// Whoever releases it comes before the collection, or after it: it makes no difference.
#[test]
fn what_a_dead_one_left_locked_nobody_releases() {
    fn leave((lock, recursive, left): (Lock, RLock, Event)) {
        lock.lock().unwrap().forget();
        recursive.lock().unwrap().forget();
        left.set();
        thread::sleep(LONG);
    }
    let _watch = watch();
    for collected in [false, true] {
        let (lock, recursive) = (Lock::new(()).unwrap(), RLock::new().unwrap());
        let left = Event::new().unwrap();
        let dead = start(leave, (lock.clone(), recursive.clone(), left.clone()));
        assert!(left.wait());
        fell(&dead);
        if collected {
            dead.wait();
        }
        assert_eq!(lock.release(), Err(ReleaseError::NotOwned));
        assert!(!lock.is_locked());
        assert!(matches!(lock.try_lock(), Err(LockError::OwnerDied(_))));
        assert_eq!(recursive.release(), Err(ReleaseError::NotOwned));
        assert!(matches!(recursive.try_lock(), Err(LockError::OwnerDied(_))));
        dead.wait();
    }
}

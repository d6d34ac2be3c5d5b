//! Deaths that nobody collects: the dead stay unreaped, and who wants what they held finds out by itself.

use std::sync::{PoisonError, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

use multiprocess::{
    Barrier, BarrierError, Condition, Event, Lock, LockError, Process, RLock, ReleaseError,
    Semaphore, WaitError,
};
use serde::{Deserialize, Serialize};

use crate::{LONG, STARTS, signal, start, until, watch};

/// While it lives nobody starts a process here, and so nobody reaps.
pub struct Unreaped(#[allow(dead_code)] RwLockWriteGuard<'static, ()>);

/// Ends a process and leaves its body: no parent has been told, and nobody has collected what it held.
pub fn fell<R>(process: &Process<R>) -> Unreaped {
    let starts = STARTS.write().unwrap_or_else(PoisonError::into_inner);
    process.kill().unwrap();
    until(|| state_of(process.pid()) == 'Z');
    Unreaped(starts)
}

pub fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.chars().next().unwrap()
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
        let _body = fell(&dead);
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

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Held {
    Lock(Lock),
    RLock(RLock),
    Permit(Semaphore),
    Place(Barrier),
    Notification(Lock, Condition),
}

/// Ends in the middle.
fn hold((held, ready): (Held, Event)) {
    match &held {
        Held::Lock(lock) => std::mem::forget(lock.lock().unwrap()),
        Held::RLock(lock) => std::mem::forget(lock.lock().unwrap()),
        Held::Permit(permits) => std::mem::forget(permits.acquire().unwrap()),
        Held::Place(barrier) => _ = barrier.wait(),
        Held::Notification(lock, condition) => {
            drop(condition.wait(lock.lock().unwrap()).unwrap());
        }
    }
    ready.set();
    thread::sleep(LONG);
}

/// Sleeps for what the other held; whether it came as it should.
fn want(held: Held) -> bool {
    match held {
        Held::Lock(lock) => matches!(lock.lock(), Err(LockError::OwnerDied(_))),
        Held::RLock(lock) => matches!(lock.lock(), Err(LockError::OwnerDied(_))),
        Held::Permit(permits) => permits.acquire().is_ok(),
        Held::Place(barrier) => barrier.wait() == Err(BarrierError::Broken),
        Held::Notification(lock, condition) => {
            matches!(
                condition.wait(lock.lock().unwrap()),
                Ok(_) | Err(WaitError::OwnerDied(_))
            )
        }
    }
}

/// The sleepers are processes of their own, and their parent only waits for them: there is nobody who could tell them.
#[test]
fn a_sleeper_finds_out_by_itself() {
    let _watch = watch();
    let worlds = [
        Held::Lock(Lock::new(()).unwrap()),
        Held::RLock(RLock::new().unwrap()),
        Held::Permit(Semaphore::new(1).unwrap()),
        Held::Place(Barrier::new(3).unwrap()),
        Held::Notification(Lock::new(()).unwrap(), Condition::new().unwrap()),
    ];
    for held in worlds {
        let ready = Event::new().unwrap();
        let waiting = |count| match &held {
            Held::Place(barrier) => barrier.waiting() == count,
            Held::Notification(_, condition) => {
                format!("{condition:?}").contains(&format!("waiting: {count},"))
            }
            _ => ready.is_set(),
        };
        let holder = start(hold, (held.clone(), ready.clone()));
        until(|| waiting(1));
        if let Held::Notification(lock, _) = &held {
            // It waits without the lock now, and takes no note of anything.
            drop(lock.lock().unwrap());
            signal(&holder, libc::SIGSTOP);
        }
        let sleeper = start(want, held.clone());
        match &held {
            Held::Place(_) => until(|| waiting(2)),
            Held::Notification(_, condition) => {
                until(|| waiting(2));
                condition.notify_one();
            }
            _ => {}
        }
        // It has asked about the holder by then, and been told that it lives.
        thread::sleep(Duration::from_millis(50));
        until(|| state_of(sleeper.pid()) == 'S');
        let body = fell(&holder);
        assert!(sleeper.join().unwrap(), "{held:?}");
        holder.wait();
        drop(body);
    }
}

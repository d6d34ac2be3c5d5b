//! Locks and what is built on them between real processes: what Python's do, row by row where it makes sense here, and what this
//! crate promises where Python's users suffer.

#![allow(unsafe_code, reason = "to stop, signal and kill processes")]

mod deaths;
mod fairness;
mod waits;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use multiprocess::{
    Array, Barrier, BarrierError, BoundedSemaphore, Condition, Error, Event, ExitCode, Lock,
    LockError, Process, RLock, ReleaseError, Semaphore, Value,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use deaths::{fell, state_of};

/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(100);

/// Ends this process with its daemons when a test hangs.
struct Watch(#[allow(dead_code)] mpsc::Sender<()>);

fn watch() -> Watch {
    let (sender, receiver) = mpsc::channel();
    let test = thread::current().name().unwrap_or("?").to_string();
    thread::spawn(move || {
        if receiver.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test} hangs");
            std::process::abort();
        }
    });
    Watch(sender)
}

/// Whoever starts a process reaps those that have ended: the bodies of other tests too.
static STARTS: RwLock<()> = RwLock::new(());

fn start<A, R>(function: fn(A) -> R, arguments: A) -> Process<R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let _starts = STARTS.read().unwrap_or_else(PoisonError::into_inner);
    let daemon = Process::builder().daemon(true);
    daemon.spawn(function, arguments).unwrap()
}

fn kill<R>(process: Process<R>) {
    process.kill().unwrap();
    assert_eq!(process.wait(), ExitCode::Signaled(libc::SIGKILL));
}

fn signal<R>(process: &Process<R>, signal: i32) {
    // SAFETY: the process is a child that nobody has reaped.
    assert_eq!(unsafe { libc::kill(process.pid() as i32, signal) }, 0);
}

fn until(what: impl Fn() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(1));
    }
}

fn hold((lock, held): (Lock<u64>, Event)) {
    let mut guard = lock.lock().unwrap();
    *guard += 1;
    held.set();
    thread::sleep(LONG);
}

#[test]
fn the_holder_was_killed() {
    let _watch = watch();
    let (lock, held) = (Lock::new(0_u64).unwrap(), Event::new().unwrap());
    let holder = start(hold, (lock.clone(), held.clone()));
    assert!(held.wait());
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    assert!(format!("{lock:?}").contains(&format!("holder: {}", holder.pid())));
    // One who sleeps.
    let sleeper = thread::spawn({
        let lock = lock.clone();
        move || lock.lock().unwrap_err().into_guard().map(|guard| *guard)
    });
    thread::sleep(Duration::from_millis(20));
    kill(holder);
    assert_eq!(sleeper.join().unwrap(), Some(1));
    // One who comes later, again and again.
    for _ in 0..2 {
        let guard = lock.try_lock().unwrap_err().into_guard();
        assert_eq!(*guard.expect("nobody holds it"), 1);
    }
    let error = lock.lock().unwrap_err();
    assert!(error.is_owner_died());
    error.into_guard().unwrap().mark_consistent();
    assert_eq!(*lock.lock().unwrap(), 1);
}

#[test]
fn a_holder_that_exits_is_a_dead_one() {
    let _watch = watch();
    fn exit(lock: Lock) {
        std::mem::forget(lock.lock().unwrap());
    }
    fn forget(lock: Lock) {
        lock.lock().unwrap().forget();
    }
    let lock = Lock::new(()).unwrap();
    for ending in [exit, forget] {
        start(ending, lock.clone()).join().unwrap();
        let guard = lock.lock().unwrap_err().into_guard().unwrap();
        guard.mark_consistent();
    }
    drop(lock.lock().unwrap());
}

#[test]
fn another_process_releases_what_was_left_locked() {
    let _watch = watch();
    fn release(lock: Lock) -> (bool, bool) {
        (lock.release().is_ok(), lock.release().is_ok())
    }
    let lock = Lock::new(()).unwrap();
    lock.lock().unwrap().forget();
    assert_eq!(start(release, lock.clone()).join().unwrap(), (true, false));
    assert_eq!(lock.release(), Err(ReleaseError::NotOwned));
}

#[test]
fn no_increment_is_lost() {
    let _watch = watch();
    fn count((lock, value, array): (Lock<u64>, Value<u64>, Array<u64>)) {
        for _ in 0..2000 {
            *lock.lock().unwrap() += 1;
            value.update(|value| *value += 1).unwrap();
            array.lock().unwrap()[1] += 1;
        }
    }
    let shared = (
        Lock::new(0).unwrap(),
        Value::new(0).unwrap(),
        Array::zeroed(2).unwrap(),
    );
    let workers = [(); 4].map(|()| start(count, shared.clone()));
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(*shared.0.lock().unwrap(), 8000);
    assert_eq!(shared.1.get().unwrap(), 8000);
    assert_eq!(*shared.2.lock().unwrap(), [0, 8000]);
}

/// Killed anywhere, again and again: nobody else waits for ever, and no two hold it.
#[test]
fn killed_at_random() {
    let _watch = watch();
    fn work((lock, permits): (Lock<[u64; 2]>, Semaphore)) {
        loop {
            let _permit = permits.acquire().unwrap();
            let mut pair = match lock.lock() {
                Ok(pair) => pair,
                Err(error) => {
                    let mut pair = error.into_guard().expect("the lock");
                    pair[1] = pair[0];
                    pair.mark_consistent();
                    pair
                }
            };
            assert_eq!(pair[0], pair[1]);
            pair[0] += 1;
            pair[1] += 1;
        }
    }
    let shared = (Lock::new([0; 2]).unwrap(), Semaphore::new(2).unwrap());
    let mut workers: Vec<_> = (0..4).map(|_| start(work, shared.clone())).collect();
    for turn in 0..60 {
        thread::sleep(Duration::from_millis(turn % 7));
        workers.push(start(work, shared.clone()));
        kill(workers.remove(turn as usize % 4));
    }
    workers.into_iter().for_each(kill);
    let pair = match shared.0.lock() {
        Ok(pair) => pair,
        Err(error) => error.into_guard().expect("the lock"),
    };
    assert!(pair[0] > 0 && pair[0] - pair[1] <= 1);
    drop((shared.1.acquire().unwrap(), shared.1.acquire().unwrap()));
    until(|| shared.1.value() == 2);
}

#[test]
fn a_value_left_half_changed() {
    let _watch = watch();
    fn fall(value: Value<[u32; 2]>) {
        value
            .update(|pair| {
                pair[0] = 7;
                std::process::abort();
            })
            .unwrap();
    }
    let value = Value::new([1, 1]).unwrap();
    assert_eq!(
        start(fall, value.clone()).wait(),
        ExitCode::Signaled(libc::SIGABRT)
    );
    let left = value.get().unwrap_err().into_guard();
    assert_eq!(left, Some([7, 1]));
    assert!(value.update(|_| ()).unwrap_err().is_owner_died());
    value.set([2, 2]).unwrap();
    assert_eq!(value.get().unwrap(), [2, 2]);
}

#[test]
fn an_array_left_half_changed() {
    let _watch = watch();
    fn fall(array: Array<u32>) {
        array.lock().unwrap()[0] = 7;
        let _guard = array.lock().unwrap();
        std::process::abort();
    }
    let array = Array::from_slice(&[1, 1]).unwrap();
    start(fall, array.clone()).wait();
    assert!(array.get(0).unwrap_err().is_owner_died());
    assert!(array.set(0, 1).unwrap_err().is_owner_died());
    let guard = array.lock().unwrap_err().into_guard().unwrap();
    assert_eq!(*guard, [7, 1]);
    guard.mark_consistent();
    drop(guard);
    assert_eq!(array.get(0).unwrap(), 7);
}

#[test]
fn an_rlock_belongs_to_a_thread_of_a_process() {
    let _watch = watch();
    fn try_it(lock: RLock) -> (bool, bool) {
        (lock.try_lock().is_ok(), lock.release().is_ok())
    }
    fn die_with(lock: RLock) {
        std::mem::forget(lock.lock().unwrap());
        std::mem::forget(lock.lock().unwrap());
    }
    let lock = RLock::new().unwrap();
    let guard = lock.lock().unwrap();
    assert_eq!(start(try_it, lock.clone()).join().unwrap(), (false, false));
    drop(guard);
    assert_eq!(start(try_it, lock.clone()).join().unwrap(), (true, false));
    start(die_with, lock.clone()).join().unwrap();
    let guard = lock.lock().unwrap_err().into_guard().unwrap();
    guard.mark_consistent();
    drop(guard);
    assert!(
        !lock.is_locked(),
        "taken once, not as often as the dead one"
    );
}

#[test]
fn permits_of_the_dead_come_back() {
    let _watch = watch();
    fn hold((permits, held): (BoundedSemaphore, Event)) {
        permits.acquire().unwrap().forget();
        let _permits = [permits.acquire().unwrap(), permits.acquire().unwrap()];
        held.set();
        thread::sleep(LONG);
    }
    let (permits, held) = (BoundedSemaphore::new(3).unwrap(), Event::new().unwrap());
    let holder = start(hold, (permits.clone(), held.clone()));
    assert!(held.wait());
    assert!(permits.try_acquire().is_err());
    let sleeper = thread::spawn({
        let permits = permits.clone();
        move || permits.acquire().unwrap().forget()
    });
    thread::sleep(Duration::from_millis(20));
    kill(holder);
    sleeper.join().unwrap();
    drop(permits.acquire().unwrap());
    // Two were forgotten, one by the dead: those are nobody's.
    assert_eq!(permits.value(), 1);
    assert_eq!(permits.release(), Ok(()));
    assert_eq!(permits.release(), Ok(()));
    assert_eq!(permits.release(), Err(ReleaseError::OverRelease));
}

#[test]
fn dead_waiters_delay_nobody() {
    let _watch = watch();
    type All = (Event, Lock<u32>, Condition, Barrier, Semaphore);
    fn wait((all, which): (All, u32)) {
        let (event, lock, condition, barrier, permits) = all;
        match which {
            0 => assert!(event.wait()),
            1 => {
                let mut entered = lock.lock().unwrap();
                *entered += 1;
                drop(condition.wait(entered).unwrap());
            }
            2 => _ = barrier.wait(),
            _ => drop(permits.acquire().unwrap()),
        }
    }
    for reaped in [false, true] {
        let all: All = (
            Event::new().unwrap(),
            Lock::new(0).unwrap(),
            Condition::new().unwrap(),
            Barrier::new(2).unwrap(),
            Semaphore::new(0).unwrap(),
        );
        // Under the lock, with which one waits as soon as it is free.
        let entered = || *all.1.lock().unwrap();
        let dead = [0, 1, 2, 3].map(|which| start(wait, (all.clone(), which)));
        until(|| entered() == 1 && all.3.waiting() == 1);
        for waiter in &dead {
            until(|| state_of(waiter.pid()) == 'S');
            drop(fell(waiter));
            if reaped {
                waiter.wait();
            }
        }
        // Each of these comes after a dead one, and has what was done once.
        let living = [0, 1, 3].map(|which| start(wait, (all.clone(), which)));
        until(|| entered() == 2);
        all.0.set();
        all.2.notify_one();
        all.4.release().unwrap();
        for waiter in living {
            waiter.join().unwrap();
        }
        // Who comes as the last before the death is noticed has met the dead one.
        let met = all.3.wait();
        assert!(met == Err(BarrierError::Broken) || !reaped && met == Ok(1));
        all.3.reset();
        for waiter in &dead {
            waiter.wait();
        }
        assert_eq!(all.3.waiting(), 0);
        assert_eq!(all.4.value(), 1);
    }
}

/// The one that was notified is killed before it can take note of it: another one has it.
#[test]
fn a_dead_waiter_swallows_no_notification() {
    let _watch = watch();
    fn wait((lock, condition): (Lock, Condition)) {
        drop(condition.wait(lock.lock().unwrap()).unwrap());
    }
    for reaped_first in [false, true] {
        let (lock, condition) = (Lock::new(()).unwrap(), Condition::new().unwrap());
        let waiting = |count: u32| format!("{condition:?}").contains(&format!("waiting: {count},"));
        let first = start(wait, (lock.clone(), condition.clone()));
        until(|| waiting(1));
        drop(lock.lock().unwrap());
        signal(&first, libc::SIGSTOP);
        let second = thread::spawn({
            let (lock, condition) = (lock.clone(), condition.clone());
            move || {
                let guard = lock.lock().unwrap();
                condition.wait_timeout(guard, LONG).unwrap().1
            }
        });
        until(|| waiting(2));
        condition.notify_one();
        assert!(waiting(1), "the first has it");
        if reaped_first {
            kill(first);
            multiprocess::family::stats();
            assert!(second.join().unwrap());
        } else {
            first.kill().unwrap();
            assert!(second.join().unwrap());
            first.wait();
        }
        // There was one notification: nobody who comes now has another.
        let guard = lock.lock().unwrap();
        let (_, again) = condition
            .wait_timeout(guard, Duration::from_millis(5))
            .unwrap();
        assert!(!again);
    }
}

#[test]
fn a_party_that_dies_breaks_the_barrier() {
    let _watch = watch();
    fn come(barrier: Barrier) {
        let _ = barrier.wait();
    }
    let barrier = Barrier::new(3).unwrap();
    let first = start(come, barrier.clone());
    until(|| barrier.waiting() == 1);
    let second = thread::spawn({
        let barrier = barrier.clone();
        move || barrier.wait()
    });
    until(|| barrier.waiting() == 2);
    kill(first);
    assert_eq!(second.join().unwrap(), Err(BarrierError::Broken));
    assert!(barrier.is_broken());
    barrier.reset();
    let others = [(); 2].map(|()| start(come, barrier.clone()));
    barrier.wait().unwrap();
    for other in others {
        other.join().unwrap();
    }
}

#[test]
fn the_last_runs_the_action_before_anybody_goes_on() {
    let _watch = watch();
    fn come((barrier, value): (Barrier, Value<u32>)) -> (usize, u32) {
        let index = barrier
            .wait_with(|| value.update(|value| *value += 1).unwrap())
            .unwrap();
        (index, value.get().unwrap())
    }
    let shared = (Barrier::new(3).unwrap(), Value::new(0).unwrap());
    let parties = [(); 3].map(|()| start(come, shared.clone()));
    let mut found = parties.map(|party| party.join().unwrap());
    found.sort();
    assert_eq!(found, [(0, 1), (1, 1), (2, 1)]);
}

static EVENT: OnceLock<Event> = OnceLock::new();

extern "C" fn set_event(_: i32) {
    EVENT.get().unwrap().set();
}

/// gh-126434: Python's deadlocks here.
#[test]
fn an_event_is_set_by_a_signal_handler_during_its_own_wait() {
    let _watch = watch();
    let event = EVENT.get_or_init(|| Event::new().unwrap());
    let handler = set_event as extern "C" fn(i32);
    // SAFETY: the handler does what a handler may.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    for turn in 0..50 {
        event.clear();
        // SAFETY: takes nothing.
        let waiter = unsafe { libc::pthread_self() };
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_micros(turn * 40));
            // SAFETY: the thread waits for this one.
            unsafe { libc::pthread_kill(waiter, libc::SIGUSR1) };
        });
        assert!(event.wait());
        other.join().unwrap();
    }
}

#[test]
fn handles_are_no_text() {
    let _watch = watch();
    let lock = Lock::new(1_u8).unwrap();
    let refused = postcard_of(&lock);
    assert!(refused.is_err());
    let none = Semaphore::new(usize::MAX).unwrap_err();
    assert_eq!(Error::from_io(&none), Some(Error::InvalidCapacity));
}

fn postcard_of<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    postcard::to_allocvec(value).map_err(|error| error.to_string())
}

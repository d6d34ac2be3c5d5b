//! Waits: interrupted by signals, longer than the clock can count, ended before they could look.

#![allow(clippy::disallowed_types, reason = "no models here")]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{
    Barrier, BarrierError, BoundedSemaphore, Condition, Event, ExitCode, Lock, LockError, RLock,
    Semaphore, Value,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::deaths::state_of;
use crate::{LONG, kill, signal, start, until, watch};

const SOON: Duration = Duration::from_millis(30);

/// gh-95826: Python's may say false here.
#[test]
fn set_and_cleared_while_the_waiter_could_not_look() {
    let _watch = watch();
    fn wait((ready, event): (Event, Event)) -> bool {
        ready.set();
        event.wait_timeout(LONG)
    }
    let (ready, event) = (Event::new().unwrap(), Event::new().unwrap());
    let waiter = start(wait, (ready.clone(), event.clone()));
    assert!(ready.wait_timeout(LONG));
    // It waits as soon as it sleeps.
    until(|| state_of(waiter.pid()) == 'S');
    signal(&waiter, libc::SIGSTOP);
    until(|| state_of(waiter.pid()) == 'T');
    event.set();
    event.clear();
    assert!(!event.is_set());
    signal(&waiter, libc::SIGCONT);
    assert!(waiter.join().unwrap());
}

extern "C" fn nothing(_: i32) {}

/// Runs a wait on a thread that is interrupted again and again.
fn interrupted<R: Send>(wait: impl FnOnce() -> R + Send, meanwhile: impl FnOnce()) -> R {
    interrupted_while(wait, |_| meanwhile())
}

/// The same, and `meanwhile` may interrupt it, too.
fn interrupted_while<R: Send>(
    wait: impl FnOnce() -> R + Send,
    meanwhile: impl FnOnce(&dyn Fn()),
) -> R {
    // SAFETY: all zero bytes are an action without flags: calls are not restarted.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(i32) as libc::sighandler_t;
    // SAFETY: the handler does nothing.
    unsafe { libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()) };
    let over = AtomicBool::new(false);
    let (send, receive) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            // SAFETY: takes nothing.
            send.send(unsafe { libc::pthread_self() }).unwrap();
            let result = wait();
            while !over.load(SeqCst) {
                thread::yield_now();
            }
            result
        });
        let target = receive.recv().unwrap();
        let interrupt = || {
            // SAFETY: the thread stays until it is told that this is over.
            unsafe { libc::pthread_kill(target, libc::SIGUSR2) };
        };
        for _ in 0..30 {
            interrupt();
            thread::sleep(Duration::from_millis(1));
        }
        meanwhile(&interrupt);
        over.store(true, SeqCst);
        waiter.join().unwrap()
    })
}

/// However often a sleeper is woken, it finds out that the one in its way is dead. Nobody reaps that one.
#[test]
fn signals_keep_no_death_from_who_sleeps() {
    fn stay((lock, permits, held): (Lock, Semaphore, Event)) {
        let (_guard, _permit) = (lock.lock().unwrap(), permits.acquire().unwrap());
        held.set();
        thread::sleep(LONG);
    }
    let _watch = watch();
    let (lock, permits) = (Lock::new(()).unwrap(), Semaphore::new(1).unwrap());
    let held = Event::new().unwrap();
    let holder = start(stay, (lock.clone(), permits.clone(), held.clone()));
    assert!(held.wait());
    for part in 0..2 {
        let got = AtomicBool::new(false);
        let wait = || {
            match part {
                0 => assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_)))),
                _ => drop(permits.acquire().unwrap()),
            }
            got.store(true, SeqCst);
        };
        let meanwhile = |interrupt: &dyn Fn()| {
            holder.kill().unwrap();
            until(|| {
                interrupt();
                thread::sleep(Duration::from_millis(4));
                got.load(SeqCst)
            });
        };
        interrupted_while(wait, meanwhile);
    }
    assert_eq!(holder.wait(), ExitCode::Signaled(libc::SIGKILL));
}

#[test]
fn a_signal_ends_no_wait() {
    let _watch = watch();
    let lock = Lock::new(()).unwrap();
    let guard = lock.lock().unwrap();
    let taken = interrupted(|| lock.lock().is_ok(), move || drop(guard));
    assert!(taken);
    let permits = Semaphore::new(0).unwrap();
    let release = || permits.release().unwrap();
    assert!(interrupted(|| permits.acquire().is_ok(), release));
    let event = Event::new().unwrap();
    assert!(interrupted(|| event.wait(), || event.set()));
    let condition = Condition::new().unwrap();
    let waited = interrupted(
        || {
            let guard = lock.lock().unwrap();
            condition.wait_timeout(guard, LONG).unwrap().1
        },
        || condition.notify_one(),
    );
    assert!(waited, "notified, and not before");
    let barrier = Barrier::new(2).unwrap();
    let met = interrupted(|| barrier.wait(), || assert_eq!(barrier.wait(), Ok(1)));
    assert_eq!(met, Ok(0));
    // Nor does it make one longer or shorter.
    let guard = lock.lock().unwrap();
    interrupted(
        || {
            let begin = Instant::now();
            assert!(matches!(lock.lock_timeout(SOON), Err(LockError::TimedOut)));
            assert!(begin.elapsed() >= SOON);
            assert!(!Event::new().unwrap().wait_timeout(SOON));
        },
        || {},
    );
    drop(guard);
}

#[test]
fn as_long_as_the_clock_cannot_count() {
    let _watch = watch();
    const EVER: Duration = Duration::MAX;
    let lock = Lock::new(0_u32).unwrap();
    let recursive = RLock::new().unwrap();
    let permits = BoundedSemaphore::new(1).unwrap();
    let event = Event::new().unwrap();
    let condition = Condition::new().unwrap();
    let barrier = Barrier::new(2).unwrap();
    let guard = lock.lock().unwrap();
    let recursive_guard = recursive.lock().unwrap();
    let permit = permits.acquire().unwrap();
    thread::scope(|scope| {
        let waits: [(_, Box<dyn FnOnce() -> bool + Send>); 6] = [
            ("lock", Box::new(|| lock.lock_timeout(EVER).is_ok())),
            ("rlock", Box::new(|| recursive.lock_timeout(EVER).is_ok())),
            ("permit", Box::new(|| permits.acquire_timeout(EVER).is_ok())),
            ("event", Box::new(|| event.wait_timeout(EVER))),
            ("barrier", Box::new(|| barrier.wait_timeout(EVER).is_ok())),
            (
                "condition",
                Box::new(|| {
                    let guard = lock.lock().unwrap();
                    let waited = condition.wait_timeout_while(guard, EVER, |n| **n == 0);
                    waited.unwrap().1
                }),
            ),
        ];
        let waits = waits.map(|(name, wait)| (name, scope.spawn(wait)));
        thread::sleep(SOON);
        for (name, wait) in &waits {
            assert!(!wait.is_finished(), "{name} did not wait");
        }
        drop((guard, recursive_guard, permit));
        event.set();
        barrier.wait_timeout(EVER).unwrap();
        *lock.lock_timeout(EVER).unwrap() = 1;
        condition.notify_all();
        for (name, wait) in waits {
            assert!(wait.join().unwrap(), "{name}");
        }
    });
}

/// In Python as here, no time at all is a time that can be over.
#[test]
fn no_time_at_all_breaks_a_barrier() {
    let _watch = watch();
    let barrier = Barrier::new(2).unwrap();
    let late = barrier.wait_timeout(Duration::ZERO);
    assert_eq!(late, Err(BarrierError::TimedOut));
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
}

#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Particle {
    position: [f64; 2],
    charge: i32,
    kind: u32,
}

#[test]
fn a_structure_is_shared_field_by_field() {
    let _watch = watch();
    fn push(particle: Value<Particle>) {
        let mut particle = particle.lock().unwrap();
        particle.position[1] += 0.5;
        particle.charge = particle.charge.wrapping_sub(1);
    }
    let start_here = Particle {
        position: [1.0, 2.0],
        charge: i32::MIN,
        kind: 7,
    };
    let particle = Value::new(start_here).unwrap();
    start(push, particle.clone()).join().unwrap();
    let moved = Particle {
        position: [1.0, 2.5],
        charge: i32::MAX,
        kind: 7,
    };
    assert_eq!(particle.get().unwrap(), moved);
}

/// Killed after it was notified and before it had its lock again: the notification is another's.
#[test]
fn a_notified_waiter_that_dies_on_its_way_to_the_lock() {
    let _watch = watch();
    fn wait((lock, condition): (Lock, Condition)) {
        drop(condition.wait(lock.lock().unwrap()).unwrap());
    }
    let (lock, condition) = (Lock::new(()).unwrap(), Condition::new().unwrap());
    let waiting = |count: u32| {
        until(|| format!("{condition:?}").contains(&format!("waiting: {count},")));
    };
    let first = start(wait, (lock.clone(), condition.clone()));
    waiting(1);
    let second = thread::spawn({
        let (lock, condition) = (lock.clone(), condition.clone());
        move || {
            let guard = lock.lock().unwrap();
            condition.wait_timeout(guard, LONG).unwrap().1
        }
    });
    waiting(2);
    let guard = lock.lock().unwrap();
    condition.notify_one();
    waiting(1);
    // It is awake, and sleeps for the lock.
    thread::sleep(Duration::from_millis(250));
    kill(first);
    drop(guard);
    assert!(second.join().unwrap());
}

//! Sweeps of a lock: taken, released, left locked, waited for, and taken over from the dead.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use multiprocess::{Guard, Lock, LockError, Process, family, spawn};

use crate::ring::LONG;
use crate::sleepers::await_sleep;
use crate::sweep::{Corpse, Outcome, Sweep, alone, members};
use crate::victim::marked;

/// Two numbers that are equal unless somebody died between them.
type Pair = Lock<[u64; 2]>;
type Held<'a> = Guard<'a, [u64; 2]>;

fn pair() -> Pair {
    Lock::new([0; 2]).expect("a lock")
}

/// The guard, and whether somebody died with it.
fn take(pair: &Pair) -> (Held<'_>, bool) {
    match pair.lock_timeout(LONG) {
        Ok(guard) => (guard, false),
        Err(LockError::OwnerDied(guard)) => (guard, true),
        Err(error) => panic!("the lock is lost: {error:?}"),
    }
}

fn raise(guard: &mut Held<'_>) {
    guard[0] += 1;
    guard[1] += 1;
}

/// Puts the lock right and uses it.
fn mend(pair: &Pair, (mut guard, died): (Held<'_>, bool)) -> bool {
    if died {
        guard[1] = guard[0];
        drop(guard);
        let (again, still) = take(pair);
        assert!(still, "nobody has said that it is consistent");
        again.mark_consistent();
        guard = again;
    }
    assert_eq!(guard[0], guard[1], "half a change, and nobody died");
    drop(guard);
    for _ in 0..3 {
        let (mut guard, died) = take(pair);
        assert!(!died, "marked as consistent");
        raise(&mut guard);
    }
    let (guard, _) = take(pair);
    assert_eq!(guard[0], guard[1]);
    died
}

fn done_if(done: bool) -> Outcome {
    if done {
        Outcome::Done
    } else {
        Outcome::NotDone
    }
}

type Operation = fn(Pair);

fn sweep(
    name: &str,
    setup: fn() -> Pair,
    operation: Operation,
    check: fn(Pair, Corpse) -> Outcome,
    whole: Outcome,
) {
    Sweep {
        name,
        setup: &setup,
        victim: &|pair: &mut Pair| spawn(operation, pair.clone()).expect("spawn"),
        unblock: None,
        steady: true,
        check: &check,
        whole,
    }
    .run(&alone());
}

fn take_and_keep(pair: Pair) {
    let guard = marked(|| pair.lock()).expect("lock");
    std::mem::forget(guard);
}

fn try_and_keep(pair: Pair) {
    let guard = marked(|| pair.try_lock()).expect("try_lock");
    std::mem::forget(guard);
}

fn await_and_keep(pair: Pair) {
    let guard = marked(|| pair.lock_timeout(LONG)).expect("lock_timeout");
    std::mem::forget(guard);
}

fn released(pair: Pair) {
    let mut guard = pair.lock().expect("lock");
    raise(&mut guard);
    marked(|| drop(guard));
}

fn changed(pair: Pair) {
    let mut guard = pair.lock().expect("lock");
    marked(|| {
        raise(&mut guard);
        drop(guard);
    });
}

fn left_locked(pair: Pair) {
    let guard = pair.lock().expect("lock");
    marked(|| guard.forget());
}

fn release(pair: Pair) {
    marked(|| pair.release()).expect("release");
}

/// The one that has the lock at its death is told of.
fn done_if_died(pair: Pair, _: Corpse) -> Outcome {
    done_if(mend(&pair, take(&pair)))
}

fn done_unless_died(pair: Pair, _: Corpse) -> Outcome {
    done_if(!mend(&pair, take(&pair)))
}

fn died(pair: Pair, _: Corpse) -> Outcome {
    assert!(mend(&pair, take(&pair)), "it had the lock");
    Outcome::Untold
}

fn nothing(pair: Pair, _: Corpse) -> Outcome {
    assert!(!mend(&pair, take(&pair)), "it never had the lock");
    Outcome::Untold
}

#[test]
fn taking_a_free_lock() {
    sweep("lock", pair, take_and_keep, done_if_died, Outcome::Done);
    sweep("try_lock", pair, try_and_keep, done_if_died, Outcome::Done);
    let check = done_if_died;
    sweep("lock_timeout", pair, await_and_keep, check, Outcome::Done);
}

#[test]
fn releasing_a_lock() {
    let check = done_unless_died;
    sweep("release of a guard", pair, released, check, Outcome::Done);
    sweep("a change under a lock", pair, changed, check, Outcome::Done);
}

#[test]
fn leaving_a_lock_locked() {
    sweep("forget", pair, left_locked, died, Outcome::Untold);
}

/// A lock that this process has left locked.
fn left() -> Pair {
    let pair = pair();
    pair.lock().expect("a free lock").forget();
    pair
}

fn after_release(pair: Pair, _: Corpse) -> Outcome {
    let done = !pair.is_locked();
    if !done {
        pair.release().expect("left locked by this process");
    }
    assert!(!mend(&pair, take(&pair)), "nobody died with it");
    done_if(done)
}

#[test]
fn releasing_what_another_has_left_locked() {
    sweep("release", left, release, after_release, Outcome::Done);
}

/// Sweeps an operation that sleeps until the lock is released.
fn sweep_asleep(name: &str, operation: Operation) {
    let report = Sweep {
        name,
        setup: &left,
        victim: &|pair: &mut Pair| spawn(operation, pair.clone()).expect("spawn"),
        unblock: Some(&|pair: &mut Pair| pair.release().expect("left locked")),
        steady: false,
        check: &|pair: Pair, _| {
            let _ = pair.release();
            done_if(mend(&pair, take(&pair)))
        },
        whole: Outcome::Done,
    }
    .run(&alone());
    assert!(
        report.trace.slept(),
        "{name} never slept: nothing was shown"
    );
}

#[test]
fn taking_a_lock_that_is_held() {
    sweep_asleep("lock, held", take_and_keep);
    sweep_asleep("lock_timeout, held", await_and_keep);
}

fn in_vain(pair: Pair) {
    let late = marked(|| pair.lock_timeout(Duration::from_millis(1)));
    assert!(matches!(late, Err(LockError::TimedOut)));
}

fn try_in_vain(pair: Pair) {
    let refused = marked(|| pair.try_lock());
    assert!(matches!(refused, Err(LockError::WouldBlock)));
}

#[test]
fn a_lock_that_is_not_to_be_had() {
    for (name, operation, steady) in [
        ("lock_timeout in vain", in_vain as Operation, false),
        ("try_lock in vain", try_in_vain, true),
    ] {
        Sweep {
            name,
            setup: &left,
            victim: &|pair: &mut Pair| spawn(operation, pair.clone()).expect("spawn"),
            unblock: Some(&|_| {}),
            steady,
            check: &|pair: Pair, corpse| {
                pair.release().expect("left locked by this process");
                nothing(pair, corpse)
            },
            whole: Outcome::Untold,
        }
        .run(&alone());
    }
}

/// A lock, and a thread of the survivors that sleeps for it.
struct Attended {
    pair: Pair,
    sleeper: Option<JoinHandle<bool>>,
}

impl Attended {
    /// When the victim has the lock.
    fn attend(&mut self) {
        let pair = self.pair.clone();
        let (send, receive) = mpsc::channel();
        self.sleeper = Some(thread::spawn(move || {
            // SAFETY: takes nothing.
            let id = unsafe { libc::gettid() };
            send.send(id).expect("the test thread waits for it");
            mend(&pair, take(&pair))
        }));
        await_sleep(receive.recv().expect("the sleeper begins with it"));
    }

    fn judge(self, _: Corpse) -> Outcome {
        let sleeper = self.sleeper.expect("attended");
        let start = Instant::now();
        while !sleeper.is_finished() {
            assert!(start.elapsed() < LONG, "a sleeper was not woken");
            thread::sleep(Duration::from_millis(1));
        }
        match sleeper.join() {
            Ok(died) => done_if(!died),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

#[test]
fn releasing_a_lock_that_somebody_sleeps_for() {
    Sweep {
        name: "release of a guard for a sleeper",
        setup: &|| Attended {
            pair: pair(),
            sleeper: None,
        },
        victim: &|attended: &mut Attended| {
            let victim = spawn(released, attended.pair.clone()).expect("spawn");
            while !attended.pair.is_locked() {
                thread::sleep(Duration::from_micros(100));
            }
            attended.attend();
            victim
        },
        unblock: None,
        // After 1 ms the sleeper asks for the lock, and the release is another one.
        steady: false,
        check: &Attended::judge,
        whole: Outcome::Done,
    }
    .run(&alone());
}

/// A lock whose holder was killed, which nobody has been told, or is known to have ended.
struct Orphan {
    pair: Pair,
    dead: Option<Process<()>>,
}

impl Orphan {
    fn new(reaped: bool) -> Orphan {
        let pair = pair();
        let mut dead = Some(spawn(die_with, pair.clone()).expect("spawn"));
        while !pair.is_locked() {
            thread::sleep(Duration::from_micros(100));
        }
        let process = dead.as_ref().expect("just started");
        process.kill().expect("kill");
        if reaped {
            dead.take().expect("just started").wait();
        } else {
            await_zombie(process.pid());
        }
        Orphan { pair, dead }
    }
}

pub fn await_zombie(pid: u32) {
    let path = format!("/proc/{pid}/stat");
    while std::fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") Z ")) {
        thread::sleep(Duration::from_micros(100));
    }
}

fn die_with(pair: Pair) {
    let mut guard = pair.lock().expect("lock");
    guard[0] += 1;
    thread::sleep(LONG);
}

fn take_over(pair: Pair) {
    marked(|| match pair.lock() {
        Err(LockError::OwnerDied(mut guard)) => {
            guard[1] = guard[0];
            guard.mark_consistent();
        }
        other => panic!("{other:?}"),
    });
}

fn collect(pair: Pair) {
    marked(family::stats);
    drop(pair);
}

fn sweep_orphan(
    name: &str,
    operation: Operation,
    check: fn(Pair, Corpse) -> Outcome,
    whole: Outcome,
) {
    for reaped in [false, true] {
        let corpse = if reaped { "reaped" } else { "zombie" };
        Sweep {
            name: &format!("{name}, {corpse}"),
            setup: &|| Orphan::new(reaped),
            victim: &|orphan: &mut Orphan| spawn(operation, orphan.pair.clone()).expect("spawn"),
            unblock: None,
            steady: true,
            check: &|orphan: Orphan, corpse| {
                let outcome = check(orphan.pair, corpse);
                if let Some(dead) = orphan.dead {
                    dead.wait();
                    members();
                }
                outcome
            },
            whole,
        }
        .run(&alone());
    }
}

#[test]
fn taking_over_from_the_dead() {
    sweep_orphan("taking over", take_over, done_unless_died, Outcome::Done);
}

#[test]
fn collecting_what_a_holder_left() {
    sweep_orphan("collecting a lock", collect, died, Outcome::Untold);
}

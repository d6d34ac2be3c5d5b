//! Futex and membarrier.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::children::fork;
use super::{Arena, play, refuse, role, until, within};
use crate::os::mmap::Mapping;
use crate::os::pidfd::Reaped;
use crate::os::{futex, membarrier};

#[test]
fn another_value_does_not_sleep() {
    within(|| futex::wait(&AtomicU32::new(1), 2, None).unwrap());
}

#[test]
fn a_timeout_is_told_from_a_wake() {
    within(|| {
        let word = AtomicU32::new(0);
        let start = Instant::now();
        let timeout = Duration::from_millis(20);
        let error = futex::wait(&word, 0, Some(timeout)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= timeout);
        let error = futex::wait(&word, 0, Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn the_longest_timeout_is_for_ever() {
    within(|| {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| futex::wait(&word, 0, Some(Duration::MAX)));
            until("asleep", || futex::wake(&word, 1) == 1);
            sleeper.join().unwrap().unwrap();
        });
    });
}

#[test]
fn as_many_are_woken_as_asked_for() {
    within(|| {
        let (word, asleep) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    asleep.fetch_add(1, Ordering::SeqCst);
                    while word.load(Ordering::SeqCst) == 0 {
                        futex::wait(&word, 0, None).unwrap();
                    }
                });
            }
            until("on their way", || asleep.load(Ordering::SeqCst) == 3);
            assert_eq!(futex::wake(&word, 0), 0);
            // Those who are woken early go back to sleep.
            until("two at once", || futex::wake(&word, 2) == 2);
            until("three at once", || futex::wake(&word, u32::MAX) == 3);
            word.store(1, Ordering::SeqCst);
            futex::wake(&word, u32::MAX);
        });
    });
}

#[test]
fn a_wake_crosses_mappings() {
    within(|| {
        let arena = Arena::new();
        let other = Mapping::shared(&arena.fd, arena.map.len()).unwrap();
        // SAFETY: the page is mapped, aligned, and accessed through atomics only.
        let word = unsafe { AtomicU32::from_ptr(other.base().cast()) };
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| futex::wait(word, 0, None));
            until("asleep", || futex::wake(arena.word(), 1) == 1);
            sleeper.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_wake_crosses_processes() {
    within(|| {
        let arena = Arena::new();
        let child = fork(|| {
            if !arena.join() {
                return 1;
            }
            match futex::wait(arena.word(), 1, None) {
                Ok(()) => 0,
                Err(_) => 2,
            }
        });
        until("asleep", || futex::wake(arena.word(), 1) == 1);
        assert_eq!(child.join(), Reaped::Exited(0));
    });
}

#[test]
fn a_barrier_needs_one_registration() {
    if !membarrier::supported() {
        return eprintln!("skipped: no membarrier here");
    }
    membarrier::register().unwrap();
    membarrier::register().unwrap();
    membarrier::barrier();
}

#[test]
fn a_barrier_that_is_refused_is_the_end() {
    const TEST: &str = "os::tests::waiting::a_barrier_that_is_refused_is_the_end";
    if role().is_some() {
        refuse(libc::SYS_membarrier, libc::EPERM);
        assert!(!membarrier::supported());
        assert!(membarrier::register().is_err());
        return membarrier::barrier();
    }
    let output = play(&[], TEST, "refused");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("membarrier was registered"), "{said}");
}

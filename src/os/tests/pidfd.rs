use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::children::{fork, sleep_for_ever};
use super::within;
use crate::os::pidfd::{self, Reaped};

#[test]
fn an_exit_is_reaped_once() {
    within(|| {
        let child = fork(|| 42);
        let fd = pidfd::open(child.pid).unwrap();
        assert!(pidfd::wait(&fd, None).unwrap());
        assert_eq!(pidfd::reap(&fd).unwrap(), Some(Reaped::Exited(42)));
        let error = pidfd::reap(&fd).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
        // It has ended all the same.
        assert!(pidfd::wait(&fd, Some(Duration::ZERO)).unwrap());
        let error = pidfd::signal(&fd, libc::SIGTERM).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    });
}

#[test]
fn a_signal_is_reaped() {
    within(|| {
        let child = fork(|| sleep_for_ever());
        let fd = pidfd::open(child.pid).unwrap();
        assert_eq!(pidfd::reap(&fd).unwrap(), None);
        pidfd::signal(&fd, 0).unwrap();
        pidfd::signal(&fd, libc::SIGTERM).unwrap();
        assert_eq!(child.join(), Reaped::Signaled(libc::SIGTERM));
    });
}

#[test]
fn a_child_that_somebody_else_reaped_is_an_error() {
    within(|| {
        let child = fork(|| 3);
        let fd = pidfd::open(child.pid).unwrap();
        // SAFETY: no status is asked for.
        let pid = unsafe { libc::waitpid(child.pid as i32, std::ptr::null_mut(), 0) };
        assert_eq!(pid as u32, child.pid);
        let error = pidfd::reap(&fd).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
        let error = pidfd::open(child.pid).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    });
}

#[test]
fn a_stopped_child_is_not_reaped() {
    within(|| {
        let child = fork(|| sleep_for_ever());
        let fd = pidfd::open(child.pid).unwrap();
        pidfd::signal(&fd, libc::SIGSTOP).unwrap();
        let mut status = 0;
        // SAFETY: the status is ours.
        unsafe { libc::waitpid(child.pid as i32, &raw mut status, libc::WUNTRACED) };
        assert!(libc::WIFSTOPPED(status));
        assert_eq!(pidfd::reap(&fd).unwrap(), None);
        assert!(!pidfd::wait(&fd, Some(Duration::ZERO)).unwrap());
    });
}

#[test]
fn signals_do_not_cut_a_wait_short() {
    extern "C" fn nothing(_: libc::c_int) {}
    within(|| {
        // SAFETY: zero is a value of all its fields.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as usize;
        // SAFETY: the handler does nothing, and nobody else uses this signal.
        let set = unsafe { libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()) };
        assert_eq!(set, 0);

        let child = fork(|| sleep_for_ever());
        let fd = pidfd::open(child.pid).unwrap();
        // SAFETY: takes nothing.
        let waiter = unsafe { libc::pthread_self() };
        let (timeout, start) = (Duration::from_millis(200), Instant::now());
        let ended = std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..20 {
                    std::thread::sleep(Duration::from_millis(5));
                    // SAFETY: the thread waits for this one.
                    unsafe { libc::pthread_kill(waiter, libc::SIGUSR2) };
                }
            });
            pidfd::wait(&fd, Some(timeout)).unwrap()
        });
        assert!(!ended);
        assert!(start.elapsed() >= timeout);
    });
}

#[test]
fn a_process_has_an_inode_of_its_own_or_none() {
    within(|| {
        let child = fork(|| sleep_for_ever());
        let mine = pidfd::open(std::process::id()).unwrap();
        let inode = |fd: &dyn Fn() -> std::os::fd::OwnedFd| pidfd::inode(fd().as_fd()).unwrap();
        let again = inode(&|| pidfd::open(std::process::id()).unwrap());
        assert_eq!(pidfd::inode(&mine).unwrap(), again);
        let other = inode(&|| pidfd::open(child.pid).unwrap());
        match again {
            Some(_) => assert_ne!(again, other),
            None => assert_eq!(other, None),
        }
        // Something that is no pidfd at all has none.
        assert_eq!(
            inode(&|| std::fs::File::open("/dev/null").unwrap().into()),
            None
        );
    });
}

#[test]
fn a_descriptor_that_is_no_process_is_an_error() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = pidfd::signal(&file, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert!(pidfd::reap(&file).is_err());
    for pid in [0, u32::MAX] {
        assert!(pidfd::open(pid).is_err());
    }
}

//! Raw children: copies of one thread, which may do no more than system calls.

use crate::os::pidfd::{self, Reaped};

/// A forked child; killed and reaped at the end.
pub(super) struct Child {
    pub(super) pid: u32,
}

/// Forks. The closure runs in the child, and its result is the exit code.
///
/// It must make system calls only: the child is a copy of one thread of many.
pub(super) fn fork(child: impl FnOnce() -> i32) -> Child {
    // SAFETY: see above.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            let leave = Leave(101);
            // SAFETY: the arguments are numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let code = child();
            std::mem::forget(leave);
            drop(Leave(code));
            unreachable!()
        }
        pid => Child { pid: pid as u32 },
    }
}

/// Leaves the process when dropped: a panic must not get into the copy of the test runner.
struct Leave(i32);

impl Drop for Leave {
    fn drop(&mut self) {
        // SAFETY: takes a number and does not return.
        unsafe { libc::_exit(self.0) }
    }
}

/// Sleeps until a signal ends the process.
pub(super) fn sleep_for_ever() -> ! {
    loop {
        // SAFETY: takes no memory.
        unsafe { libc::pause() };
    }
}

impl Child {
    /// Kills it, and waits until it is a zombie.
    pub(super) fn kill(&self) {
        let fd = pidfd::open(self.pid).unwrap();
        pidfd::signal(&fd, libc::SIGKILL).unwrap();
        assert!(pidfd::wait(&fd, None).unwrap());
    }

    /// Waits for its end.
    pub(super) fn join(self) -> Reaped {
        let fd = pidfd::open(self.pid).unwrap();
        assert!(pidfd::wait(&fd, None).unwrap());
        let reaped = pidfd::reap(&fd).unwrap().unwrap();
        std::mem::forget(self);
        reaped
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let pid = self.pid as libc::pid_t;
        // A child that was reaped otherwise is nobody's to kill: its number may mean another.
        let Ok(fd) = pidfd::open(self.pid) else {
            return;
        };
        if pidfd::reap(&fd).is_ok_and(|ended| ended.is_none()) {
            let _ = pidfd::signal(&fd, libc::SIGKILL);
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    }
}

//! `clone(CLONE_VM | CLONE_VFORK)`: a process that does a few steps in the memory of this one while the calling thread waits
//! for it. It has descriptors of its own, copies of this process's at that moment.
//!
//! `posix_spawn` is made of the same, but tells the number of the child only, and opening a pidfd afterwards can fail when
//! the child has begun. Here the kernel makes the pidfd before the child can run: without a free descriptor there is no
//! child.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::exit::exit_now;
use crate::os::fds;

/// Bytes of stack for the steps; only what is used of it is ever there.
const STACK: usize = 256 << 10;
/// How many descriptors a question may have open at a time.
const SPARE: RawFd = 8;

/// `clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD)`: a child that takes the steps; returns when it executes a program
/// or has come to their end, which ends it with 127. Its pid and pidfd.
///
/// The child has all signals blocked. The steps must not panic.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `EAGAIN`, `ENOMEM`: there was no child.
pub(super) fn child(steps: &mut dyn FnMut()) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd = -1;
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
    let pid = clone(flags, &mut pidfd, steps)?;
    // SAFETY: the call succeeded, so it has made this descriptor for us.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Asks a question that needs descriptors, when there are none left in this process: the copy of its table has room.
///
/// No signal tells of the process that asks; only `waitpid` with `__WALL` would see it.
///
/// # Errors
///
/// `EAGAIN`, `ENOMEM`: nobody has asked.
pub(crate) fn with_spare_descriptors<T>(mut question: impl FnMut() -> T) -> io::Result<T> {
    let mut answer = None;
    let mut steps = || {
        for fd in 0..SPARE {
            fds::close_copy(fd);
        }
        answer = Some(question());
    };
    let pid = clone(0, &mut -1, &mut steps)?;
    reap(pid);
    // None: it was killed.
    answer.ok_or_else(|| io::ErrorKind::Interrupted.into())
}

/// `waitpid(pid, NULL, __WALL)`: lets go of a child that is about to end.
pub(super) fn reap(pid: u32) {
    loop {
        // SAFETY: a null pointer asks for no status.
        let done = unsafe { libc::waitpid(pid as i32, ptr::null_mut(), libc::__WALL) };
        if done != -1 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn clone(flags: c_int, pidfd: &mut c_int, mut steps: &mut dyn FnMut()) -> io::Result<u32> {
    let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK;
    let argument = (&raw mut steps).cast::<c_void>();
    // A handler of this program must not run in the child, which would do its work in our memory.
    let blocked = Blocked::all();
    // SAFETY: the child has a stack of its own; the steps are borrowed until it is gone from this memory, which is when the
    // call returns.
    let pid = unsafe {
        libc::clone(
            take_steps,
            top.cast(),
            flags,
            argument,
            ptr::from_mut(pidfd),
        )
    };
    let error = io::Error::last_os_error();
    drop(blocked);
    if pid == -1 {
        Err(error)
    } else {
        Ok(pid as u32)
    }
}

/// Where the child begins.
extern "C" fn take_steps(argument: *mut c_void) -> c_int {
    // SAFETY: the caller of `clone` has put it there, and waits.
    let steps = unsafe { &mut *argument.cast::<&mut dyn FnMut()>() };
    steps();
    exit_now(127)
}

/// All signals of the calling thread blocked, those of the C library's own too; as before when dropped.
struct Blocked(u64);

impl Blocked {
    fn all() -> Blocked {
        Blocked(set_mask(u64::MAX))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(self.0);
    }
}

/// `rt_sigprocmask(SIG_SETMASK, &mask, &old, 8)`: the mask of the calling thread; returns the one before.
pub(super) fn set_mask(mask: u64) -> u64 {
    let (call, how) = (libc::SYS_rt_sigprocmask, libc::SIG_SETMASK);
    let mut old = 0_u64;
    // SAFETY: the kernel's signal sets have eight bytes.
    unsafe { libc::syscall(call, how, &raw const mask, &raw mut old, size_of::<u64>()) };
    old
}

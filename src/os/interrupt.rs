//! `sigaction(SIGINT)`, `sigprocmask`: Ctrl-C at a terminal is for the process that the user started.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// SIGINT as the only one of a kernel's set of signals.
pub(crate) const MASK: u64 = 1 << (libc::SIGINT - 1);

extern "C" fn nothing(_: libc::c_int) {}

/// `sigaction(SIGINT, {nothing, SA_RESTART})`, `SIG_UNBLOCK`: from now on Ctrl-C does not end this process, nor does one that came
/// while it was blocked. Programs that it starts are ended: a handler, unlike `SIG_IGN`, is not inherited through `execve`. Where it
/// is ignored already (as under `nohup`) it stays so, for them too.
///
/// # Errors
///
/// Where a filter forbids it.
pub(crate) fn stand() -> io::Result<()> {
    let stood = handle();
    let (call, how) = (libc::SYS_rt_sigprocmask, libc::SIG_UNBLOCK);
    let (mask, none) = (MASK, ptr::null_mut::<u64>());
    // SAFETY: the kernel's signal sets have eight bytes.
    unsafe { libc::syscall(call, how, &raw const mask, none, size_of::<u64>()) };
    stood
}

/// In a copy of a process that stood: Ctrl-C ends it, as it ends every program that such a process starts.
pub(crate) fn fall() {
    if handler() == Some(nothing as extern "C" fn(libc::c_int) as usize) {
        // SAFETY: what ends a process needs nothing of it.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    }
}

/// What is called now.
fn handler() -> Option<usize> {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the old action is written to a variable of that type.
    let asked = unsafe { libc::sigaction(libc::SIGINT, ptr::null(), old.as_mut_ptr()) };
    // SAFETY: zeros are a valid action too.
    let old = unsafe { old.assume_init() };
    (asked == 0).then_some(old.sa_sigaction)
}

fn handle() -> io::Result<()> {
    if handler() == Some(libc::SIG_IGN) {
        return Ok(());
    }
    let action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeros are a valid action.
    let mut action = unsafe { action.assume_init() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler does nothing, so it may run at any instruction.
    match unsafe { libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_does_not_end_it() {
        let (mask, none) = (MASK, ptr::null_mut::<u64>());
        let (call, how) = (libc::SYS_rt_sigprocmask, libc::SIG_BLOCK);
        // SAFETY: as in `stand`; this thread only.
        unsafe { libc::syscall(call, how, &raw const mask, none, size_of::<u64>()) };
        // SAFETY: sends a signal to this thread that is blocked.
        assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
        stand().unwrap();
        // SAFETY: sends a signal that is handled.
        assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
        let mut pending = 0_u64;
        let call = libc::SYS_rt_sigpending;
        // SAFETY: as for the mask.
        unsafe { libc::syscall(call, &raw mut pending, size_of::<u64>()) };
        assert_eq!(pending & MASK, 0);
    }
}

//! `sigaction(SIGINT)`: Ctrl-C at a terminal is for the process that the user started.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

extern "C" fn nothing(_: libc::c_int) {}

/// `sigaction(SIGINT, {nothing, SA_RESTART})`: from now on Ctrl-C does not end this process. Programs that it starts are ended:
/// a handler, unlike `SIG_IGN`, is not inherited through `execve`.
///
/// # Errors
///
/// Where a filter forbids it.
pub(crate) fn stand() -> io::Result<()> {
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
    #[test]
    fn ctrl_c_does_not_end_it() {
        super::stand().unwrap();
        // SAFETY: sends a signal that is handled.
        assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
    }
}

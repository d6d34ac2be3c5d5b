//! `fork`, and whether it may be called.

#![allow(unsafe_code)]

use std::io;

use super::{Spawned, aside};
use crate::os::{fds, pidfd};

/// Which of the two this process is after [`fork`].
#[derive(Debug)]
pub(crate) enum Fork {
    /// The one that called, with the other.
    Parent(Spawned),
    /// The new one.
    Child,
}

/// The number of threads in this process (`Threads:` in /proc/self/status).
///
/// A thread that was joined a moment ago may still be counted: `join` returns shortly before the kernel has let go of it.
///
/// # Errors
///
/// When /proc cannot be read.
pub(crate) fn thread_count() -> io::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no thread count in /proc"))
}

/// `pthread_atfork`: what is called at every `fork` of this process, whoever forks: before it, and after it in the process and
/// in its copy. Not when a system call is made past the C library.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn at_fork(
    before: extern "C" fn(),
    after: extern "C" fn(),
    in_copy: extern "C" fn(),
) -> io::Result<()> {
    // SAFETY: functions stay callable until the end; the C library unregisters those of an unloaded library.
    match unsafe { libc::pthread_atfork(Some(before), Some(after), Some(in_copy)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// `fork()`: goes on as two processes. The child goes on when the parent has its pidfd, or has ended; where the parent cannot
/// have one, there was no child.
///
/// # Errors
///
/// `Unsupported` when the process has more than one thread: the others would be missing in the child while the locks
/// they hold stay locked. Otherwise the kernel's: `EAGAIN`, `ENOMEM`, `EMFILE`, `ENFILE`.
pub(crate) fn fork() -> io::Result<Fork> {
    if thread_count()? != 1 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a process with more than one thread cannot be forked",
        ));
    }
    // What C's streams have buffered would be written by both.
    // SAFETY: a null pointer means all streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    // Its end to write is only ever closed.
    let (gate, key) = fds::pipe()?;
    // SAFETY: there is no other thread, and only this one could start some; so the child is a full copy.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(key);
            fds::wait_for_end(&gate);
            Ok(Fork::Child)
        }
        pid => {
            // Its number is free for the pidfd.
            drop(gate);
            let pid = pid as u32;
            match pidfd::open(pid) {
                Ok(pidfd) => {
                    drop(key);
                    Ok(Fork::Parent(Spawned { pid, pidfd }))
                }
                // Somebody has killed it at the gate, and nobody is told of ended children (`SIGCHLD` ignored).
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(error),
                Err(error) => {
                    // It stands at the gate, and has not been reaped: the pid is still its own.
                    // SAFETY: sends a signal, touches no memory.
                    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
                    aside::reap(pid);
                    Err(error)
                }
            }
        }
    }
}

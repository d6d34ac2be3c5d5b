//! `fork`, and whether it may be called.

#![allow(unsafe_code)]

use std::io;

use super::Spawned;

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

/// `fork()`: goes on as two processes.
///
/// # Errors
///
/// `Unsupported` when the process has more than one thread: the others would be missing in the child while the locks
/// they hold stay locked. Otherwise the kernel's: `EAGAIN`, `ENOMEM`.
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
    // SAFETY: there is no other thread, and only this one could start some; so the child is a full copy.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => super::watch(pid as u32).map(Fork::Parent),
    }
}

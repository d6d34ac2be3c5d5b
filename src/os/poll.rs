//! Sleeping on several descriptors at once, and a descriptor that wakes who does.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// `poll(fds, n, timeout)`: which are readable or at their end; none when the time is over or a signal came.
pub(crate) fn readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let left = timeout.and_then(|left| Timespec::try_from(left).ok());
    match rustix::event::poll(&mut polled, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// `eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)`
pub(crate) fn bell() -> io::Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    Ok(rustix::event::eventfd(0, flags)?)
}

/// `write(fd, &one, 8)`: makes it readable.
pub(crate) fn ring(bell: &OwnedFd) {
    // It fails only when it is readable already.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

//! `eventfd`, `poll`: a descriptor that another process can make readable, and waiting for several at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// `eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)`
///
/// # Errors
///
/// No descriptors are left.
pub(crate) fn new() -> io::Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    Ok(rustix::event::eventfd(0, flags)?)
}

/// `write(fd, 1)`: makes it readable.
pub(crate) fn ring(fd: impl AsFd) {
    // It is readable already when this fails.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

/// `read(fd)`: from now on it is not readable until somebody rings again.
pub(crate) fn silence(fd: impl AsFd) {
    let _ = rustix::io::read(fd, &mut [0_u8; 8]);
}

/// `poll(fds, POLLIN, timeout)`: the first that is readable; none when the time is over, or sooner.
///
/// # Errors
///
/// No memory; a signal is none.
pub(crate) fn wait_any(
    fds: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let fds = fds.iter();
    let mut fds: Vec<PollFd<'_>> = fds
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) => Ok(fds.iter().position(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rings_until_it_is_silenced() {
        let bell = new().unwrap();
        let rung = || {
            let mut fds = [PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
        };
        assert!(!rung());
        ring(&bell);
        ring(&bell);
        assert_eq!(wait_any(&[bell.as_fd()], None).unwrap(), Some(0));
        assert!(rung());
        silence(&bell);
        assert!(!rung());
        let waited = wait_any(&[bell.as_fd()], Some(Duration::ZERO));
        assert_eq!(waited.unwrap(), None);
    }
}

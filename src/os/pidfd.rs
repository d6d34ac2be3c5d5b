//! A process as a descriptor, which cannot come to mean another process.
//!
//! Kernels: `pidfd_open` is 5.3, `waitid(P_PIDFD)` 5.4, the inode of its own 6.9 (before, a
//! process is recognised by its start time, see `liveness`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use super::clock::Deadline;

/// The file system that gives each process an inode.
const PID_FS_MAGIC: i64 = 0x5049_4446;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// By `exit`, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// `pidfd_open(pid, 0)`: close-on-exec. `ESRCH` when nobody has that number.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(Errno::SRCH)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// `poll(fd, POLLIN, timeout)`: whether the process has ended by then.
///
/// All its threads have ended then, whether or not it was reaped. Signals do not end the wait.
pub(crate) fn wait(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    let deadline = Deadline::from(timeout);
    loop {
        let left = deadline.remaining();
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) if fds[0].revents().contains(PollFlags::NVAL) => {
                return Err(Errno::BADF.into());
            }
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// `pidfd_send_signal(fd, sig, NULL, 0)`: `ESRCH` when the process has ended and was reaped.
pub(crate) fn signal(fd: impl AsFd, sig: i32) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    let info = core::ptr::null::<libc::siginfo_t>();
    // SAFETY: the call reads no memory of ours, the descriptor is open.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, sig, info, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG)`: takes the end of a child, if it has come.
///
/// `None` is: it still runs. `ECHILD`: it is not ours to reap, or somebody else has.
pub(crate) fn reap(fd: impl AsFd) -> io::Result<Option<Reaped>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = loop {
        match rustix::process::waitid(WaitId::PidFd(fd.as_fd()), options) {
            Err(Errno::INTR) => {}
            status => break status?,
        }
    };
    Ok(status.and_then(|status| {
        let exited = status.exit_status().map(Reaped::Exited);
        exited.or_else(|| status.terminating_signal().map(Reaped::Signaled))
    }))
}

/// `waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT)`, `kill(pid, 0)`: whether nobody who runs has this number, as far
/// as that can be told without a descriptor: of children of this process, and of processes that were reaped.
pub(crate) fn is_number_of_none(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return true;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(
        rustix::process::waitid(WaitId::Pid(pid), options),
        Ok(Some(_))
    ) || rustix::process::test_kill_process(pid) == Err(Errno::SRCH)
}

/// `fstatfs(fd)`, `fstat(fd)`: a number that no other process gets until the machine restarts.
///
/// `None` before 6.9, where all pidfds share one inode.
pub(crate) fn inode(fd: impl AsFd) -> io::Result<Option<u64>> {
    if rustix::fs::fstatfs(&fd)?.f_type != PID_FS_MAGIC {
        return Ok(None);
    }
    Ok(Some(rustix::fs::fstat(&fd)?.st_ino))
}

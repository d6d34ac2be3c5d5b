//! `fcntl`, `pipe2`, `close_range`: file descriptors that go to a child, and the pipe that ends a child with its parent.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;

/// `fcntl(F_SETSIG)`, which the `libc` crate does not name; the same on all architectures.
const F_SETSIG: libc::c_int = 10;

/// `fcntl(fd, F_GETFD)`: is this number an open descriptor?
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument and touches no memory.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Takes over the descriptors `first .. first + count` and sees to it that no program started from here gets them.
///
/// # Errors
///
/// `NotFound` when one of them is not open; none is taken then.
///
/// # Safety
///
/// Nothing else in the process may own one of them.
pub(crate) unsafe fn adopt(first: RawFd, count: usize) -> io::Result<Vec<OwnedFd>> {
    let numbers = || (first..).take(count);
    if let Some(missing) = numbers().find(|&fd| !is_open(fd)) {
        let text = format!("descriptor {missing} was not passed");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    numbers()
        .map(|fd| {
            // SAFETY: it is open, and by the contract nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
            Ok(fd)
        })
        .collect()
}

/// Opens /dev/null for each of the standard descriptors 0, 1 and 2 that is closed, as Rust's own start does: a file
/// that is opened later must not become "standard output" by chance.
///
/// # Errors
///
/// Those of opening /dev/null.
pub(crate) fn complete_standard() -> io::Result<()> {
    for fd in 0..3 {
        if !is_open(fd) {
            // The lowest free number is given out, which is `fd`.
            let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
            let _stays_open = null.into_raw_fd();
        }
    }
    Ok(())
}

/// `open("/dev/null")`, `dup2(fd, 0)`: standard input from nowhere.
///
/// # Errors
///
/// Those of opening /dev/null.
pub(crate) fn null_input() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty())?;
    // SAFETY: descriptor 0 is nobody's own; whoever reads standard input finds its end.
    match unsafe { libc::dup2(null.as_raw_fd(), 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// `close(fd)` in a process that has a table of copies to itself.
pub(super) fn close_copy(fd: RawFd) {
    // SAFETY: whose descriptor it is a copy of keeps its own.
    unsafe { libc::close(fd) };
}

/// `close_range(~0, ~0, 0)`: does the kernel have this call?
pub(crate) fn can_close_ranges() -> bool {
    close_range(libc::c_uint::MAX).is_ok()
}

/// `close_range(first, ~0, 0)` in a process that has a table of copies to itself.
pub(super) fn close_copies_from(first: RawFd) -> io::Result<()> {
    close_range(first as libc::c_uint)
}

fn close_range(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: the call touches no memory; the callers see to it that nobody owns what it closes.
    match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `close_range(first, ~0, 0)`: closes every descriptor from `first` on; on kernels before 5.9 those in /proc/self/fd.
///
/// # Errors
///
/// When the kernel has no such call and /proc cannot be read.
///
/// # Safety
///
/// Nothing in the process may own a descriptor from `first` on.
pub(crate) unsafe fn close_from(first: RawFd) -> io::Result<()> {
    if close_range(first as libc::c_uint).is_ok() {
        return Ok(());
    }
    // Collected first: the listing has a descriptor of its own.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|&fd| fd >= first) {
        // SAFETY: by the contract nobody owns it; the listing's own one is closed already, which is an error only.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// `pipe2(O_CLOEXEC)`: the end to read and the end to write.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`: no descriptors are left.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// `fstat(fd)`: the number of what is open there, on its file system.
pub(crate) fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

/// `fstat(fd)`, `close(fd)`: closes the descriptor if this pipe is what it still means. Allowed in a signal handler.
pub(crate) fn close_pipe(fd: RawFd, pipe: u64) {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: writes to a variable of that type.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: the call has succeeded; besides, zeros are valid.
    let stat = unsafe { stat.assume_init() };
    if stat.st_mode & libc::S_IFMT == libc::S_IFIFO && stat.st_ino == pipe {
        // SAFETY: the caller's own.
        unsafe { libc::close(fd) };
    }
}

/// `read(pipe, 1 byte)`: returns when all ends to write are closed. Nothing is ever written.
pub(crate) fn wait_for_end(pipe: &OwnedFd) {
    while rustix::io::read(pipe, &mut [0_u8]) == Err(Errno::INTR) {}
}

/// `fcntl(F_SETOWN)`, `fcntl(F_SETSIG, SIGKILL)`, `O_ASYNC`: from now on this process is killed when the last write end
/// of the pipe is closed. When that has happened already it does not return.
///
/// It is armed for all copies of this end: one pipe serves one child.
///
/// `PR_SET_PDEATHSIG` would be simpler, but it fires when the *thread* that started the child ends.
///
/// # Errors
///
/// When the descriptor is not one that can signal.
pub(crate) fn die_with(pipe: OwnedFd) -> io::Result<()> {
    let fcntl = |command, argument: libc::c_int| {
        // SAFETY: these commands take a number and touch no memory.
        match unsafe { libc::fcntl(pipe.as_raw_fd(), command, argument) } {
            -1 => Err(io::Error::last_os_error()),
            value => Ok(value),
        }
    };
    let flags = fcntl(libc::F_GETFL, 0)?;
    let me = rustix::process::getpid().as_raw_nonzero().get();
    fcntl(libc::F_SETOWN, me)?;
    fcntl(F_SETSIG, libc::SIGKILL)?;
    fcntl(libc::F_SETFL, flags | libc::O_ASYNC)?;
    // What happened before the flag was set has sent no signal.
    if is_hung_up(pipe.as_fd())? {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    }
    let _stays_open = pipe.into_raw_fd();
    Ok(())
}

/// `poll(fd, 0)`: have all write ends of the pipe been closed?
fn is_hung_up(pipe: BorrowedFd<'_>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(pipe, PollFlags::IN)];
    loop {
        match poll(&mut polled, Some(&Timespec::default())) {
            Ok(_) => return Ok(polled[0].revents().contains(PollFlags::HUP)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_passed_is_not_adopted() {
        // SAFETY: such a number is beyond every limit, so it is not open.
        let adopted = unsafe { adopt(RawFd::MAX - 1, 1) };
        assert_eq!(adopted.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_the_pipe_that_is_meant_is_closed() {
        let (read, write) = pipe().unwrap();
        let number = inode(write.as_fd()).unwrap();
        close_pipe(write.as_raw_fd(), number + 1);
        assert!(!is_hung_up(read.as_fd()).unwrap());
        close_pipe(write.into_raw_fd(), number);
        assert!(is_hung_up(read.as_fd()).unwrap());
    }

    #[test]
    fn a_pipe_hangs_up_when_its_write_end_is_closed() {
        let (read, write) = pipe().unwrap();
        assert!(!is_hung_up(read.as_fd()).unwrap());
        drop(write);
        assert!(is_hung_up(read.as_fd()).unwrap());
    }
}

//! Whether a process that was written down once is still a member.
//!
//! What cannot be decided means alive: a member that is wrongly taken for dead would have its
//! slots taken from under its hands, one wrongly taken for alive only delays others.
//!
//! Kernels: before 6.9 a pidfd has no inode of its own. The start time stands in for it, which
//! costs a few reads from `/proc` and cannot tell a process from one that got its number within
//! 20 ms of its start.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::memfd::FileId;
use super::pidfd;
use super::spawn::aside;

/// What tells a process from all others, before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its number, as the process that wrote this down sees it.
    pub(crate) pid: u32,
    /// The pid namespace in which that number holds (an inode).
    pub(crate) pid_ns: u64,
    /// The inode of its pidfd; 0 before 6.9.
    pub(crate) pidfd_inode: u64,
    /// When it started, in ticks since the machine did, the same in every time namespace; 0 where
    /// it is not known, or not needed because there is an inode.
    pub(crate) start: u64,
}

impl Identity {
    /// A process of which nothing but the number is known, and where that holds. Another one that gets the number answers
    /// for it: for moments only.
    pub(crate) fn numbered(pid: u32, pid_ns: u64) -> Identity {
        Identity {
            pid,
            pid_ns,
            pidfd_inode: 0,
            start: 0,
        }
    }

    /// `pidfd_open(getpid())` and what it shows: the calling process.
    pub(crate) fn current() -> io::Result<Identity> {
        Identity::of(std::process::id())
    }

    /// `pidfd_open(pid)` and what it shows.
    ///
    /// Only for a process that cannot be reaped meanwhile: an own child, or the caller.
    pub(crate) fn of(pid: u32) -> io::Result<Identity> {
        let mut id = Identity {
            pid,
            pid_ns: own_pid_ns()?,
            pidfd_inode: 0,
            start: 0,
        };
        let fd = match pidfd::open(pid) {
            Ok(fd) => fd,
            // Forbidden by a filter, most likely to all members alike: then nobody is judged.
            Err(error) if forbidden(&error) => return Ok(id),
            Err(error) => return Err(error),
        };
        match pidfd::inode(&fd)? {
            Some(inode) => id.pidfd_inode = inode,
            None => id.start = start(&fd).unwrap_or(0),
        }
        Ok(id)
    }
}

/// `readlink("/proc/thread-self/ns/pid_for_children")`: the pid namespace in which both the caller
/// and a child that it starts have the number that the caller is told; 0 when there is none, as
/// children are put into another one.
pub(crate) fn namespace_of_children() -> u64 {
    let children = fs::read_link("/proc/thread-self/ns/pid_for_children");
    match (own_pid_ns(), children) {
        (Ok(own), Ok(children)) if namespace(&children) == Some(own) => own,
        _ => 0,
    }
}

/// `pidfd_open(id.pid)`, `poll`, `read(/proc/PID/maps)`: whether this member is no more.
///
/// True as well for a process that lives on without the arena, after an `exec`; so it must have
/// mapped it before it is asked about (for one that is on its way there is [`is_gone`]). The
/// caller must have the arena mapped too: where it cannot find it in its own `maps`, it does not
/// believe what those of others lack.
pub(crate) fn is_dead(id: &Identity, arena: FileId) -> bool {
    decide(id, || match look(id) {
        Sight::Gone => Some(true),
        Sight::Unknown => None,
        Sight::Runs(fd) => {
            let pid = number_in_proc(&fd)?;
            match maps(&format!("/proc/{pid}/maps"), arena) {
                Maps::Show => Some(false),
                Maps::Lack => match maps("/proc/thread-self/maps", arena) {
                    Maps::Unknown => None,
                    own => Some(own == Maps::Show),
                },
                Maps::Unknown => None,
            }
        }
    })
}

/// `pidfd_open(id.pid)`, `poll`: whether this process has ended, whatever it did before.
pub(crate) fn is_gone(id: &Identity) -> bool {
    decide(id, || match look(id) {
        Sight::Gone => Some(true),
        Sight::Unknown => None,
        Sight::Runs(_) => Some(false),
    })
}

/// The answer to a question about a process. One that cannot be answered for want of descriptors is asked again from where
/// there are some: a full table must not make the dead live.
fn decide(id: &Identity, question: impl Fn() -> Option<bool>) -> bool {
    if let Some(answer) = question() {
        return answer;
    }
    if !is_here(id) || !is_short_of_descriptors() {
        return false;
    }
    // Whoever has the number now: the process is gone.
    pidfd::is_number_of_none(id.pid)
        || matches!(aside::with_spare_descriptors(&question), Ok(Some(true)))
}

/// Can this process, or the machine, open as many more as a question needs?
fn is_short_of_descriptors() -> bool {
    let some: [_; 3] = std::array::from_fn(|_| pidfd::open(std::process::id()));
    let is_short =
        |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    some.iter()
        .any(|opened| opened.as_ref().is_err_and(is_short))
}

/// A number says nothing in a namespace that is not its own.
fn is_here(id: &Identity) -> bool {
    id.pid != 0 && own_pid_ns().ok() == Some(id.pid_ns)
}

enum Sight {
    /// The process has ended, or its number means another one now.
    Gone,
    Unknown,
    /// It runs; this is its pidfd.
    Runs(OwnedFd),
}

/// The questions that need no look into `/proc/PID` where the kernel is recent, cheapest first.
fn look(id: &Identity) -> Sight {
    if !is_here(id) {
        return Sight::Unknown;
    }
    let fd = match pidfd::open(id.pid) {
        Ok(fd) => fd,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ESRCH) => Sight::Gone,
                // The number belongs to a thread of somebody else now, unless this is the answer
                // to every such call.
                Some(libc::EINVAL | libc::ENOENT) if pidfd::open(std::process::id()).is_ok() => {
                    Sight::Gone
                }
                _ => Sight::Unknown,
            };
        }
    };
    let inode = pidfd::inode(&fd).ok().flatten().unwrap_or(0);
    let by_inode = id.pidfd_inode != 0 && inode != 0;
    if by_inode && id.pidfd_inode != inode {
        return Sight::Gone;
    }
    // Not `/proc/PID/stat`: it says zombie as soon as the main thread has ended.
    match pidfd::wait(&fd, Some(Duration::ZERO)) {
        Ok(true) => return Sight::Gone,
        Ok(false) => {}
        Err(_) => return Sight::Unknown,
    }
    // One tick more or less is rounding.
    let other_start = |start: u64| start != 0 && start.abs_diff(id.start) > 1;
    if !by_inode && id.start != 0 && start(&fd).is_some_and(other_start) {
        return Sight::Gone;
    }
    Sight::Runs(fd)
}

fn forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// `readlink("/proc/thread-self/ns/pid")`: the inode of the caller's pid namespace.
fn own_pid_ns() -> io::Result<u64> {
    let link = fs::read_link("/proc/thread-self/ns/pid")?;
    namespace(&link).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The inode in a link's text, "pid:[inode]".
fn namespace(link: &Path) -> Option<u64> {
    let inode = link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

/// `read("/proc/thread-self/fdinfo/FD")`: the number of this process in the mounted `/proc`, which
/// may be that of another namespace than the caller's.
fn number_in_proc(fd: impl AsFd) -> Option<u32> {
    let fd = fd.as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{fd}")).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // 0 is: not visible there, and -1: reaped.
    pid.trim().parse().ok().filter(|pid| *pid != 0)
}

/// `read("/proc/PID/stat")`: when the process started, in ticks since the machine did.
pub(super) fn start(fd: impl AsFd) -> Option<u64> {
    let pid = number_in_proc(fd)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    normalised(start_field(&stat)?, boottime_offset()?)
}

/// The 22nd field; the second is a name that may hold anything, brackets and spaces included.
pub(super) fn start_field(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Takes the reader's time namespace out of a start time.
pub(super) fn normalised(ticks: u64, offset_ns: i128) -> Option<u64> {
    // `USER_HZ` is 100 on every 64-bit Linux.
    const TICK_NS: i128 = 10_000_000;
    u64::try_from((i128::from(ticks) * TICK_NS - offset_ns) / TICK_NS).ok()
}

/// `read("/proc/self/timens_offsets")`: by how much the boot clock is shifted for the caller, in
/// nanoseconds. `None` where it cannot be told.
pub(super) fn boottime_offset() -> Option<i128> {
    let own = match fs::read_link("/proc/thread-self/ns/time") {
        Ok(own) => own,
        // No time namespaces: before 5.6, or not configured.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(0),
        Err(_) => return None,
    };
    // The file tells of the namespace in which children will be.
    if fs::read_link("/proc/self/ns/time_for_children").ok()? != own {
        return None;
    }
    let offsets = fs::read_to_string("/proc/self/timens_offsets").ok()?;
    let boottime = offsets
        .lines()
        .find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = boottime.split_ascii_whitespace().map(str::parse::<i128>);
    let seconds = numbers.next()?.ok()?;
    let nanoseconds = numbers.next()?.ok()?;
    Some(seconds * 1_000_000_000 + nanoseconds)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maps {
    Show,
    Lack,
    /// Not readable, or empty: so they are when the main thread has ended while others run.
    Unknown,
}

/// `read(path)`: whether an address space has the file mapped.
fn maps(path: &str, file: FileId) -> Maps {
    let Ok(opened) = File::open(path) else {
        return Maps::Unknown;
    };
    let mut reader = BufReader::with_capacity(16 << 10, opened);
    let mut line = Vec::with_capacity(256);
    let mut seen = Maps::Unknown;
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return seen,
            Ok(_) if is_of(&line, file) => return Maps::Show,
            Ok(_) => seen = Maps::Lack,
            Err(_) => return Maps::Unknown,
        }
    }
}

/// Whether a line of `maps`, "from-to perms offset major:minor inode path", is of this file.
fn is_of(line: &[u8], file: FileId) -> bool {
    let of = || {
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let (major, minor) = core::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
        let major = u32::from_str_radix(major, 16).ok()?;
        let minor = u32::from_str_radix(minor, 16).ok()?;
        let inode: u64 = core::str::from_utf8(fields.next()?)
            .ok()?
            .trim_end()
            .parse()
            .ok()?;
        Some((rustix::fs::makedev(major, minor), inode))
    };
    of() == Some((file.dev, file.ino))
}

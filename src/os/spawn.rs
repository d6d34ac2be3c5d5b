//! What `posix_spawn` does, and a pidfd: this same program, executed afresh.
//!
//! Not `std::process::Command` with `pre_exec`: that forks, and the cost of a fork grows with the parent's memory. Not
//! `posix_spawn`: see [`aside`].
//!
//! The program is found as `/proc/self/exe`, which is right even when its file was replaced or deleted meanwhile. Without
//! a mounted /proc no child can be started (`NotFound`); a path remembered from the start might be another program by now.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;

use rustix::fs::Mode;

pub(crate) mod aside;
pub(crate) mod exit;
pub(crate) mod fork;

use super::entry::{self, FIRST_FD, Variable, image};
use super::{fds, interrupt};

const PROGRAM: &CStr = c"/proc/self/exe";

/// A started child.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its pid.
    pub(crate) pid: u32,
    /// Its pidfd.
    pub(crate) pidfd: OwnedFd,
}

/// Starts a child that calls what the [`StartPacket`](entry::StartPacket) at `offset` in `fds[0]` names.
///
/// The child sees: standard input from /dev/null, the parent's standard output and error, `fds` as 3, 4, .. in this order
/// and no other descriptor; the parent's arguments, environment and current directory as of now; no blocked signal;
/// ignored signals stay ignored except for SIGCHLD. `shielded`: SIGINT is blocked, for [`stand`](super::interrupt::stand) to let through.
///
/// # Errors
///
/// `Unsupported` when a child could not find its function: see [`check`]. Otherwise the system's: `EAGAIN` (too many
/// processes), `ENOMEM`, `EMFILE`, `ENOENT` (no /proc). Nothing has run then.
pub(crate) fn spawn(
    offset: u64,
    nonce: u64,
    tail: &str,
    fds: &[BorrowedFd<'_>],
    shielded: bool,
) -> io::Result<Spawned> {
    check()?;
    let closes = fds::can_close_ranges();
    let variable = Variable {
        fds: fds.len(),
        close_rest: !closes,
        offset,
        nonce,
        tail,
    };
    let arguments: Vec<CString> = std::env::args_os()
        .map(c_string)
        .collect::<io::Result<_>>()?;
    let environment = environment(variable.to_environment()?)?;
    let mut plan = Plan {
        sources: fds.iter().map(AsRawFd::as_raw_fd).collect(),
        closes,
        mask: if shielded { interrupt::MASK } else { 0 },
        arguments: &pointers(&arguments),
        environment: &pointers(&environment),
    };
    let mut failure = None;
    let (pid, pidfd) = aside::child(&mut || failure = plan.carry_out().err())?;
    match failure {
        None => Ok(Spawned { pid, pidfd }),
        Some(error) => {
            aside::reap(pid);
            Err(error)
        }
    }
}

/// Can this process start children?
///
/// # Errors
///
/// `Unsupported` when what `/proc/self/exe` starts would not be a child but run something else: the program was linked
/// without this crate's constructor; it was started by the name of its loader (`ld.so ./program`); it has or would
/// regain more rights than its user has (set-user-id, set-group-id, file capabilities), in which case the child ignores
/// what it is told. `NotFound` without /proc.
pub(crate) fn check() -> io::Result<()> {
    entry::is_in_place()?;
    let refuse = |text| Err(io::Error::new(io::ErrorKind::Unsupported, text));
    if image::is_run_by_loader() {
        return refuse("started by the name of the loader: /proc/self/exe is not this program");
    }
    if image::is_secure_execution() || raises_rights()? {
        return refuse("the program's file gives it more rights than its user has");
    }
    Ok(())
}

/// Would `execve` of this program raise the rights of this process?
fn raises_rights() -> io::Result<bool> {
    let file = rustix::fs::stat(PROGRAM).map_err(|error| {
        let text = format!("{}: {error} (is /proc mounted?)", PROGRAM.to_string_lossy());
        io::Error::new(io::Error::from(error).kind(), text)
    })?;
    let mode = Mode::from_raw_mode(file.st_mode);
    let user = mode.contains(Mode::SUID) && file.st_uid != rustix::process::getuid().as_raw();
    let group = mode.contains(Mode::SGID) && file.st_gid != rustix::process::getgid().as_raw();
    let capable = rustix::fs::getxattr(PROGRAM, c"security.capability", &mut [0_u8; 0]).is_ok()
        && !rustix::process::getuid().is_root();
    Ok((user || group || capable) && !rustix::thread::no_new_privs().unwrap_or(false))
}

/// The environment as of now, with the variable instead of one of that name.
fn environment(variable: CString) -> io::Result<Vec<CString>> {
    let mut strings = vec![variable];
    for (name, value) in std::env::vars_os() {
        if name.as_bytes() != entry::VARIABLE.to_bytes() {
            let mut string = name;
            string.push("=");
            string.push(value);
            strings.push(c_string(string)?);
        }
    }
    Ok(strings)
}

fn c_string(string: OsString) -> io::Result<CString> {
    Ok(CString::new(string.into_vec())?)
}

/// The list as C wants it; valid while `strings` is.
fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    let pointers = strings.iter().map(|string| string.as_ptr().cast_mut());
    pointers.chain([ptr::null_mut()]).collect()
}

/// What the child does before it is another program. In the parent's memory, where other threads go on: it takes no memory
/// and no lock.
struct Plan<'a> {
    /// The descriptors that become 3, 4, ..
    sources: Vec<RawFd>,
    /// Whether to close all others.
    closes: bool,
    /// The signals that stay blocked.
    mask: u64,
    arguments: &'a [*mut c_char],
    environment: &'a [*mut c_char],
}

impl Plan<'_> {
    /// Returns only when it has failed.
    fn carry_out(&mut self) -> io::Result<()> {
        reset_signals();
        let beyond = FIRST_FD + self.sources.len() as RawFd;
        // Out of the way of the targets, so that no copy overwrites a source that is still needed.
        for source in self.sources.iter_mut().filter(|source| **source < beyond) {
            // SAFETY: a command that takes a number and touches no memory.
            *source = made(unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, beyond) })?;
        }
        // Also makes room for the open when the table is full; the lowest free number is given out, which is 0.
        fds::close_copy(0);
        // SAFETY: the path is a C string.
        made(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) })?;
        for (target, &source) in (FIRST_FD..).zip(&self.sources) {
            // SAFETY: the table is the child's own, and its parent's program does not go on here.
            made(unsafe { libc::dup2(source, target) })?;
        }
        if self.closes {
            fds::close_copies_from(beyond)?;
        }
        aside::set_mask(self.mask);
        let (program, arguments) = (PROGRAM.as_ptr(), self.arguments.as_ptr());
        // SAFETY: C strings in lists that end with a null pointer.
        unsafe { libc::execve(program, arguments.cast(), self.environment.as_ptr().cast()) };
        Err(io::Error::last_os_error())
    }
}

/// Takes handlers away, which would run in the parent's memory when the signals are let through, and sets SIGCHLD as it is
/// by default: a child that ignored it could not learn how its own children end.
fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the old action is written to a variable of that type.
        if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
            continue;
        }
        // SAFETY: zeros are a valid action too: the default one.
        let mut action = unsafe { action.assume_init() };
        let handled = !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
        if handled || signal == libc::SIGCHLD {
            action.sa_sigaction = libc::SIG_DFL;
            action.sa_flags = 0;
            // SAFETY: the default action is no code of ours; the actions are the child's own.
            unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        }
    }
}

fn made(number: c_int) -> io::Result<c_int> {
    match number {
        -1 => Err(io::Error::last_os_error()),
        number => Ok(number),
    }
}

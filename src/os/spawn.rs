//! `posix_spawn`: this same program, executed afresh.
//!
//! Not `std::process::Command` with `pre_exec`: that forks, and the cost of a fork grows with the parent's memory.
//!
//! The program is found as `/proc/self/exe`, which is right even when its file was replaced or deleted meanwhile. Without
//! a mounted /proc no child can be started (`NotFound`); a path remembered from the start might be another program by now.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;
use std::sync::OnceLock;

use rustix::fs::Mode;

pub(crate) mod exit;
pub(crate) mod fork;

use super::entry::{self, FIRST_FD, Variable, image};
use super::{fds, pidfd};

const PROGRAM: &CStr = c"/proc/self/exe";

/// A started child.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its pid.
    pub(crate) pid: u32,
    /// Its pidfd; `None` when the child has ended already and somebody else has reaped it (`SIGCHLD` ignored, a
    /// `wait(-1)` in another thread).
    pub(crate) pidfd: Option<OwnedFd>,
}

/// Starts a child that calls what the [`StartPacket`](entry::StartPacket) at `offset` in `fds[0]` names.
///
/// The child sees: standard input from /dev/null, the parent's standard output and error, `fds` as 3, 4, .. in this order
/// and no other descriptor; the parent's arguments, environment and current directory as of now; no blocked signal;
/// ignored signals stay ignored except for SIGCHLD.
///
/// # Errors
///
/// `Unsupported` when a child could not find its function: see [`check`]. Otherwise the system's: `EAGAIN` (too many
/// processes), `ENOMEM`, `EMFILE`, `ENOENT` (no /proc).
pub(crate) fn spawn(
    offset: u64,
    nonce: u64,
    tail: &str,
    fds: &[BorrowedFd<'_>],
) -> io::Result<Spawned> {
    check()?;
    let sources = sources(fds)?;
    let mut actions = Actions::new()?;
    actions.open_null(0)?;
    for (target, source) in (FIRST_FD..).zip(&sources) {
        actions.duplicate(source.number(), target)?;
    }
    let closes = actions.close_from(FIRST_FD + fds.len() as RawFd)?;
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
    let (arguments, environment) = (pointers(&arguments), pointers(&environment));
    let attributes = Attributes::new()?;
    let mut pid = 0;
    // SAFETY: all pointers are to objects that live through the call; the lists end with a null pointer.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            PROGRAM.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    result(error)?;
    watch(pid as u32)
}

/// `pidfd_open(pid)` for a child that was just started. One that cannot be watched is ended.
fn watch(pid: u32) -> io::Result<Spawned> {
    let pidfd = match pidfd::open(pid) {
        Ok(pidfd) => Some(pidfd),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
        Err(error) => {
            // It has not been reaped, so the pid is still its own.
            // SAFETY: sends a signal, touches no memory.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            // SAFETY: a null pointer asks for no status.
            unsafe { libc::waitpid(pid as i32, ptr::null_mut(), 0) };
            return Err(error);
        }
    };
    Ok(Spawned { pid, pidfd })
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

/// A descriptor numbered above all targets, so that no copy overwrites a source that is still needed.
enum Source<'a> {
    Passed(BorrowedFd<'a>),
    Moved(OwnedFd),
}

impl Source<'_> {
    fn number(&self) -> RawFd {
        match self {
            Source::Passed(fd) => fd.as_raw_fd(),
            Source::Moved(fd) => fd.as_raw_fd(),
        }
    }
}

fn sources<'a>(fds: &[BorrowedFd<'a>]) -> io::Result<Vec<Source<'a>>> {
    let beyond = FIRST_FD + fds.len() as RawFd;
    fds.iter()
        .map(|fd| {
            if fd.as_raw_fd() >= beyond {
                return Ok(Source::Passed(*fd));
            }
            fds::duplicate_above(fd.as_fd(), beyond).map(Source::Moved)
        })
        .collect()
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

fn result(error: c_int) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// `posix_spawn_file_actions_t`: what is done with descriptors in the child before the program is executed.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Actions> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the function initialises what it gets.
        result(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: it said that it has done so.
        Ok(Actions(unsafe { actions.assume_init() }))
    }

    fn open_null(&mut self, fd: RawFd) -> io::Result<()> {
        let null = c"/dev/null".as_ptr();
        // SAFETY: the list is initialised; the path is a C string that lives for ever.
        result(unsafe {
            libc::posix_spawn_file_actions_addopen(&raw mut self.0, fd, null, libc::O_RDONLY, 0)
        })
    }

    fn duplicate(&mut self, source: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: the list is initialised.
        result(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, source, target) })
    }

    /// Closes everything from `first` on; says whether the C library can do that (glibc 2.34 and later).
    fn close_from(&mut self, first: RawFd) -> io::Result<bool> {
        match add_close_from() {
            None => Ok(false),
            // SAFETY: the list is initialised.
            Some(add) => result(unsafe { add(&raw mut self.0, first) }).map(|()| true),
        }
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: the list is initialised and not used any more.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

type AddCloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

/// Looked up when the program runs, so that it can be linked with older C libraries.
fn add_close_from() -> Option<AddCloseFrom> {
    static FOUND: OnceLock<Option<AddCloseFrom>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let name = c"posix_spawn_file_actions_addclosefrom_np";
        // SAFETY: the name is a C string.
        let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        // SAFETY: the function of this name has this type wherever it exists; null is `None`.
        unsafe { std::mem::transmute::<*mut c_void, Option<AddCloseFrom>>(function) }
    })
}

/// `posix_spawnattr_t`: an empty signal mask, and SIGCHLD as it is by default (a child that ignored it could not learn how
/// its own children end).
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Attributes> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the function initialises what it gets.
        result(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: it said that it has done so.
        let mut attributes = Attributes(unsafe { attributes.assume_init() });
        let mut signals = empty_signals();
        // SAFETY: the attributes and the set are initialised.
        result(unsafe {
            libc::posix_spawnattr_setsigmask(&raw mut attributes.0, &raw const signals)
        })?;
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&raw mut signals, libc::SIGCHLD) };
        // SAFETY: the attributes and the set are initialised.
        result(unsafe {
            libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, &raw const signals)
        })?;
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: the attributes are initialised.
        result(unsafe { libc::posix_spawnattr_setflags(&raw mut attributes.0, flags as _) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the attributes are initialised and not used any more.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

fn empty_signals() -> libc::sigset_t {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the function initialises what it gets.
    unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    // SAFETY: it has done so; it fails only for a null pointer.
    unsafe { signals.assume_init() }
}

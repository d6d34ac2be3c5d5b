//! The children of this process: who waits for them, who is told how they ended, and what becomes of them when this
//! process exits.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use crate::arena::{Arena, Reservation};
use crate::os::clock::Deadline;
use crate::os::pidfd::{self, Reaped};
use crate::os::spawn::{Spawned, exit};
use crate::primitive::private::AtomicU32;

use super::error::ExitCode;
use super::tether::Tether;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// How long daemons have for an orderly end when their parent exits.
const GRACE: Duration = Duration::from_secs(1);

/// A child of this process.
#[derive(Debug)]
pub(super) struct Child {
    /// Whose child it is. A forked process may have a copy of this, but not this child.
    owner: u32,
    pid: u32,
    name: String,
    daemon: bool,
    pidfd: OwnedFd,
    arena: Arena,
    seat: Reservation,
    /// What its closing kills a daemon by.
    death: Mutex<Option<Tether>>,
    end: Mutex<Option<ExitCode>>,
}

/// What is written down about a child when it is started.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) daemon: bool,
    pub(super) arena: Arena,
    pub(super) seat: Reservation,
    pub(super) death: Option<Tether>,
}

#[derive(Debug)]
struct Children {
    /// Those whose end is not known yet.
    running: Vec<Arc<Child>>,
    started: u64,
}

static CHILDREN: Mutex<Children> = Mutex::new(Children {
    running: Vec::new(),
    started: 0,
});
/// Whose children these are. A forked child has a copy of the list, but no children. Not under the lock: in such a child
/// it may be locked for ever.
static OWNER: AtomicU32 = AtomicU32::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the list is this process's own.
fn is_own() -> bool {
    OWNER.load(Relaxed) == std::process::id()
}

/// The number of the next child, from 1 on. Says first what became of those that have ended.
pub(super) fn next_number() -> io::Result<u64> {
    static HOOKED: Once = Once::new();
    OWNER.store(std::process::id(), Relaxed);
    let mut hooked = Ok(());
    HOOKED.call_once(|| hooked = exit::at_exit(at_exit));
    hooked?;
    reap_ended();
    let mut children = lock(&CHILDREN);
    children.started += 1;
    Ok(children.started)
}

/// In a child that was forked by this crate: its parent's children are not its own.
pub(super) fn forget_after_fork() {
    let mut children = lock(&CHILDREN);
    children.started = 0;
    children.running.clear();
    OWNER.store(std::process::id(), Relaxed);
}

/// Writes a started child down.
pub(super) fn add(spawned: Spawned, entry: Entry) -> Arc<Child> {
    let Entry {
        name,
        daemon,
        arena,
        seat,
        death,
    } = entry;
    let child = Arc::new(Child {
        owner: std::process::id(),
        pid: spawned.pid,
        name,
        daemon,
        pidfd: spawned.pidfd,
        arena,
        seat,
        death: Mutex::new(death),
        end: Mutex::new(None),
    });
    lock(&CHILDREN).running.push(child.clone());
    child
}

/// The children that run. Those that have ended are reaped.
pub(super) fn active() -> Vec<Arc<Child>> {
    if !is_own() {
        return Vec::new();
    }
    reap_ended();
    lock(&CHILDREN).running.clone()
}

fn reap_ended() {
    let running = lock(&CHILDREN).running.clone();
    for child in running {
        child.wait(Deadline::NOW);
    }
}

impl Child {
    /// Whether it is a child of the calling process. A copy of the parent that happens to have its number is another one.
    pub(super) fn is_own(&self) -> bool {
        self.owner == std::process::id() && self.arena.check().is_ok()
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_daemon(&self) -> bool {
        self.daemon
    }

    /// Waits for its end, however often it is asked for.
    pub(super) fn wait(&self, deadline: Deadline) -> Option<ExitCode> {
        loop {
            if !self.is_own() {
                // No lock: it may be held for ever.
                let ended = pidfd::wait(&self.pidfd, deadline.remaining()).unwrap_or(true);
                return ended.then_some(ExitCode::Unknown);
            }
            if let Some(code) = *lock(&self.end) {
                return Some(code);
            }
            match pidfd::wait(&self.pidfd, deadline.remaining()) {
                Ok(false) => return None,
                Ok(true) => {}
                // The program has closed what is not its own.
                Err(_) => return self.ended(|| Some(ExitCode::Unknown)),
            }
            let code = self.ended(|| match pidfd::reap(&self.pidfd) {
                Ok(Some(Reaped::Exited(code))) => Some(ExitCode::Exited(code)),
                Ok(Some(Reaped::Signaled(signal))) => Some(ExitCode::Signaled(signal)),
                Ok(None) => None,
                // Somebody else was told.
                Err(_) => Some(ExitCode::Unknown),
            });
            if code.is_some() || deadline.expired() {
                return code;
            }
            // A debugger looks at the body first.
            std::thread::sleep(deadline.slice(Duration::from_millis(1)));
        }
    }

    /// Sends a signal; a process that has ended takes none.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        const ESRCH: i32 = 3;
        self.arena.check()?;
        if self.is_own() && lock(&self.end).is_some() {
            return Ok(());
        }
        match pidfd::signal(&self.pidfd, signal) {
            Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(()),
            done => done,
        }
    }

    pub(super) fn terminate(&self) -> io::Result<()> {
        self.signal(SIGTERM)
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        self.signal(SIGKILL)
    }

    /// Writes down how it ended, unless that is known, and tidies up after it. Under the lock, so that of several threads
    /// that look at the same time only one asks.
    fn ended(&self, ask: impl FnOnce() -> Option<ExitCode>) -> Option<ExitCode> {
        let mut end = lock(&self.end);
        if end.is_some() {
            return *end;
        }
        *end = ask();
        let code = *end;
        drop(end);
        if code.is_some() {
            drop(lock(&self.death).take());
            self.forget();
            self.arena.mark_ended(self.seat);
            self.arena.collect(false);
        }
        code
    }

    /// Takes it off the list of those that run.
    fn forget(&self) {
        lock(&CHILDREN)
            .running
            .retain(|child| !std::ptr::eq(&**child, self));
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// When this process exits: daemons are ended, the others are waited for. Children that other threads start meanwhile
/// too.
extern "C" fn at_exit() {
    // A forked child has inherited this handler.
    if !is_own() {
        return;
    }
    loop {
        let running = lock(&CHILDREN).running.clone();
        if running.is_empty() {
            return;
        }
        let daemons = || running.iter().filter(|child| child.daemon);
        for daemon in daemons() {
            let _ = daemon.terminate();
        }
        let deadline = Deadline::from(GRACE);
        for daemon in daemons() {
            if daemon.wait(deadline).is_none() {
                let _ = daemon.kill();
            }
        }
        for child in &running {
            child.wait(Deadline::NEVER);
            // Who writes its end down takes it off the list a moment later. That may be another thread, which has not got
            // there, or this one, which left for here by a signal handler: nobody to wait for.
            child.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Somebody has written its end down and got no further.
    #[test]
    fn an_exit_does_not_wait_for_who_tidies_up() {
        let arena = Arena::heap(64, &[]).unwrap();
        let mut process = std::process::Command::new("true").spawn().unwrap();
        let pidfd = pidfd::open(process.id()).unwrap();
        process.wait().unwrap();
        next_number().unwrap();
        let entry = Entry {
            name: "ended".into(),
            daemon: true,
            seat: arena.reserve().unwrap(),
            arena,
            death: None,
        };
        let spawned = Spawned {
            pid: process.id(),
            pidfd,
        };
        let child = add(spawned, entry);
        *lock(&child.end) = Some(ExitCode::Exited(0));
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            at_exit();
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(active().iter().all(|other| !Arc::ptr_eq(other, &child)));
    }
}

//! A process as its parent, its children and it itself see it.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::codec;
use crate::error::{EncodeError, Error};
use crate::os::clock::Deadline;
use crate::os::pidfd;
use crate::sync::{Source, Waitable};

use super::child::Outcome;
use super::error::{ExitCode, JoinError};
use super::me::{Me, Parent};
use super::record::{Left, Record};
use super::registry::Child;

/// A child process that was started by this one, and the result that is expected of it.
///
/// Dropping it lets the process go on by itself; unless it is a daemon, this process waits for it when it exits.
///
/// In a process that was forked from this one the handle's copy can be waited for, but only this process is told how the
/// child ended and what it returned.
///
/// As a file descriptor ([`AsFd`]) it is a pidfd: readable when the process has ended.
#[doc(alias = "sentinel")]
pub struct Process<R> {
    child: Arc<Child>,
    record: Record,
    result: PhantomData<fn() -> R>,
}

impl<R> Process<R> {
    pub(super) fn new(child: Arc<Child>, record: Record) -> Self {
        Process {
            child,
            record,
            result: PhantomData,
        }
    }

    /// Waits until the process has ended and gives what its function returned.
    ///
    /// ```
    /// use multiprocess::JoinError;
    ///
    /// let process = multiprocess::spawn(|(a, b): (u32, u32)| a / b, (6, 3))?;
    /// assert_eq!(process.join()?, 2);
    ///
    /// let process = multiprocess::spawn(|(a, b): (u32, u32)| a / b, (6, 0))?;
    /// let Err(JoinError::Panicked { message, .. }) = process.join() else { panic!() };
    /// assert_eq!(message, "attempt to divide by zero");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Why there is no result: see [`JoinError`].
    pub fn join(self) -> Result<R, JoinError>
    where
        R: DeserializeOwned,
    {
        let code = self.wait();
        if !self.child.is_own() {
            // A forked copy of the handle: the record may be gone.
            return Err(JoinError::Lost);
        }
        let outcome = match self.record.take_outcome() {
            Left::Nothing => return Err(code.into()),
            Left::NoMemory => {
                return Err(JoinError::Encode(EncodeError(Error::NoMemory.to_string())));
            }
            Left::Small(bytes) => codec::decode(&bytes),
            Left::Outcome(parcel) => codec::decode_parcel(self.record.arena(), &parcel, Vec::new()),
        };
        match outcome {
            Ok(outcome) => Outcome::into_result(outcome),
            Err(error) => Err(JoinError::Decode(error)),
        }
    }

    /// Waits until the process has ended. Any number of times, from any thread; the answer stays the same.
    #[doc(alias = "join")]
    pub fn wait(&self) -> ExitCode {
        loop {
            if let Some(code) = self.child.wait(Deadline::NEVER) {
                return code;
            }
        }
    }

    /// Waits until the process has ended, at most this long; `None` when it still runs. Zero only looks.
    #[doc(alias = "join")]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<ExitCode> {
        self.child.wait(timeout.into())
    }

    /// How the process has ended; `None` while it runs.
    pub fn exitcode(&self) -> Option<ExitCode> {
        self.child.wait(Deadline::NOW)
    }

    /// Whether the process has not ended yet. It may have by the time this returns; one that has ended stays so.
    pub fn is_alive(&self) -> bool {
        self.exitcode().is_none()
    }

    /// Sends SIGTERM, which ends the process unless it handles it. Its own children live on, daemons excepted. Nothing
    /// happens when it has ended already.
    ///
    /// # Errors
    ///
    /// When the process has taken another user's identity and may not be signalled.
    pub fn terminate(&self) -> io::Result<()> {
        self.child.terminate()
    }

    /// Sends SIGKILL, which nothing can hold off. Otherwise as [`terminate`](Self::terminate).
    ///
    /// # Errors
    ///
    /// As for [`terminate`](Self::terminate).
    pub fn kill(&self) -> io::Result<()> {
        self.child.kill()
    }

    /// The number of the process. It is its own until it has ended and [`exitcode`](Self::exitcode) or one of the others
    /// has said so.
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its name; several processes may have the same.
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// Whether it ends with this process.
    pub fn is_daemon(&self) -> bool {
        self.child.is_daemon()
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        if self.child.is_own() {
            // Reaps it if it has ended; otherwise a later start, `active_children` or the exit does.
            self.child.wait(Deadline::NOW);
        }
    }
}

/// The pidfd: readable when the process has ended.
impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

impl<R> Waitable for Process<R> {
    fn source(&self) -> Source<'_> {
        Source::fd(self.as_fd())
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// A process of which no result is expected: this one, its parent, or a child.
#[derive(Clone)]
pub struct ProcessRef(Kin);

#[derive(Clone)]
enum Kin {
    Me(Arc<Me>),
    Parent(Arc<Parent>),
    Child(Arc<Child>),
}

impl ProcessRef {
    pub(super) fn me(me: Arc<Me>) -> Self {
        ProcessRef(Kin::Me(me))
    }

    pub(super) fn parent(parent: Arc<Parent>) -> Self {
        ProcessRef(Kin::Parent(parent))
    }

    pub(super) fn child(child: Arc<Child>) -> Self {
        ProcessRef(Kin::Child(child))
    }

    /// Its number.
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        match &self.0 {
            Kin::Me(_) => std::process::id(),
            Kin::Parent(parent) => parent.pid,
            Kin::Child(child) => child.pid(),
        }
    }

    /// Its name; `MainProcess` for the first of the family.
    pub fn name(&self) -> &str {
        match &self.0 {
            Kin::Me(me) => &me.name,
            Kin::Parent(parent) => &parent.name,
            Kin::Child(child) => child.name(),
        }
    }

    /// Whether it ends with the process that started it.
    pub fn is_daemon(&self) -> bool {
        match &self.0 {
            Kin::Me(me) => me.daemon,
            Kin::Parent(parent) => parent.daemon,
            Kin::Child(child) => child.is_daemon(),
        }
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.wait_timeout(Duration::ZERO).is_none()
    }

    /// Waits until the process has ended, at most this long; `None` when it still runs. How a parent ended cannot be
    /// known ([`ExitCode::Unknown`]), but that it ended can, however that came about. The calling process itself never
    /// has.
    #[doc(alias = "join")]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<ExitCode> {
        match &self.0 {
            Kin::Me(_) => {
                std::thread::sleep(timeout);
                None
            }
            Kin::Parent(parent) => {
                let ended = match &parent.pidfd {
                    Some(pidfd) => pidfd::wait(pidfd, Some(timeout)).unwrap_or(false),
                    None => true,
                };
                ended.then_some(ExitCode::Unknown)
            }
            Kin::Child(child) => child.wait(timeout.into()),
        }
    }
}

/// Ready when it has ended; the calling process itself never has.
impl Waitable for ProcessRef {
    fn source(&self) -> Source<'_> {
        match &self.0 {
            Kin::Me(_) => Source::fixed(false),
            Kin::Parent(parent) => match &parent.pidfd {
                Some(pidfd) => Source::fd(pidfd.as_fd()),
                None => Source::fixed(true),
            },
            Kin::Child(child) => Source::fd(child.as_fd()),
        }
    }
}

impl fmt::Debug for ProcessRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessRef")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

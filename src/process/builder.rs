//! Starting a process.
#![forbid(unsafe_code)]

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arena::{self, Arena, Reservation};
use crate::codec::{self, Failure};
use crate::error::Error;
use crate::os::entry::function::Function;
use crate::os::entry::{Start, StartPacket};
use crate::os::spawn::{self, Spawned};

use super::child;
use super::error::SpawnError;
use super::fork;
use super::handle::Process;
use super::me::{self, Introduction};
use super::record::Record;
use super::registry::{self, Entry};
use super::tether::Tether;

/// The kernel takes 128 KiB for all that a child is told in its environment string.
const MAX_NAME: usize = 4096;

/// How a process comes into being.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum StartMethod {
    /// This same program is executed afresh and goes straight to the function. Nothing is inherited by accident.
    #[default]
    Spawn,
    /// The process is copied. Only while it has a single thread.
    Fork,
}

/// What a process is to be: made by [`Process::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "a process is started by `spawn` or `fork`"]
pub struct Builder {
    name: Option<String>,
    daemon: Option<bool>,
    method: Option<StartMethod>,
    shielded: bool,
}

impl Process<()> {
    /// Sets up a process before it is started.
    ///
    /// ```
    /// use multiprocess::{Process, current_process};
    ///
    /// let builder = Process::builder().name("clock").daemon(true);
    /// let process = builder.spawn(|()| current_process().name().to_string(), ())?;
    /// assert!(process.is_daemon());
    /// assert_eq!(process.join()?, "clock");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// The process's name. Default: `Process-N` for this process's N-th child, `Process-M:N` for that of an M-th child.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the process ends with this one, however this one ends. (When this one exits in order, it gets SIGTERM and,
    /// after a second, SIGKILL; otherwise SIGKILL at once.) Default: what this process is itself.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = Some(daemon);
        self
    }

    /// How the process is started. Default: [`StartMethod::Spawn`], for [`fork`](Self::fork) [`StartMethod::Fork`].
    #[doc(alias = "set_start_method")]
    #[doc(alias = "get_context")]
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// With SIGINT blocked until [`interrupt::stand`](crate::os::interrupt::stand).
    pub(crate) fn shielded(mut self) -> Self {
        self.shielded = true;
        self
    }

    /// Starts a process that calls `f` with `args`. See [`spawn`](crate::spawn).
    ///
    /// # Errors
    ///
    /// As for [`spawn`](crate::spawn); and [`Error::DaemonChild`], [`Error::InvalidName`] (longer than 4096 bytes, or a
    /// zero byte in it); with [`StartMethod::Fork`] those of [`fork`](Self::fork).
    #[doc(alias = "start")]
    pub fn spawn<A, R>(self, f: fn(A) -> R, args: A) -> Result<Process<R>, SpawnError<A>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        if self.method == Some(StartMethod::Fork) {
            return self.fork(f, args);
        }
        let started = Function::new(child::begin::<A, R>, f)
            .map_err(|_| Error::NotInProgram.into())
            .and_then(|function| self.prepare(&args)?.spawn(function));
        give_back(started, args)
    }

    /// Starts a process that is a copy of this one and calls `f` with `args`.
    ///
    /// The closure may capture anything: the child has its own copy of all memory, and inherits all descriptors. What
    /// exists once for each of the two is dropped by each. `args` take the way of arguments all the same; what can have a
    /// single owner only, like an end of a pipe, has to be there; the other end, which this process keeps, is
    /// [set aside](crate::PipeSender::set_aside) before.
    ///
    /// # Errors
    ///
    /// [`Error::MoreThreads`] when the process has more than one thread: the child would have only this one, and wait for
    /// ever for locks that the others hold. That is so in tests under the usual harness, for instance.
    /// [`Error::Borrowed`] while this process has an end of a pipe of its own that is neither among `args` nor set aside, or something borrowed from a queue.
    /// [`Error::WrongStartMethod`] after [`start_method`](Self::start_method) with another than `Fork`. Otherwise as for
    /// [`spawn`](Self::spawn).
    pub fn fork<A, R, F>(self, f: F, args: A) -> Result<Process<R>, SpawnError<A>>
    where
        F: FnOnce(A) -> R,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        if self
            .method
            .is_some_and(|method| method != StartMethod::Fork)
        {
            return Err(SpawnError::new(Error::WrongStartMethod.into(), args));
        }
        let started = fork::is_possible()
            .and_then(|()| self.prepare(&args))
            .and_then(|prepared| fork::start(prepared, f));
        give_back(started, args)
    }

    fn prepare<A: Serialize>(self, args: &A) -> io::Result<Prepared> {
        let me = me::me();
        let daemon = self.daemon.unwrap_or(me.daemon);
        if me.daemon && !daemon {
            return Err(Error::DaemonChild.into());
        }
        if self
            .name
            .as_ref()
            .is_some_and(|name| name.len() > MAX_NAME || name.contains('\0'))
        {
            return Err(Error::InvalidName.into());
        }
        let arena = arena::family()?;
        let number = registry::next_number()?;
        let path = if me.path.is_empty() {
            number.to_string()
        } else {
            format!("{}:{number}", me.path)
        };
        let introduction = Introduction {
            name: self.name.unwrap_or_else(|| format!("Process-{path}")),
            daemon,
            path,
            parent_pid: std::process::id(),
            parent_name: me.name.clone(),
            parent_daemon: me.daemon,
        };
        let seat = Seat::reserve(arena)?;
        let mut fds = Vec::new();
        let parcel = codec::encode_parcel(arena, args, Some(&mut fds)).map_err(into_io)?;
        let record = Record::create(arena, seat.reservation, parcel)?;
        let death = if daemon { Some(Tether::new()?) } else { None };
        Ok(Prepared {
            seat,
            record,
            introduction,
            fds,
            death,
            shielded: self.shielded,
        })
    }
}

fn give_back<R, A>(started: io::Result<Process<R>>, args: A) -> Result<Process<R>, SpawnError<A>> {
    match started {
        Ok(process) => Ok(process),
        Err(error) => Err(SpawnError::new(error, args)),
    }
}

fn into_io(failure: Failure) -> io::Error {
    match failure {
        Failure::NoMemory => Error::NoMemory.into(),
        Failure::Encode(error) => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}

/// All that a child needs, before it exists. What was not used is given back in the order of the fields: the seat first,
/// for as long as it is reserved it keeps the record.
pub(super) struct Prepared {
    seat: Seat,
    pub(super) record: Record,
    pub(super) introduction: Introduction,
    /// Those in the arguments.
    pub(super) fds: Vec<OwnedFd>,
    /// For a daemon, the end to read and the end to keep.
    pub(super) death: Option<(OwnedFd, Tether)>,
    shielded: bool,
}

impl Prepared {
    pub(super) fn reservation(&self) -> Reservation {
        self.seat.reservation
    }

    fn spawn<R>(self, function: Function<Start, io::Result<()>>) -> io::Result<Process<R>> {
        let nonce = RandomState::new().build_hasher().finish();
        let packet = StartPacket { nonce, function }.to_bytes()?;
        let offset = self.record.set_packet(&packet)?;
        let tail = child::tail(self.reservation(), self.record.block(), &self.introduction);
        let memory = self.record.arena().fd().ok_or_else(memory_closed)?;
        let pipe = self.death.as_ref().map(|(read, _)| read.as_fd());
        let fds: Vec<BorrowedFd<'_>> = [memory]
            .into_iter()
            .chain(pipe)
            .chain(self.fds.iter().map(AsFd::as_fd))
            .collect();
        let spawned = spawn::spawn(offset, nonce, &tail, &fds, self.shielded)?;
        drop(fds);
        Ok(self.started(spawned))
    }

    /// The child is there: from now on it is waited for, and its seat is its own.
    pub(super) fn started<R>(self, spawned: Spawned) -> Process<R> {
        let arena = self.record.arena();
        // Whatever becomes of this process now, the child finds its seat and its arguments.
        arena.hand_over(self.reservation(), spawned.pid);
        let entry = Entry {
            name: self.introduction.name,
            daemon: self.introduction.daemon,
            arena: arena.clone(),
            seat: self.seat.keep(),
            death: self.death.map(|(_, write)| write),
        };
        Process::new(registry::add(spawned, entry), self.record)
    }
}

pub(super) fn memory_closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "the program has closed the descriptor of the family's memory",
    )
}

/// A row of the members table, given back unless kept.
struct Seat {
    arena: &'static Arena,
    reservation: Reservation,
    kept: bool,
}

impl Seat {
    fn reserve(arena: &'static Arena) -> io::Result<Seat> {
        Ok(Seat {
            arena,
            reservation: arena.reserve()?,
            kept: false,
        })
    }

    fn keep(mut self) -> Reservation {
        self.kept = true;
        self.reservation
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.kept && self.arena.check().is_ok() {
            self.arena.cancel(self.reservation);
        }
    }
}

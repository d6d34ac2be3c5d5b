//! Processes: starting, waiting, signals, exit.
//!
//! `builder` prepares all that a child needs and starts it, `child` is what happens there, `record` is what both have in
//! common in the arena; `registry` knows this process's children and reaps them, `handle` is what users hold, `me` is who
//! a process is.
#![forbid(unsafe_code)]

mod builder;
mod child;
mod error;
mod fd;
mod fork;
mod handle;
mod me;
mod record;
mod registry;
mod tether;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use builder::{Builder, StartMethod};
pub(crate) use child::{discard, panicked};
pub use error::{ExitCode, JoinError, SpawnError};
pub use fd::Fd;
pub use handle::{Process, ProcessRef};
pub(crate) use record::ProcessKind;

/// Starts a process that calls `f` with `args`.
///
/// The function may be any that captures nothing: a function, a method, a closure. The child is this same program executed
/// afresh that goes straight to the function; `main` does not run in it, and it shares no variables with this process.
/// Arguments and result are encoded and decoded as messages are (see [`Queue`](crate::Queue)); handles of this crate among them
/// refer to the same object in both processes, and an [`Fd`] to the same open file.
///
/// The child has this process's environment, arguments and current directory as of now, standard input from /dev/null,
/// this process's standard output and error, and no other descriptor but those passed to it. When `f` returns it exits
/// like a program whose `main` returns: output is flushed and exit handlers run, other threads end.
///
/// ```
/// fn greet((name, times): (String, usize)) -> String {
///     vec![format!("hello {name}"); times].join(", ")
/// }
///
/// let process = multiprocess::spawn(greet, ("bob".to_string(), 2))?;
/// assert_eq!(process.join()?, "hello bob, hello bob");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Several arguments are a tuple. A closure that captures something is refused by the compiler:
///
/// ```compile_fail,E0308
/// let name = "bob".to_string();
/// multiprocess::spawn(|()| name.len(), ());
/// ```
///
/// # Errors
///
/// The error gives the arguments back. The cause may be a [`multiprocess::Error`](crate::Error):
/// [`TooManyMembers`](crate::Error::TooManyMembers), [`NoMemory`](crate::Error::NoMemory),
/// [`ForeignFork`](crate::Error::ForeignFork), [`NotInProgram`](crate::Error::NotInProgram) (a function of a shared
/// library); otherwise it is an argument that does not encode (`InvalidInput`), or what the system says: no more processes
/// (`WouldBlock`), no memory, no descriptors. Without /proc (`NotFound`) no process can be started, nor (`Unsupported`)
/// where /proc/self/exe would not start this program the way it was started: through its loader (`ld.so ./program`), or
/// with the rights of a set-user-id file.
#[doc(alias = "start")]
pub fn spawn<A, R>(f: fn(A) -> R, args: A) -> Result<Process<R>, SpawnError<A>>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    Process::builder().spawn(f, args)
}

/// This process.
///
/// ```
/// assert_eq!(multiprocess::current_process().name(), "MainProcess");
/// assert_eq!(multiprocess::current_process().pid(), std::process::id());
/// ```
pub fn current_process() -> ProcessRef {
    ProcessRef::me(me::me())
}

/// The process that started this one; `None` in the first of the family.
///
/// That it has ended can be seen and waited for, SIGKILL included:
///
/// ```no_run
/// # use std::time::Duration;
/// let parent = multiprocess::parent_process().expect("called in a child");
/// while parent.wait_timeout(Duration::from_secs(1)).is_none() {
///     // at work
/// }
/// ```
pub fn parent_process() -> Option<ProcessRef> {
    me::me().parent.clone().map(ProcessRef::parent)
}

/// The children of this process that have not ended. Those that have are reaped.
pub fn active_children() -> Vec<ProcessRef> {
    registry::active()
        .into_iter()
        .map(ProcessRef::child)
        .collect()
}

/// How many processes can run at the same time: CPUs that this process may use ([`std::thread::available_parallelism`]),
/// not those of the machine; 1 when that is unknown.
#[doc(alias = "process_cpu_count")]
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

//! Pipes between real processes: a test a row of Python's `Pipe` and `wait`, ends that move, and owners that are killed.

#![allow(unsafe_code, reason = "to stop and kill processes")]

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use multiprocess::{ExitCode, Process};
use serde::Serialize;
use serde::de::DeserializeOwned;

mod deaths;
mod kinds;
mod passing;
mod rows;
mod waiting;

/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(100);
/// Long enough for a process to have gone to sleep, most of the time; nothing depends on it.
const SOON: Duration = Duration::from_millis(20);

/// Ends this process with its daemons when a test hangs.
struct Watch(#[allow(dead_code)] mpsc::Sender<()>);

fn watch() -> Watch {
    let (sender, receiver) = mpsc::channel();
    let test = thread::current().name().unwrap_or("?").to_string();
    thread::spawn(move || {
        if receiver.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test} hangs");
            std::process::abort();
        }
    });
    Watch(sender)
}

/// A child that ends with this process, whatever fails.
fn start<A, R>(function: fn(A) -> R, arguments: A) -> Process<R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let daemon = Process::builder().daemon(true);
    daemon.spawn(function, arguments).unwrap()
}

fn signal<R>(process: &Process<R>, signal: i32) {
    // SAFETY: the process is a child that nobody has reaped.
    assert_eq!(unsafe { libc::kill(process.pid() as i32, signal) }, 0);
}

/// Reaps a process that was killed.
fn reap<R>(process: Process<R>) {
    assert_eq!(process.wait(), ExitCode::Signaled(libc::SIGKILL));
}

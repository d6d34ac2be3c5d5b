//! Channels between real processes: loops that end by themselves, whoever is killed, and ends that travel.

#![allow(unsafe_code, reason = "to stop, fork and kill processes")]

use std::time::Duration;

use multiprocess::{ExitCode, Process};
use serde::Serialize;
use serde::de::DeserializeOwned;

mod deaths;
mod example;
#[path = "../common/guard.rs"]
mod guard;
mod loops;
mod passing;

use guard::{LONG, watch};

/// Long enough for a process to have gone to sleep, most of the time; nothing depends on it.
const SOON: Duration = Duration::from_millis(20);

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

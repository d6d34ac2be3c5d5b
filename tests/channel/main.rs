//! Channels between real processes: loops that end by themselves, whoever is killed, and ends that travel.

#![allow(unsafe_code, reason = "to stop, fork and kill processes")]

use std::time::Duration;

use multiprocess::Process;

#[path = "../common/children.rs"]
mod children;
mod deaths;
mod example;
#[path = "../common/guard.rs"]
mod guard;
mod loops;
mod passing;

use children::{reap, start};
use guard::{LONG, watch};

/// Long enough for a process to have gone to sleep, most of the time; nothing depends on it.
const SOON: Duration = Duration::from_millis(20);

fn signal<R>(process: &Process<R>, signal: i32) {
    // SAFETY: the process is a child that nobody has reaped.
    assert_eq!(unsafe { libc::kill(process.pid() as i32, signal) }, 0);
}

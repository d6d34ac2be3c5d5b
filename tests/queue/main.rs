//! The queue between real processes: what Python's `Queue` does, row by row, what this crate promises where Python's users
//! suffer, and what becomes of senseless input.

#![allow(unsafe_code, reason = "to stop and kill processes")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use multiprocess::{Error, ExitCode, Fd, GetError, JoinError, Process, PutError, Queue};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

mod bad_input;
#[path = "../common/guard.rs"]
mod guard;
mod promises;
mod rows;

use guard::{LONG, watch};

/// Long enough for a process to have gone to sleep, most of the time; nothing depends on it.
const SOON: Duration = Duration::from_millis(20);

/// A child that ends with this process, whatever fails.
fn start<A: Serialize + serde::de::DeserializeOwned, R: Serialize + serde::de::DeserializeOwned>(
    function: fn(A) -> R,
    arguments: A,
) -> Process<R> {
    let daemon = Process::builder().daemon(true);
    daemon.spawn(function, arguments).unwrap()
}

fn queue<T: Serialize + serde::de::DeserializeOwned>(capacity: usize) -> Queue<T> {
    Queue::bounded(capacity).unwrap()
}

/// Waits until a process sleeps: in the call that it is known to be blocked in.
fn wait_until_asleep(pid: u32) {
    while state(pid) != 'S' {
        thread::sleep(Duration::from_millis(1));
    }
}

fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let state = stat.rsplit_once(") ").unwrap().1;
    state.chars().next().unwrap()
}

fn signal<R>(process: &Process<R>, signal: i32) {
    // SAFETY: the process is a child that nobody has reaped.
    assert_eq!(unsafe { libc::kill(process.pid() as i32, signal) }, 0);
}

fn kill(process: Process<()>) {
    process.kill().unwrap();
    assert_eq!(process.wait(), ExitCode::Signaled(libc::SIGKILL));
}

//! The queue between real processes: what Python's `Queue` does, row by row, what this crate promises where Python's users
//! suffer, and what becomes of senseless input.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use multiprocess::{Error, Fd, GetError, JoinError, Process, PutError, Queue};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

mod bad_input;
#[path = "../common/children.rs"]
mod children;
#[path = "../common/guard.rs"]
mod guard;
mod promises;
mod rows;
#[path = "../common/signals.rs"]
mod signals;

use children::{reap, start};
use guard::{LONG, watch};
use signals::{signal, stop, wait_until_asleep};

/// Long enough for a process to have gone to sleep, most of the time; nothing depends on it.
const SOON: Duration = Duration::from_millis(20);

fn queue<T: Serialize + serde::de::DeserializeOwned>(capacity: usize) -> Queue<T> {
    Queue::bounded(capacity).unwrap()
}

fn kill(process: Process<()>) {
    process.kill().unwrap();
    reap(process);
}

//! Pipes between real processes: a test a row of Python's `Pipe` and `wait`, what is promised beyond, ends that move, and owners
//! that are killed.

#![allow(unsafe_code, reason = "to stop and kill processes")]

use std::time::Duration;

#[path = "../common/children.rs"]
mod children;
mod deaths;
#[path = "../common/guard.rs"]
mod guard;
#[path = "../common/kept.rs"]
mod kept;
mod kinds;
mod names;
mod passing;
mod promises;
mod rows;
#[path = "../common/signals.rs"]
mod signals;
mod waiting;

use children::{reap, start};
use guard::{LONG, watch};
use signals::{signal, stop};

/// Long enough for a process to have gone to sleep, most of the time; nothing depends on it.
const SOON: Duration = Duration::from_millis(20);

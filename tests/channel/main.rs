//! Channels between real processes: loops that end by themselves, whoever is killed, and ends that travel.

#![allow(unsafe_code, reason = "to fork and kill processes")]

use std::time::Duration;

#[path = "../common/children.rs"]
mod children;
mod deaths;
mod example;
#[path = "../common/guard.rs"]
mod guard;
mod loops;
mod passing;
#[path = "../common/signals.rs"]
mod signals;

use children::{reap, start};
use guard::{LONG, watch};
use signals::signal;

/// Long enough for a process to have gone to sleep, most of the time; nothing depends on it.
const SOON: Duration = Duration::from_millis(20);

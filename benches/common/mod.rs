//! What the benches share: the teams of workers that are measured, the channels that are compared and the raw
//! exchanges that tell what the machine itself costs.
//!
//! Every contender runs the same loop over the same messages ([`throughput`], [`exchange`]); only the calls that
//! pass a message differ.

#![allow(dead_code)] // each bench takes its part
#![allow(clippy::disallowed_types)] // no models here, so plain atomics

pub mod copy;
pub mod exchange;
pub mod growth;
pub mod machine;
pub mod message;
pub mod ours;
pub mod pipes;
pub mod rivals;
pub mod shared;
pub mod start;
pub mod team;
pub mod throughput;
pub mod whole;

use criterion::Criterion;
use std::time::Duration;

/// How many messages a channel holds, ours and the rivals'.
pub const CAPACITY: usize = 1024;

/// The same for messages of 1 MiB.
pub const CAPACITY_LARGE: usize = 4;

/// The settings of all criterion benches: short ones, since there are many.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

//! Waiting: spin for as long as spinning has paid, then yield, then sleep on a futex in slices. The protocol and its proof
//! sketch are in README.md beside this file.
#![allow(unsafe_code)]

mod event_count;
mod wait;

#[cfg(all(test, loom))]
mod models;

pub(crate) use event_count::EventCount;
pub(crate) use wait::{Progress, Spin, Wait};

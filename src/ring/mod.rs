//! The data path: slots in shared memory, claimed, filled, committed, taken and acknowledged without ever waiting. Who
//! dies on the way leaves a word that names him, and a survivor puts it right. README.md beside this file has the state
//! table, the proof sketch and what the tests were seen to catch.
#![allow(unsafe_code)]

mod batch;
mod cards;
mod chain;
mod cursors;
mod jobs;
mod mpmc;
mod repair;
mod segments;
mod spsc;
mod spsc_object;
mod storage;
mod tag;
mod tasks;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use batch::Run;
pub(crate) use cards::{Cards, Extent, INLINE, Shape};
pub(crate) use chain::{Link, Next};
pub(crate) use cursors::Cursors;
pub(crate) use jobs::{Hand, Jobs, Marker, Place as JobPlace, Serial, Ticket};
#[cfg(all(test, not(loom)))]
pub(crate) use mpmc::Blocked;
#[cfg(test)]
pub(crate) use mpmc::Owners;
pub(crate) use mpmc::{Message, Mpmc, PutError, Slot, TakeError, Taken};
pub(crate) use segments::{ChainObject, Entry, Place as EntryPlace, new_segment};
pub(crate) use spsc::{
    AtEnd, ByteStorage, FIRST_KIND, ReadCursor, Record, Room, Title, WriteCursor, largest,
};
pub(crate) use spsc_object::{BLOCKS, ByteRing};
pub(crate) use storage::{Geometry, RingObject};
pub(crate) use tasks::{Held, Outlook, Place, Tasks};

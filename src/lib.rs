#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

// In the order of the layers: each imports only from those above it.
mod arena;
mod codec;
mod error;
pub mod family;
mod os;
mod primitive;
#[cfg(any())]
mod process;
mod queue;
mod ring;
mod sync;

pub use error::{DecodeError, EncodeError, Error, GetError, PutError};
// pub use process::*;
pub use queue::{Iter, Queue};

/// Every kind of object that lies in the arena, at the place that its number says.
const KINDS: arena::Kinds = &[&queue::QueueKind];

#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

// In the order of the layers: each imports only from those above it.
mod error;
mod os;
mod primitive;
mod arena;
mod sync;
mod ring;
mod codec;
mod queue;
#[cfg(any())]
mod process;
pub mod family;

pub use error::{DecodeError, EncodeError, Error, GetError, PutError};
// pub use process::*;
pub use queue::{Iter, Queue};

/// Every kind of object that lies in the arena, at the place that its number says.
const KINDS: arena::Kinds = &[&queue::QueueKind];

//! Values and bytes. The bytes are postcard's; handles to shared objects and file descriptors in a value do not become bytes,
//! they travel beside them (`context.rs`).
#![forbid(unsafe_code)]

mod context;

use crate::arena::{Arena, Parcel};
use crate::error::{DecodeError, EncodeError, Error};
use context::{Decoding, Encoding};
pub(crate) use context::{deserialize_fd, deserialize_handle, serialize_fd, serialize_handle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::OwnedFd;
use zerocopy::IntoBytes;

/// Where small messages are encoded to and decoded from: words, so that they are copied as words.
pub(crate) type Small = [u64; 15];

/// A value as it goes into a slot.
pub(crate) enum Encoded<'a> {
    /// So many bytes of the small buffer.
    Inline(usize),
    Parcel(Parcel<'a>),
}

/// Why a value is no message now.
#[derive(Debug)]
pub(crate) enum Failure {
    NoMemory,
    Encode(EncodeError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoMemory => Failure::NoMemory,
            other => Failure::Encode(EncodeError(other.to_string())),
        }
    }
}

#[cold]
fn failure(error: postcard::Error) -> Failure {
    let text = context::reason().map_or_else(|| error.to_string(), |reason| reason.to_string());
    Failure::Encode(EncodeError(text))
}

/// The bytes of a value: within the first `inline` bytes of `small`, else (or with handles) in a block.
#[inline]
pub(crate) fn encode<'a, T: Serialize>(
    arena: &'a Arena,
    value: &T,
    small: &mut Small,
    inline: usize,
) -> Result<Encoded<'a>, Failure> {
    let encoding = Encoding::begin(false);
    match postcard::to_slice(value, &mut small.as_mut_bytes()[..inline]) {
        Ok(used) if !encoding.has_handles() => Ok(Encoded::Inline(used.len())),
        Ok(_) | Err(postcard::Error::SerializeBufferFull) => {
            drop(encoding);
            encode_parcel(arena, value, None).map(Encoded::Parcel)
        }
        Err(error) => Err(failure(error)),
    }
}

/// The bytes of a value in a block; with `fds`, descriptors in it are collected there.
pub(crate) fn encode_parcel<'a, T: Serialize>(
    arena: &'a Arena,
    value: &T,
    fds: Option<&mut Vec<OwnedFd>>,
) -> Result<Parcel<'a>, Failure> {
    // Sized first and then written where it stays: a large payload is copied once.
    let mut encoding = Encoding::begin(fds.is_some());
    let len = postcard::experimental::serialized_size(value).map_err(failure)?;
    let handles = encoding.take_handles();
    drop(encoding);

    let mut encoding = Encoding::begin(fds.is_some());
    let objects: Vec<_> = handles.iter().map(|local| local.object()).collect();
    if objects.iter().any(|object| !object.arena().same(arena)) {
        return Err(Error::NotInMessage.into());
    }
    let mut parcel = Parcel::new(arena, len as u64, &objects)?;
    let written = postcard::to_slice(value, parcel.bytes_mut())
        .map_err(failure)?
        .len();
    let again = encoding.take_handles();
    let same = again.len() == handles.len()
        && again
            .iter()
            .zip(&handles)
            .all(|(a, b)| a.object().block() == b.object().block());
    if written != len || !same {
        return Err(Failure::Encode(EncodeError(
            "it encodes differently each time".into(),
        )));
    }
    if let Some(fds) = fds {
        *fds = encoding.take_fds();
    }
    Ok(parcel)
}

/// The value behind the first `len` bytes, which carry no handles.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(small: &Small, len: usize) -> Result<T, DecodeError> {
    let _decoding = Decoding::plain();
    from_bytes(&small.as_bytes()[..len])
}

/// The value in a block, with the handles and descriptors that came with it.
pub(crate) fn decode_parcel<T: DeserializeOwned>(
    arena: &Arena,
    parcel: &Parcel<'_>,
    fds: Vec<OwnedFd>,
) -> Result<T, DecodeError> {
    let _decoding = Decoding::begin(arena, parcel.handles(), fds);
    from_bytes(parcel.bytes())
}

#[inline]
fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(DecodeError("bytes left over".into())),
        Err(error) => Err(why_not(error)),
    }
}

#[cold]
fn why_not(error: postcard::Error) -> DecodeError {
    DecodeError(context::reason().map_or_else(|| error.to_string(), |reason| reason.to_string()))
}

#[cfg(test)]
mod tests;

//! Values and bytes. The bytes are postcard's; handles to shared objects and file descriptors in a value do not become bytes,
//! they travel beside them (`context.rs`).
#![forbid(unsafe_code)]

mod context;
mod word;

use crate::arena::{Arena, Block, Local, Parcel};
use crate::error::{DecodeError, EncodeError, Error};
use context::{Decoding, Encoding};
pub(crate) use context::{
    deserialize_fd, deserialize_handle, deserialize_only_handle, refuse, serialize_fd,
    serialize_handle, serialize_only_handle,
};
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::OwnedFd;
use std::sync::Arc;
pub(crate) use word::{from_word, may_be_word, to_word};

/// Items become bytes with serde: any type that can be serialised and deserialised, handles to shared objects included. What
/// a queue does unless it is told otherwise.
#[derive(Debug)]
pub enum Serde {}

/// Items are their own bytes: plain old data, as [zerocopy](https://docs.rs/zerocopy)'s traits say (`FromBytes`, `IntoBytes`,
/// `Immutable`, `KnownLayout`, which it derives). Nothing is encoded and nothing can fail to decode. A type with padding, a
/// pointer or values that not every pattern of bits is does not compile:
///
/// ```compile_fail,E0277
/// use multiprocess::{Pod, Queue};
/// Queue::<(u8, u32), Pod>::bounded_pod(8);
/// ```
/// ```compile_fail,E0277
/// use multiprocess::{Pod, Queue};
/// Queue::<&'static str, Pod>::bounded_pod(8);
/// ```
/// ```compile_fail
/// use multiprocess::{Pod, Queue};
/// #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
/// #[repr(C)]
/// struct Padded { byte: u8, number: u32 }
/// ```
#[derive(Debug)]
pub enum Pod {}

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

/// What became of a value in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// So many bytes.
    Whole(usize),
    TooLong,
    HasHandles,
}

/// The bytes of a value in a small buffer: how many. `None` when it needs a block, because it is larger or has handles.
#[inline]
pub(crate) fn encode<T: Serialize>(value: &T, bytes: &mut [u8]) -> Result<Option<usize>, Failure> {
    match fit(value, bytes)? {
        Fit::Whole(len) => Ok(Some(len)),
        _ => Ok(None),
    }
}

/// The same, with the reason why it does not fit.
#[inline]
pub(crate) fn fit<T: Serialize>(value: &T, bytes: &mut [u8]) -> Result<Fit, Failure> {
    let encoding = Encoding::begin(false);
    let output = Buffer { bytes, used: 0 };
    let mut serializer = postcard::Serializer { output };
    match value.serialize(&mut serializer) {
        Ok(()) if !encoding.has_handles() => Ok(Fit::Whole(serializer.output.used)),
        Ok(()) => Ok(Fit::HasHandles),
        Err(postcard::Error::SerializeBufferFull) => Ok(Fit::TooLong),
        Err(error) => Err(failure(error)),
    }
}

/// What encoding a value came to.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// So many bytes of the buffer.
    Fits(usize),
    /// It is longer than the buffer: all of it.
    Spilled(Vec<u8>),
    /// It needs a block, for the handles in it.
    Handles,
}

/// The bytes of a value, in the buffer if they fit. Runs the value's `Serialize` once.
#[inline]
pub(crate) fn encode_or_spill<T: Serialize>(
    value: &T,
    bytes: &mut [u8],
) -> Result<Encoded, Failure> {
    let encoding = Encoding::begin(false);
    let output = Spill {
        buffer: Buffer { bytes, used: 0 },
        rest: Vec::new(),
    };
    let mut serializer = postcard::Serializer { output };
    match value.serialize(&mut serializer) {
        Ok(()) if encoding.has_handles() => Ok(Encoded::Handles),
        Ok(()) if serializer.output.rest.is_empty() => {
            Ok(Encoded::Fits(serializer.output.buffer.used))
        }
        Ok(()) => Ok(Encoded::Spilled(serializer.output.rest)),
        Err(error) => Err(failure(error)),
    }
}

/// A slice, and what it is too short for.
struct Spill<'a> {
    buffer: Buffer<'a>,
    rest: Vec<u8>,
}

impl Spill<'_> {
    #[cold]
    fn spill(&mut self, data: &[u8]) {
        let Buffer { bytes, used } = &mut self.buffer;
        self.rest.extend_from_slice(&bytes[..*used]);
        self.rest.extend_from_slice(data);
        // From now on nothing fits.
        (*bytes, *used) = (&mut [], 0);
    }
}

impl Flavor for Spill<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.buffer.try_push(byte).is_err() {
            self.spill(&[byte]);
        }
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        if data.len() <= NUMBER {
            return data.iter().try_for_each(|&byte| self.try_push(byte));
        }
        if self.buffer.try_extend(data).is_err() {
            self.spill(data);
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// How many bytes a value has, and whether there are handles in it.
pub(crate) fn size<T: Serialize>(value: &T) -> Result<(usize, bool), Failure> {
    let encoding = Encoding::begin(false);
    let len = postcard::experimental::serialized_size(value).map_err(failure)?;
    Ok((len, encoding.has_handles()))
}

/// Puts the bytes of a value behind the first `used` of a buffer that grows, and appends the objects of the handles in it: how many
/// bytes are used then.
#[inline]
pub(crate) fn append<T: Serialize>(
    value: &T,
    bytes: &mut Vec<u8>,
    used: usize,
    handles: &mut Vec<Arc<dyn Local>>,
) -> Result<usize, Failure> {
    match encode_to(value, &mut bytes[used..], handles)? {
        Some(len) => Ok(used + len),
        None => {
            let need = used + size(value)?.0;
            bytes.resize(need + need / 2 + 64, 0);
            match encode_to(value, &mut bytes[used..], handles)? {
                Some(len) => Ok(used + len),
                None => Err(Failure::Encode(EncodeError(
                    "it encodes differently each time".into(),
                ))),
            }
        }
    }
}

/// `None`: there is not enough room.
#[inline]
fn encode_to<T: Serialize>(
    value: &T,
    bytes: &mut [u8],
    handles: &mut Vec<Arc<dyn Local>>,
) -> Result<Option<usize>, Failure> {
    let mut encoding = Encoding::begin(false);
    let output = Buffer { bytes, used: 0 };
    let mut serializer = postcard::Serializer { output };
    match value.serialize(&mut serializer) {
        Ok(()) => {
            if encoding.has_handles() {
                handles.append(&mut encoding.take_handles());
            }
            Ok(Some(serializer.output.used))
        }
        Err(postcard::Error::SerializeBufferFull) => Ok(None),
        Err(error) => Err(failure(error)),
    }
}

/// A slice that fills up: postcard's own calls `memcpy` for every number.
struct Buffer<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl Flavor for Buffer<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        let to = self.bytes.get_mut(self.used);
        *to.ok_or(postcard::Error::SerializeBufferFull)? = byte;
        self.used += 1;
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        if data.len() <= NUMBER {
            // The encoder has just written them byte by byte: a wider load would have to wait for those stores.
            return data.iter().try_for_each(|&byte| self.try_push(byte));
        }
        let free = self.bytes.get_mut(self.used..);
        let to = free.and_then(|free| free.get_mut(..data.len()));
        to.ok_or(postcard::Error::SerializeBufferFull)?
            .copy_from_slice(data);
        self.used += data.len();
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// The longest encoding of a `u64`.
const NUMBER: usize = 10;

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

/// The value behind bytes that carry no handles.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let _decoding = Decoding::plain();
    from_bytes(bytes)
}

/// Many messages without handles, one after the other. No other code of the user's may run meanwhile.
pub(crate) struct Decoder(#[allow(dead_code, reason = "ends the scope when dropped")] Decoding);

impl Decoder {
    pub(crate) fn new() -> Self {
        Decoder(Decoding::plain())
    }

    #[inline]
    pub(crate) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        from_bytes(bytes)
    }
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

/// The value behind bytes with these objects' handles.
pub(crate) fn decode_with<T: DeserializeOwned>(
    arena: &Arena,
    bytes: &[u8],
    handles: Vec<Block>,
) -> Result<T, DecodeError> {
    let _decoding = Decoding::begin(arena, handles, Vec::new());
    from_bytes(bytes)
}

#[inline]
fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut deserializer = postcard::Deserializer::from_bytes(bytes);
    let value = T::deserialize(&mut deserializer).map_err(why_not)?;
    match deserializer.finalize() {
        Ok([]) => Ok(value),
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

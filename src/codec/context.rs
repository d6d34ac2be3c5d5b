//! What a value's `Serialize` and `Deserialize` cannot be handed as arguments: the tables of handles and descriptors of the
//! message that this thread is just encoding or decoding. Nested (an encoder that puts into another queue), each level has
//! its own; outside a message there is none, and handles refuse to be serialised.

use crate::arena::{Arena, Block, Local, Object};
use crate::error::Error;
use serde::{Deserialize, Deserializer, Serializer, de, ser};
use std::cell::{Cell, RefCell};
use std::mem;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

#[derive(Default)]
struct Context {
    mode: Mode,
    sent: Vec<Arc<dyn Local>>,
    received: Vec<Block>,
    /// `Some` where descriptors may be passed: taken out one by one when decoding.
    fds: Option<Vec<Option<OwnedFd>>>,
    arena: Option<Arena>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Outside,
    Encoding,
    Decoding,
}

thread_local! {
    static CONTEXT: RefCell<Context> = const {
        RefCell::new(Context {
            mode: Mode::Outside,
            sent: Vec::new(),
            received: Vec::new(),
            fds: None,
            arena: None,
        })
    };
    /// Why a handle failed: the format's own error carries no text.
    static REASON: Cell<Option<Error>> = const { Cell::new(None) };
}

/// The reason for the last failure of this thread, if it was one of ours.
pub(super) fn reason() -> Option<Error> {
    REASON.take()
}

/// Puts the context around it back when it ends, by a panic too.
struct Scope {
    outer: Context,
}

impl Scope {
    #[inline]
    fn begin(context: Context) -> Scope {
        REASON.set(None);
        Scope {
            outer: CONTEXT.replace(context),
        }
    }
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        // What is dropped here may drop handles, which must find the context free.
        let inner = CONTEXT.replace(mem::take(&mut self.outer));
        drop(inner);
    }
}

/// While it lives, this thread encodes a message.
pub(super) struct Encoding(#[allow(dead_code, reason = "ends the scope when dropped")] Scope);

impl Encoding {
    #[inline]
    pub(super) fn begin(fds: Option<Vec<OwnedFd>>) -> Encoding {
        let fds = fds.map(|_| Vec::new());
        Encoding(Scope::begin(Context {
            mode: Mode::Encoding,
            fds,
            ..Context::default()
        }))
    }

    #[inline]
    pub(super) fn has_handles(&self) -> bool {
        CONTEXT.with_borrow(|context| !context.sent.is_empty())
    }

    pub(super) fn take_handles(&mut self) -> Vec<Arc<dyn Local>> {
        CONTEXT.with_borrow_mut(|context| mem::take(&mut context.sent))
    }

    pub(super) fn take_fds(&mut self) -> Option<Vec<OwnedFd>> {
        let fds = CONTEXT.with_borrow_mut(|context| context.fds.take())?;
        Some(fds.into_iter().flatten().collect())
    }
}

/// While it lives, this thread decodes a message.
pub(super) struct Decoding(#[allow(dead_code, reason = "ends the scope when dropped")] Scope);

impl Decoding {
    #[inline]
    pub(super) fn begin(tables: Option<(Arena, Vec<Block>, Vec<OwnedFd>)>) -> Decoding {
        let mut context = Context {
            mode: Mode::Decoding,
            ..Context::default()
        };
        if let Some((arena, received, fds)) = tables {
            context.arena = Some(arena);
            context.received = received;
            context.fds = Some(fds.into_iter().map(Some).collect());
        }
        Decoding(Scope::begin(context))
    }
}

fn refuse(error: Error) -> Error {
    REASON.set(Some(error));
    error
}

/// Serialises a handle as its place in the message's table.
pub(crate) fn serialize_handle<S: Serializer>(
    local: &Arc<impl Local>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let place = CONTEXT.with_borrow_mut(|context| {
        if context.mode != Mode::Encoding {
            return Err(refuse(Error::NotInMessage));
        }
        local.object().arena().check().map_err(refuse)?;
        context.sent.push(local.clone());
        Ok(context.sent.len() as u32 - 1)
    });
    serializer.serialize_u32(place.map_err(ser::Error::custom)?)
}

/// The handle at the place that was serialised: this process's own if it has the object already, else `make` of it.
pub(crate) fn deserialize_handle<'de, D: Deserializer<'de>, L: Local>(
    deserializer: D,
    kind: u32,
    type_hash: u64,
    make: impl FnOnce(Object) -> Result<L, Error>,
) -> Result<Arc<L>, D::Error> {
    let place = u32::deserialize(deserializer)? as usize;
    let found = CONTEXT.with_borrow(|context| match (context.mode, &context.arena) {
        (Mode::Decoding, Some(arena)) => {
            let block = context
                .received
                .get(place)
                .copied()
                .ok_or(Error::StaleHandle)?;
            Ok((arena.clone(), block))
        }
        (Mode::Decoding, None) => Err(Error::StaleHandle),
        _ => Err(Error::NotInMessage),
    });
    let local = found.and_then(|(arena, block)| {
        // Checked also when the object is known here: another type may have been asked for.
        let object = Object::attach(&arena, block, kind, type_hash)?;
        if let Some(local) = arena.registered::<L>(block) {
            return Ok(local);
        }
        let local = Arc::new(make(object)?);
        arena.register(&local);
        Ok(local)
    });
    local.map_err(|error| de::Error::custom(refuse(error)))
}

/// Serialises a descriptor as its place among those that are passed along; the message gets a duplicate.
pub(crate) fn serialize_fd<S: Serializer>(
    fd: BorrowedFd<'_>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let copy = fd.try_clone_to_owned().map_err(ser::Error::custom)?;
    let place = CONTEXT.with_borrow_mut(|context| match (context.mode, &mut context.fds) {
        (Mode::Encoding, Some(fds)) => {
            fds.push(Some(copy));
            Ok(fds.len() as u32 - 1)
        }
        _ => Err(refuse(Error::NotInMessage)),
    });
    serializer.serialize_u32(place.map_err(ser::Error::custom)?)
}

/// The descriptor at the place that was serialised; each can be taken once.
pub(crate) fn deserialize_fd<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<OwnedFd, D::Error> {
    let place = u32::deserialize(deserializer)? as usize;
    let fd = CONTEXT.with_borrow_mut(|context| match (context.mode, &mut context.fds) {
        (Mode::Decoding, Some(fds)) => fds
            .get_mut(place)
            .and_then(Option::take)
            .ok_or(Error::StaleHandle),
        (Mode::Decoding, None) => Err(Error::StaleHandle),
        _ => Err(Error::NotInMessage),
    });
    fd.map_err(|error| de::Error::custom(refuse(error)))
}

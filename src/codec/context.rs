//! What a value's `Serialize` and `Deserialize` cannot be handed as arguments: the tables of handles and descriptors of the
//! message that this thread is just encoding or decoding. Nested (an encoder that puts into another queue), each level has
//! its own; outside a message there is none, and handles refuse to be serialised.

#![forbid(unsafe_code)]

use crate::arena::{Arena, Block, Local, Object};
use crate::error::Error;
use serde::{Deserialize, Deserializer, Serializer, de, ser};
use std::cell::{Cell, RefCell};
use std::mem;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Outside,
    Encoding,
    Decoding,
}

/// The tables of one message.
#[derive(Default)]
struct Tables {
    sent: Vec<Arc<dyn Local>>,
    received: Vec<Block>,
    /// `Some` where descriptors may be passed: taken out one by one when decoding.
    fds: Option<Vec<Option<OwnedFd>>>,
    arena: Option<Arena>,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Outside) };
    /// Whether there is anything in `TABLES`: most messages never look there.
    static USED: Cell<bool> = const { Cell::new(false) };
    static TABLES: RefCell<Tables> = const {
        RefCell::new(Tables { sent: Vec::new(), received: Vec::new(), fds: None, arena: None })
    };
    /// The tables of the messages around this one.
    static OUTER: RefCell<Vec<Tables>> = const { RefCell::new(Vec::new()) };
    /// Why a handle failed: the format's own error carries no text.
    static REASON: Cell<Option<Error>> = const { Cell::new(None) };
}

/// The reason for the last failure of this thread, if it was one of ours.
pub(super) fn reason() -> Option<Error> {
    REASON.take()
}

/// One message; puts the state around it back when it ends, by a panic too.
struct Scope {
    outer: Mode,
    /// The message around this one had tables; they are on top of `OUTER`.
    nested: bool,
}

impl Scope {
    #[inline]
    fn begin(mode: Mode) -> Scope {
        let outer = MODE.replace(mode);
        let nested = USED.get();
        if nested {
            Scope::set_aside();
        }
        Scope { outer, nested }
    }

    #[cold]
    fn set_aside() {
        USED.set(false);
        let tables = TABLES.take();
        OUTER.with_borrow_mut(|outer| outer.push(tables));
    }

    fn set(tables: Tables) {
        USED.set(true);
        TABLES.set(tables);
    }

    #[cold]
    fn end_tables(&mut self) {
        USED.set(self.nested);
        let outer = if self.nested {
            OUTER.with_borrow_mut(Vec::pop)
        } else {
            None
        };
        // What is dropped here may drop handles, which must find the tables free.
        let inner = TABLES.replace(outer.unwrap_or_default());
        drop(inner);
    }
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        MODE.set(self.outer);
        if self.nested || USED.get() {
            self.end_tables();
        }
    }
}

/// While it lives, this thread encodes a message.
pub(super) struct Encoding(#[allow(dead_code, reason = "ends the scope when dropped")] Scope);

impl Encoding {
    /// With `fds`, descriptors may be passed.
    #[inline]
    pub(super) fn begin(fds: bool) -> Encoding {
        let scope = Scope::begin(Mode::Encoding);
        if fds {
            Scope::set(Tables {
                fds: Some(Vec::new()),
                ..Tables::default()
            });
        }
        Encoding(scope)
    }

    #[inline]
    pub(super) fn has_handles(&self) -> bool {
        USED.get()
    }

    pub(super) fn take_handles(&mut self) -> Vec<Arc<dyn Local>> {
        TABLES.with_borrow_mut(|tables| mem::take(&mut tables.sent))
    }

    pub(super) fn take_fds(&mut self) -> Vec<OwnedFd> {
        let fds = TABLES.with_borrow_mut(|tables| tables.fds.take());
        fds.into_iter().flatten().flatten().collect()
    }
}

/// While it lives, this thread decodes a message.
pub(super) struct Decoding(#[allow(dead_code, reason = "ends the scope when dropped")] Scope);

impl Decoding {
    /// A message without handles.
    #[inline]
    pub(super) fn plain() -> Decoding {
        Decoding(Scope::begin(Mode::Decoding))
    }

    pub(super) fn begin(arena: &Arena, received: Vec<Block>, fds: Vec<OwnedFd>) -> Decoding {
        let decoding = Decoding::plain();
        if !received.is_empty() || !fds.is_empty() {
            Scope::set(Tables {
                sent: Vec::new(),
                received,
                fds: Some(fds.into_iter().map(Some).collect()),
                arena: Some(arena.clone()),
            });
        }
        decoding
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
    let place = if MODE.get() != Mode::Encoding {
        Err(refuse(Error::NotInMessage))
    } else if let Err(error) = local.object().arena().check() {
        Err(refuse(error))
    } else {
        USED.set(true);
        TABLES.with_borrow_mut(|tables| {
            tables.sent.push(local.clone());
            Ok(tables.sent.len() as u32 - 1)
        })
    };
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
    let found = TABLES.with_borrow(|tables| match (MODE.get(), &tables.arena) {
        (Mode::Decoding, Some(arena)) => {
            let block = tables
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
    let place = TABLES.with_borrow_mut(|tables| match (MODE.get(), &mut tables.fds) {
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
    let fd = TABLES.with_borrow_mut(|tables| match (MODE.get(), &mut tables.fds) {
        (Mode::Decoding, Some(fds)) => fds
            .get_mut(place)
            .and_then(Option::take)
            .ok_or(Error::StaleHandle),
        (Mode::Decoding, None) => Err(Error::StaleHandle),
        _ => Err(Error::NotInMessage),
    });
    fd.map_err(|error| de::Error::custom(refuse(error)))
}

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

/// What this thread is at: a mode, whether there is anything in `TABLES` (most messages never look there), and whether a handle
/// was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State(u8);

impl State {
    const OUTSIDE: State = State(0);
    const ENCODING: State = State(1);
    const DECODING: State = State(2);
    const TABLES: u8 = 4;
    /// `REASON` is about this message.
    const REFUSED: u8 = 8;

    fn mode() -> State {
        State(STATE.get().0 & !(State::TABLES | State::REFUSED))
    }

    #[inline]
    fn has_tables(self) -> bool {
        self.0 & State::TABLES != 0
    }

    fn add(flag: u8) {
        STATE.set(State(STATE.get().0 | flag));
    }
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
    static STATE: Cell<State> = const { Cell::new(State::OUTSIDE) };
    static TABLES: RefCell<Tables> = const {
        RefCell::new(Tables { sent: Vec::new(), received: Vec::new(), fds: None, arena: None })
    };
    /// The tables of the messages around this one.
    static OUTER: RefCell<Vec<Tables>> = const { RefCell::new(Vec::new()) };
    /// Why a handle failed: the format's own error carries no text.
    static REASON: Cell<Option<Error>> = const { Cell::new(None) };
}

/// Why a handle in this message was refused, if one was.
pub(super) fn reason() -> Option<Error> {
    REASON
        .take()
        .filter(|_| STATE.get().0 & State::REFUSED != 0)
}

/// One message; puts the state around it back when it ends, by a panic too.
struct Scope {
    /// If the message around this one has tables, they are on top of `OUTER`.
    outer: State,
}

impl Scope {
    #[inline]
    fn begin(mode: State) -> Scope {
        let outer = STATE.replace(mode);
        if outer.has_tables() {
            Scope::set_aside();
        }
        Scope { outer }
    }

    #[cold]
    fn set_aside() {
        let tables = TABLES.take();
        OUTER.with_borrow_mut(|outer| outer.push(tables));
    }

    fn set(tables: Tables) {
        State::add(State::TABLES);
        TABLES.set(tables);
    }

    #[cold]
    fn end_tables(&self) {
        let outer = if self.outer.has_tables() {
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
        let inner = STATE.replace(self.outer);
        if State(inner.0 | self.outer.0).has_tables() {
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
        let scope = Scope::begin(State::ENCODING);
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
        STATE.get().has_tables()
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
        Decoding(Scope::begin(State::DECODING))
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

/// Notes why a part of this message was refused.
pub(crate) fn refuse(error: Error) -> Error {
    REASON.set(Some(error));
    State::add(State::REFUSED);
    error
}

/// Serialises a handle as its place in the message's table.
pub(crate) fn serialize_handle<S: Serializer>(
    local: &Arc<impl Local>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let place = if State::mode() != State::ENCODING {
        Err(refuse(Error::NotInMessage))
    } else if let Err(error) = local.object().arena().check() {
        Err(refuse(error))
    } else {
        State::add(State::TABLES);
        TABLES.with_borrow_mut(|tables| {
            tables.sent.push(local.clone());
            Ok(tables.sent.len() as u32 - 1)
        })
    };
    serializer.serialize_u32(place.map_err(ser::Error::custom)?)
}

/// The same for an object of which a message can carry one handle only.
pub(crate) fn serialize_only_handle<S: Serializer>(
    local: &Arc<impl Local>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let block = local.object().block();
    let twice = TABLES.with_borrow(|tables| {
        let same = |sent: &Arc<dyn Local>| sent.object().block() == block;
        tables.sent.iter().any(same)
    });
    if State::mode() == State::ENCODING && twice {
        return Err(ser::Error::custom(refuse(Error::Moved)));
    }
    serialize_handle(local, serializer)
}

/// The handle at the place that was serialised, which shares nothing with others of this process.
pub(crate) fn deserialize_only_handle<'de, D: Deserializer<'de>, L: Local>(
    deserializer: D,
    kind: u32,
    type_hash: u64,
    make: impl FnOnce(Object) -> L,
) -> Result<Arc<L>, D::Error> {
    let place = u32::deserialize(deserializer)? as usize;
    let object =
        received(place).and_then(|(arena, block)| Object::attach(&arena, block, kind, type_hash));
    match object {
        Ok(object) => Ok(Arc::new(make(object))),
        Err(error) => Err(de::Error::custom(refuse(error))),
    }
}

/// What is at this place in the message's table.
fn received(place: usize) -> Result<(Arena, Block), Error> {
    TABLES.with_borrow(|tables| match (State::mode(), &tables.arena) {
        (State::DECODING, Some(arena)) => {
            let block = tables.received.get(place).copied();
            Ok((arena.clone(), block.ok_or(Error::StaleHandle)?))
        }
        (State::DECODING, None) => Err(Error::StaleHandle),
        _ => Err(Error::NotInMessage),
    })
}

/// The handle at the place that was serialised: this process's own if it has the object already, else `make` of it.
pub(crate) fn deserialize_handle<'de, D: Deserializer<'de>, L: Local>(
    deserializer: D,
    kind: u32,
    type_hash: u64,
    make: impl FnOnce(Object) -> Result<L, Error>,
) -> Result<Arc<L>, D::Error> {
    let place = u32::deserialize(deserializer)? as usize;
    let local = received(place).and_then(|(arena, block)| {
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
    let place = TABLES.with_borrow_mut(|tables| match (State::mode(), &mut tables.fds) {
        (State::ENCODING, Some(fds)) => {
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
    let fd = TABLES.with_borrow_mut(|tables| match (State::mode(), &mut tables.fds) {
        (State::DECODING, Some(fds)) => fds
            .get_mut(place)
            .and_then(Option::take)
            .ok_or(Error::StaleHandle),
        (State::DECODING, None) => Err(Error::StaleHandle),
        _ => Err(Error::NotInMessage),
    });
    fd.map_err(|error| de::Error::custom(refuse(error)))
}

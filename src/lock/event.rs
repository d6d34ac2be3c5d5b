//! A flag to wait for.
#![forbid(unsafe_code)]

use super::EVENT_KIND;
use crate::arena::{self, Arena};
use crate::codec;
use crate::os::clock::Deadline;
use crate::sync::{LocalEvent, Source, Waitable};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A flag that any process or thread sets and clears, and that any number of them wait for.
///
/// A handle is cheap to clone, and can be an argument of a process or part of a message. Setting it waits for nobody: a
/// waiter that was killed delays it no more than one that has left. What a process did before it called [`set`](Self::set) is seen by
/// who found the event set.
///
/// In a process that is no member of the family it is never set, and waiting for it is over at once.
///
/// ```
/// use multiprocess::{Event, spawn};
///
/// fn runner((ready, go): (Event, Event)) {
///     ready.set();
///     assert!(go.wait());
/// }
///
/// let (ready, go) = (Event::new()?, Event::new()?);
/// let child = spawn(runner, (ready.clone(), go.clone()))?;
/// assert!(ready.wait());
/// go.set();
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Event {
    local: Arc<LocalEvent>,
}

impl Event {
    /// An event that is not set.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    pub fn new() -> io::Result<Event> {
        Event::new_in(arena::family()?)
    }

    /// An event in this arena.
    pub(crate) fn new_in(arena: &Arena) -> io::Result<Event> {
        let local = LocalEvent::create(arena, &EVENT_KIND)?;
        Ok(Event { local })
    }

    fn is_here(&self) -> bool {
        self.local.arena().check().is_ok()
    }

    /// Sets it, in one atomic step, and wakes all who wait. A signal handler may call it, whatever it has interrupted.
    #[inline]
    pub fn set(&self) {
        if self.is_here() {
            self.local.set();
        }
    }

    /// Clears it. Those who were waiting while it was set go on all the same.
    pub fn clear(&self) {
        if self.is_here() {
            self.local.clear();
        }
    }

    /// Whether it is set; may have changed already. A signal handler may call it.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.is_here() && self.local.is_set()
    }

    /// Waits until it is set: true if it is, or was at any time during the wait, also if somebody has cleared it since. False only
    /// in a process that is no member of the family.
    pub fn wait(&self) -> bool {
        self.is_here() && self.local.wait(Deadline::NEVER)
    }

    /// The same for `timeout` at most: false when the time is over. One that the clock cannot hold is for ever.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_here() && self.local.wait(Deadline::from(timeout))
    }
}

impl Waitable for Event {
    fn source(&self) -> Source<'_> {
        self.local.source()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .finish_non_exhaustive()
    }
}

/// Only within a message of this crate or the arguments of a process; anywhere else it is an error.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_handle(&self.local, serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let make = |object| Ok(LocalEvent::new(object));
        let local = codec::deserialize_handle(deserializer, EVENT_KIND.id, 0, make)?;
        Ok(Event { local })
    }
}

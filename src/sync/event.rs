//! A flag that processes wait for, in the arena.
//!
//! ```text
//! 0    event count: it was set
//! 128  epoch:63 | set:1
//! ```

use super::event_count::EventCount;
use super::wait::{Progress, Spin, Wait};
use super::waitable::Source;
use crate::arena::{Arena, Dead, Kind, Local, Object, ObjectSpec, OwnedBlock};
use crate::arena::{Shared, View, Visitor};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::primitive::{AtomicU64, Fences};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

const SET: u64 = 1;

/// `epoch:63 | set:1`. The epoch rises when a flag that was set is cleared, so whoever has seen it clear sees by any other word
/// that it was set meanwhile.
#[repr(C)]
pub(super) struct Flag {
    changed: EventCount,
    word: AtomicU64,
}

// SAFETY: atomics of any value.
unsafe impl Shared for Flag {}

impl Flag {
    #[cfg(all(test, loom))]
    pub(super) fn new() -> Flag {
        Flag {
            changed: EventCount::new(),
            word: AtomicU64::new(0),
        }
    }

    #[cfg(all(test, loom))]
    pub(super) fn changed(&self) -> &EventCount {
        &self.changed
    }

    /// Calls nothing that a signal handler must not.
    #[inline]
    pub(super) fn set(&self, fences: Fences) {
        // (E) pairs with (F).
        self.word.fetch_or(SET, Release);
        // Also when it was set: who did it may have died before he woke anybody.
        self.changed.notify_all(fences);
    }

    pub(super) fn clear(&self) {
        let mut seen = self.word.load(Relaxed);
        while seen & SET != 0 {
            let cleared = seen.wrapping_add(SET);
            match self.word.compare_exchange(seen, cleared, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    #[inline]
    pub(super) fn load(&self) -> u64 {
        // (F) pairs with (E).
        self.word.load(Acquire)
    }

    /// Whether it is set, or was since somebody saw this word, clear.
    #[inline]
    pub(super) fn was_set_since(&self, seen: u64) -> bool {
        let now = self.load();
        now & SET != 0 || now != seen
    }
}

#[derive(Debug)]
pub(crate) struct EventKind {
    pub(crate) id: u32,
}

impl Kind for EventKind {
    fn id(&self) -> u32 {
        self.id
    }

    fn name(&self) -> &'static str {
        "event"
    }

    /// Names nobody; but the dead may have set it and woken nobody.
    fn repair(&self, object: View<'_>, _: &Dead) {
        let flag = object.get::<Flag>();
        flag.changed.notify_all(object.arena.fences());
    }

    fn visit(&self, _: View<'_>, _: &mut Visitor<'_>) {}

    fn destroy(&self, _: View<'_>, _: &mut dyn FnMut(OwnedBlock<'_>)) {}
}

/// A process's side of an event.
pub(crate) struct LocalEvent {
    object: Object,
    flag: *const Flag,
    spin: Spin,
}

// SAFETY: the flag consists of atomics.
unsafe impl Send for LocalEvent {}
// SAFETY: as above.
unsafe impl Sync for LocalEvent {}

impl fmt::Debug for LocalEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEvent")
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Local for LocalEvent {
    fn object(&self) -> &Object {
        &self.object
    }
}

impl LocalEvent {
    pub(crate) fn create(arena: &Arena, kind: &'static EventKind) -> Result<Arc<Self>, Error> {
        let spec = ObjectSpec {
            kind,
            type_hash: 0,
            len: size_of::<Flag>() as u64,
        };
        let object = Object::create(arena, spec, |_| {})?;
        let local = Arc::new(LocalEvent::new(object));
        arena.register(&local);
        Ok(local)
    }

    /// This process's hold on an event.
    pub(crate) fn new(object: Object) -> LocalEvent {
        let flag = std::ptr::from_ref(object.view().get::<Flag>());
        LocalEvent {
            object,
            flag,
            spin: Spin::default(),
        }
    }

    #[inline]
    pub(crate) fn arena(&self) -> &Arena {
        self.object.arena()
    }

    #[inline]
    fn flag(&self) -> &Flag {
        // SAFETY: it lies in the object, which `object` keeps.
        unsafe { &*self.flag }
    }

    #[inline]
    pub(crate) fn set(&self) {
        self.flag().set(self.arena().fences());
    }

    pub(crate) fn clear(&self) {
        self.flag().clear();
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.flag().load() & SET != 0
    }

    /// Ready when it is set, or was set meanwhile.
    pub(crate) fn source(&self) -> Source<'_> {
        let flag = self.flag();
        let seen = if self.arena().check().is_ok() {
            flag.load()
        } else {
            0
        };
        let ready = move || flag.was_set_since(seen);
        Source::event(self.arena(), None, || &flag.changed, ready)
    }

    /// Waits until it is set, or was set meanwhile; false when the time is over.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let flag = self.flag();
        let seen = flag.load();
        if seen & SET != 0 {
            return true;
        }
        if deadline.expired() {
            return false;
        }
        let wait = Wait {
            arena: self.arena(),
            event: &flag.changed,
            spin: &self.spin,
        };
        let attempt = |_| match flag.was_set_since(seen) {
            true => Progress::Done(()),
            false => Progress::Blocked,
        };
        wait.until(deadline, || true, attempt).is_some()
    }
}

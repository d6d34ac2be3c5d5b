//! Permits in the arena: the object, and a process's side of it.
//!
//! ```text
//! 0    event count: a permit has come back
//! 128  the table's head; whether it may grow; whether somebody has waited for long
//! 256  the permits
//! ```

use super::event_count::EventCount;
use super::permits::{Counter, For, Permits};
use super::slots::{Slots, SlotsHead};
use super::wait::{Patience, Progress, Turn, Wait};
use crate::arena::{Arena, Dead, Kind, Local, Object, ObjectSpec, OwnedBlock};
use crate::arena::{Shared, View, Visitor};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::primitive::AtomicU64;
use crate::primitive::private::AtomicU32;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

#[repr(C, align(64))]
struct Header {
    available: EventCount,
    slots: SlotsHead,
    is_bounded: AtomicU64,
    long_wait: AtomicU64,
}

// SAFETY: atomics of any value.
unsafe impl Shared for Header {}

/// The most permits of a semaphore.
pub(crate) const MOST_PERMITS: usize = 1 << 24;
/// Room for permits that may be added, in a semaphore without a bound; more takes another block.
const SPARE: usize = 8;

#[derive(Debug)]
pub(crate) struct SemaphoreKind {
    pub(crate) id: u32,
}

fn permits(view: View<'_>) -> Permits<'_> {
    let header = view.get::<Header>();
    Permits(Slots::new(view, &header.slots, size_of::<Header>()))
}

impl Kind for SemaphoreKind {
    fn id(&self) -> u32 {
        self.id
    }

    fn name(&self) -> &'static str {
        "semaphore"
    }

    fn repair(&self, object: View<'_>, dead: &Dead) {
        let given_back = permits(object).repair(|owner| dead.contains(owner.into()));
        for _ in 0..given_back {
            object.arena.count_repair();
        }
        // Also when nothing was: the dead may have been the one whom the last wake-up went to.
        let available = &object.get::<Header>().available;
        available.notify_all(object.arena.fences());
    }

    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>) {
        permits(object).0.visit(block);
    }

    fn destroy(&self, object: View<'_>, _: &mut dyn FnMut(OwnedBlock<'_>)) {
        permits(object).0.free();
    }

    fn is_in_use(&self, object: View<'_>) -> bool {
        permits(object).is_held_by(object.arena.me())
    }
}

/// A process's side of a semaphore.
pub(crate) struct LocalSemaphore {
    object: Object,
    header: *const Header,
    inline: *const [AtomicU64],
    patience: Patience,
    /// Where a free permit was found last.
    place: AtomicU32,
}

// SAFETY: the header and the words are atomics.
unsafe impl Send for LocalSemaphore {}
// SAFETY: as above.
unsafe impl Sync for LocalSemaphore {}

impl fmt::Debug for LocalSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSemaphore")
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Local for LocalSemaphore {
    fn object(&self) -> &Object {
        &self.object
    }
}

/// Why there is no other permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdded {
    OverBound,
    NoMemory,
}

impl LocalSemaphore {
    /// A semaphore with `count` permits, which are the most that it can have when it is bounded.
    pub(crate) fn create(
        arena: &Arena,
        kind: &'static SemaphoreKind,
        count: usize,
        is_bounded: bool,
    ) -> Result<Arc<LocalSemaphore>, Error> {
        if count > MOST_PERMITS {
            return Err(Error::InvalidCapacity);
        }
        let room = if is_bounded { count } else { count + SPARE };
        let spec = ObjectSpec {
            kind,
            type_hash: is_bounded.into(),
            len: (size_of::<Header>() + room * size_of::<AtomicU64>()) as u64,
        };
        let object = Object::create(arena, spec, |view| {
            let header = view.get::<Header>();
            header.slots.init(room);
            header.is_bounded.store(is_bounded.into(), Relaxed);
            permits(view).init(count);
        })?;
        let local = Arc::new(LocalSemaphore::new(object));
        arena.register(&local);
        Ok(local)
    }

    /// This process's hold on a semaphore.
    pub(crate) fn new(object: Object) -> LocalSemaphore {
        let header = ptr::from_ref(object.view().get::<Header>());
        let inline = ptr::from_ref(permits(object.view()).0.inline());
        LocalSemaphore {
            object,
            header,
            inline,
            patience: Patience::default(),
            place: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn arena(&self) -> &Arena {
        self.object.arena()
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: it lies in the object, which `object` keeps.
        unsafe { &*self.header }
    }

    #[inline]
    fn inline(&self) -> &[AtomicU64] {
        // SAFETY: as above.
        unsafe { &*self.inline }
    }

    fn permits(&self) -> Permits<'_> {
        permits(self.object.view())
    }

    #[inline]
    fn counter(&self) -> Counter<'_> {
        let header = self.header();
        Counter {
            available: &header.available,
            long_wait: &header.long_wait,
            fences: self.arena().fences(),
        }
    }

    fn is_bounded(&self) -> bool {
        self.header().is_bounded.load(Relaxed) != 0
    }

    /// Takes a permit. The caller is a member of the family.
    #[inline]
    pub(crate) fn acquire(&self, deadline: Deadline) -> Option<Taken<'_>> {
        let place = self.place.load(Relaxed) as usize;
        let me = self.arena().me();
        let likely = self.inline().get(place);
        match likely.and_then(|slot| Permits::take_this(slot, me)) {
            Some(slot) => Some(Taken(slot)),
            None => self.acquire_slowly(deadline),
        }
    }

    #[cold]
    fn acquire_slowly(&self, deadline: Deadline) -> Option<Taken<'_>> {
        let permits = self.permits();
        let arena = self.arena();
        let attempt = |slow: bool, who: For| {
            let found = permits.take(arena.me(), self.place.load(Relaxed) as usize, who);
            if found.is_some() || !slow {
                return found;
            }
            let found = permits.take_over(arena.me(), |owner| arena.is_dead(owner));
            found.inspect(|_| arena.count_repair())
        };
        let who = match deadline.expired() {
            true => For::Sleepers,
            false => For::All,
        };
        // At once, unless that was done just now: does a dead member hold one?
        let found = attempt(false, who).or_else(|| attempt(self.patience.may_ask(), who));
        let found = match found {
            None if !deadline.expired() => self.wait(deadline, attempt),
            found => found,
        }?;
        let place = self.inline().iter().position(|slot| ptr::eq(slot, found));
        if let Some(place) = place {
            self.place.store(place as u32, Relaxed);
        }
        Some(Taken(found))
    }

    fn wait<T>(&self, deadline: Deadline, attempt: impl Fn(bool, For) -> Option<T>) -> Option<T> {
        let wait = Wait {
            arena: self.arena(),
            event: &self.header().available,
            spin: &self.patience.spin,
        };
        let soon = wait.soon(
            || true,
            |slow| match attempt(slow, For::All) {
                Some(slot) => Progress::Done(slot),
                None => Progress::Blocked,
            },
        );
        if soon.is_some() {
            return soon;
        }
        let mut turn = Turn::default();
        let mut has_marked = false;
        let found = wait.sleep_until(deadline, |slow, woken| {
            let now = Instant::now();
            turn.awake(now, woken);
            // What is reserved also for who would go without it: nobody else may be left.
            let who = match turn.is_next() || deadline.expired() {
                true => For::Sleepers,
                false => For::All,
            };
            attempt(slow, who).ok_or_else(|| {
                if turn.is_long() {
                    self.counter().mark(true);
                    has_marked = true;
                }
                turn.sleep(now)
            })
        });
        if has_marked {
            self.counter().mark(false);
        }
        found
    }

    /// Gives a permit back.
    #[inline]
    pub(crate) fn give_back(&self, taken: &Taken<'_>) {
        if self.arena().check().is_ok() {
            self.counter().give_back(taken.0);
        }
    }

    /// Makes a permit nobody's.
    pub(crate) fn forget(&self, taken: &Taken<'_>) {
        if self.arena().check().is_ok() {
            Permits::forget(taken.0);
        }
    }

    /// Adds a permit.
    pub(crate) fn add(&self) -> Result<(), NotAdded> {
        let (permits, counter) = (self.permits(), self.counter());
        let whom = counter.next();
        let slot = loop {
            if let Some(slot) = permits.add(whom) {
                break slot;
            }
            if self.is_bounded() {
                return Err(NotAdded::OverBound);
            }
            permits.0.grow().map_err(|_| NotAdded::NoMemory)?;
        };
        counter.announce(slot, whom);
        Ok(())
    }

    /// How many permits are to be had.
    pub(crate) fn count(&self) -> usize {
        self.permits().count()
    }
}

/// A permit in the caller's hands.
pub(crate) struct Taken<'a>(&'a AtomicU64);

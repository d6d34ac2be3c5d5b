//! A meeting point in the arena. Each party is a word of a table that names it; see LOCK.md beside this file.
//!
//! ```text
//! 0    event count: a round has ended
//! 128  event count: a place was left
//! 256  the round; the table's head
//! 320  the places
//! ```

use super::event_count::EventCount;
use super::places::{Arrival, End, Place, Places, Round};
use super::slots::{Slots, SlotsHead};
use super::wait::{Progress, Spin, Wait};
use crate::arena::{Arena, Dead, Kind, Local, MemberId, Object, ObjectSpec, OwnedBlock};
use crate::arena::{Shared, View, Visitor};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::primitive::AtomicU64;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[repr(C, align(64))]
struct Header {
    over: EventCount,
    left: EventCount,
    round: AtomicU64,
    slots: SlotsHead,
}

// SAFETY: atomics of any value.
unsafe impl Shared for Header {}

#[derive(Debug)]
pub(crate) struct BarrierKind {
    pub(crate) id: u32,
}

fn places(view: View<'_>) -> Places<'_> {
    let header = view.get::<Header>();
    Places {
        over: &header.over,
        left: &header.left,
        round: &header.round,
        slots: Slots::new(view, &header.slots, size_of::<Header>()),
        fences: view.arena.fences(),
    }
}

impl Kind for BarrierKind {
    fn id(&self) -> u32 {
        self.id
    }

    fn name(&self) -> &'static str {
        "barrier"
    }

    fn repair(&self, object: View<'_>, dead: &Dead) {
        let places = places(object);
        let is_dead = |owner: MemberId| dead.contains(owner.into());
        for _ in 0..places.repair(is_dead) {
            object.arena.count_repair();
        }
        // Also when there was nothing: the dead may have ended a round and woken nobody.
        places.wake();
    }

    fn visit(&self, _: View<'_>, _: &mut Visitor<'_>) {}

    fn destroy(&self, _: View<'_>, _: &mut dyn FnMut(OwnedBlock<'_>)) {}

    fn is_in_use(&self, object: View<'_>) -> bool {
        places(object).has(object.arena.me())
    }
}

/// A process's side of a barrier.
pub(crate) struct LocalBarrier {
    object: Object,
    spin: Spin,
}

impl fmt::Debug for LocalBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBarrier")
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Local for LocalBarrier {
    fn object(&self) -> &Object {
        &self.object
    }
}

/// Why the parties did not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotMet {
    Broken,
    TimedOut,
}

/// The most parties of a barrier.
pub(crate) const MOST_PARTIES: usize = 1 << 20;

/// A party's place; left when dropped.
struct Party<'a> {
    places: Places<'a>,
    arena: &'a Arena,
    place: Place<'a>,
    /// Whether the round ends as broken if nothing else has ended it: when user code panics.
    ends: bool,
}

impl Drop for Party<'_> {
    fn drop(&mut self) {
        if self.arena.check().is_err() {
            return;
        }
        if self.ends {
            self.places.give_up(self.place);
        }
        self.places.leave(self.place);
    }
}

impl LocalBarrier {
    pub(crate) fn create(
        arena: &Arena,
        kind: &'static BarrierKind,
        parties: usize,
    ) -> Result<Arc<LocalBarrier>, Error> {
        if parties == 0 || parties > MOST_PARTIES {
            return Err(Error::InvalidCapacity);
        }
        let spec = ObjectSpec {
            kind,
            type_hash: 0,
            len: (size_of::<Header>() + parties * size_of::<AtomicU64>()) as u64,
        };
        let object = Object::create(arena, spec, |view| {
            let header = view.get::<Header>();
            header.slots.init(parties);
            header.round.store(Round::first(), Relaxed);
        })?;
        let local = Arc::new(LocalBarrier::new(object));
        arena.register(&local);
        Ok(local)
    }

    /// This process's hold on a barrier.
    pub(crate) fn new(object: Object) -> LocalBarrier {
        LocalBarrier {
            object,
            spin: Spin::default(),
        }
    }

    #[inline]
    pub(crate) fn arena(&self) -> &Arena {
        self.object.arena()
    }

    fn places(&self) -> Places<'_> {
        places(self.object.view())
    }

    /// Waits for the other parties. The last to come runs `action` before anybody goes on. Which one the caller was.
    pub(crate) fn wait(&self, deadline: Deadline, action: impl FnOnce()) -> Result<usize, NotMet> {
        let (places, arena) = (self.places(), self.arena());
        let place = self.arrive(deadline)?;
        let mut party = Party {
            places,
            arena,
            place,
            ends: true,
        };
        if place.index + 1 == self.parties() {
            action();
            let met = places.meet(place);
            party.ends = !met;
            return met.then_some(place.index).ok_or(NotMet::Broken);
        }
        let attempt = |slow: bool| {
            if slow {
                places.repair(|owner| arena.is_dead(owner));
            }
            match places.end_of(place) {
                Some(end) => Progress::Done(end),
                None => Progress::Blocked,
            }
        };
        let end = self.until(places.over, deadline, attempt);
        // Unless it has ended just now, that ends it.
        let end = end.or_else(|| places.give_up(place));
        party.ends = false;
        match end {
            Some(End::Met) => Ok(place.index),
            Some(End::Broken) => Err(NotMet::Broken),
            None => Err(NotMet::TimedOut),
        }
    }

    /// Takes a place; waits until those of the last round have left theirs.
    fn arrive(&self, deadline: Deadline) -> Result<Place<'_>, NotMet> {
        let (places, arena) = (self.places(), self.arena());
        let attempt = |slow: bool| {
            if slow {
                places.repair(|owner| arena.is_dead(owner));
            }
            match places.arrive(arena.me()) {
                Arrival::Here(place) => Progress::Done(Ok(place)),
                Arrival::Broken => Progress::Done(Err(NotMet::Broken)),
                Arrival::Draining => Progress::Blocked,
            }
        };
        if let Progress::Done(arrived) = attempt(false) {
            return arrived;
        }
        let arrived = self.until(places.left, deadline, attempt);
        // Who cannot even come in time breaks nothing: nobody counts on it yet.
        arrived.unwrap_or(Err(NotMet::TimedOut))
    }

    fn until<R>(
        &self,
        event: &EventCount,
        deadline: Deadline,
        mut attempt: impl FnMut(bool) -> Progress<R>,
    ) -> Option<R> {
        if deadline.expired() {
            return match attempt(true) {
                Progress::Done(value) => Some(value),
                _ => None,
            };
        }
        let wait = Wait {
            arena: self.arena(),
            event,
            spin: &self.spin,
        };
        wait.until(deadline, || true, attempt)
    }

    /// Breaks it, until it is reset.
    pub(crate) fn abort(&self) {
        self.places().abort();
    }

    /// Begins a new round; those who wait in the old one find it broken.
    pub(crate) fn reset(&self) {
        self.places().reset();
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.places().round().is_broken()
    }

    pub(crate) fn parties(&self) -> usize {
        self.places().slots.inline().len()
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.places().waiting()
    }
}

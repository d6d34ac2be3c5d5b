//! Waiters for a notification in the arena: each is a word of a table that names it. See LOCK.md beside this file.
//!
//! ```text
//! 0     event counts that waiters sleep on, by their place in the table
//! 1024  the next ticket; the table's head
//! 1152  the waiters
//! ```

use super::event_count::EventCount;
use super::slots::{Slots, SlotsHead};
use super::wait::{Progress, Spin, Wait};
use super::waiters::{Waiter, Waiters};
use crate::arena::{Arena, Dead, Kind, Local, MemberId, Object, ObjectSpec, OwnedBlock};
use crate::arena::{Shared, View, Visitor};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::primitive::AtomicU64;
use std::fmt;
use std::sync::Arc;

/// So many event counts are slept on.
const EVENTS: usize = 8;
/// Waiters that need no further block.
const ROOM: usize = 16;

#[repr(C, align(64))]
struct Header {
    notified: [EventCount; EVENTS],
    tickets: AtomicU64,
    slots: SlotsHead,
}

// SAFETY: atomics of any value.
unsafe impl Shared for Header {}

#[derive(Debug)]
pub(crate) struct ConditionKind {
    pub(crate) id: u32,
}

fn waiters(view: View<'_>) -> Waiters<'_> {
    let header = view.get::<Header>();
    Waiters {
        notified: &header.notified,
        tickets: &header.tickets,
        slots: Slots::new(view, &header.slots, size_of::<Header>()),
        fences: view.arena.fences(),
    }
}

impl Kind for ConditionKind {
    fn id(&self) -> u32 {
        self.id
    }

    fn name(&self) -> &'static str {
        "condition"
    }

    fn repair(&self, object: View<'_>, dead: &Dead) {
        let repaired = waiters(object).repair(|owner| dead.contains(owner.into()));
        for _ in 0..repaired {
            object.arena.count_repair();
        }
    }

    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>) {
        waiters(object).slots.visit(block);
    }

    fn destroy(&self, object: View<'_>, _: &mut dyn FnMut(OwnedBlock<'_>)) {
        waiters(object).slots.free();
    }
}

/// A process's side of a condition.
pub(crate) struct LocalCondition {
    object: Object,
    spin: Spin,
}

impl fmt::Debug for LocalCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCondition")
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Local for LocalCondition {
    fn object(&self) -> &Object {
        &self.object
    }
}

/// A waiter that has been entered and is still to wait.
pub(crate) struct Entered<'a> {
    condition: &'a LocalCondition,
    waiter: Waiter<'a>,
}

impl LocalCondition {
    pub(crate) fn create(
        arena: &Arena,
        kind: &'static ConditionKind,
    ) -> Result<Arc<LocalCondition>, Error> {
        let spec = ObjectSpec {
            kind,
            type_hash: 0,
            len: (size_of::<Header>() + ROOM * size_of::<AtomicU64>()) as u64,
        };
        let object = Object::create(arena, spec, |view| view.get::<Header>().slots.init(ROOM))?;
        let local = Arc::new(LocalCondition::new(object));
        arena.register(&local);
        Ok(local)
    }

    /// This process's hold on a condition.
    pub(crate) fn new(object: Object) -> LocalCondition {
        LocalCondition {
            object,
            spin: Spin::default(),
        }
    }

    #[inline]
    pub(crate) fn arena(&self) -> &Arena {
        self.object.arena()
    }

    fn waiters(&self) -> Waiters<'_> {
        waiters(self.object.view())
    }

    /// Enters the caller as a waiter, before it gives up its lock: from then on it misses nothing.
    pub(crate) fn enter(&self) -> Result<Entered<'_>, Error> {
        let waiter = self.waiters().enter(self.arena().me())?;
        Ok(Entered {
            condition: self,
            waiter,
        })
    }

    /// Notifies `count` of those who wait, the longest first.
    pub(crate) fn notify(&self, count: usize) {
        let is_gone = |owner| self.arena().pid_of(owner).is_none();
        self.waiters().notify(count, is_gone);
    }

    /// Notifies everybody who waits.
    pub(crate) fn notify_all(&self) {
        self.waiters().notify_all();
    }

    /// How many wait, some of them perhaps dead.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters().count()
    }
}

impl Entered<'_> {
    /// Waits for a notification; false when the time is over without one, and then the waiter is off the table.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let (waiters, arena) = (self.condition.waiters(), self.condition.arena());
        let is_dead = |owner| arena.is_dead(owner);
        let attempt = |slow: bool| {
            let is_dead: Option<&dyn Fn(MemberId) -> bool> =
                if slow { Some(&is_dead) } else { None };
            match waiters.look(self.waiter, is_dead) {
                true => Progress::Done(()),
                false => Progress::Blocked,
            }
        };
        let wait = Wait {
            arena,
            event: waiters.event_of(self.waiter),
            spin: &self.condition.spin,
        };
        // No time at all still means one look.
        let found = match deadline.expired() {
            true => wait.once(attempt),
            false => wait.until(deadline, || true, attempt),
        };
        found.is_some() || !waiters.leave(self.waiter)
    }

    /// Takes note of its notification, with its lock in hand: who dies before leaves the notification to another.
    pub(crate) fn take_note(self) {
        self.condition.waiters().take_note(self.waiter);
    }
}

//! Waiters for a notification in the arena: each is a word of a table that names it. See LOCK.md beside this file.
//!
//! ```text
//! 0     event counts that waiters sleep on, by their place in the table
//! 1024  the next ticket; the table's head
//! 1088  the waiters
//! ```

use super::event_count::EventCount;
use super::slots::{SlotWord, Slots, SlotsHead};
use super::wait::{Progress, Spin, Wait};
use crate::arena::{Arena, Dead, Kind, Local, MemberId, Object, ObjectSpec, OwnedBlock};
use crate::arena::{Shared, View, Visitor};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::primitive::AtomicU64;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

/// Sleepers are spread over so many event counts, so that a notification of one wakes few in vain.
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

const FREE: u64 = 0;
/// `ticket | WAITING | owner`: in order of their tickets.
const WAITING: u64 = 1;
/// `limit | NOTIFIED | owner`: the owner has a notification, which was meant for a waiter with a ticket below the limit. Until it
/// takes note of it, so when it dies, others may have it.
const NOTIFIED: u64 = 2;
/// The same when the owner has died: for whoever waits and is entitled.
const ORPHAN: u64 = 3;

#[derive(Debug)]
pub(crate) struct ConditionKind {
    pub(crate) id: u32,
}

#[derive(Clone, Copy)]
struct Waiters<'a> {
    header: &'a Header,
    slots: Slots<'a>,
}

fn waiters(view: View<'_>) -> Waiters<'_> {
    let header = view.get::<Header>();
    let slots = Slots::new(view, &header.slots, size_of::<Header>());
    Waiters { header, slots }
}

/// A waiter's word, which one it is, and its ticket.
#[derive(Clone, Copy)]
struct Waiter<'a> {
    slot: &'a AtomicU64,
    index: usize,
    ticket: u64,
}

impl<'a> Waiters<'a> {
    fn words(self) -> impl Iterator<Item = (usize, &'a AtomicU64, SlotWord)> {
        let slots = self.slots.each().enumerate();
        slots.map(|(index, slot)| (index, slot, SlotWord::of(slot)))
    }

    /// Enters a waiter: from now on notifications may be its.
    fn enter(self, me: MemberId) -> Result<Waiter<'a>, Error> {
        let ticket = self.header.tickets.fetch_add(1, Relaxed);
        let mine = SlotWord::new(ticket, WAITING, me);
        loop {
            for (index, slot, word) in self.words() {
                if word.state() == FREE && word.replace(slot, mine, AcqRel) {
                    return Ok(Waiter {
                        slot,
                        index,
                        ticket,
                    });
                }
            }
            // A notification of the dead that nobody is entitled to any more is no use.
            let useless = self.words().find(|&(_, _, word)| {
                word.state() == ORPHAN && !self.is_anybody_below(word.sequence())
            });
            match useless {
                Some((_, slot, word)) => {
                    word.replace(slot, word.next(FREE, 0), AcqRel);
                }
                None => self.slots.grow()?,
            }
        }
    }

    fn is_anybody_below(self, limit: u64) -> bool {
        let entitled = |word: SlotWord| word.state() == WAITING && word.sequence() < limit;
        self.words().any(|(_, _, word)| entitled(word))
    }

    /// Notifies `count` of those who wait now, the longest first.
    fn notify(self, count: usize, arena: &Arena) {
        let limit = self.header.tickets.load(Relaxed);
        for _ in 0..count {
            if !self.notify_first(limit, arena) {
                return;
            }
        }
    }

    fn notify_first(self, limit: u64, arena: &Arena) -> bool {
        loop {
            let first = self
                .words()
                .filter(|(_, _, word)| word.state() == WAITING && word.sequence() < limit)
                // Who is known to be dead needs none.
                .filter(|(_, _, word)| arena.pid_of(word.owner()).is_some())
                .min_by_key(|(_, _, word)| word.sequence());
            let Some((index, slot, word)) = first else {
                return false;
            };
            let notified = SlotWord::new(limit, NOTIFIED, word.owner());
            // (N) pairs with (O).
            if word.replace(slot, notified, AcqRel) {
                self.header.notified[index % EVENTS].notify_all(arena.fences());
                return true;
            }
        }
    }

    /// Looks whether the waiter has a notification, and takes note of it; or takes one that a dead member has left.
    fn look(self, waiter: Waiter<'_>, is_dead: Option<&dyn Fn(MemberId) -> bool>) -> bool {
        // (O) pairs with (N).
        let mine = SlotWord::of(waiter.slot);
        if mine.state() == NOTIFIED {
            return self.take_note(waiter);
        }
        let left = self.words().find(|&(_, _, word)| {
            let is_left = match word.state() {
                ORPHAN => true,
                NOTIFIED => is_dead.is_some_and(|is_dead| is_dead(word.owner())),
                _ => false,
            };
            is_left && waiter.ticket < word.sequence()
        });
        let Some((_, slot, word)) = left else {
            return false;
        };
        // First its own, then the other's: killed between, there is one too many and not one too few. So it is when somebody
        // else was quicker with the other's.
        let notified = SlotWord::new(word.sequence(), NOTIFIED, mine.owner());
        if mine.replace(waiter.slot, notified, AcqRel) {
            word.replace(slot, word.next(FREE, 0), AcqRel);
        }
        self.take_note(waiter)
    }

    /// The notification takes effect.
    fn take_note(self, waiter: Waiter<'_>) -> bool {
        let word = SlotWord::of(waiter.slot);
        waiter.slot.store(word.next(FREE, 0).0, Release);
        true
    }

    /// Ends a wait without a notification; false when there is one after all.
    fn leave(self, waiter: Waiter<'_>) -> bool {
        let word = SlotWord::of(waiter.slot);
        word.state() == WAITING && word.replace(waiter.slot, word.next(FREE, 0), AcqRel)
    }

    fn wake_all(self, arena: &Arena) {
        for event in &self.header.notified {
            event.notify_all(arena.fences());
        }
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
        let waiters = waiters(object);
        for (_, slot, word) in waiters.words() {
            if !dead.contains(word.owner().into()) {
                continue;
            }
            let is_wanted = word.state() == NOTIFIED && waiters.is_anybody_below(word.sequence());
            let new = if is_wanted {
                SlotWord::new(word.sequence(), ORPHAN, 0)
            } else {
                word.next(FREE, 0)
            };
            if word.replace(slot, new, AcqRel) {
                object.arena.count_repair();
            }
        }
        waiters.wake_all(object.arena);
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
        self.waiters().notify(count, self.arena());
    }

    /// How many wait, some of them perhaps dead.
    pub(crate) fn waiting(&self) -> usize {
        let is_waiting = |(_, _, word): &(usize, &AtomicU64, SlotWord)| word.state() == WAITING;
        self.waiters().words().filter(is_waiting).count()
    }
}

impl Entered<'_> {
    /// Waits for a notification; false when the time is over without one.
    pub(crate) fn wait(self, deadline: Deadline) -> bool {
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
            event: &waiters.header.notified[self.waiter.index % EVENTS],
            spin: &self.condition.spin,
        };
        // No time at all still means one look.
        let found = match deadline.expired() {
            true => wait.once(attempt),
            false => wait.until(deadline, || true, attempt),
        };
        found.is_some() || !waiters.leave(self.waiter) && waiters.take_note(self.waiter)
    }
}

//! A process's side of a joinable queue: the table of its tasks beside the ring that carries their numbers.
#![forbid(unsafe_code)]

use super::kind::Content;
use super::local::{LocalQueue, Refused};
use crate::arena::{
    Arena, Dead, Kind, Local, Object, ObjectSpec, OwnedBlock, Parcel, View, Visitor,
};
use crate::codec;
use crate::error::{Error, GetError};
use crate::os::clock::Deadline;
use crate::primitive::private::AtomicU32;
use crate::ring::{Geometry, Held, Outlook, Place, Tasks};
use crate::sync::{Progress, Source, Spin, Wait};
use serde::de::DeserializeOwned;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The place of tables of tasks in the table of kinds.
pub(super) const KIND: u32 = 4;

/// How long a consumer waits at most before it looks for tasks of the dead.
const SLICE: Duration = Duration::from_millis(100);
/// After so many tasks it sees whether that time is over, where it never waits.
const TAKES: u32 = 64;

#[derive(Debug)]
pub(crate) struct TasksKind;

impl Kind for TasksKind {
    fn id(&self) -> u32 {
        KIND
    }

    fn name(&self) -> &'static str {
        "tasks"
    }

    fn repair(&self, object: View<'_>, dead: &Dead) {
        let tasks = Tasks::new(object);
        let ring = Content::find(object.arena, tasks.ring());
        let in_ring = || {
            let mut messages = HashSet::new();
            if let Some(ring) = &ring {
                ring.for_each_message(|ring, index, _| {
                    messages.insert(ring.task_in(index));
                });
            }
            messages
        };
        let is_dead = |owner| dead.contains(u64::from(owner));
        let changed = tasks.repair(is_dead, in_ring, &mut OwnedBlock::let_go);
        for _ in 0..changed {
            object.arena.count_repair();
        }
        let fences = object.arena.fences();
        tasks.finished().notify_all(fences);
        if let Some(ring) = &ring {
            ring.wake_all(object.arena);
        }
    }

    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>) {
        Tasks::new(object).visit(block);
    }

    fn destroy(&self, object: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        Tasks::new(object).destroy(taken);
    }
}

/// A process's hold on a table of tasks.
pub(super) struct LocalTasks {
    object: Object,
    place: Place,
    spin: Spin,
    /// The numbers of deaths and of tasks given back, as they were before the table was last searched in vain.
    seen: Mutex<Option<(u64, u64)>>,
    /// What was got and not yet said to be done, oldest first.
    open: Mutex<VecDeque<Held>>,
    /// How many were taken.
    taken: AtomicU32,
}

impl fmt::Debug for LocalTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTasks")
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Local for LocalTasks {
    fn object(&self) -> &Object {
        &self.object
    }
}

impl LocalTasks {
    pub(super) fn new(object: Object) -> Self {
        LocalTasks {
            object,
            place: Place::default(),
            spin: Spin::default(),
            seen: Mutex::default(),
            open: Mutex::default(),
            taken: AtomicU32::new(0),
        }
    }
}

/// Its messages are numbers of cells: no queue of that type may take it for its own.
pub(super) fn ring_hash(type_hash: u64) -> u64 {
    !type_hash
}

/// How many tasks a queue carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    Bounded(u64),
    Unbounded,
    /// Any number, with segments of so few slots.
    #[cfg(all(test, not(loom)))]
    Segments(u64),
}

/// The table and the ring.
#[derive(Clone, Debug)]
pub(super) struct TaskQueue {
    pub(super) tasks: Arc<LocalTasks>,
    pub(super) ring: Arc<LocalQueue>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl TaskQueue {
    pub(super) fn create(
        arena: &Arena,
        room: Room,
        type_hash: u64,
        retries: u64,
    ) -> Result<TaskQueue, Error> {
        let (payload, hash) = (Tasks::MESSAGE as u64, ring_hash(type_hash));
        let ring = Arc::new(match room {
            Room::Bounded(capacity) => {
                LocalQueue::create(arena, Geometry::new(capacity, payload), hash)?
            }
            Room::Unbounded => LocalQueue::create_chain(arena, Geometry::segment(payload), hash)?,
            #[cfg(all(test, not(loom)))]
            Room::Segments(slots) => {
                LocalQueue::create_chain(arena, Geometry::new(slots, payload), hash)?
            }
        });
        let spec = ObjectSpec {
            kind: &TasksKind,
            type_hash,
            len: Tasks::LEN,
        };
        let block = ring.object().block();
        let object = Object::create(arena, spec, |view| Tasks::init(view, block, retries))?;
        let tasks = Arc::new(LocalTasks::new(object));
        arena.register(&ring);
        arena.register(&tasks);
        Ok(TaskQueue { tasks, ring })
    }

    /// Whether both belong together.
    pub(super) fn is_whole(&self) -> bool {
        self.table().ring() == self.ring.object().block()
    }

    pub(super) fn arena(&self) -> &Arena {
        self.ring.arena()
    }

    fn table(&self) -> Tasks<'_> {
        Tasks::new(self.tasks.object.view())
    }

    /// Puts a message. `Err(None)`: no memory.
    pub(super) fn send(
        &self,
        parcel: Parcel<'_>,
        deadline: Deadline,
    ) -> Result<(), Option<Refused>> {
        let table = self.table();
        let held = table.reserve(&self.tasks.place, self.arena().me());
        let held = held.map_err(|_| None)?;
        let message = table.fill(held, parcel.into_index());
        self.ring
            .send(&message, Tasks::MESSAGE, deadline)
            .map_err(|refused| {
                self.finish(held);
                Some(refused)
            })
    }

    /// The next task: one that was given back before one of the ring.
    pub(super) fn next(&self, deadline: Deadline) -> Result<Held, GetError> {
        let taken = self.tasks.taken.load(Relaxed).wrapping_add(1);
        self.tasks.taken.store(taken, Relaxed);
        if taken % TAKES == 0 {
            self.ask(false);
        }
        loop {
            if let Some(held) = self.returned() {
                return Ok(held);
            }
            let taken = match self.ring.take_next() {
                Some(taken) => taken,
                None => {
                    let slice = if deadline.expired() {
                        Deadline::NOW
                    } else {
                        Deadline::from(deadline.slice(SLICE))
                    };
                    match self.ring.wait_for_message(slice) {
                        Ok(taken) => taken,
                        Err(Refused::Closed) => return self.at_the_end(deadline),
                        Err(Refused::NotNow) if self.ask(false) => continue,
                        Err(Refused::NotNow) if deadline.expired() => return Err(GetError::Empty),
                        Err(_) => continue,
                    }
                }
            };
            let mut words = [0; 2];
            self.ring.read(&taken, &mut words, Tasks::MESSAGE);
            // First the cell, then the ring: whoever is given the message again finds it taken.
            let held = self.table().take(words, self.arena().me());
            self.ring.acknowledge(taken);
            if let Some(held) = held {
                return Ok(held);
            }
        }
    }

    /// A task that was given back, if there may be one.
    fn returned(&self) -> Option<Held> {
        let (arena, table) = (self.arena(), self.table());
        // Before the search: what changes meanwhile is searched for the next time.
        let now = (arena.deaths(), table.returned());
        let mut seen = lock(&self.tasks.seen);
        if *seen == Some(now) {
            return None;
        }
        let held = table.take_returned(arena.me(), |owner| arena.is_dead(owner));
        if held.is_none() {
            *seen = Some(now);
        }
        held
    }

    /// For `wait`: ready when a get would not wait.
    pub(super) fn source(&self) -> Source<'_> {
        let ready = |slow: bool| {
            if slow {
                self.ask(true);
            }
            self.has_returned()
                || match self.ring.front(slow) {
                    None => false,
                    Some(Ok(())) => true,
                    // As `at_the_end` has it.
                    Some(Err(_)) => self.table().in_hands(self.arena().me()) != (true, false),
                }
        };
        let events = || [Some(self.ring.not_empty()), Some(self.table().finished())];
        Source::queue(self.arena(), &self.tasks.spin, events, ready)
    }

    /// Whether `returned` would find one.
    fn has_returned(&self) -> bool {
        let (arena, table) = (self.arena(), self.table());
        let now = (arena.deaths(), table.returned());
        let mut seen = lock(&self.tasks.seen);
        if *seen == Some(now) {
            return false;
        }
        let (found, any) = table.look_returned(arena.me(), |owner| arena.is_dead(owner));
        if !any {
            *seen = Some(now);
        }
        found
    }

    /// The ring is closed and drained. A process without a task waits for those of others, which may come back; one that holds
    /// some itself does not, so that no two wait for each other.
    #[cold]
    fn at_the_end(&self, deadline: Deadline) -> Result<Held, GetError> {
        let attempt = |slow: bool| {
            if slow {
                self.ask(true);
            }
            if let Some(held) = self.returned() {
                return Progress::Done(Ok(held));
            }
            match self.table().in_hands(self.arena().me()) {
                (true, false) => Progress::Blocked,
                _ => Progress::Done(Err(GetError::Closed)),
            }
        };
        self.wait(deadline, attempt).unwrap_or(Err(GetError::Empty))
    }

    fn wait<R>(&self, deadline: Deadline, attempt: impl FnMut(bool) -> Progress<R>) -> Option<R> {
        let wait = Wait {
            arena: self.arena(),
            event: self.table().finished(),
            spin: &self.tasks.spin,
        };
        if deadline.expired() {
            wait.once(attempt)
        } else {
            wait.until(deadline, || true, attempt)
        }
    }

    /// Now and then, or `now`: whether somebody has died with a task in his hands. What he left is collected.
    #[cold]
    fn ask(&self, now: bool) -> bool {
        let arena = self.arena();
        if !self.tasks.spin.ask(arena) && !now {
            return false;
        }
        let dead = self.table().any_dead(|owner| arena.is_dead(owner));
        if dead {
            arena.collect(false);
        }
        dead
    }

    /// The value of a task in this process's hands. One without a value is finished with that.
    pub(super) fn open<T: DeserializeOwned>(&self, held: Held) -> Result<T, GetError> {
        let index = self.table().block_of(held);
        let opening = Opening {
            queue: self,
            held,
            parcel: index.map(|index| Parcel::take(self.arena(), index)),
        };
        let Some(parcel) = &opening.parcel else {
            return Err(GetError::Empty);
        };
        let value = codec::decode_parcel(self.arena(), parcel, Vec::new());
        let value = value.map_err(GetError::Decode)?;
        opening.leave();
        Ok(value)
    }

    /// Notes what `task_done` will be about.
    pub(super) fn note(&self, held: Held) {
        lock(&self.tasks.open).push_back(held);
    }

    /// The oldest task of this process that was noted.
    pub(super) fn oldest(&self) -> Option<Held> {
        let mut open = lock(&self.tasks.open);
        loop {
            // Those of a parent, of which this process is a copy, are not its own.
            let held = open.pop_front()?;
            if self.is_mine(held) {
                return Some(held);
            }
        }
    }

    /// By the process's whole name: its number may have been that of the process of which this one is a copy.
    fn is_mine(&self, held: Held) -> bool {
        self.arena().check().is_ok() && held.name == self.arena().my_word()
    }

    pub(super) fn finish(&self, held: Held) {
        if !self.is_mine(held) {
            return;
        }
        self.table().finish(held);
        // While the ring holds tasks nobody's wait is over.
        if self.ring.is_empty() {
            self.table().finished().notify_all(self.arena().fences());
        }
    }

    fn give_up(&self, held: Held) {
        if self.is_mine(held) {
            self.table().give_up(held, self.arena().me());
            self.table().finished().notify_all(self.arena().fences());
        }
    }

    pub(super) fn give_back(&self, held: Held) {
        if !self.is_mine(held) {
            return;
        }
        let fences = self.arena().fences();
        self.table().give_back(held, self.arena().me());
        self.ring.not_empty().notify_all(fences);
        self.table().finished().notify_all(fences);
    }

    /// Waits until all tasks are finished or given up; how many of these there are. `None` when the time is over.
    pub(super) fn join(&self, deadline: Deadline) -> Option<u64> {
        let attempt = |slow: bool| {
            if slow {
                self.ask(true);
            }
            match self.table().outlook() {
                Outlook::Settled(lost) => Progress::Done(lost),
                Outlook::Unfinished => Progress::Blocked,
            }
        };
        self.wait(deadline, attempt)
    }
}

/// A message that is being decoded, while its cell lists its block.
struct Opening<'a> {
    queue: &'a TaskQueue,
    held: Held,
    parcel: Option<Parcel<'a>>,
}

impl Opening<'_> {
    /// The message stays until the task is finished.
    fn leave(mut self) {
        if let Some(parcel) = self.parcel.take() {
            parcel.into_index();
        }
        std::mem::forget(self);
    }
}

impl Drop for Opening<'_> {
    /// No value came of it, also by a panic: then there is nothing that anybody could do. What somebody else has had before is not done.
    fn drop(&mut self) {
        if let Some(parcel) = self.parcel.take() {
            parcel.into_index();
        }
        if self.held.is_again() {
            self.queue.give_up(self.held);
        } else {
            self.queue.finish(self.held);
        }
    }
}

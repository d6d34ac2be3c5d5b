//! A pool in its parent: the jobs that are under way, and who waits for them.
//!
//! Whoever waits may have to read: take the jobs that came back and hand them out to all. One thread does so at a time, the
//! others sleep until it is done. The helper thread (`helper.rs`) reads where callbacks are due or nobody will ask.
#![forbid(unsafe_code)]

use super::batch::{Batch, Finished};
use super::error::TaskError;
use super::helper::{self, Helper};
use super::lock;
use super::object::LocalPool;
use super::record::Packed;
use super::staff::{Recruit, Staff};
use super::worker::{self, Body, Run};
use crate::arena::Parcel;
use crate::codec::Pod;
use crate::os::clock::Deadline;
use crate::primitive::private::AtomicU64 as PrivateU64;
use crate::queue::Queue;
use crate::ring::{Extent, Hand, INLINE, JobPlace, Shape, Ticket};
use crate::sync::{Progress, Spin, Wait};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How a pool was built.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) processes: usize,
    pub(super) most: Option<u64>,
    pub(super) retries: u32,
    pub(super) backlog: Option<usize>,
    pub(super) name: String,
}

/// What the parent's threads share.
pub(super) struct Shared {
    pub(super) pool: Arc<LocalPool>,
    pub(super) tasks: Queue<u64, Pod>,
    pub(super) bell: OwnedFd,
    pub(super) settings: Settings,
    /// Which process made it.
    owner: u64,
    spin: Spin,
    /// Rises when something was found out that may end a wait.
    news: PrivateU64,
    core: Mutex<Core>,
    pub(super) changed: Condvar,
    /// Who looks after the workers.
    pub(super) tending: Mutex<()>,
    pub(super) init: Option<Init>,
}

/// The initializer with its arguments.
pub(super) struct Init {
    pub(super) function: u64,
    pub(super) packed: Packed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Closing,
    Terminated,
}

pub(super) struct Core {
    pub(super) entries: Vec<Option<Entry>>,
    free_entries: Vec<u32>,
    cards: Vec<Hand>,
    /// Jobs that are queued or with a worker, initializers not counted.
    pub(super) outstanding: usize,
    pub(super) reading: bool,
    pub(super) sleepers: usize,
    pub(super) phase: Phase,
    /// What every task ends with from now on.
    pub(super) broken: Option<TaskError>,
    /// Iterators that will give more tasks.
    pub(super) feeders: usize,
    /// Those among them whose callers wait for all of it, and so feed on.
    pub(super) callers: usize,
    /// Somebody is in `join`: nobody else feeds any more once nothing is outstanding.
    pub(super) joining: bool,
    /// The queue of tasks is closed: nothing was outstanding, nor will be.
    pub(super) sealed: bool,
    pub(super) over: bool,
    pub(super) callbacks: VecDeque<Arc<Batch>>,
    /// Callbacks that are not run yet.
    pub(super) callbacks_due: usize,
    /// Jobs under way whose outcome nobody will ask for.
    pub(super) unwanted: usize,
    pub(super) staff: Staff,
    pub(super) helper: Helper,
    functions: Vec<((usize, usize), u64)>,
}

pub(super) enum Target {
    Batch(Arc<Batch>),
    Init,
}

/// A job that is under way.
pub(super) struct Entry {
    pub(super) target: Target,
    pub(super) number: u64,
    pub(super) ticket: Option<Ticket>,
    pub(super) tasks: u32,
    pub(super) faults: Vec<(u32, TaskError)>,
    pub(super) holes: Vec<(u32, TaskError)>,
    pub(super) parcels: Vec<(u32, u32)>,
    /// How often which task has killed its worker.
    pub(super) tries: (u32, u32),
}

impl Entry {
    pub(super) fn finished(
        self,
        hand: Option<Hand>,
        whole: Option<TaskError>,
    ) -> (Target, Finished) {
        let finished = Finished {
            number: self.number,
            hand,
            tasks: self.tasks,
            whole,
            faults: self.faults,
            holes: self.holes,
            parcels: self.parcels,
        };
        (self.target, finished)
    }
}

impl Shared {
    pub(super) fn new(
        pool: Arc<LocalPool>,
        tasks: Queue<u64, Pod>,
        bell: OwnedFd,
        settings: Settings,
        init: Option<Init>,
    ) -> Shared {
        let owner = pool.arena().my_word();
        let core = Core {
            entries: Vec::new(),
            free_entries: Vec::new(),
            cards: Vec::new(),
            outstanding: 0,
            reading: false,
            sleepers: 0,
            phase: Phase::Open,
            broken: None,
            feeders: 0,
            callers: 0,
            joining: false,
            sealed: false,
            over: false,
            callbacks: VecDeque::new(),
            callbacks_due: 0,
            unwanted: 0,
            staff: Staff::new(settings.processes),
            helper: Helper::default(),
            functions: Vec::new(),
        };
        Shared {
            pool,
            tasks,
            bell,
            settings,
            owner,
            spin: Spin::default(),
            news: PrivateU64::new(0),
            core: Mutex::new(core),
            changed: Condvar::new(),
            tending: Mutex::default(),
            init,
        }
    }

    /// An error in a copy of the process that made the pool.
    #[inline]
    pub(super) fn check(&self) -> Result<(), TaskError> {
        let arena = self.pool.arena();
        if arena.check().is_err() || arena.my_word() != self.owner {
            return Err(TaskError::ForeignFork);
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }

    /// The number by which workers find this function.
    #[inline]
    pub(super) fn function<A: DeserializeOwned, R: Serialize>(
        &self,
        target: fn(A) -> R,
    ) -> Result<u64, TaskError> {
        self.check()?;
        let body: fn(fn(A) -> R, Run) -> Run = worker::body::<A, R>;
        let key = (body as usize, target as usize);
        if let Some(number) = self.known_function(key) {
            return Ok(number);
        }
        let function = Body::new(body, target).map_err(|_| TaskError::NotInProgram)?;
        self.add_function(key, function)
    }

    fn known_function(&self, key: (usize, usize)) -> Option<u64> {
        let mut core = self.lock();
        let at = core.functions.iter().position(|(known, _)| *known == key)?;
        // The last ones come first.
        core.functions.swap(0, at);
        Some(core.functions[0].1)
    }

    fn add_function(&self, key: (usize, usize), function: Body) -> Result<u64, TaskError> {
        let mut core = self.lock();
        let number = self.pool.cards().add_function(&function.to_bytes())?;
        core.functions.push((key, number));
        Ok(number)
    }

    /// Makes a job of these tasks. Its ticket is still to be put into the queue. The batch expects it, whatever becomes of it: its
    /// callback will be run by the helper, unless the job is refused: then it is still to be run.
    pub(super) fn submit(
        self: &Arc<Self>,
        packed: &mut Packed,
        function: u64,
        batch: &Arc<Batch>,
        number: u64,
        feeding: bool,
    ) -> Submitted {
        let mut core = self.lock();
        let refusal = core.refusal(feeding).or_else(|| {
            let started = core.helper.start(self);
            started.err().map(|_| TaskError::NoMemory)
        });
        let holes = std::mem::take(&mut packed.holes);
        let mut entry = Entry {
            target: Target::Batch(batch.clone()),
            number,
            ticket: None,
            tasks: packed.tasks,
            faults: Vec::new(),
            holes,
            parcels: Vec::new(),
            tries: (0, 0),
        };
        if let Some(error) = refusal {
            drop(core);
            // The caller, who is the only one to know of the batch as yet, sees what becomes of it.
            let _ = batch.deliver(entry.finished(None, Some(error)).1);
            return Submitted::Refused;
        }
        if batch.has_callback() {
            core.callbacks_due += 1;
            if core.callbacks_due == 1 {
                // It may be asleep without having asked to be told of results.
                core.helper.wake(&self.bell);
            }
        }
        let made = match packed.tasks {
            0 => Ok(None),
            _ => self.fill_anew(&mut core, packed).map(Some),
        };
        let (hand, whole) = match made {
            Ok(Some((mut hand, extent))) => {
                let (tasks, at) = (packed.tasks, core.free_entry());
                let cards = self.pool.cards();
                cards.set_up(&mut hand, Shape { tasks, entry: at }, function);
                cards.set_extent(&mut hand, extent);
                let ticket = self.pool.jobs().queue(hand);
                entry.ticket = Some(ticket);
                core.entries[at as usize] = Some(entry);
                core.outstanding += 1;
                return Submitted::Queued { ticket, entry: at };
            }
            Ok(None) => (None, None),
            Err(error) => (None, Some(error)),
        };
        let (target, finished) = entry.finished(hand, whole);
        self.hand_out(&mut core, target, finished);
        drop(core);
        self.tell();
        Submitted::Settled
    }

    /// A card with the arguments. What nobody waits for has perhaps come back, and is read first, so that it does not pile up.
    fn fill_anew(&self, core: &mut Core, packed: &Packed) -> Result<(Hand, Extent), TaskError> {
        if core.cards.is_empty() {
            self.read(core);
        }
        match self.fill(core, packed) {
            Err(TaskError::NoMemory) if self.read(core) => self.fill(core, packed),
            filled => filled,
        }
    }

    /// A card with the arguments.
    fn fill(&self, core: &mut Core, packed: &Packed) -> Result<(Hand, Extent), TaskError> {
        let cards = self.pool.cards();
        if core.cards.is_empty() {
            core.cards.extend(cards.grow()?);
        }
        let len = packed.bytes().len();
        // Some room for results has to be left.
        let inline = packed.handles.is_empty() && len <= INLINE - 2 * super::record::HEAD;
        let mut block = None;
        if !inline {
            let objects: Vec<_> = packed.handles.iter().map(|local| local.object()).collect();
            let arena = self.pool.arena();
            if objects.iter().any(|object| !object.arena().same(arena)) {
                return Err(crate::error::Error::NotInMessage.into());
            }
            let mut parcel = Parcel::new(arena, len as u64, &objects)?;
            parcel.bytes_mut().copy_from_slice(packed.bytes());
            block = Some(parcel.into_index());
        }
        let Some(mut hand) = core.cards.pop() else {
            return Err(TaskError::NoMemory);
        };
        let extent = match block {
            Some(index) => {
                cards.list_args(&mut hand, index);
                Extent { begin: 0, end: 0 }
            }
            None => {
                cards.inline_mut(&mut hand)[..len].copy_from_slice(packed.bytes());
                let begin = len;
                Extent { begin, end: 0 }
            }
        };
        Ok((hand, extent))
    }

    /// The initializer's job for a worker that is about to be started.
    pub(super) fn assign_init(
        &self,
        core: &mut Core,
        recruit: &Recruit,
    ) -> Result<Option<JobPlace>, TaskError> {
        let Some(init) = &self.init else {
            return Ok(None);
        };
        let (mut hand, extent) = self.fill(core, &init.packed)?;
        let entry = core.free_entry();
        core.entries[entry as usize] = Some(Entry {
            target: Target::Init,
            number: 0,
            ticket: None,
            tasks: 1,
            faults: Vec::new(),
            holes: Vec::new(),
            parcels: Vec::new(),
            tries: (0, 0),
        });
        let cards = self.pool.cards();
        cards.set_up(&mut hand, Shape { tasks: 1, entry }, init.function);
        cards.set_extent(&mut hand, extent);
        let place = self.pool.jobs().assign(hand, recruit.seat, recruit.serial);
        Ok(Some(place))
    }

    /// Puts tickets into the queue. What it has no memory for ends with that; it is closed only when all of them have ended already.
    pub(super) fn send(&self, tickets: &mut Vec<u64>) {
        let sent = match &tickets[..] {
            [ticket] => self.tasks.put(*ticket).map_or(0, |()| 1),
            _ => match self.tasks.put_many(tickets.iter().copied()) {
                Ok(sent) => sent,
                Err(error) => error.sent,
            },
        };
        if sent < tickets.len() {
            let mut core = self.lock();
            for ticket in &tickets[sent..] {
                if let Some(hand) = self.pool.jobs().cancel(Ticket(*ticket)) {
                    self.settle(&mut core, hand, Some(TaskError::NoMemory));
                }
            }
            drop(core);
            self.tell();
        }
        tickets.clear();
    }

    /// Hands out what came back. Whether anything did.
    pub(super) fn read(&self, core: &mut Core) -> bool {
        let jobs = self.pool.jobs();
        if !jobs.has_returned() {
            return false;
        }
        let mut hands = std::mem::take(&mut core.staff.hands);
        jobs.take_returned(|hand| hands.push(hand));
        for hand in hands.drain(..).rev() {
            self.came_back(core, hand, None);
        }
        core.staff.hands = hands;
        if core.reading {
            // What somebody else sleeps for, as the reader, is gone from where he looks.
            self.tell();
        } else if core.sleepers > 0 {
            self.changed.notify_all();
        }
        true
    }

    pub(super) fn recycle(&self, core: &mut Core, finished: Finished) {
        core.cards.extend(finished.empty(self.pool.cards(), self));
    }

    /// Gives back what was looked at.
    pub(super) fn release(&self, list: impl IntoIterator<Item = Finished>) {
        if self.check().is_err() {
            return;
        }
        let mut core = self.lock();
        for finished in list {
            self.recycle(&mut core, finished);
        }
    }

    /// Something was found out: whoever reads is to look again.
    pub(super) fn tell(&self) {
        self.news.fetch_add(1, Release);
        let fences = self.pool.arena().fences();
        self.pool.cards().event().notify_all(fences);
        self.changed.notify_all();
    }

    #[cfg(test)]
    pub(super) fn news(&self) -> u64 {
        self.news.load(Acquire)
    }

    /// Waits until `look` finds something. It is called under the lock, whenever something was found out.
    pub(super) fn wait<T>(
        &self,
        deadline: Deadline,
        mut look: impl FnMut(&mut Core) -> Option<T>,
    ) -> Option<T> {
        let mut core = self.lock();
        loop {
            self.read(&mut core);
            let news = self.news.load(Acquire);
            if let Some(found) = look(&mut core) {
                return Some(found);
            }
            if deadline.expired() {
                return None;
            }
            if core.reading {
                core.sleepers += 1;
                core = match deadline.remaining() {
                    None => self
                        .changed
                        .wait(core)
                        .unwrap_or_else(PoisonError::into_inner),
                    Some(left) => {
                        let waited = self.changed.wait_timeout(core, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                core.sleepers -= 1;
                continue;
            }
            core.reading = true;
            drop(core);
            let slow = self.wait_to_read(deadline, news);
            if slow {
                // The helper may be in a callback.
                helper::tend(self);
            }
            core = self.lock();
            core.reading = false;
            if core.sleepers > 0 {
                self.changed.notify_all();
            }
        }
    }

    /// Waits for a job that comes back, or for news. Whether that took long.
    fn wait_to_read(&self, deadline: Deadline, news: u64) -> bool {
        let cards = self.pool.cards();
        let wait = Wait {
            arena: self.pool.arena(),
            event: cards.event(),
            spin: &self.spin,
        };
        let something = || self.pool.jobs().has_returned() || self.news.load(Acquire) != news;
        let attempt = |slow: bool| {
            if slow || something() {
                Progress::Done(slow)
            } else {
                Progress::Blocked
            }
        };
        wait.until(deadline, something, attempt).unwrap_or(false)
    }
}

/// What became of tasks that were handed in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Submitted {
    Queued {
        ticket: Ticket,
        entry: u32,
    },
    /// The batch has it already.
    Settled,
    /// So it is, and would be with all others.
    Refused,
}

impl Core {
    /// Whether there is, or may come, something to do.
    pub(super) fn needs_workers(&self) -> bool {
        let more = match self.phase {
            Phase::Open => true,
            Phase::Closing => self.outstanding > 0 || !self.is_fed(),
            Phase::Terminated => false,
        };
        more && self.broken.is_none()
    }

    /// Whether no iterator will give more tasks. Who joins may be who would ask for them, but not for those of a call that waits.
    pub(super) fn is_fed(&self) -> bool {
        match self.joining {
            true => self.callers == 0,
            false => self.feeders == 0,
        }
    }

    /// Why no more tasks are taken.
    #[inline]
    fn refusal(&self, feeding: bool) -> Option<TaskError> {
        match (&self.broken, self.phase) {
            (Some(error), _) => Some(error.clone()),
            (None, Phase::Terminated) => Some(TaskError::Closed),
            (None, Phase::Closing) if !feeding || self.sealed => Some(TaskError::Closed),
            _ => None,
        }
    }

    /// How many are free.
    #[cfg(test)]
    pub(super) fn cards(&self) -> usize {
        self.cards.len()
    }

    fn free_entry(&mut self) -> u32 {
        if let Some(at) = self.free_entries.pop() {
            return at;
        }
        self.entries.push(None);
        self.entries.len() as u32 - 1
    }

    pub(super) fn take_entry(&mut self, at: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(at as usize)?.take()?;
        self.free_entries.push(at);
        Some(entry)
    }
}

//! Tasks from an iterator: cut into chunks, given out as far as the backlog allows, and taken back.
#![forbid(unsafe_code)]

use super::batch::{Batch, Finished};
use super::error::TaskError;
use super::record::Packed;
use super::shared::{Phase, Shared, Submitted};
use crate::os::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many tasks are put into the queue at once, where nobody has to wait for the first of them.
const RUN: usize = 64;
/// An iterator that takes longer for a task is a slow one.
const SLOW: Duration = Duration::from_micros(20);

/// For so long at most an iterator is asked for more, an item at least, while outcomes may be there.
const TURN: Duration = Duration::from_millis(1);

/// How an iterator's tasks are to be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// All of them come before anybody looks at an outcome: several may be put into the queue at once.
    All,
    /// Each can be begun at once, for the iterator may wait for what comes of it.
    Each,
}

/// The right to give tasks also when the pool is being closed.
pub(super) struct Feeding(Arc<Shared>, Manner);

impl Feeding {
    fn new(shared: &Arc<Shared>, manner: Manner) -> Result<Feeding, TaskError> {
        let mut core = shared.lock();
        match (&core.broken, core.phase) {
            (Some(error), _) => Err(error.clone()),
            (None, Phase::Open) => {
                core.feeders += 1;
                core.callers += usize::from(manner == Manner::All);
                Ok(Feeding(shared.clone(), manner))
            }
            (None, _) => Err(TaskError::Closed),
        }
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        if self.0.check().is_err() {
            return;
        }
        let mut core = self.0.lock();
        core.feeders -= 1;
        core.callers -= usize::from(self.1 == Manner::All);
        if core.phase != Phase::Open {
            core.helper.wake(&self.0.bell);
        }
    }
}

/// Gives chunks to workers.
pub(super) struct Flow<I> {
    /// `None` once everything was given, or nothing may be.
    feeding: Option<Feeding>,
    shared: Arc<Shared>,
    input: Fuse<I>,
    function: u64,
    chunk: usize,
    /// The most chunks that may be under way.
    most: usize,
    manner: Manner,
    /// Whether the iterator has been found to be slow, or is not known.
    slow: bool,
    batch: Arc<Batch>,
    packed: Packed,
    tickets: Vec<u64>,
    /// Chunks that were given.
    given: u64,
    /// Tasks in them.
    tasks: usize,
    ready: Vec<Finished>,
}

impl<I: Iterator<Item: Serialize>> Flow<I> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        function: u64,
        input: I,
        chunk: usize,
        most: usize,
        manner: Manner,
    ) -> Result<Flow<I>, TaskError> {
        let feeding = Feeding::new(shared, manner)?;
        Ok(Flow {
            feeding: Some(feeding),
            shared: shared.clone(),
            input: input.fuse(),
            function,
            chunk,
            most: most.max(1),
            manner,
            slow: true,
            batch: Batch::new(0),
            packed: Packed::default(),
            tickets: Vec::new(),
            given: 0,
            tasks: 0,
            ready: Vec::new(),
        })
    }

    /// Gives out what may be. Runs user code.
    #[inline]
    fn feed(&mut self) {
        let room = self.most.saturating_sub(self.batch.left());
        if self.feeding.is_some() && room > 0 && room >= self.most / 2 {
            self.give_chunks(room);
        }
    }

    /// How many chunks to give out now, when `held` are finished and not yet consumed, and nobody waits for those. Of a slow iterator
    /// one by one; of another one many, or when a worker may be idle.
    fn wanted(&self, held: usize) -> usize {
        if self.feeding.is_none() {
            return 0;
        }
        let left = self.batch.left();
        let room = self.most.saturating_sub(left + held);
        if self.slow {
            room.min(1)
        } else if room >= self.most / 2 || left < self.shared.settings.processes {
            room
        } else {
            0
        }
    }

    fn give_chunks(&mut self, most: usize) {
        let turn = Instant::now();
        let (mut since, mut begun) = (turn, self.tasks);
        for _ in 0..most {
            // Tasks that were taken before the iterator panicked are still here.
            let missing = self.chunk - self.packed.len() as usize;
            for task in self.input.by_ref().take(missing) {
                self.packed.add(&task);
            }
            let len = self.packed.len() as usize;
            if len > 0 {
                self.give();
                self.packed.clear();
                self.tasks += len;
            }
            if len < self.chunk {
                self.feeding = None;
            }
            let is_long = || self.manner == Manner::Each && turn.elapsed() > TURN;
            if self.feeding.is_none() || is_long() {
                break;
            }
            if self.tasks - begun >= RUN {
                self.send();
                self.judge(since, self.tasks - begun);
                (since, begun) = (Instant::now(), self.tasks);
            }
        }
        self.send();
        self.judge(since, self.tasks - begun);
    }

    fn judge(&mut self, since: Instant, tasks: usize) {
        if tasks > 0 {
            self.slow = since.elapsed() / tasks as u32 > SLOW;
        }
    }

    /// Gives out everything, and leaves it to who has the batch.
    pub(super) fn give_all(mut self) -> Arc<Batch> {
        self.feed();
        std::mem::replace(&mut self.batch, Batch::new(0))
    }

    fn give(&mut self) {
        self.batch.expect();
        let (packed, batch) = (&mut self.packed, &self.batch);
        let submitted = self
            .shared
            .submit(packed, self.function, batch, self.given, true);
        self.given += 1;
        match submitted {
            Submitted::Queued { ticket, .. } => {
                self.tickets.push(ticket.0);
                if self.slow || self.manner == Manner::Each {
                    self.send();
                }
            }
            Submitted::Settled => {}
            Submitted::Refused => self.feeding = None,
        }
    }

    fn send(&mut self) {
        if !self.tickets.is_empty() {
            self.shared.send(&mut self.tickets);
        }
    }

    /// Whether nothing is under way any more, nor will be.
    pub(super) fn is_over(&self) -> bool {
        self.feeding.is_none() && self.batch.left() == 0
    }

    /// Takes what has come back: `None` when the time is over, and when nothing is under way.
    pub(super) fn take(&mut self, deadline: Deadline) -> Option<std::vec::Drain<'_, Finished>> {
        debug_assert!(self.ready.is_empty());
        let (batch, ready) = (&self.batch, &mut self.ready);
        let none_left = self.shared.wait(deadline, |_| {
            // Asked first: what is delivered in between is seen.
            let none_left = batch.left() == 0;
            (batch.take_ready(ready) || none_left).then_some(none_left)
        })?;
        if none_left && self.ready.is_empty() {
            return None;
        }
        Some(self.ready.drain(..))
    }
}

impl<I> Drop for Flow<I> {
    /// Also by a panic of user code: what nobody has begun is taken back.
    fn drop(&mut self) {
        if self.shared.check().is_err() {
            return;
        }
        if self.batch.left() > 0 {
            self.shared.cancel(&self.batch, None);
        }
        let ready = self.ready.drain(..);
        self.shared.release(ready);
        self.shared.abandon(&self.batch);
    }
}

/// Gives finished jobs back, also by a panic.
struct Used<'a> {
    shared: &'a Shared,
    list: Vec<Finished>,
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        if !self.list.is_empty() {
            self.shared.release(self.list.drain(..));
        }
    }
}

/// Runs all, and gives the results in their order.
pub(super) fn collect<I, R>(mut flow: Flow<I>) -> Result<Vec<R>, TaskError>
where
    I: Iterator<Item: Serialize>,
    R: DeserializeOwned,
{
    let mut results = Results::new(flow.chunk, flow.input.size_hint().0);
    let mut first: Option<(usize, TaskError)> = None;
    let (shared, chunk) = (flow.shared.clone(), flow.chunk);
    loop {
        flow.feed();
        results.expect(flow.given, flow.tasks);
        let Some(ready) = flow.take(Deadline::NEVER) else {
            if flow.is_over() {
                break;
            }
            continue;
        };
        let used = Used {
            shared: &shared,
            list: ready.collect(),
        };
        for finished in &used.list {
            let begin = finished.number as usize * chunk;
            let failed = results.add(&shared, finished, begin);
            if let Some((place, error)) = failed {
                let at = begin + place;
                if first.as_ref().is_none_or(|(before, _)| at < *before) {
                    first = Some((at, error));
                }
            }
        }
    }
    match first {
        Some((_, error)) => Err(error),
        None => Ok(results.into_vec()),
    }
}

/// Results in the order of their tasks, though they come in another one.
enum Results<R> {
    Single(Vec<Option<R>>),
    Chunks(Vec<Vec<R>>),
}

/// From here on a chunk's results have a list of their own.
const WORTH_A_LIST: usize = 16;

impl<R: DeserializeOwned> Results<R> {
    fn new(chunk: usize, tasks: usize) -> Self {
        if chunk < WORTH_A_LIST {
            Results::Single(Vec::with_capacity(tasks))
        } else {
            Results::Chunks(Vec::new())
        }
    }

    fn expect(&mut self, chunks: u64, tasks: usize) {
        match self {
            Results::Single(list) => list.resize_with(tasks, || None),
            Results::Chunks(lists) => lists.resize_with(chunks as usize, Vec::new),
        }
    }

    /// The first task of these without a result. The chunk begins at the task `begin`.
    #[inline]
    fn add(
        &mut self,
        shared: &Shared,
        finished: &Finished,
        begin: usize,
    ) -> Option<(usize, TaskError)> {
        let (mut place, mut failed) = (0, None);
        let mut fail = |place, error| {
            failed.get_or_insert((place, error));
        };
        match self {
            Results::Single(list) => {
                finished.each(shared, |outcome| {
                    match outcome {
                        Ok(result) => list[begin + place] = Some(result),
                        Err(error) => fail(place, error),
                    }
                    place += 1;
                });
            }
            Results::Chunks(lists) => {
                let list = &mut lists[finished.number as usize];
                list.reserve_exact(finished.len() as usize);
                finished.each(shared, |outcome| {
                    match outcome {
                        Ok(result) => list.push(result),
                        Err(error) => fail(place, error),
                    }
                    place += 1;
                });
            }
        }
        failed
    }

    fn into_vec(self) -> Vec<R> {
        match self {
            Results::Single(list) => list.into_iter().flatten().collect(),
            Results::Chunks(lists) => {
                let mut all = Vec::with_capacity(lists.iter().map(Vec::len).sum());
                for mut list in lists {
                    all.append(&mut list);
                }
                all
            }
        }
    }
}

/// The outcomes of tasks from an iterator: see [`Pool::imap`](crate::Pool::imap) and
/// [`Pool::imap_unordered`](crate::Pool::imap_unordered).
///
/// Dropping it takes back what no worker has begun.
#[must_use = "nothing is run before outcomes are asked for"]
pub struct Imap<I, R> {
    flow: Result<Flow<I>, Option<TaskError>>,
    /// The most chunks that may ever be under way.
    backlog: usize,
    ordered: bool,
    /// Finished chunks, from the number `front` on where the order is kept.
    chunks: VecDeque<Option<Finished>>,
    held: usize,
    front: u64,
    /// The chunk that is being decoded, and how many of its outcomes were looked at.
    opened: Option<(Finished, u32)>,
    outcomes: VecDeque<Result<R, TaskError>>,
    results: PhantomData<fn() -> R>,
}

impl<I, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("ordered", &self.ordered)
            .finish_non_exhaustive()
    }
}

impl<I: Iterator<Item: Serialize>, R: DeserializeOwned> Imap<I, R> {
    pub(super) fn new(flow: Result<Flow<I>, TaskError>, ordered: bool) -> Self {
        let mut flow = flow.map_err(Some);
        let mut backlog = 0;
        if let Ok(flow) = &mut flow {
            backlog = flow.most;
            // One for each worker at first, one more for each that has come back: who waits for the first is not to wait for many.
            flow.most = backlog.min(flow.shared.settings.processes);
        }
        Imap {
            flow,
            backlog,
            ordered,
            chunks: VecDeque::new(),
            held: 0,
            front: 0,
            opened: None,
            outcomes: VecDeque::new(),
            results: PhantomData,
        }
    }

    /// The next outcome, if it comes within this time (and what the iterator takes for its own).
    ///
    /// # Errors
    ///
    /// As an item [`TaskError::TimedOut`] when the time is over; it can be asked again then.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R, TaskError>> {
        self.next_until(Deadline::from(timeout))
    }

    fn next_until(&mut self, deadline: Deadline) -> Option<Result<R, TaskError>> {
        let flow = match &mut self.flow {
            Ok(flow) => flow,
            Err(error) => return error.take().map(Err),
        };
        if let Err(error) = flow.shared.check() {
            self.flow = Err(None);
            return Some(Err(error));
        }
        let mut asked = false;
        loop {
            if let Some(outcome) = self.outcomes.pop_front() {
                return Some(outcome);
            }
            if self.opened.is_none() {
                if let Some(finished) = self.chunks.front_mut().and_then(Option::take) {
                    self.chunks.pop_front();
                    self.held -= 1;
                    self.front += 1;
                    self.opened = Some((finished, 0));
                }
            }
            if let Some((finished, seen)) = &mut self.opened {
                // A panic costs the outcome that it is of: the next call goes on behind it.
                finished.each_from(&flow.shared, seen, |outcome| {
                    self.outcomes.push_back(outcome);
                });
                let opened = self.opened.take();
                flow.shared.release(opened.map(|(finished, _)| finished));
                continue;
            }
            // The iterator may be silent for long: it is asked while there is no outcome.
            let most = flow.wanted(self.held);
            let until = if most > 0 { Deadline::NOW } else { deadline };
            let Some(ready) = flow.take(until) else {
                if most > 0 && asked && deadline.expired() {
                    return Some(Err(TaskError::TimedOut));
                }
                if most > 0 {
                    asked = true;
                    flow.give_chunks(most);
                    continue;
                }
                if flow.batch.left() > 0 {
                    return Some(Err(TaskError::TimedOut));
                }
                if flow.is_over() {
                    return None;
                }
                continue;
            };
            let came = ready.len();
            for finished in ready {
                self.held += 1;
                if !self.ordered {
                    self.chunks.push_back(Some(finished));
                    continue;
                }
                let at = (finished.number - self.front) as usize;
                if self.chunks.len() <= at {
                    self.chunks.resize_with(at + 1, || None);
                }
                self.chunks[at] = Some(finished);
            }
            // Also while the first one is still to come: the other workers go on.
            flow.most = self.backlog.min(flow.most + came);
        }
    }
}

impl<I: Iterator<Item: Serialize>, R: DeserializeOwned> Iterator for Imap<I, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(Deadline::NEVER)
    }
}

impl<I, R> Drop for Imap<I, R> {
    fn drop(&mut self) {
        if let Ok(flow) = &self.flow {
            let opened = self.opened.take().map(|(finished, _)| finished);
            flow.shared
                .release(self.chunks.drain(..).flatten().chain(opened));
        }
    }
}

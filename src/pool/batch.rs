//! Jobs that belong together, and what became of those that are finished.
#![forbid(unsafe_code)]

use super::error::{Fault, TaskError};
use super::lock;
use super::record::{HEAD, ResultKind, from_word, read_head};
use super::shared::Shared;
use crate::arena::{Block, Lent};
use crate::codec::{self, Decoder};
use crate::process::discard;
use crate::ring::{Cards, Hand};
use serde::de::DeserializeOwned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// A job that nobody works at any more.
#[derive(Debug)]
pub(super) struct Finished {
    /// Which of its batch.
    pub(super) number: u64,
    /// Its card with the results; none for one that never was in shared memory, or is lost to a pool that was terminated.
    pub(super) hand: Option<Hand>,
    /// How many tasks were to be run.
    pub(super) tasks: u32,
    /// What became of all of them, if it is the same.
    pub(super) whole: Option<TaskError>,
    /// Of those that have no result on the card, by their number among the tasks. These lists are in the order of the numbers.
    pub(super) faults: Vec<(u32, TaskError)>,
    /// Of those that could not be encoded, by their place.
    pub(super) holes: Vec<(u32, TaskError)>,
    /// Blocks with results that have handles, by the task's number.
    pub(super) parcels: Vec<(u32, u32)>,
}

/// In a list that is in the order of its numbers.
fn find<T>(list: &[(u32, T)], number: u32) -> Option<&T> {
    let at = list.binary_search_by_key(&number, |(at, _)| *at).ok()?;
    Some(&list[at].1)
}

impl Finished {
    /// How many tasks it was given.
    pub(super) fn len(&self) -> u32 {
        self.tasks + self.holes.len() as u32
    }

    /// The outcomes of its tasks, in their order. Runs user code.
    #[inline]
    pub(super) fn each<R: DeserializeOwned>(
        &self,
        shared: &Shared,
        mut to: impl FnMut(Result<R, TaskError>),
    ) {
        let decoder = Decoder::new();
        self.records(shared, |task, record| {
            self.decode(shared, &decoder, task, record, &mut to);
        });
    }

    /// The same without the first ones: so many, which rises as each is begun. After a panic it can be called again for the others.
    #[inline]
    pub(super) fn each_from<R: DeserializeOwned>(
        &self,
        shared: &Shared,
        seen: &mut u32,
        mut to: impl FnMut(Result<R, TaskError>),
    ) {
        let (before, mut place) = (*seen, 0);
        let decoder = Decoder::new();
        self.records(shared, |task, record| {
            place += 1;
            if place > before {
                *seen = place;
                self.decode(shared, &decoder, task, record, &mut to);
            }
        });
    }

    #[inline]
    fn decode<R: DeserializeOwned>(
        &self,
        shared: &Shared,
        decoder: &Decoder,
        task: u32,
        record: Result<(ResultKind, &[u8]), &TaskError>,
        to: &mut impl FnMut(Result<R, TaskError>),
    ) {
        match record {
            Ok((ResultKind::Word, record)) => to(from_word(record).map_err(TaskError::Decode)),
            Ok((ResultKind::Value, record)) => {
                to(decoder.decode(record).map_err(TaskError::Decode));
            }
            Ok((kind, record)) => to(self.outcome(shared, kind, record, task)),
            Err(error) => to(Err(error.clone())),
        }
    }

    /// The outcomes as they lie there, with the numbers of the tasks.
    #[inline]
    fn records(
        &self,
        shared: &Shared,
        mut to: impl FnMut(u32, Result<(ResultKind, &[u8]), &TaskError>),
    ) {
        let cards = shared.pool.cards();
        let lent = self.hand.as_ref().and_then(|hand| cards.results(hand));
        let lent = lent.map(|index| Lent::new(shared.pool.arena(), index));
        let bytes = match (&lent, &self.hand) {
            (Some(block), _) => block.bytes(),
            (None, Some(hand)) => &cards.inline(hand)[cards.extent(hand).begin..],
            _ => &[],
        };
        let (mut at, mut task) = (0, 0);
        let whole = self.holes.is_empty() && self.faults.is_empty() && self.whole.is_none();
        for place in 0..self.len() {
            let error = if whole {
                None
            } else {
                self.error_of(place, task)
            };
            if let Some((error, was_given)) = error {
                to(task, Err(error));
                task += u32::from(was_given);
                continue;
            }
            let (len, kind) = read_head(bytes, at).unwrap_or_default();
            let record = at + HEAD..at + HEAD + len;
            at = record.end;
            let record = bytes.get(record).unwrap_or_default();
            to(task, Ok((ResultKind::of(kind), record)));
            task += 1;
        }
    }

    /// Why there is no record of this one, and whether it was given to a worker.
    #[cold]
    fn error_of(&self, place: u32, task: u32) -> Option<(&TaskError, bool)> {
        if let Some(hole) = find(&self.holes, place) {
            return Some((hole, false));
        }
        let fault = self.whole.as_ref().or_else(|| find(&self.faults, task));
        fault.map(|fault| (fault, true))
    }

    #[inline]
    fn outcome<R: DeserializeOwned>(
        &self,
        shared: &Shared,
        kind: ResultKind,
        record: &[u8],
        task: u32,
    ) -> Result<R, TaskError> {
        match kind {
            ResultKind::Word => from_word(record).map_err(TaskError::Decode),
            ResultKind::Value => codec::decode(record).map_err(TaskError::Decode),
            ResultKind::Fault => match codec::decode::<Fault>(record) {
                Ok(fault) => Err(fault.into()),
                Err(error) => Err(TaskError::Decode(error)),
            },
            ResultKind::Parcel => {
                let index = *find(&self.parcels, task).ok_or(TaskError::Cancelled)?;
                let arena = shared.pool.arena();
                let lent = Lent::new(arena, index);
                let handles: Vec<Block> = lent.parcel().handles();
                codec::decode_with(arena, lent.parcel().bytes(), handles).map_err(TaskError::Decode)
            }
        }
    }

    /// Whether every task has a result.
    pub(super) fn is_success(&self, shared: &Shared) -> bool {
        if self.whole.is_some() || !self.faults.is_empty() || !self.holes.is_empty() {
            return false;
        }
        let mut success = true;
        self.records(shared, |_, outcome| {
            success &= matches!(outcome, Ok((kind, _)) if kind != ResultKind::Fault);
        });
        success
    }

    /// What became of the only task.
    pub(super) fn one<R: DeserializeOwned>(&self, shared: &Shared) -> Result<R, TaskError> {
        let mut outcome = Err(TaskError::Cancelled);
        self.each(shared, |result| outcome = result);
        outcome
    }

    /// Gives its memory back, but for the card.
    pub(super) fn empty(mut self, cards: Cards<'_>, shared: &Shared) -> Option<Hand> {
        for (_, index) in self.parcels.drain(..) {
            drop(crate::arena::Parcel::take(shared.pool.arena(), index));
        }
        let mut hand = self.hand?;
        let (args, results) = cards.take_blocks(&mut hand);
        args.map(crate::arena::Parcel::from);
        drop(results);
        Some(hand)
    }
}

pub(super) type Callback = Box<dyn FnOnce(&Shared, &[Finished]) + Send>;

/// The jobs of one call.
#[derive(Default)]
pub(super) struct Batch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that are finished and were not taken, in the order in which that was found out.
    ready: Vec<Finished>,
    /// How many are not.
    left: usize,
    /// All of them, in their order, once they are: for who may look at them often.
    done: Option<Arc<Vec<Finished>>>,
    /// Nobody will ask.
    abandoned: bool,
    callback: Option<Callback>,
    /// It is being run, and looks at `done`.
    calling: bool,
}

/// What to do with a job that was just delivered.
pub(super) enum Delivered {
    /// Somebody takes it from the batch.
    Kept,
    /// The batch's callback is to be run.
    Call,
    /// Nobody wants it.
    Unwanted(Finished),
}

impl Batch {
    pub(super) fn new(jobs: usize) -> Arc<Batch> {
        let batch = Batch::default();
        lock(&batch.state).left = jobs;
        Arc::new(batch)
    }

    /// For one job.
    pub(super) fn with_callback(callback: Option<Callback>) -> Arc<Batch> {
        let batch = Batch::new(1);
        lock(&batch.state).callback = callback;
        batch
    }

    /// None of it can be run.
    pub(super) fn fail(&self, error: TaskError) {
        let mut state = lock(&self.state);
        state.left = 0;
        state.ready.push(Finished {
            number: 0,
            hand: None,
            tasks: 1,
            whole: Some(error),
            faults: Vec::new(),
            holes: Vec::new(),
            parcels: Vec::new(),
        });
    }

    /// One job more is under way.
    pub(super) fn expect(&self) {
        lock(&self.state).left += 1;
    }

    /// How many are under way.
    pub(super) fn left(&self) -> usize {
        lock(&self.state).left
    }

    pub(super) fn deliver(&self, finished: Finished) -> Delivered {
        let mut state = lock(&self.state);
        state.left -= 1;
        if state.abandoned && state.callback.is_none() {
            return Delivered::Unwanted(finished);
        }
        state.ready.push(finished);
        if state.left == 0 && state.callback.is_some() {
            Delivered::Call
        } else {
            Delivered::Kept
        }
    }

    /// Takes what is ready, into an empty list.
    pub(super) fn take_ready(&self, list: &mut Vec<Finished>) -> bool {
        std::mem::swap(&mut lock(&self.state).ready, list);
        !list.is_empty()
    }

    /// All of them, when they are finished: for a batch whose jobs are not taken one by one.
    pub(super) fn done(&self) -> Option<Arc<Vec<Finished>>> {
        let mut state = lock(&self.state);
        if state.done.is_none() && state.left == 0 {
            let mut done = std::mem::take(&mut state.ready);
            done.sort_by_key(|finished| finished.number);
            state.done = Some(Arc::new(done));
        }
        state.done.clone()
    }

    pub(super) fn has_callback(&self) -> bool {
        lock(&self.state).callback.is_some()
    }

    /// Runs the callback, if there is one. What the batch held, if nobody else wants it.
    pub(super) fn call(&self, shared: &Shared) -> Vec<Finished> {
        let done = self.done();
        let callback = {
            let mut state = lock(&self.state);
            state.calling = true;
            state.callback.take()
        };
        if let (Some(callback), Some(done)) = (callback, &done) {
            let call = || callback(shared, done);
            if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
                // The hook has printed the panic; nobody else is harmed.
                discard(payload);
            }
        }
        drop(done);
        let mut state = lock(&self.state);
        state.calling = false;
        if state.abandoned {
            take_all(&mut state)
        } else {
            Vec::new()
        }
    }

    /// Nobody will ask any more, but perhaps a callback. What is to be given back, and how many jobs will come that nobody wants.
    pub(super) fn abandon(&self) -> (Vec<Finished>, usize) {
        let mut state = lock(&self.state);
        state.abandoned = true;
        if state.callback.is_some() || state.calling {
            (Vec::new(), 0)
        } else {
            (take_all(&mut state), state.left)
        }
    }
}

fn take_all(state: &mut State) -> Vec<Finished> {
    let mut all = std::mem::take(&mut state.ready);
    // Nobody else has a share: a callback gives its own back before, and who asks for the result borrows it.
    let done = state.done.take().and_then(Arc::into_inner);
    all.extend(done.into_iter().flatten());
    all
}

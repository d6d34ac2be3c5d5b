//! What becomes of jobs: they come back whole, or in part, or are taken back, or end with the pool.
#![forbid(unsafe_code)]

use super::batch::{Batch, Delivered, Finished};
use super::error::TaskError;
use super::shared::{Core, Phase, Shared, Target};
use super::worker;
use crate::arena::{Lent, Parcel};
use crate::ring::{Extent, Hand};
use std::sync::Arc;

impl Shared {
    /// A job that a worker gave back, or, with the reason, left when it died.
    pub(super) fn came_back(&self, core: &mut Core, mut hand: Hand, died: Option<&TaskError>) {
        let (cards, jobs) = (self.pool.cards(), self.pool.jobs());
        let progress = jobs.progress(&hand);
        let at = cards.shape(&hand).entry as usize;
        let retries = self.settings.retries;
        let Some(Some(entry)) = core.entries.get_mut(at) else {
            // Terminated meanwhile.
            return;
        };
        // An initializer that succeeds says nothing of what comes then.
        if died.is_none() && matches!(entry.target, Target::Batch(_)) {
            core.staff.failures = 0;
        }
        let finished = progress.finished as u32;
        if let Some((task, parcel)) = cards.take_parcel(&mut hand) {
            let parcel = Parcel::from(parcel);
            if task < finished {
                entry.parcels.push((task, parcel.into_index()));
            }
        }
        if let (Target::Init, Some(error)) = (&entry.target, died) {
            let error = error.clone();
            self.settle(core, hand, Some(error));
            return;
        }
        let mut next = finished;
        if progress.begun {
            if entry.tries.0 != finished {
                entry.tries = (finished, 0);
            }
            if died.is_some() && entry.tries.1 < retries {
                entry.tries.1 += 1;
            } else {
                let error = died.cloned().unwrap_or(TaskError::NoMemory);
                entry.faults.push((finished, error));
                next += 1;
            }
        }
        if next == entry.tasks {
            self.settle(core, hand, None);
            return;
        }
        // Those that were not begun, or shall be tried again.
        let kept = next as usize - entry.faults.len();
        let extent = cards.extent(&hand);
        let end = match cards.results(&hand) {
            Some(index) => {
                let block = Lent::new(self.pool.arena(), index);
                worker::results_len(block.bytes(), kept)
            }
            None => worker::results_len(&cards.inline(&hand)[extent.begin..], kept),
        };
        cards.set_extent(&mut hand, Extent { end, ..extent });
        jobs.pause(&hand, next.into());
        let ticket = jobs.queue(hand);
        entry.ticket = Some(ticket);
        if self.tasks.put(ticket.0).is_err() {
            if let Some(hand) = jobs.cancel(ticket) {
                self.settle(core, hand, Some(TaskError::NoMemory));
            }
        }
    }

    /// A job at which nobody works any more: its results are there, or all its tasks come to the same end.
    pub(super) fn settle(&self, core: &mut Core, mut hand: Hand, whole: Option<TaskError>) {
        // Their handles are not held until somebody looks at the results.
        let args = self.pool.cards().take_args(&mut hand);
        drop(args.map(Parcel::from));
        let at = self.pool.cards().shape(&hand).entry;
        let Some(entry) = core.take_entry(at) else {
            return;
        };
        let (target, finished) = entry.finished(Some(hand), whole);
        if matches!(target, Target::Batch(_)) {
            core.outstanding -= 1;
        }
        self.hand_out(core, target, finished);
    }

    pub(super) fn hand_out(&self, core: &mut Core, target: Target, finished: Finished) {
        let unwanted = match target {
            Target::Batch(batch) => match batch.deliver(finished) {
                Delivered::Kept => return,
                Delivered::Call => {
                    core.callbacks.push_back(batch);
                    core.helper.wake(&self.bell);
                    return;
                }
                Delivered::Unwanted(finished) => {
                    core.unwanted -= 1;
                    finished
                }
            },
            Target::Init => {
                self.initialized(core, &finished);
                finished
            }
        };
        self.recycle(core, unwanted);
    }

    fn initialized(&self, core: &mut Core, finished: &Finished) {
        match finished.one::<()>(self) {
            Ok(()) => core.staff.initialized(),
            // It was not started.
            Err(TaskError::NoWorker) => {}
            // A kill says nothing about the initializer, unless it comes again and again.
            Err(TaskError::WorkerDied { .. }) if !core.staff.died_in_initializer() => {}
            Err(error) => {
                let error = TaskError::Initializer(Box::new(error));
                self.break_down(core, error);
            }
        }
    }

    /// From now on every task ends with this.
    pub(super) fn break_down(&self, core: &mut Core, error: TaskError) {
        if core.broken.is_none() && core.phase != Phase::Terminated {
            core.broken = Some(error.clone());
            self.end_all(core, &error);
            core.helper.wake(&self.bell);
        }
    }

    /// Ends all jobs. Their cards are not used again: a worker may have them yet.
    pub(super) fn end_all(&self, core: &mut Core, error: &TaskError) {
        for at in 0..core.entries.len() as u32 {
            let Some(entry) = core.take_entry(at) else {
                continue;
            };
            let cancelled = entry.ticket.and_then(|t| self.pool.jobs().cancel(t));
            let (target, finished) = entry.finished(cancelled, Some(error.clone()));
            if matches!(target, Target::Batch(_)) {
                core.outstanding -= 1;
                self.hand_out(core, target, finished);
            } else {
                self.recycle(core, finished);
            }
        }
        if core.sleepers > 0 {
            self.changed.notify_all();
        }
        self.tell();
    }

    /// Nobody will ask for a batch any more.
    pub(super) fn abandon(&self, batch: &Batch) {
        // Under the lock, so that nothing of it is delivered between the two counts.
        let mut core = self.lock();
        let (all, left) = batch.abandon();
        for finished in all {
            self.recycle(&mut core, finished);
        }
        if left > 0 {
            core.unwanted += left;
            if core.unwanted == left {
                // It may be asleep without having asked to be told of results.
                core.helper.wake(&self.bell);
            }
        }
    }

    /// Takes back the jobs of a batch that nobody has begun: how many.
    pub(super) fn cancel(&self, batch: &Arc<Batch>, only: Option<u32>) -> usize {
        if self.check().is_err() {
            return 0;
        }
        let mut core = self.lock();
        self.read(&mut core);
        let range = match only {
            Some(entry) => entry..entry + 1,
            None => 0..core.entries.len() as u32,
        };
        let mut cancelled = 0;
        for at in range {
            let entry = core.entries.get(at as usize).and_then(Option::as_ref);
            let ticket = entry.and_then(|entry| match &entry.target {
                Target::Batch(own) if Arc::ptr_eq(own, batch) => entry.ticket,
                _ => None,
            });
            let hand = ticket.and_then(|ticket| self.pool.jobs().cancel(ticket));
            if let Some(hand) = hand {
                cancelled += 1;
                self.cancel_rest(&mut core, hand);
            }
        }
        drop(core);
        if cancelled > 0 {
            self.tell();
        }
        cancelled
    }

    /// Those of its tasks that were run keep their results.
    fn cancel_rest(&self, core: &mut Core, hand: Hand) {
        let shape = self.pool.cards().shape(&hand);
        let finished = self.pool.jobs().progress(&hand).finished as u32;
        if let Some(Some(entry)) = core.entries.get_mut(shape.entry as usize) {
            let rest = (finished..shape.tasks).map(|task| (task, TaskError::Cancelled));
            entry.faults.extend(rest);
        }
        self.settle(core, hand, None);
    }
}

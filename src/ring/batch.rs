//! Several messages at a time. A batch is the steps of single messages in another order: first all are claimed, then all are filled
//! and committed; first all are taken, then all copied out and acknowledged. Each word has its owner at every instruction, as it has with
//! single messages, and no word has a new state. What it saves are wake-ups, the looks at the closed flag and the hints, and
//! waiting for one cache line after the other: the CPU fetches nothing ahead across a locked instruction.

use super::cursors::Cursors;
use super::mpmc::{Message, Mpmc, Owners, Slot, Storage};
use super::tag::{Laps, Stamp, State, Tag};
use crate::arena::MemberId;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// Positions in a row that this process has claimed or taken. Having one is the right to touch their payloads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    first: Slot,
    pub(crate) count: usize,
}

impl Run {
    #[inline]
    pub(crate) fn of(first: Slot) -> Run {
        Run { first, count: 1 }
    }

    fn next(&self, laps: Laps) -> Stamp {
        laps.next(laps.at(self.first.lap, self.first.index))
    }
}

/// Part of a run within one lap.
struct Stretch {
    lap: u64,
    indices: Range<u64>,
}

/// So many positions from one on, lap by lap.
#[inline]
fn stretches(laps: Laps, lap: u64, index: u64, count: usize) -> [Stretch; 2] {
    let end = index + count as u64;
    let over = end.saturating_sub(laps.capacity);
    [
        Stretch {
            lap,
            indices: index..end - over,
        },
        Stretch {
            lap: lap + 1,
            indices: 0..over,
        },
    ]
}

/// Works on the second stretch only if all of the first went well: how many did.
#[inline]
fn in_a_row([first, second]: [Stretch; 2], mut work: impl FnMut(Stretch) -> usize) -> usize {
    let whole = (first.indices.end - first.indices.start) as usize;
    let count = work(first);
    if count < whole {
        return count;
    }
    count + work(second)
}

impl<S: Storage> Mpmc<S> {
    fn from(&self, at: Stamp, count: usize) -> [Stretch; 2] {
        let laps = self.laps();
        let count = (count as u64).min(laps.capacity);
        stretches(laps, laps.lap(at), laps.index(at), count as usize)
    }

    /// Claims the positions behind the first, as long as each is free and nobody else claims it, until there are `most`. Who holds
    /// several must not wait: consumers wait for him.
    ///
    /// No look at the closed flag: who was told `Closed` has passed the first of them, and that is filled only after all are claimed.
    pub(crate) fn claim_more(&self, cursors: &Cursors, me: MemberId, run: &mut Run, most: usize) {
        let begin = run.next(self.laps());
        if cursors.put() != begin {
            return;
        }
        let stretches = self.from(begin, most - run.count);
        let count = in_a_row(stretches, |stretch| {
            self.claim_stretch(cursors, stretch, me)
        });
        if count == 0 {
            return;
        }
        let end = self.after(begin, count);
        cursors.set_put(end);
        self.storage.tail_hint().store(end.0, Relaxed);
        run.count += count;
    }

    /// How many from the beginning of the stretch on it has claimed.
    #[inline]
    fn claim_stretch(&self, cursors: &Cursors, stretch: Stretch, me: MemberId) -> usize {
        let Stretch { lap, indices } = stretch;
        let laps = self.laps();
        let mine = Tag::new(lap, State::Held, me);
        let begin = indices.start;
        let mut free = cursors.free();
        for index in indices.clone() {
            let at = laps.at(lap, index);
            if at >= free {
                if !self.look_ahead(cursors, at) {
                    return (index - begin) as usize;
                }
                free = cursors.free();
            }
            let claim = self.load_claim(index);
            if claim.lap() != lap - 1 || !self.try_claim(index, claim, mine) {
                return (index - begin) as usize;
            }
        }
        (indices.end - begin) as usize
    }

    fn after(&self, at: Stamp, count: usize) -> Stamp {
        let laps = self.laps();
        let end = laps.index(at) + count as u64;
        if end < laps.capacity {
            laps.at(laps.lap(at), end)
        } else {
            laps.at(laps.lap(at) + 1, end - laps.capacity)
        }
    }

    /// Fills and commits all of a run in its order; `fill` says what to commit with each.
    #[inline]
    pub(crate) fn commit_all(&self, run: Run, mut fill: impl FnMut(&Slot) -> u16) {
        let Slot { lap, index } = run.first;
        for Stretch { lap, indices } in stretches(self.laps(), lap, index, run.count) {
            for index in indices {
                let slot = Slot { lap, index };
                let meta = fill(&slot);
                self.commit(slot, meta);
            }
        }
    }

    /// Takes the messages behind the first, as long as each is there and nobody else takes it, until there are `most`.
    pub(crate) fn take_more(
        &self,
        cursors: &Cursors,
        owners: &impl Owners,
        run: &mut Run,
        most: usize,
    ) {
        let begin = run.next(self.laps());
        // The first may have come from a dead consumer; the next one may have to.
        if cursors.get() != begin || owners.deaths() != cursors.deaths() {
            return;
        }
        let stretches = self.from(begin, most - run.count);
        let count = in_a_row(stretches, |stretch| self.take_stretch(stretch, owners.me()));
        if count > 0 {
            let end = self.after(begin, count);
            cursors.set_get(end);
            self.storage.head_hint().store(end.0, Relaxed);
            run.count += count;
        }
    }

    /// How many from the beginning of the stretch on it has taken.
    #[inline]
    fn take_stretch(&self, stretch: Stretch, me: MemberId) -> usize {
        let Stretch { lap, indices } = stretch;
        let mine = Tag::new(lap, State::Held, me);
        let there = |&index: &u64| self.load_published(index).lap() == lap;
        // All lines are asked for before the first locked instruction.
        let ready = indices.clone().take_while(there).count();
        let taken = |&index: &u64| {
            let take = self.load_take(index);
            take.lap() < lap && self.try_take(index, take, mine)
        };
        indices.take(ready).take_while(taken).count()
    }

    /// Hands all of a run to `copy` in its order, then acknowledges them.
    #[inline]
    pub(crate) fn acknowledge_all(&self, run: Run, me: MemberId, mut copy: impl FnMut(&Message)) {
        let Slot { lap, index } = run.first;
        let run = || stretches(self.laps(), lap, index, run.count);
        for Stretch { lap, indices } in run() {
            for index in indices {
                let meta = self.load_published(index).meta();
                let slot = Slot { lap, index };
                copy(&Message { slot, meta });
            }
        }
        for Stretch { lap, indices } in run() {
            for index in indices {
                let slot = Slot { lap, index };
                self.acknowledge(Message { slot, meta: 0 }, me);
            }
        }
    }
}

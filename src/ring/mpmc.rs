//! The bounded ring for any number of producers and consumers, after the tagged-slot idea of crash-tolerant rings (a
//! claim is one compare-exchange that says who, which lap and what) with Vyukov's one slot a message
//! (<https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue>). README.md has the protocol; the letters at the
//! orderings are the pairs explained there.

use super::cursors::Cursors;
use super::tag::{Laps, Published, Stamp, State, Tag};
use crate::arena::MemberId;
use crate::primitive::{AtomicU32, AtomicU64, fence, fence_after_rmw};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// Where a ring's words are: in an arena, or on the heap in a model.
pub(crate) trait Storage {
    fn laps(&self) -> Laps;
    fn closed(&self) -> &AtomicU32;
    fn tail_hint(&self) -> &AtomicU64;
    fn head_hint(&self) -> &AtomicU64;
    fn claim(&self, index: u64) -> &AtomicU64;
    fn take(&self, index: u64) -> &AtomicU64;
    fn published(&self, index: u64) -> &AtomicU64;
}

/// Who the parties are and which of them are dead.
pub(crate) trait Owners {
    fn me(&self) -> MemberId;
    /// Asks the kernel. True from the death on.
    fn is_dead(&self, owner: MemberId) -> bool;
    /// How many deaths were found so far; rises before `is_dead` says so to anybody who did not ask himself.
    fn deaths(&self) -> u64;
}

/// A slot that this process holds, to fill or to empty. Having one is the right to touch the slot's payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(super) lap: u64,
    pub(crate) index: u64,
}

/// A message that this process has taken and not yet acknowledged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) slot: Slot,
    /// What was committed with it.
    pub(crate) meta: u16,
}

/// Whose unfinished operation is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked(pub(crate) MemberId);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutError {
    /// Every slot holds a message that nobody has begun to take.
    Full,
    /// The slot's last message is being taken.
    Busy(Blocked),
    /// Its last taker died, so that another consumer has to take it first.
    Orphaned,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeError {
    Empty,
    /// Empty, and nothing can be put any more.
    Closed,
    /// The next message is being written.
    Busy(Blocked),
}

/// What became of the messages that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All are acknowledged.
    Settled,
    /// A living process is about to acknowledge.
    Held,
    /// One has to be taken again.
    ByDead,
}

const TAKES_IN_A_LINE: u64 = 8;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Mpmc<S> {
    pub(super) storage: S,
}

impl<S: Storage> Mpmc<S> {
    #[inline]
    pub(crate) fn new(storage: S) -> Self {
        Mpmc { storage }
    }

    #[inline]
    pub(super) fn laps(&self) -> Laps {
        self.storage.laps()
    }

    pub(crate) fn cursors(&self) -> Cursors {
        Cursors::new(self.laps().start())
    }

    pub(super) fn load_claim(&self, index: u64) -> Tag {
        // (R) see `claim`.
        Tag(self.storage.claim(index).load(Acquire))
    }

    pub(super) fn load_take(&self, index: u64) -> Tag {
        // (F) pairs with `acknowledge`: the taker is done with the payload before it is written again.
        Tag(self.storage.take(index).load(Acquire))
    }

    pub(super) fn load_published(&self, index: u64) -> Published {
        // (C) pairs with `commit`.
        Published(self.storage.published(index).load(Acquire))
    }

    fn is_closed(&self) -> bool {
        self.storage.closed().load(Acquire) != 0
    }

    /// The usual case of `claim`: the position is the next one, and the message before it in this slot was taken. `None` says
    /// nothing but that it is not the usual case.
    #[inline]
    pub(crate) fn claim_next(&self, cursors: &Cursors, me: MemberId) -> Option<Slot> {
        let (laps, at) = (self.laps(), cursors.put());
        let (lap, index) = (laps.lap(at), laps.index(at));
        let claim = self.load_claim(index);
        if claim.lap() == lap - 1
            && (at < cursors.free() || self.look_ahead(cursors, at))
            && self.try_claim(index, claim, Tag::new(lap, State::Held, me))
        {
            self.claimed(cursors, laps.next(at), Slot { lap, index }, me)
        } else {
            None
        }
    }

    /// Whether the slot at `at` is free, and how many behind it: those whose take words share a line. Who read them one by one
    /// would take the line from the consumer, who is writing it, for every message.
    #[inline(never)]
    pub(super) fn look_ahead(&self, cursors: &Cursors, at: Stamp) -> bool {
        let (laps, mut free) = (self.laps(), at);
        let lap = laps.lap(at);
        let end = (laps.index(at) | (TAKES_IN_A_LINE - 1)).min(laps.capacity - 1);
        for index in laps.index(at)..=end {
            if !self.load_take(index).is(lap - 1, State::Over) {
                break;
            }
            free = laps.next(free);
        }
        cursors.set_free(free);
        free > at
    }

    #[inline]
    pub(super) fn try_claim(&self, index: u64, old: Tag, mine: Tag) -> bool {
        // (R) pairs with (R): who repaired or acknowledged this slot before is done with it.
        self.storage
            .claim(index)
            .compare_exchange(old.0, mine.0, AcqRel, Relaxed)
            .is_ok()
    }

    /// After the claim; `None` when the ring was closed meanwhile.
    #[inline]
    fn claimed(&self, cursors: &Cursors, next: Stamp, slot: Slot, me: MemberId) -> Option<Slot> {
        cursors.set_put(next);
        if next.is_milestone() {
            self.storage.tail_hint().store(next.0, Relaxed);
        }
        // (D) a Dekker pair with `take`: claim, then closed here; closed, then claim there.
        fence_after_rmw();
        if self.is_closed() {
            self.abort(slot, me);
            return None;
        }
        Some(slot)
    }

    /// Claims the next position for `me`. Until `commit` or `abort` no user code may run.
    pub(crate) fn claim(&self, cursors: &Cursors, me: MemberId) -> Result<Slot, PutError> {
        if let Some(slot) = self.claim_next(cursors, me) {
            return Ok(slot);
        }
        let mut at = cursors.put();
        loop {
            let (lap, index) = (self.laps().lap(at), self.laps().index(at));
            let claim = self.load_claim(index);
            if claim.lap() >= lap {
                at = self.later(at, claim.lap(), self.storage.tail_hint());
                continue;
            }
            if !claim.is(lap - 1, State::Over) {
                let take = self.load_take(index);
                if !take.is(lap - 1, State::Over) {
                    if take.lap() >= lap {
                        // Passed over since the claim was read.
                        continue;
                    }
                    cursors.set_put(at);
                    if let Some(error) = self.why_full(lap, index, claim, take) {
                        return Err(error);
                    }
                    continue;
                }
            }
            if self.try_claim(index, claim, Tag::new(lap, State::Held, me)) {
                let next = self.laps().next(at);
                let slot = self.claimed(cursors, next, Slot { lap, index }, me);
                return slot.ok_or(PutError::Closed);
            }
        }
    }

    /// `None` when the slot has moved on meanwhile.
    #[cold]
    fn why_full(&self, lap: u64, index: u64, claim: Tag, take: Tag) -> Option<PutError> {
        if self.is_closed() {
            return Some(PutError::Closed);
        }
        if take.lap() == lap - 1 {
            return Some(match take.state() {
                State::Held => PutError::Busy(Blocked(take.owner())),
                _ => PutError::Orphaned,
            });
        }
        match self.load_published(index).lap() {
            // Claimed in the last lap and not published: the producer one lap before us.
            published if published < lap - 1 => {
                let unchanged = self.load_claim(index) == claim;
                unchanged.then_some(PutError::Busy(Blocked(claim.owner())))
            }
            published => (published == lap - 1).then_some(PutError::Full),
        }
    }

    /// A later position: the slot was used in `lap`, so everything up to it was; or further still, by the hint.
    pub(super) fn later(&self, at: Stamp, lap: u64, hint: &AtomicU64) -> Stamp {
        let passed = self.laps().next(self.laps().at(lap, self.laps().index(at)));
        passed.max(Stamp(hint.load(Relaxed)))
    }

    /// Makes a filled slot's message visible. From here on it is sent.
    #[inline]
    pub(crate) fn commit(&self, slot: Slot, meta: u16) {
        let published = Published::new(slot.lap, meta);
        // (C) pairs with `load_published`.
        self.storage
            .published(slot.index)
            .store(published.0, Release);
    }

    /// Gives a claimed slot up; consumers pass over it.
    #[cold]
    pub(crate) fn abort(&self, slot: Slot, me: MemberId) {
        let over = Tag::new(slot.lap, State::Over, me);
        self.storage.claim(slot.index).store(over.0, Release);
    }

    /// Whether taking is worth a try; for spinning, it reads one word.
    #[inline]
    pub(crate) fn may_take(&self, cursors: &Cursors) -> bool {
        let at = cursors.get();
        self.load_published(self.laps().index(at)).lap() >= self.laps().lap(at)
    }

    /// Whether claiming is worth a try; for spinning.
    #[inline]
    pub(crate) fn may_claim(&self, cursors: &Cursors) -> bool {
        let at = cursors.put();
        let (lap, index) = (self.laps().lap(at), self.laps().index(at));
        let take = self.load_take(index);
        (take.lap() >= lap - 1 && take.state() == State::Over)
            || self.load_claim(index).lap() >= lap
    }

    /// The usual case of `take`: the position is the next one, nobody has taken it, and nobody died. `None` says nothing but
    /// that it is not the usual case.
    #[inline]
    pub(crate) fn take_next(&self, cursors: &Cursors, owners: &impl Owners) -> Option<Message> {
        let (laps, at) = (self.laps(), cursors.get());
        let (lap, index) = (laps.lap(at), laps.index(at));
        let published = self.load_published(index);
        let take = self.load_take(index);
        let usual =
            published.lap() == lap && take.lap() < lap && owners.deaths() == cursors.deaths();
        if usual && self.try_take(index, take, Tag::new(lap, State::Held, owners.me())) {
            Some(self.has_taken(cursors, laps.next(at), Slot { lap, index }, published))
        } else {
            None
        }
    }

    #[inline]
    fn has_taken(
        &self,
        cursors: &Cursors,
        next: Stamp,
        slot: Slot,
        published: Published,
    ) -> Message {
        cursors.set_get(next);
        if next.is_milestone() {
            self.storage.head_hint().store(next.0, Relaxed);
        }
        let meta = published.meta();
        Message { slot, meta }
    }

    /// Takes the next message for `me`, or one that was taken by a process that died. Until `acknowledge` no user code may run.
    pub(crate) fn take(
        &self,
        cursors: &Cursors,
        owners: &impl Owners,
    ) -> Result<Message, TakeError> {
        let deaths = owners.deaths();
        if deaths != cursors.deaths() {
            if let Some(message) = self.take_orphan(cursors, owners, deaths) {
                return Ok(message);
            }
        } else if let Some(message) = self.take_next(cursors, owners) {
            return Ok(message);
        }
        let mut at = cursors.get();
        loop {
            let (lap, index) = (self.laps().lap(at), self.laps().index(at));
            let published = self.load_published(index);
            if published.lap() != lap {
                match self.pass(at, published) {
                    Ok(later) => {
                        at = later;
                        continue;
                    }
                    Err(error) => {
                        cursors.set_get(at);
                        return Err(error);
                    }
                }
            }
            let take = self.load_take(index);
            let mine = if take.lap() < lap {
                Tag::new(lap, State::Held, owners.me())
            } else if take.is(lap, State::Orphan) {
                take.taken_again(owners.me())
            } else {
                at = self.later(at, take.lap(), self.storage.head_hint());
                continue;
            };
            if self.try_take(index, take, mine) {
                let next = self.laps().next(at);
                return Ok(self.has_taken(cursors, next, Slot { lap, index }, published));
            }
        }
    }

    #[inline]
    pub(super) fn try_take(&self, index: u64, old: Tag, mine: Tag) -> bool {
        // (R) as in `claim`.
        self.storage
            .take(index)
            .compare_exchange(old.0, mine.0, AcqRel, Relaxed)
            .is_ok()
    }

    /// Nothing is published at `at` in its lap: where to look next, or why there is nothing to take.
    pub(super) fn pass(&self, at: Stamp, published: Published) -> Result<Stamp, TakeError> {
        let (lap, index) = (self.laps().lap(at), self.laps().index(at));
        if published.lap() > lap {
            return Ok(self.later(at, published.lap() - 1, self.storage.head_hint()));
        }
        let closed = self.is_closed();
        if closed {
            // (D) pairs with `claim`: the flag before the word.
            fence(SeqCst);
        }
        let claim = self.load_claim(index);
        if claim.lap() < lap {
            return Err(if closed {
                TakeError::Closed
            } else {
                TakeError::Empty
            });
        }
        if claim.lap() > lap || claim.state() == State::Over {
            return Ok(self.laps().next(at));
        }
        if self.load_published(index).lap() >= lap {
            return Ok(at);
        }
        Err(TakeError::Busy(Blocked(claim.owner())))
    }

    /// Ends a take: the message is consumed, its slot can be claimed again.
    #[inline]
    pub(crate) fn acknowledge(&self, message: Message, me: MemberId) {
        let over = Tag::new(message.slot.lap, State::Over, me);
        // (F) pairs with `load_take`.
        self.storage.take(message.slot.index).store(over.0, Release);
    }

    /// Nothing can be put from now on.
    pub(crate) fn close(&self) {
        self.storage.closed().store(1, Release);
    }

    pub(crate) fn closed(&self) -> bool {
        self.is_closed()
    }

    /// Positions claimed and not yet taken, as seen on the way from the cursors. Exact when nobody puts or gets meanwhile,
    /// but that a slot skipped after a death counts until a consumer has passed it.
    pub(crate) fn len(&self, cursors: &Cursors) -> u64 {
        let head = self.front(cursors);
        let mut tail = cursors
            .put()
            .max(Stamp(self.storage.tail_hint().load(Relaxed)))
            .max(head);
        loop {
            let claim = self.load_claim(self.laps().index(tail));
            if claim.lap() < self.laps().lap(tail) {
                break;
            }
            tail = self
                .laps()
                .next(self.laps().at(claim.lap(), self.laps().index(tail)));
        }
        cursors.set_put(tail);
        self.laps().distance(head, tail).min(self.laps().capacity)
    }

    /// The first position that is neither taken nor skipped.
    pub(super) fn front(&self, cursors: &Cursors) -> Stamp {
        let mut at = cursors.get();
        loop {
            let (lap, index) = (self.laps().lap(at), self.laps().index(at));
            let published = self.load_published(index);
            let next = if published.lap() == lap {
                let take = self.load_take(index);
                let taken = take.lap() >= lap;
                taken.then(|| self.later(at, take.lap(), self.storage.head_hint()))
            } else {
                self.pass(at, published).ok().filter(|&next| next != at)
            };
            match next {
                Some(next) => at = next,
                None => {
                    cursors.set_get(at);
                    return at;
                }
            }
        }
    }

    /// Whether a put would have to wait now.
    pub(crate) fn is_full(&self, cursors: &Cursors) -> bool {
        self.len(cursors);
        let at = cursors.put();
        let (lap, index) = (self.laps().lap(at), self.laps().index(at));
        let (claim, take) = (self.load_claim(index), self.load_take(index));
        let over = |tag: Tag| tag.lap() + 1 == lap && tag.state() == State::Over;
        claim.lap() + 1 == lap && !over(claim) && !over(take)
    }

    /// Every slot with a message that was committed and not acknowledged: its index and what was committed with it.
    pub(crate) fn for_each_message(&self, mut f: impl FnMut(u64, u16)) {
        for index in 0..self.laps().capacity {
            let published = self.load_published(index);
            let take = self.load_take(index);
            let consumed = take.lap() == published.lap() && take.state() == State::Over;
            if published.lap() > 0 && !consumed {
                f(index, published.meta());
            }
        }
    }
}

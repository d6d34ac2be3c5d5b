//! A process's side of a queue without a bound: which segment it puts into and which it takes from. Threads of the process share
//! both; they are in a segment while they have the lock of that side for reading, which is never while one sleeps or while user
//! code runs.
#![forbid(unsafe_code)]

use super::lane::{Hold, Lane, Taken};
use super::local::{LocalQueue, Refused};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::ring::{
    self, ChainObject, Entry, EntryPlace, Link, Mpmc, Next, PutError, RingObject, Slot, TakeError,
};
use crate::sync::Progress;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// How often a consumer looks again at a message that somebody is just taking out, before it says that it has to wait.
const LOOKS: usize = 100;

/// How often messages are counted from the first segment on, where consumers end it meanwhile.
const COUNTS: usize = 3;

pub(super) struct Segment {
    /// Which process entered it: a copy of that one has not.
    name: u64,
    link: Link,
    pub(super) lane: Lane,
}

type Side = RwLock<Option<Segment>>;
type Guard<'q> = RwLockReadGuard<'q, Option<Segment>>;

#[derive(Default)]
pub(super) struct Chained {
    put: Side,
    get: Side,
    /// This process's entry in the object, and which process that is.
    place: Mutex<Option<(u64, EntryPlace)>>,
    /// One thread at a time looks at the segments behind the first one.
    looking: Mutex<()>,
}

fn read(side: &Side) -> Guard<'_> {
    side.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The segment, if this very process has entered it.
fn entered(segment: &Option<Segment>, name: u64) -> Option<&Segment> {
    segment.as_ref().filter(|segment| segment.name == name)
}

impl Chained {
    /// Makes sure that this process has its entry.
    pub(super) fn claim_entry(&self, queue: &LocalQueue) -> Result<(), Error> {
        self.entry(queue).map(|_| ())
    }

    /// This process's entry.
    fn entry<'q>(&self, queue: &'q LocalQueue) -> Result<Entry<'q>, Error> {
        let (object, name) = (queue.chain_object(), queue.arena().my_word());
        let mut place = lock(&self.place);
        let at = match *place {
            Some((owner, at)) if owner == name => at,
            // Also in a copy of the process that had that one.
            _ => {
                let at = object.claim_entry(name)?;
                *place = Some((name, at));
                at
            }
        };
        Ok(object.entry(at))
    }

    /// When this process lets go of the queue.
    pub(super) fn leave(&self, object: ChainObject<'_>, name: u64) {
        if let Some((owner, at)) = *lock(&self.place) {
            if owner == name {
                object.entry(at).clear();
            }
        }
    }

    /// Enters the last segment, to put into it.
    fn enter_last(&self, queue: &LocalQueue) -> Result<(), Error> {
        let object = queue.chain_object();
        let entry = self.entry(queue)?;
        enter(&self.put, queue, || object.chain().enter_last(entry.put()));
        Ok(())
    }

    /// Enters the first segment, to take from it.
    fn enter_first(&self, queue: &LocalQueue) -> Result<(), Error> {
        let object = queue.chain_object();
        let entry = self.entry(queue)?;
        enter(&self.get, queue, || object.chain().enter_first(entry.get()));
        Ok(())
    }

    /// Claims a slot in the last segment, whatever that takes: it never waits for anybody. Until the commit no user code
    /// runs.
    fn claim<'q>(&'q self, queue: &'q LocalQueue) -> Result<(Hold<'q>, Slot), Refused> {
        let (arena, name) = (queue.arena(), queue.arena().my_word());
        loop {
            let guard = read(&self.put);
            let claimed = entered(&guard, name).map(|segment| {
                let lane = &segment.lane;
                (segment.link, lane.ring().claim(&lane.cursors, arena.me()))
            });
            let full = match claimed {
                Some((_, Ok(slot))) => return Ok((Hold::Chained(guard), slot)),
                None => None,
                Some((at, Err(error))) => {
                    let chain = queue.chain_object().chain();
                    match (chain.behind(at), error) {
                        (Next::End, _) => return Err(Refused::Closed),
                        (Next::Segment(_), _) => {
                            chain.leave_last(at);
                            None
                        }
                        (Next::Nothing, PutError::Closed) => {
                            unreachable!("what is sealed has a successor")
                        }
                        (Next::Nothing, _) => Some(at),
                    }
                }
            };
            drop(guard);
            let done = match full {
                Some(at) => self.grow(queue, at),
                None => self.enter_last(queue),
            };
            done.map_err(|_| Refused::NoMemory)?;
        }
    }

    /// Appends a segment to one that is full.
    #[cold]
    fn grow(&self, queue: &LocalQueue, at: Link) -> Result<(), Error> {
        // Who never waits sees here that there is nobody left to put for.
        queue.put_spin.ask(queue.arena());
        let object = queue.chain_object();
        let made = object.new_segment();
        let guard = read(&self.put);
        let still_there = entered(&guard, queue.arena().my_word()).is_some_and(|s| s.link == at);
        if !still_there {
            return Ok(());
        }
        match made {
            Ok((block, link)) => {
                if object.chain().append(at, link) {
                    // From here on the chain lists it.
                    block.into_block();
                }
            }
            // Another one may have got the last memory for the same end.
            Err(error) if object.chain().behind(at) == Next::Nothing => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn send_with(
        &self,
        queue: &LocalQueue,
        fill: impl FnOnce(&RingObject, &Slot) -> u16,
    ) -> Result<(), Refused> {
        let (lane, slot) = self.claim(queue)?;
        let meta = fill(&lane.storage, &slot);
        lane.ring().commit(slot, meta);
        drop(lane);
        queue.not_empty().notify_one(queue.arena().fences());
        Ok(())
    }

    #[inline(never)]
    pub(super) fn send_run(
        &self,
        queue: &LocalQueue,
        most: usize,
        fill: impl FnMut(&RingObject, &Slot) -> u16,
    ) -> Result<usize, Refused> {
        let (lane, first) = self.claim(queue)?;
        let count = queue.fill_run(&lane, first, most, fill);
        drop(lane);
        queue
            .not_empty()
            .notify(count as u32, queue.arena().fences());
        Ok(count)
    }

    /// One attempt to take a message, as [`try_front`](Self::try_front) says.
    pub(super) fn try_take<'q>(
        &'q self,
        queue: &'q LocalQueue,
        look: bool,
        slow: bool,
    ) -> Progress<Result<Taken<'q>, Refused>> {
        let take = |lane: &Lane| lane.ring().take(&lane.cursors, queue.arena());
        match self.try_front(queue, look, slow, take) {
            Progress::Done(found) => Progress::Done(found.map(|(message, guard)| Taken {
                message,
                lane: Hold::Chained(guard),
            })),
            Progress::Blocked => Progress::Blocked,
            Progress::Busy => Progress::Busy,
        }
    }

    /// What `take` finds at the front, and nothing is taken.
    pub(super) fn look(
        &self,
        queue: &LocalQueue,
        slow: bool,
        look: impl Fn(&Lane) -> Result<(), TakeError>,
    ) -> Progress<Result<(), Refused>> {
        match self.try_front(queue, slow, slow, look) {
            Progress::Done(found) => Progress::Done(found.map(drop)),
            Progress::Blocked => Progress::Blocked,
            Progress::Busy => Progress::Busy,
        }
    }

    /// One attempt at the first message, with `take`. With `look`, what was taken by processes that died is looked for; with
    /// `slow`, so is whether the one in the way is dead.
    #[inline(always)]
    fn try_front<'q, R>(
        &'q self,
        queue: &'q LocalQueue,
        look: bool,
        slow: bool,
        take: impl Fn(&Lane) -> Result<R, TakeError>,
    ) -> Progress<Result<(R, Guard<'q>), Refused>> {
        let (arena, name) = (queue.arena(), queue.arena().my_word());
        let chain = queue.chain_object().chain();
        loop {
            let guard = read(&self.get);
            let found = entered(&guard, name).map(|segment| (segment.link, take(&segment.lane)));
            let (at, error) = match found {
                Some((_, Ok(message))) => return Progress::Done(Ok((message, guard))),
                Some((at, Err(error))) => (at, error),
                None => {
                    drop(guard);
                    match self.enter_first(queue) {
                        Ok(()) => continue,
                        // Without a word to say where it is, a copy of a process cannot go there.
                        Err(_) => return Progress::Blocked,
                    }
                }
            };
            let Some(Segment { lane, .. }) = guard.as_ref() else {
                continue;
            };
            match error {
                TakeError::Busy(_) if slow && queue.skip_dead(lane) => {}
                TakeError::Busy(_) => return Progress::Busy,
                TakeError::Empty => {
                    let next = match chain.behind(at) {
                        // Who closed it may have been killed before he could say so here.
                        Next::Nothing if chain.is_closed() => chain.end(at),
                        next => next,
                    };
                    let dead = || {
                        let taken = lane.ring().taken(&lane.cursors, arena);
                        look && taken == ring::Taken::ByDead
                    };
                    if next == Next::Nothing && !dead() {
                        return Progress::Blocked;
                    }
                }
                TakeError::Closed => match settle(queue, lane) {
                    // What a dead consumer took and did not acknowledge is not gone.
                    ring::Taken::ByDead => {}
                    ring::Taken::Held => return Progress::Busy,
                    ring::Taken::Settled if chain.behind(at) == Next::End => {
                        return Progress::Done(Err(Refused::Closed));
                    }
                    ring::Taken::Settled => {
                        chain.leave_first(at);
                        drop(guard);
                        if self.enter_first(queue).is_err() {
                            return Progress::Blocked;
                        }
                        arena.as_maintainer(|| queue.chain_object().release());
                    }
                },
            }
        }
    }

    pub(super) fn wait_for_message<'q>(
        &'q self,
        queue: &'q LocalQueue,
        deadline: Deadline,
    ) -> Result<Taken<'q>, Refused> {
        if let Progress::Done(taken) = self.try_take(queue, false, false) {
            return taken;
        }
        let now = deadline.expired();
        let name = queue.arena().my_word();
        let hint = || {
            let chain = queue.chain_object().chain();
            entered(&read(&self.get), name).is_none_or(|segment| {
                let lane = &segment.lane;
                lane.ring().may_take(&lane.cursors) || lane.ring().closed()
            }) || chain.is_closed()
        };
        queue.wait_to_get(deadline, hint, |slow| {
            self.try_take(queue, slow || now, slow)
        })
    }

    /// How many messages there are, if not more than `enough`. Where consumers end segments faster than this counts: as many as
    /// were counted in so many attempts.
    pub(super) fn len_up_to(&self, queue: &LocalQueue, enough: u64) -> u64 {
        let object = queue.chain_object();
        let (chain, name) = (object.chain(), queue.arena().my_word());
        let Ok(entry) = self.entry(queue) else {
            return 0;
        };
        let _looking = lock(&self.looking);
        // Whoever is overtaken has seen a segment behind the first, which somebody had a message for.
        let mut counted = 1;
        let mut attempts = 0;
        loop {
            let guard = read(&self.get);
            let here = entered(&guard, name).filter(|segment| chain.is_first(segment.link));
            let Some(Segment { lane, link, .. }) = here else {
                drop(guard);
                if self.enter_first(queue).is_err() {
                    return 0;
                }
                continue;
            };
            let (ring, cursors) = (lane.ring(), &lane.cursors);
            let mut len = ring.len(cursors) + ring.orphans(cursors, queue.arena());
            let mut at = *link;
            let whole = loop {
                let Next::Segment(next) = chain.behind(at) else {
                    break true;
                };
                if len >= enough {
                    break true;
                }
                if !chain.enter_behind(entry.look(), next, *link) {
                    break false;
                }
                let storage = object.ring(next);
                let ring = Mpmc::new(&storage);
                len += ring.len(&ring.cursors());
                at = next;
            };
            chain.leave(entry.look());
            if whole {
                return len;
            }
            counted = len.max(counted);
            attempts += 1;
            if attempts == COUNTS {
                return counted;
            }
        }
    }

    /// Nothing can be put from now on.
    pub(super) fn close(&self, queue: &LocalQueue) {
        let (chain, name) = (queue.chain_object().chain(), queue.arena().my_word());
        chain.close();
        loop {
            let guard = read(&self.put);
            if let Some(segment) = entered(&guard, name) {
                if chain.end(segment.link) == Next::End {
                    return;
                }
                chain.leave_last(segment.link);
            }
            drop(guard);
            if self.enter_last(queue).is_err() {
                // The flag is set: who finds nothing more to take does the rest.
                return;
            }
        }
    }
}

/// Enters a segment and leaves the one before, unless another thread has done so.
fn enter(side: &Side, queue: &LocalQueue, enter: impl FnOnce() -> Link) {
    let name = queue.arena().my_word();
    let mut segment = side.write().unwrap_or_else(PoisonError::into_inner);
    let link = enter();
    if entered(&segment, name).is_none_or(|segment| segment.link != link) {
        *segment = Some(Segment {
            name,
            link,
            lane: Lane::new(queue.chain_object().ring(link)),
        });
    }
}

/// What became of the messages that were taken out of a sealed segment. One that is just being copied out is waited for a
/// moment: who does so wakes those who wait for it only if he sees the seal.
fn settle(queue: &LocalQueue, lane: &Lane) -> ring::Taken {
    let taken = || lane.ring().taken(&lane.cursors, queue.arena());
    let mut looks = (0..LOOKS).map(|_| {
        std::hint::spin_loop();
        taken()
    });
    match taken() {
        ring::Taken::Held => looks
            .find(|&taken| taken != ring::Taken::Held)
            .unwrap_or(ring::Taken::Held),
        settled => settled,
    }
}

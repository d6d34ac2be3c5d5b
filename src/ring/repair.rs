//! What survivors do about the dead: slots that a dead producer claimed are skipped, messages that a dead consumer took are
//! taken again. README.md has the rules.

use super::cursors::Cursors;
use super::mpmc::{Message, Mpmc, Owners, Slot, Storage, TakeError, Taken};
use super::tag::{State, Tag};
use crate::arena::MemberId;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

impl<S: Storage> Mpmc<S> {
    /// Searches the ring for a message whose taker died, from the oldest on: a batch leaves several. `deaths` is noted only after a search in vain that began later.
    #[cold]
    pub(super) fn take_orphan(
        &self,
        cursors: &Cursors,
        owners: &impl Owners,
        deaths: u64,
    ) -> Option<Message> {
        let capacity = self.laps().capacity;
        // What was taken and not acknowledged lies within a lap before the front.
        let oldest = self.laps().index(self.front(cursors));
        for index in (oldest..capacity).chain(0..oldest) {
            while let Some(take) = self.orphan_at(index, owners) {
                if self.try_take(index, take, take.taken_again(owners.me())) {
                    let lap = take.lap();
                    return Some(Message {
                        slot: Slot { lap, index },
                        meta: self.load_published(index).meta(),
                    });
                }
            }
        }
        cursors.set_deaths(deaths);
        None
    }

    /// The slot's word, if its message was taken by a process that died.
    fn orphan_at(&self, index: u64, owners: &impl Owners) -> Option<Tag> {
        loop {
            let take = self.load_take(index);
            let orphan = match take.state() {
                State::Orphan => true,
                State::Held => take.owner() != owners.me() && owners.is_dead(take.owner()),
                State::Over => return None,
            };
            if orphan {
                return Some(take);
            }
            // "Alive" may be said of a later member with the same number: then the word is another one now.
            if self.load_take(index) == take {
                return None;
            }
        }
    }

    /// What `take` would come to now. Takes nothing.
    pub(crate) fn look(&self, cursors: &Cursors, owners: &impl Owners) -> Result<(), TakeError> {
        let deaths = owners.deaths();
        if deaths != cursors.deaths() {
            let mut slots = 0..self.laps().capacity;
            if slots.any(|index| self.orphan_at(index, owners).is_some()) {
                return Ok(());
            }
            cursors.set_deaths(deaths);
        }
        let mut at = cursors.get();
        let found = loop {
            let (lap, index) = (self.laps().lap(at), self.laps().index(at));
            let published = self.load_published(index);
            if published.lap() != lap {
                match self.pass(at, published) {
                    Ok(later) => at = later,
                    Err(error) => break Err(error),
                }
                continue;
            }
            let take = self.load_take(index);
            if take.lap() < lap || take.is(lap, State::Orphan) {
                break Ok(());
            }
            at = self.later(at, take.lap(), self.storage.head_hint());
        };
        cursors.set_get(at);
        found
    }

    /// Skips the slot that consumers wait for if its claimer is dead. True when something may have changed.
    #[cold]
    pub(crate) fn skip_dead(&self, cursors: &Cursors, owners: &impl Owners) -> bool {
        let at = cursors.get();
        self.skip_if_dead(self.laps().index(at), |owner| owners.is_dead(owner))
    }

    /// The claim first, then whether its owner is dead, then (he can publish no more) whether he published.
    fn skip_if_dead(&self, index: u64, is_dead: impl Fn(MemberId) -> bool) -> bool {
        let claim = self.load_claim(index);
        if claim.state() != State::Held || self.load_published(index).lap() >= claim.lap() {
            return false;
        }
        if !is_dead(claim.owner()) || self.load_published(index).lap() >= claim.lap() {
            return false;
        }
        let over = Tag::new(claim.lap(), State::Over, claim.owner());
        // (R) hands the dead claimer's view of the slot on to who claims it next.
        self.storage
            .claim(index)
            .compare_exchange(claim.0, over.0, AcqRel, Relaxed)
            .is_ok()
    }

    /// What became of the messages taken before this process's cursor. When one was taken by a dead consumer, the next `take`
    /// searches for it. Each position is looked at until it was acknowledged.
    #[cold]
    pub(crate) fn taken(&self, cursors: &Cursors, owners: &impl Owners) -> Taken {
        let end = cursors.get();
        let mut at = cursors.settled();
        // Older than a whole lap is acknowledged: its slot was claimed again.
        if self.laps().distance(at, end) > self.laps().capacity {
            at = self
                .laps()
                .at(self.laps().lap(end) - 1, self.laps().index(end));
        }
        let mut all = Taken::Settled;
        while at < end {
            let (lap, index) = (self.laps().lap(at), self.laps().index(at));
            let take = self.load_take(index);
            if take.lap() != lap || take.state() == State::Over {
                at = self.laps().next(at);
                if all == Taken::Settled {
                    cursors.set_settled(at);
                }
            } else if take.state() == State::Orphan || owners.is_dead(take.owner()) {
                cursors.search_again();
                return Taken::ByDead;
            } else if self.load_take(index) == take {
                at = self.laps().next(at);
                all = Taken::Held;
            }
        }
        all
    }

    /// For a producer that waits for a taker: whether that one is dead, so that a consumer has to take the message again.
    #[cold]
    pub(crate) fn orphan_if_dead(&self, cursors: &Cursors, owners: &impl Owners) -> bool {
        let index = self.laps().index(cursors.put());
        self.orphan_if(index, |owner| owners.is_dead(owner))
            || self.skip_if_dead(index, |owner| owners.is_dead(owner))
    }

    fn orphan_if(&self, index: u64, is_dead: impl Fn(MemberId) -> bool) -> bool {
        let take = self.load_take(index);
        if take.state() != State::Held || !is_dead(take.owner()) {
            return false;
        }
        let orphan = take.orphaned();
        self.storage
            .take(index)
            .compare_exchange(take.0, orphan.0, AcqRel, Relaxed)
            .is_ok()
    }

    /// Removes every tag of the dead, so that their numbers can name others. Idempotent; may run beside anything and
    /// be killed anywhere. Says how many words it changed.
    pub(crate) fn sweep(&self, is_dead: impl Fn(MemberId) -> bool) -> u64 {
        (0..self.laps().capacity)
            .map(|index| {
                u64::from(self.skip_if_dead(index, &is_dead))
                    + u64::from(self.orphan_if(index, &is_dead))
            })
            .sum()
    }

    /// Messages that were taken by processes that died and wait for another taker.
    pub(crate) fn orphans(&self, cursors: &Cursors, owners: &impl Owners) -> u64 {
        if owners.deaths() == cursors.deaths() {
            return 0;
        }
        (0..self.laps().capacity)
            .filter(|&index| {
                let take = self.load_take(index);
                match take.state() {
                    State::Orphan => true,
                    State::Held => owners.is_dead(take.owner()),
                    State::Over => false,
                }
            })
            .count() as u64
    }
}

//! PUT, one shared access a step.

use crate::model::*;
use crate::state::*;
use std::cmp::Ordering;

impl Model {
    pub fn put(&self, x: &mut State, p: usize, alt: &mut Vec<State>) -> Result<(), Fault> {
        let mut q = x.procs[p];
        let (lap, i) = self.place(q.cur);
        match q.pc {
            Pc::Put | Pc::P1Claim => {
                if self.bug(Bug::ClosedBeforeClaim) && q.pc == Pc::Put {
                    if x.closed {
                        returns(&mut q, Pc::Put);
                    } else {
                        q.pc = Pc::P1Claim;
                    }
                    x.procs[p] = q;
                    return Ok(());
                }
                let c = x.slots[i].claim;
                if c.lap() >= lap {
                    if self.cfg.hints {
                        let mut y = *x;
                        y.procs[p].pc = Pc::P1Hint;
                        alt.push(y);
                    }
                    q.cur += 1;
                    q.pc = Pc::P1Claim;
                } else {
                    q.c = c;
                    q.pc = if c.is(lap - 1, FREE) {
                        Pc::P3Cas
                    } else {
                        Pc::P2Take
                    };
                }
            }
            Pc::P1Hint => {
                q.cur = x.tail_hint.max(q.cur + 1);
                q.pc = Pc::P1Claim;
            }
            Pc::P2Take => {
                let k = x.slots[i].take;
                let free = k.is(lap - 1, FREE)
                    || self.bug(Bug::FreeIgnoresTaken) && k.is(lap - 1, HELD)
                    || self.bug(Bug::FreeIgnoresLap) && k.state() == FREE;
                if free {
                    q.pc = Pc::P3Cas;
                } else if k.is(lap - 1, HELD) {
                    q.k = k;
                    q.pc = Pc::P2TakerDead;
                } else if k.lap() >= lap && !self.bug(Bug::StaleTakeIsFull) {
                    again(&mut q);
                } else if k.lap() >= lap - 1 || self.bug(Bug::FullWithoutRepair) {
                    says_full(&mut q)?;
                } else {
                    q.pc = Pc::P2Pub;
                }
            }
            Pc::P2TakerDead => {
                if !self.is_dead(x, q.k.owner()) {
                    says_full(&mut q)?;
                } else if self.bug(Bug::ProducerBumpsAfter) || self.bug(Bug::NoBump) {
                    q.pc = Pc::P2Orphan;
                } else {
                    q.pc = Pc::P2Bump;
                }
            }
            Pc::P2Bump => {
                self.bump(x);
                // The bump concerns consumers; of this process nothing has changed.
                q.pc = Pc::P2Orphan;
                if self.bug(Bug::ProducerBumpsAfter) {
                    says_full(&mut q)?;
                }
            }
            Pc::P2Orphan => {
                self.orphan(x, i, q.k, false)?;
                if self.bug(Bug::ProducerBumpsAfter) {
                    q.pc = Pc::P2Bump;
                } else {
                    says_full(&mut q)?;
                }
            }
            Pc::P2Pub => match x.slots[i].published.cmp(&(lap - 1)) {
                Ordering::Less => q.pc = Pc::P2ClaimerDead,
                Ordering::Greater if !self.bug(Bug::StalePubIsFull) => again(&mut q),
                _ => says_full(&mut q)?,
            },
            Pc::P2ClaimerDead => {
                if !self.is_dead(x, q.c.owner()) {
                    q.pc = Pc::P2ClaimAgain;
                    if self.bug(Bug::FullAliveUnchecked) {
                        says_full(&mut q)?;
                    }
                } else if self.bug(Bug::FullRepairNoReread) {
                    q.pc = Pc::P2Skip;
                } else {
                    q.pc = Pc::P2PubAgain;
                }
            }
            Pc::P2ClaimAgain => {
                // The answer was about the owner of this claim only if the claim still stands.
                if x.slots[i].claim == q.c {
                    says_full(&mut q)?;
                } else {
                    again(&mut q);
                }
            }
            Pc::P2PubAgain => match x.slots[i].published.cmp(&(lap - 1)) {
                Ordering::Less => q.pc = Pc::P2Skip,
                Ordering::Equal => says_full(&mut q)?,
                Ordering::Greater => again(&mut q),
            },
            Pc::P2Skip => {
                self.skip(x, i, q.c, false)?;
                again(&mut q);
            }
            Pc::P3Cas => {
                if self.bug(Bug::TailHintBeforeClaim) && self.cfg.hints && q.j == 0 {
                    x.tail_hint = q.cur + 1;
                    q.j = 1;
                    x.procs[p] = q;
                    return Ok(());
                }
                q.j = 0;
                let slot = &mut x.slots[i];
                if slot.claim == q.c || self.bug(Bug::ClaimByStore) {
                    if slot.claim.lap() >= lap {
                        return Err("one position is claimed twice");
                    }
                    let midway = slot.claim.state() == HELD && slot.published < slot.claim.lap();
                    if slot.unfinished() || midway {
                        return Err("a slot is claimed whose message is not finished");
                    }
                    slot.claim = Word::new(lap, HELD, tag(p));
                    q.clear_call();
                    q.pc = self.claims_on(&q);
                    if self.cfg.closer && !self.bug(Bug::ClosedBeforeClaim) {
                        q.pc = Pc::P4Closed;
                    }
                } else {
                    q.pc = Pc::P1Claim;
                }
                q.c = Word::default();
            }
            Pc::P4Closed => {
                if !x.closed {
                    q.pc = self.claims_on(&q);
                } else if self.bug(Bug::AbortNotStored) {
                    returns(&mut q, Pc::Put);
                } else {
                    q.pc = Pc::P4Abort;
                }
            }
            Pc::P4Abort => {
                x.slots[i].claim = Word::new(lap, FREE, 0);
                returns(&mut q, Pc::Put);
            }
            Pc::B1Claim => {
                let (lap, i) = self.place(q.cur + 1);
                let c = x.slots[i].claim;
                q.pc = Pc::P5First;
                if c.lap() == lap - 1 {
                    q.c = c;
                    q.pc = match self.bug(Bug::BatchIgnoresTaken) {
                        true => Pc::B3Cas,
                        false => Pc::B2Take,
                    };
                }
            }
            Pc::B2Take => {
                let (lap, i) = self.place(q.cur + 1);
                if x.slots[i].take.is(lap - 1, FREE) {
                    q.pc = Pc::B3Cas;
                } else {
                    q.c = Word::default();
                    q.pc = Pc::P5First;
                }
            }
            Pc::B3Cas => {
                let (lap, i) = self.place(q.cur + 1);
                let slot = &mut x.slots[i];
                q.pc = Pc::P5First;
                if slot.claim == q.c {
                    let midway = slot.claim.state() == HELD && slot.published < slot.claim.lap();
                    if slot.unfinished() || midway {
                        return Err("a slot is claimed whose message is not finished");
                    }
                    slot.claim = Word::new(lap, HELD, tag(p));
                    q.two = true;
                }
                q.c = Word::default();
            }
            Pc::P5First | Pc::P5Second => {
                self.check_unread(x, i)?;
                let second = q.pc == Pc::P5Second;
                x.slots[i].payload[usize::from(second)] = lap;
                match (second, self.bug(Bug::CommitEarly)) {
                    (true, true) => self.sent(x, p, &mut q, alt),
                    (false, false) => q.pc = Pc::P5Second,
                    _ => q.pc = Pc::P6Commit,
                }
            }
            Pc::P6Commit => {
                let slot = &mut x.slots[i];
                if slot.claim != Word::new(lap, HELD, tag(p)) {
                    return Err("a claim was lost while its owner lives");
                }
                slot.published = lap;
                slot.acked = false;
                if self.bug(Bug::CommitEarly) {
                    q.pc = Pc::P5Second;
                } else {
                    self.sent(x, p, &mut q, alt);
                }
            }
            Pc::P7Hint => {
                x.tail_hint = q.cur;
                returns(&mut q, Pc::Put);
            }
            other => unreachable!("a producer at {other:?}"),
        }
        x.procs[p] = q;
        Ok(())
    }

    /// What comes after a claim that stands.
    fn claims_on(&self, q: &Proc) -> Pc {
        match self.cfg.batch && q.ops > 1 {
            true => Pc::B1Claim,
            false => Pc::P5First,
        }
    }

    fn sent(&self, x: &State, p: usize, q: &mut Proc, alt: &mut Vec<State>) {
        q.cur += 1;
        if q.two {
            q.two = false;
            q.ops -= 1;
            q.pc = Pc::P5First;
            return;
        }
        if self.cfg.hints {
            let mut y = *x;
            y.procs[p] = Proc {
                pc: Pc::P7Hint,
                ..*q
            };
            alt.push(y);
        }
        returns(q, Pc::Put);
    }

    /// CAS of a claim word to SKIPPED by somebody who found its owner dead.
    pub fn skip(&self, x: &mut State, i: usize, seen: Word, blind: bool) -> Result<(), Fault> {
        let slot = x.slots[i];
        if slot.claim != seen && !blind {
            return Ok(());
        }
        if slot.claim.state() == HELD {
            if !self.is_dead(x, slot.claim.owner()) && slot.published < slot.claim.lap() {
                return Err("the claim of a living producer is repaired");
            }
            if slot.published == slot.claim.lap() && !slot.acked {
                return Err("a committed message is skipped");
            }
        }
        x.slots[i].claim = Word::new(seen.lap(), FREE, 0);
        Ok(())
    }

    /// CAS of a take word to ORPHAN by somebody who found its owner dead.
    pub fn orphan(&self, x: &mut State, i: usize, seen: Word, blind: bool) -> Result<(), Fault> {
        let take = x.slots[i].take;
        if take != seen && !blind {
            return Ok(());
        }
        self.check_robbed(x, take)?;
        x.slots[i].take = Word::new(seen.lap(), ORPHAN, 0).with_takes(seen.takes());
        Ok(())
    }

    pub fn check_robbed(&self, x: &State, take: Word) -> Result<(), Fault> {
        if take.state() == HELD && !self.is_dead(x, take.owner()) {
            return Err("a message is taken away from a living consumer");
        }
        Ok(())
    }

    fn check_unread(&self, x: &State, i: usize) -> Result<(), Fault> {
        let read = |q: &Proc| match q.pc {
            Pc::G4First | Pc::G4Second => q.alive() && usize::from(q.j) == i,
            Pc::H4First | Pc::H4Second => q.alive() && self.place(q.cur - 1).1 == i,
            _ => false,
        };
        if x.procs.iter().any(read) {
            return Err("a slot is written that somebody still reads");
        }
        Ok(())
    }
}

/// The claim word has changed since it was loaded.
fn again(q: &mut Proc) {
    q.c = Word::default();
    q.k = Word::default();
    q.pc = Pc::P1Claim;
}

fn says_full(q: &mut Proc) -> Result<(), Fault> {
    if !q.instant {
        return Err("FULL was said, and the ring was never full during the call");
    }
    returns(q, Pc::Put);
    Ok(())
}

//! GET, one shared access a step.

use crate::model::*;
use crate::state::*;

impl Model {
    pub fn get(&self, x: &mut State, p: usize, alt: &mut Vec<State>) -> Result<(), Fault> {
        let mut q = x.procs[p];
        let (lap, i) = self.place(q.cur);
        let n = self.cfg.n as u8;
        match q.pc {
            // Load `deaths`.
            Pc::Get => {
                q.current = true;
                q.pc = if q.seen { Pc::G1Pub } else { Pc::G0Take };
            }
            Pc::G0Take => {
                let k = x.slots[usize::from(q.j)].take;
                self.scan_from(&mut q, k);
            }
            Pc::G0Dead => {
                if self.is_dead(x, q.k.owner()) || self.bug(Bug::StealFromLiving) {
                    q.pc = Pc::G0Cas;
                } else if self.bug(Bug::ScanAliveUnchecked) {
                    self.scan_on(&mut q);
                } else {
                    q.pc = Pc::G0Again;
                }
            }
            // The answer was about the owner of this word only if the word still stands.
            Pc::G0Again => {
                let k = x.slots[usize::from(q.j)].take;
                if k == q.k {
                    self.scan_on(&mut q);
                } else {
                    self.scan_from(&mut q, k);
                }
            }
            Pc::G0Cas => {
                let take = x.slots[usize::from(q.j)].take;
                if take == q.k {
                    self.check_robbed(x, take)?;
                    x.slots[usize::from(q.j)].take = self.taken(take.lap(), take, p);
                    if self.bug(Bug::SeenAfterSuccess) {
                        q.seen = q.current;
                    }
                    self.copies(&mut q, take.lap());
                } else if self.bug(Bug::ScanSkipsLostRace) {
                    self.scan_on(&mut q);
                } else {
                    q.pc = Pc::G0Take;
                }
            }
            // Only by mistake: `deaths` is loaded after the scan.
            Pc::G0Seen => {
                q.seen = true;
                q.pc = Pc::G1Pub;
            }
            Pc::G1Pub => {
                q.c = Word::default();
                let published = x.slots[i].published;
                if published == lap {
                    q.pc = Pc::G2Take;
                } else if published > lap {
                    self.step_over(x, p, &mut q, alt);
                } else if self.bug(Bug::EmptyByPub) {
                    self.nothing_there(x, &mut q)?;
                } else {
                    q.pc = Pc::G1Claim;
                }
            }
            Pc::G1Hint => {
                q.cur = x.head_hint.max(q.cur + 1);
                q.pc = Pc::G1Pub;
            }
            Pc::G1Claim => {
                let c = x.slots[i].claim;
                if c.lap() < lap {
                    if self.cfg.closer {
                        q.pc = Pc::G1Flag;
                    } else {
                        self.nothing_there(x, &mut q)?;
                    }
                } else if c.lap() > lap || c.state() == FREE {
                    self.step_over(x, p, &mut q, alt);
                } else {
                    q.c = c;
                    q.pc = Pc::G1Dead;
                }
            }
            Pc::G1Flag => {
                q.closing = x.closed;
                if !q.closing || self.bug(Bug::FlagAfterClaim) {
                    self.nothing_there(x, &mut q)?;
                } else {
                    q.pc = Pc::G1ClaimAgain;
                }
            }
            Pc::G1ClaimAgain => {
                if x.slots[i].claim.lap() < lap {
                    self.nothing_there(x, &mut q)?;
                } else {
                    q.closing = false;
                    q.pc = Pc::G1Pub;
                }
            }
            Pc::G1Dead => {
                if !self.is_dead(x, q.c.owner()) {
                    // Busy: wait, that is, look again.
                    if self.bug(Bug::StepOverBusy) {
                        self.step_over(x, p, &mut q, alt);
                    } else if !self.bug(Bug::BusyNotReloaded) {
                        q.c = Word::default();
                        q.pc = Pc::G1Pub;
                    }
                } else if self.bug(Bug::SkipWithoutReread) {
                    q.pc = Pc::G1Skip;
                } else {
                    q.pc = Pc::G1PubAgain;
                }
            }
            Pc::G1PubAgain => {
                if x.slots[i].published < lap {
                    q.pc = Pc::G1Skip;
                } else {
                    q.c = Word::default();
                    q.pc = Pc::G1Pub;
                }
            }
            Pc::G1Skip => {
                self.skip(x, i, q.c, self.bug(Bug::SkipByStore))?;
                q.c = Word::default();
                q.pc = Pc::G1Pub;
            }
            Pc::G2Take => {
                let k = x.slots[i].take;
                let orphan = k.is(lap, ORPHAN) && !self.bug(Bug::StepOverOrphan);
                if k.lap() < lap || orphan {
                    q.k = k;
                    q.pc = Pc::G2Cas;
                } else {
                    self.step_over(x, p, &mut q, alt);
                }
            }
            Pc::G2Cas => {
                if self.bug(Bug::HeadHintBeforeTake) && self.cfg.hints && q.j == 0 {
                    x.head_hint = q.cur + 1;
                    q.j = 1;
                    x.procs[p] = q;
                    return Ok(());
                }
                q.j = 0;
                let take = x.slots[i].take;
                if take == q.k || self.bug(Bug::TakeByStore) {
                    if take.lap() < lap {
                        self.check_order(x, &q)?;
                    } else {
                        self.check_robbed(x, take)?;
                    }
                    x.slots[i].take = self.taken(lap, take, p);
                    q.j = i as u8;
                    q.cur += 1;
                    if self.cfg.hints {
                        let mut y = *x;
                        y.procs[p] = Proc {
                            pc: Pc::G3Hint,
                            k: Word::new(lap, FREE, 0),
                            ..q
                        };
                        alt.push(y);
                    }
                    self.copies(&mut q, lap);
                    self.takes_on(&mut q);
                } else {
                    q.k = Word::default();
                    q.pc = Pc::G2Take;
                }
            }
            Pc::G3Hint => {
                x.head_hint = q.cur;
                let lap = q.k.lap();
                self.copies(&mut q, lap);
                self.takes_on(&mut q);
            }
            Pc::H0Deaths => q.pc = if q.seen { Pc::H1Pub } else { Pc::G4First },
            Pc::H1Pub => {
                let there = x.slots[i].published == lap;
                q.pc = if there { Pc::H2Take } else { Pc::G4First };
            }
            Pc::H2Take => {
                let k = x.slots[i].take;
                q.pc = Pc::G4First;
                if k.lap() < lap {
                    q.c = k;
                    q.pc = Pc::H3Cas;
                }
            }
            Pc::H3Cas => {
                if x.slots[i].take == q.c {
                    self.check_order(x, &q)?;
                    x.slots[i].take = self.taken(lap, q.c, p);
                    q.two = true;
                    q.cur += 1;
                }
                q.c = Word::default();
                q.pc = Pc::G4First;
            }
            Pc::G4First | Pc::G4Second => {
                let second = q.pc == Pc::G4Second;
                if x.slots[usize::from(q.j)].payload[usize::from(second)] != q.k.lap() {
                    return Err("a torn message was read");
                }
                if !second {
                    q.pc = Pc::G4Second;
                } else if q.two && !self.bug(Bug::BatchAcksEarly) {
                    q.pc = Pc::H4First;
                } else if self.bug(Bug::AckBeforeCopy) {
                    returns(&mut q, Pc::Get);
                } else {
                    q.pc = Pc::G5Ack;
                }
            }
            Pc::H4First | Pc::H4Second => {
                let (lap, i) = self.place(q.cur - 1);
                let second = q.pc == Pc::H4Second;
                if x.slots[i].payload[usize::from(second)] != lap {
                    return Err("a torn message was read");
                }
                q.pc = match second {
                    false => Pc::H4Second,
                    true if self.bug(Bug::BatchAcksEarly) => {
                        q.two = false;
                        returns(&mut q, Pc::Get);
                        q.pc
                    }
                    true => Pc::G5Ack,
                };
            }
            Pc::H5Ack => {
                let (lap, i) = self.place(q.cur - 1);
                self.acknowledges(x, p, i, lap)?;
                if self.bug(Bug::BatchAcksEarly) {
                    q.pc = Pc::H4First;
                } else {
                    q.two = false;
                    returns(&mut q, Pc::Get);
                }
            }
            Pc::G5Ack => {
                self.acknowledges(x, p, q.j.into(), q.k.lap())?;
                if q.two {
                    q.ops -= 1;
                    q.pc = Pc::H5Ack;
                    x.procs[p] = q;
                    return Ok(());
                }
                if self.bug(Bug::AckBeforeCopy) {
                    q.pc = Pc::G4First;
                } else {
                    returns(&mut q, Pc::Get);
                }
            }
            Pc::Look => {
                let k = x.slots[usize::from(q.j)].take;
                if k.state() == ORPHAN && !self.bug(Bug::LookIgnoresOrphan) {
                    q.pc = Pc::LookBump;
                } else if k.state() == HELD {
                    q.k = k;
                    q.pc = Pc::LookDead;
                } else {
                    self.look_on(x, &mut q)?;
                }
            }
            Pc::LookDead => {
                if self.is_dead(x, q.k.owner()) {
                    q.pc = Pc::LookBump;
                } else if q.closing && !self.bug(Bug::ClosedIgnoresTaken) {
                    // Its reader may die yet: wait until it is done.
                    q.pc = Pc::Look;
                } else if self.bug(Bug::LookAliveUnchecked) {
                    self.look_on(x, &mut q)?;
                } else {
                    q.pc = Pc::LookAgain;
                    x.procs[p] = q;
                    return Ok(());
                }
                q.k = Word::default();
            }
            Pc::LookAgain => {
                if x.slots[usize::from(q.j)].take == q.k {
                    self.look_on(x, &mut q)?;
                } else {
                    q.pc = Pc::Look;
                }
                q.k = Word::default();
            }
            Pc::LookBump if self.bug(Bug::LookNoBump) => {
                q.clear_call();
                q.pc = Pc::Get;
            }
            Pc::LookBump => {
                self.bump(x);
                q.seen = false;
                q.current = true;
                q.closing = false;
                q.j = 0;
                q.pc = Pc::G0Take;
            }
            other => unreachable!("a consumer at {other:?}"),
        }
        debug_assert!(n > q.j);
        x.procs[p] = q;
        Ok(())
    }

    /// The take word of this process, for a message that was in state `before`.
    fn taken(&self, lap: u8, before: Word, p: usize) -> Word {
        let takes = if before.lap() < lap || self.bug(Bug::NoTakeCount) {
            0
        } else {
            before.takes() + 1
        };
        Word::new(lap, HELD, tag(p)).with_takes(takes)
    }

    /// The message of slot `j` is ours; its lap stays in `k`.
    fn copies(&self, q: &mut Proc, lap: u8) {
        let (j, seen) = (q.j, q.seen);
        q.clear_call();
        q.j = j;
        q.seen = seen;
        q.k = Word::new(lap, FREE, 0);
        q.pc = if self.bug(Bug::AckBeforeCopy) {
            Pc::G5Ack
        } else {
            Pc::G4First
        };
    }

    /// After a take at the cursor: the next one too?
    fn takes_on(&self, q: &mut Proc) {
        if self.cfg.batch && q.ops > 1 {
            q.pc = Pc::H0Deaths;
        }
    }

    fn acknowledges(&self, x: &mut State, p: usize, i: usize, lap: u8) -> Result<(), Fault> {
        let slot = &mut x.slots[i];
        if !slot.take.is(lap, HELD) || slot.take.owner() != tag(p) {
            return Err("a message was taken away from its living consumer");
        }
        if slot.acked {
            return Err("a message is delivered twice");
        }
        slot.acked = true;
        slot.take = Word::new(lap, FREE, 0);
        Ok(())
    }

    /// The scan has found this word in a slot.
    fn scan_from(&self, q: &mut Proc, k: Word) {
        if k.state() == FREE {
            self.scan_on(q);
        } else {
            q.k = k;
            q.pc = if k.state() == ORPHAN {
                Pc::G0Cas
            } else {
                Pc::G0Dead
            };
        }
    }

    fn scan_on(&self, q: &mut Proc) {
        q.k = Word::default();
        q.j += 1;
        q.pc = Pc::G0Take;
        if usize::from(q.j) == self.cfg.n {
            q.j = 0;
            q.seen = q.current;
            q.pc = if self.bug(Bug::SeenAfterScan) {
                Pc::G0Seen
            } else {
                Pc::G1Pub
            };
        }
    }

    fn step_over(&self, x: &State, p: usize, q: &mut Proc, alt: &mut Vec<State>) {
        q.c = Word::default();
        q.k = Word::default();
        if self.cfg.hints {
            let mut y = *x;
            y.procs[p] = Proc {
                pc: Pc::G1Hint,
                ..*q
            };
            alt.push(y);
        }
        q.cur += 1;
        q.pc = Pc::G1Pub;
    }

    /// Nothing is claimed at the cursor.
    fn nothing_there(&self, x: &mut State, q: &mut Proc) -> Result<(), Fault> {
        q.j = 0;
        q.pc = Pc::Look;
        if self.bug(Bug::NoLook) {
            q.j = self.cfg.n as u8 - 1;
            self.look_on(x, q)?;
        }
        Ok(())
    }

    /// The look goes on to the next slot; after the last one, EMPTY or Closed is said.
    fn look_on(&self, x: &mut State, q: &mut Proc) -> Result<(), Fault> {
        q.j += 1;
        q.pc = Pc::Look;
        if usize::from(q.j) < self.cfg.n {
            return Ok(());
        }
        q.j = 0;
        if !q.instant {
            return Err("EMPTY was said, and there was a message all the time");
        }
        if q.dead_mask != 0 {
            return Err("EMPTY was said, and a dead consumer's message was there all the time");
        }
        x.said_closed |= q.closing;
        returns(q, Pc::Get);
        Ok(())
    }

    /// A message that nobody took before may be taken when all claimed before it are gone, and
    /// no orphan that was known before the call waits.
    fn check_order(&self, x: &State, q: &Proc) -> Result<(), Fault> {
        let oldest = (q.cur + 1).saturating_sub(self.cfg.n as u8);
        if (oldest..q.cur).any(|pos| !self.resolved(x, pos)) {
            return Err("a message overtakes one that was claimed before it");
        }
        if q.orphan_mask != 0 {
            return Err("a message overtakes an orphan that was known before the call");
        }
        Ok(())
    }
}

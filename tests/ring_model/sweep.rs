//! SWEEP, one shared access a step: anybody may do it, for any dead process, and die halfway.

use crate::model::*;
use crate::state::*;

impl Model {
    pub fn sweep(&self, x: &mut State, p: usize, alt: &mut Vec<State>) -> Result<bool, Fault> {
        let mut q = x.procs[p];
        let owner = q.cur + 1;
        let j = usize::from(q.j);
        match q.pc {
            Pc::Idle => {
                for (dead, role) in self.roles.iter().enumerate() {
                    if x.procs[dead].life == Life::Dead && *role != Role::Sweeper {
                        let mut y = *x;
                        y.procs[p] = self.begins(&mut y, q, dead);
                        alt.push(y);
                    }
                }
                return Ok(false);
            }
            Pc::SClaim => {
                let c = x.slots[j].claim;
                q.pc = Pc::STake;
                if c.state() == HELD && c.owner() == owner && !self.bug(Bug::SweepTakesOnly) {
                    q.c = c;
                    q.pc = if self.bug(Bug::DeadAskedFirst) {
                        Pc::SPub
                    } else {
                        Pc::SClaimDead
                    };
                }
            }
            Pc::SClaimDead => {
                q.pc = if self.is_dead(x, owner) {
                    Pc::SPub
                } else {
                    Pc::STake
                };
                if self.bug(Bug::SweepIgnoresPub) && q.pc == Pc::SPub {
                    q.pc = Pc::SSkip;
                }
            }
            Pc::SPub => {
                q.pc = if x.slots[j].published < q.c.lap() {
                    Pc::SSkip
                } else {
                    Pc::STake
                };
            }
            Pc::SSkip => {
                self.skip(x, j, q.c, self.bug(Bug::SweepByStore))?;
                q.pc = Pc::STake;
            }
            Pc::STake => {
                let k = x.slots[j].take;
                if k.state() == HELD && k.owner() == owner && !self.bug(Bug::SweepClaimsOnly) {
                    q.k = k;
                    q.pc = if self.bug(Bug::DeadAskedFirst) {
                        Pc::SOrphan
                    } else {
                        Pc::STakeDead
                    };
                } else {
                    self.next_slot(&mut q);
                }
            }
            Pc::STakeDead => {
                if self.is_dead(x, owner) {
                    q.pc = Pc::SOrphan;
                } else {
                    self.next_slot(&mut q);
                }
            }
            Pc::SOrphan => {
                self.orphan(x, j, q.k, self.bug(Bug::SweepByStore))?;
                self.next_slot(&mut q);
            }
            Pc::SBump => {
                self.bump(x);
                q.pc = Pc::SRecycle;
            }
            Pc::SRecycle => {
                let dead = &mut x.procs[usize::from(q.cur)];
                if dead.life == Life::Dead && (q.current || self.bug(Bug::RecycleAnyGeneration)) {
                    *dead = Proc::default();
                }
                q = Proc {
                    life: Life::Alive,
                    ops: q.ops,
                    pc: Pc::Idle,
                    ..Proc::default()
                };
            }
            other => unreachable!("a sweeper at {other:?}"),
        }
        if !matches!(q.pc, Pc::SPub | Pc::SSkip | Pc::SClaimDead) {
            q.c = Word::default();
        }
        x.procs[p] = q;
        Ok(true)
    }

    /// Bump `deaths`, with the entry of the dead process at hand.
    fn begins(&self, x: &mut State, mut q: Proc, dead: usize) -> Proc {
        q.cur = dead as u8;
        q.current = true;
        q.pc = if self.bug(Bug::RecycleUnswept) {
            Pc::SRecycle
        } else {
            Pc::SClaim
        };
        if !self.bug(Bug::NoBump) && !self.bug(Bug::SweepBumpsAfter) {
            self.bump(x);
        }
        q
    }

    fn next_slot(&self, q: &mut Proc) {
        q.k = Word::default();
        q.j += 1;
        q.pc = Pc::SClaim;
        if usize::from(q.j) == self.cfg.n {
            q.j = 0;
            q.pc = if self.bug(Bug::SweepBumpsAfter) {
                Pc::SBump
            } else {
                Pc::SRecycle
            };
        }
    }
}

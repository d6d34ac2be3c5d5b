//! The model's frame: configurations, what is wrong on purpose, who may move, and the observer.

use crate::state::*;

/// A deliberate mistake in the protocol. `None` is the protocol as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bug {
    #[default]
    None,
    // put
    /// Looks at the closed flag before the claim instead of after it.
    ClosedBeforeClaim,
    /// Says Closed after the claim and leaves the claim as it is.
    AbortNotStored,
    /// A slot whose message is taken but not acknowledged counts as free.
    FreeIgnoresTaken,
    /// A slot is free when its take word says DONE, of whatever lap.
    FreeIgnoresLap,
    /// The take word was of a later lap than expected: says FULL instead of looking again.
    StaleTakeIsFull,
    /// The same mistake with `pub`.
    StalePubIsFull,
    /// Says FULL without asking whether the claimer in its way is dead.
    FullWithoutRepair,
    /// It believes that the claimer lives without loading the claim again.
    FullAliveUnchecked,
    /// That repair does not read `pub` again after the claimer was found dead.
    FullRepairNoReread,
    /// The claim is a store instead of a compare-exchange.
    ClaimByStore,
    /// Commits between the two halves of the payload.
    CommitEarly,
    /// A waiting producer makes an orphan first and bumps `deaths` afterwards.
    ProducerBumpsAfter,
    /// The second of a batch is claimed though its last message is being read.
    BatchIgnoresTaken,
    /// `tail_hint` is stored past a position that is not claimed yet.
    TailHintBeforeClaim,
    // get
    /// The value of `deaths` that is remembered is loaded after the scan.
    SeenAfterScan,
    /// The scan believes that an owner lives without loading the word again: the id may have been
    /// swept and given to a new process in between.
    ScanAliveUnchecked,
    /// The same mistake in the look before EMPTY.
    LookAliveUnchecked,
    /// A scan that found an orphan also counts as a fruitless one.
    SeenAfterSuccess,
    /// After a lost race the scan goes on to the next slot.
    ScanSkipsLostRace,
    /// The scan takes from owners that live.
    StealFromLiving,
    /// SKIPs a dead claimer's slot without reading `pub` again.
    SkipWithoutReread,
    /// SKIPs by a store instead of a compare-exchange.
    SkipByStore,
    /// Takes by a store instead of a compare-exchange.
    TakeByStore,
    /// Says EMPTY when the slot is not published, whether claimed or not.
    EmptyByPub,
    /// Steps over a claimed slot whose claimer lives.
    StepOverBusy,
    /// Waits for a living claimer's death without looking at the slot again.
    BusyNotReloaded,
    /// Acknowledges before the payload is copied.
    AckBeforeCopy,
    /// The second of a batch is acknowledged before it is copied.
    BatchAcksEarly,
    /// `head_hint` is stored past a message that is not taken yet.
    HeadHintBeforeTake,
    /// Says EMPTY without a look at what is taken and not done.
    NoLook,
    /// What that look finds does not make the next scan happen.
    LookNoBump,
    /// That look takes no notice of orphans that are marked already.
    LookIgnoresOrphan,
    /// The closed flag is loaded after the claim word; no second look at the claim.
    FlagAfterClaim,
    /// Says Closed while somebody is still reading a message.
    ClosedIgnoresTaken,
    /// Take words do not count how often the message was taken.
    NoTakeCount,
    /// An orphan found at the cursor is stepped over (harmless, as it turns out).
    StepOverOrphan,
    // sweep
    /// `deaths` is not bumped by the sweep (nor by waiting producers).
    NoBump,
    /// `deaths` is bumped at the end of the sweep.
    SweepBumpsAfter,
    /// Whether the owner is dead is asked once, before the words are loaded.
    DeadAskedFirst,
    /// The sweep does not look at `pub`.
    SweepIgnoresPub,
    /// The sweep stores its repairs instead of exchanging the words it saw.
    SweepByStore,
    /// The sweep repairs take words only, or claim words only.
    SweepTakesOnly,
    SweepClaimsOnly,
    /// The id is given to a new process without a sweep.
    RecycleUnswept,
    /// A slow sweeper recycles the id although it has changed hands meanwhile.
    RecycleAnyGeneration,
    /// A process that joins starts with `seen` = the present `deaths`.
    JoinerSkipsScan,
}

pub const PRODUCERS: u8 = 1;
pub const CONSUMERS: u8 = 2;
pub const SWEEPERS: u8 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Slots.
    pub n: usize,
    /// Calls of put by each producer, calls of get by each consumer.
    pub put: &'static [u8],
    pub get: &'static [u8],
    pub sweepers: usize,
    pub closer: bool,
    /// How many processes may die, and of which roles.
    pub deaths: u8,
    pub mortal: u8,
    /// How many swept ids are given to new processes (which make one call).
    pub joins: u8,
    /// Messages in the ring at the start, put by the first producer or by nobody in the model.
    pub prefill: u8,
    pub hints: bool,
    /// Who has two calls left makes one of two messages of them, if it can.
    pub batch: bool,
    /// The consumers have never scanned for orphans, like processes that have just joined.
    pub unseen: bool,
    /// Treat processes of one role with the same number of calls as interchangeable.
    pub symmetric: bool,
    pub bug: Bug,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            n: 1,
            put: &[],
            get: &[],
            sweepers: 0,
            closer: false,
            deaths: 0,
            mortal: PRODUCERS | CONSUMERS | SWEEPERS,
            joins: 0,
            prefill: 0,
            hints: false,
            batch: false,
            unseen: false,
            symmetric: true,
            bug: Bug::None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Producer,
    Consumer,
    Sweeper,
    Closer,
}

/// What is wrong, when something is.
pub type Fault = &'static str;

/// What made a state out of another.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    Step(Pc),
    Dies(Pc),
    Joins,
}

pub struct Next {
    pub who: usize,
    pub by: Move,
    pub state: State,
}

pub struct Model {
    pub cfg: Config,
    pub roles: Vec<Role>,
}

/// Who put the prefilled messages when there is no producer in the model: lives for ever.
const OUTSIDER: u8 = 15;

pub fn tag(p: usize) -> u8 {
    p as u8 + 1
}

impl Model {
    pub fn new(cfg: Config) -> Model {
        let mut roles = vec![Role::Producer; cfg.put.len()];
        roles.extend(cfg.get.iter().map(|_| Role::Consumer));
        roles.extend((0..cfg.sweepers).map(|_| Role::Sweeper));
        roles.extend(cfg.closer.then_some(Role::Closer));
        // One place stays free for the process that drains the ring at the end.
        assert!(cfg.n <= MAX_SLOTS && roles.len() < MAX_PROCS);
        Model { cfg, roles }
    }

    pub fn bug(&self, bug: Bug) -> bool {
        self.cfg.bug == bug
    }

    /// Lap and index of a position.
    pub fn place(&self, pos: u8) -> (u8, usize) {
        (pos / self.cfg.n as u8 + 1, usize::from(pos) % self.cfg.n)
    }

    pub fn start(&self) -> State {
        let cfg = &self.cfg;
        assert!(usize::from(cfg.prefill) <= cfg.n);
        let mut s = State {
            deaths_left: cfg.deaths,
            joins_left: cfg.joins,
            ..State::default()
        };
        for pos in 0..cfg.prefill {
            let (lap, i) = self.place(pos);
            let owner = if cfg.put.is_empty() { OUTSIDER } else { tag(0) };
            let slot = &mut s.slots[i];
            slot.claim = Word::new(lap, HELD, owner);
            slot.published = lap;
            slot.payload = [lap, lap];
        }
        let ops = cfg
            .put
            .iter()
            .chain(cfg.get)
            .copied()
            .chain(std::iter::repeat(1));
        for ((proc, role), ops) in s.procs.iter_mut().zip(&self.roles).zip(ops) {
            *proc = Proc {
                life: Life::Alive,
                ops,
                seen: !cfg.unseen,
                pc: first(*role),
                ..Proc::default()
            };
        }
        s
    }

    pub fn is_dead(&self, s: &State, owner: u8) -> bool {
        owner != 0 && owner != OUTSIDER && !s.procs[usize::from(owner) - 1].alive()
    }

    /// Every state that one step of one process, one death or one new process leads to.
    pub fn successors(&self, s: &State, out: &mut Vec<Next>) -> Result<(), (usize, Fault)> {
        out.clear();
        let mut alt = Vec::new();
        for (p, role) in self.roles.iter().enumerate() {
            let proc = &s.procs[p];
            if proc.life == Life::Free && s.joins_left > 0 {
                self.joins(s, p, &mut alt);
                out.extend(alt.drain(..).map(|state| Next {
                    who: p,
                    by: Move::Joins,
                    state,
                }));
            }
            if !proc.alive() {
                continue;
            }
            if proc.pc != Pc::Done {
                let mut x = *s;
                let by = Move::Step(proc.pc);
                if self.step(&mut x, p, &mut alt).map_err(|fault| (p, fault))? {
                    out.push(Next {
                        who: p,
                        by,
                        state: x,
                    });
                }
                out.extend(alt.drain(..).map(|state| Next { who: p, by, state }));
            }
            // Of those that have done all their calls, only producers leave their tag behind.
            let mortal = match role {
                Role::Producer => PRODUCERS,
                _ if proc.pc == Pc::Done => 0,
                Role::Consumer => CONSUMERS,
                Role::Sweeper => SWEEPERS,
                Role::Closer => 0,
            };
            if s.deaths_left > 0 && self.cfg.mortal & mortal != 0 {
                let mut x = *s;
                x.deaths_left -= 1;
                x.procs[p] = Proc {
                    life: Life::Dead,
                    ..Proc::default()
                };
                out.push(Next {
                    who: p,
                    by: Move::Dies(proc.pc),
                    state: x,
                });
            }
        }
        for next in out.iter_mut() {
            self.observe(&mut next.state)
                .map_err(|fault| (next.who, fault))?;
        }
        Ok(())
    }

    /// One shared access of process `p`. Where there is a choice, `alt` gets the other outcomes.
    /// False: there is nothing to do now.
    pub fn step(&self, x: &mut State, p: usize, alt: &mut Vec<State>) -> Result<bool, Fault> {
        if matches!(x.procs[p].pc, Pc::Put | Pc::Get) {
            // The call begins: the instant before its first access is part of it.
            let seen = self.look_around(x);
            let q = &mut x.procs[p];
            q.instant = if q.pc == Pc::Put {
                seen.full
            } else {
                !seen.fresh
            };
            if q.pc == Pc::Get {
                q.dead_mask = seen.dead;
                q.orphan_mask = seen.orphan;
            }
        }
        match self.roles.get(p) {
            Some(Role::Producer) => self.put(x, p, alt).map(|()| true),
            Some(Role::Consumer) | None => self.get(x, p, alt).map(|()| true),
            Some(Role::Sweeper) => self.sweep(x, p, alt),
            Some(Role::Closer) => {
                x.closed = true;
                x.procs[p] = Proc {
                    life: Life::Alive,
                    ..Proc::default()
                };
                Ok(true)
            }
        }
    }

    /// A new process gets the id of a dead one, with the oldest or the newest valid cursor.
    fn joins(&self, s: &State, p: usize, out: &mut Vec<State>) {
        let mut x = *s;
        x.joins_left -= 1;
        for (q, role) in x.procs.iter_mut().zip(&self.roles) {
            if *role == Role::Sweeper && q.pc != Pc::Idle && usize::from(q.cur) == p {
                q.current = false;
            }
        }
        let newest = match self.roles[p] {
            Role::Producer => self.tail(s),
            _ => self.head(s),
        };
        for cur in [0, newest] {
            x.procs[p] = Proc {
                life: Life::Alive,
                ops: 1,
                cur,
                pc: first(self.roles[p]),
                seen: self.bug(Bug::JoinerSkipsScan),
                ..Proc::default()
            };
            out.push(x);
            if newest == 0 {
                break;
            }
        }
    }

    /// `deaths` += 1.
    pub fn bump(&self, x: &mut State) {
        for (p, q) in x.procs.iter_mut().enumerate() {
            q.seen = false;
            if self.roles.get(p) != Some(&Role::Sweeper) {
                q.current = false;
            }
        }
    }

    /// The first position that is not claimed.
    pub fn tail(&self, s: &State) -> u8 {
        let n = self.cfg.n;
        let claimed = |i: usize| s.slots[i].claim.lap();
        (0..n)
            .map(|i| claimed(i) * n as u8 + i as u8)
            .filter(|&end| end >= n as u8)
            .max()
            .map_or(0, |end| end - n as u8 + 1)
    }

    /// The first position that is neither taken nor skipped.
    pub fn head(&self, s: &State) -> u8 {
        (0..self.tail(s))
            .find(|&pos| !self.resolved(s, pos))
            .unwrap_or(self.tail(s))
    }

    /// Nobody will take the message of `pos` afresh: it was taken, or there is none.
    pub fn resolved(&self, s: &State, pos: u8) -> bool {
        let (lap, i) = self.place(pos);
        let slot = &s.slots[i];
        slot.claim.lap() > lap || slot.claim.is(lap, FREE) || slot.take.lap() >= lap
    }

    fn look_around(&self, s: &State) -> Instant {
        let mut seen = Instant::default();
        for (i, slot) in s.slots[..self.cfg.n].iter().enumerate() {
            seen.fresh |= slot.fresh();
            let orphan = slot.take.state() == ORPHAN;
            let held = slot.take.state() == HELD && self.is_dead(s, slot.take.owner());
            seen.orphan |= u8::from(orphan) << i;
            seen.dead |= u8::from(orphan || held) << i;
        }
        let tail = self.tail(s);
        if tail >= self.cfg.n as u8 {
            let (lap, i) = self.place(tail - self.cfg.n as u8);
            let slot = &s.slots[i];
            let lost = slot.published < lap && self.is_dead(s, slot.claim.owner());
            seen.full = slot.claim.is(lap, HELD) && !slot.take.is(lap, FREE) && !lost;
        }
        seen
    }

    /// Updates the observer's notes and checks what must hold in every state.
    fn observe(&self, s: &mut State) -> Result<(), Fault> {
        let seen = self.look_around(s);
        for (q, role) in s.procs.iter_mut().zip(&self.roles) {
            if !q.alive() || matches!(q.pc, Pc::Done | Pc::Put | Pc::Get) {
                continue;
            }
            match role {
                Role::Producer if !q.pc.has_slot() => q.instant |= seen.full,
                Role::Consumer if !q.pc.has_slot() => {
                    q.instant |= !seen.fresh;
                    q.dead_mask &= seen.dead;
                    q.orphan_mask &= seen.orphan;
                }
                _ => {}
            }
        }
        if s.said_closed && (seen.fresh || seen.dead != 0) {
            return Err("a message is left behind after a get has said Closed");
        }
        Ok(())
    }

    /// All that live have nothing left to do.
    pub fn is_final(&self, s: &State) -> bool {
        s.procs[..self.roles.len()]
            .iter()
            .all(|q| !q.alive() || matches!(q.pc, Pc::Done | Pc::Idle))
    }

    /// In a final state: whoever gets from now on finds every message that is not consumed.
    pub fn check_drain(&self, s: &State) -> Result<(), Fault> {
        let stranger = self.roles.len();
        let consumers = self
            .roles
            .iter()
            .enumerate()
            .filter(|(_, r)| **r == Role::Consumer);
        for (p, _) in consumers {
            if s.procs[p].alive() {
                self.drain(*s, p)?;
            }
        }
        for cur in [0, self.head(s)] {
            let mut x = *s;
            x.procs[stranger] = Proc {
                life: Life::Alive,
                cur,
                ..Proc::default()
            };
            self.drain(x, stranger)?;
        }
        Ok(())
    }

    fn drain(&self, mut x: State, p: usize) -> Result<(), Fault> {
        let left = |x: &State| {
            x.slots[..self.cfg.n]
                .iter()
                .filter(|s| s.unfinished())
                .count()
        };
        loop {
            let before = left(&x);
            x.procs[p].pc = Pc::Get;
            x.procs[p].ops = 1;
            let mut steps = 0;
            while x.procs[p].pc != Pc::Done {
                self.step(&mut x, p, &mut Vec::new())?;
                self.observe(&mut x)?;
                steps += 1;
                if steps > 1000 {
                    return Err("a get alone with a ring at rest does not come to an end");
                }
            }
            if left(&x) == before {
                let lost = "a committed message can no longer be obtained";
                return if before == 0 { Ok(()) } else { Err(lost) };
            }
        }
    }
}

#[derive(Default)]
struct Instant {
    /// There is a message that nobody ever took.
    fresh: bool,
    /// No position is free: the one that the next claim would reuse is not finished.
    full: bool,
    /// Slots whose message belongs to a dead consumer; those of them that say so.
    dead: u8,
    orphan: u8,
}

fn first(role: Role) -> Pc {
    match role {
        Role::Producer => Pc::Put,
        Role::Consumer => Pc::Get,
        Role::Sweeper => Pc::Idle,
        Role::Closer => Pc::Close,
    }
}

/// The call has returned.
pub fn returns(q: &mut Proc, again: Pc) {
    q.ops -= 1;
    q.pc = if q.ops > 0 { again } else { Pc::Done };
    q.clear_call();
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config {
            n,
            put,
            get,
            deaths,
            prefill,
            ..
        } = self;
        write!(
            f,
            "n={n} put={put:?} get={get:?} full={prefill} deaths={deaths}"
        )?;
        for (name, count) in [("sweepers", self.sweepers), ("joins", self.joins.into())] {
            if count > 0 {
                write!(f, " {name}={count}")?;
            }
        }
        for (name, on) in [
            ("closer", self.closer),
            ("hints", self.hints),
            ("batch", self.batch),
            ("unseen", self.unseen),
        ] {
            if on {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}

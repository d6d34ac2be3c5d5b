//! A sweep: one operation, killed at every chosen step, each time in a fresh victim, and after
//! each kill the question whether the survivors can go on and the books balance.

use std::any::Any;
use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use multiprocess::{ExitCode, Process, family};

use crate::stepper::{End, Stepper, Stop};
use crate::trace::{Point, Trace, plan, trace};
use crate::watch;

/// A process that marks its operation.
pub trait Victim {
    /// Attaches to it and brings it to the mark where its operation begins.
    fn attach(&mut self) -> Result<Stepper, String>;

    /// Reaps it after it has ended so. What its owner learns may tell the outcome.
    fn reap(self, end: End) -> Result<Outcome, String>;

    /// Waits for the end of a victim that nobody traces any more.
    fn finish(self) -> Result<Outcome, String>;
}

impl Victim for Process<()> {
    fn attach(&mut self) -> Result<Stepper, String> {
        let attached = Stepper::attach(self.pid());
        let mut stepper = attached.inspect_err(|_| drop(self.kill()))?;
        stepper.run_to_mark()?;
        Ok(stepper)
    }

    fn reap(self, end: End) -> Result<Outcome, String> {
        let exit = self.wait();
        let expected = match end {
            End::Exited(code) => ExitCode::Exited(code),
            End::Killed(signal) => ExitCode::Signaled(signal),
        };
        if exit != expected {
            return Err(format!("ended by {end:?}, reported as {exit:?}"));
        }
        Ok(Outcome::Untold)
    }

    fn finish(self) -> Result<Outcome, String> {
        self.reap(End::Exited(0))
    }
}

/// An operation and how to judge what its death left. `W` is one round's world.
pub struct Sweep<'a, W, V> {
    pub name: &'a str,
    /// Makes a fresh world.
    pub setup: &'a dyn Fn() -> W,
    /// Starts the victim, which marks the operation.
    pub victim: &'a dyn Fn(&mut W) -> V,
    /// What the survivors do when the victim sleeps in its operation.
    pub unblock: Option<&'a dyn Fn(&mut W)>,
    /// False when the number of steps is a matter of time, as of an operation that spins.
    pub steady: bool,
    /// What survivors find and do after the death; checks all promises.
    pub check: &'a dyn Fn(W, Corpse) -> Outcome,
    /// What an operation that nobody killed leaves.
    pub whole: Outcome,
}

/// Whether an operation took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    NotDone,
    Done,
    /// There is nothing that a survivor could tell.
    Untold,
}

impl From<bool> for Outcome {
    fn from(done: bool) -> Self {
        match done {
            true => Outcome::Done,
            false => Outcome::NotDone,
        }
    }
}

/// What survivors can know of the victim when they look at the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corpse {
    /// It is dead, but nobody has been told.
    Zombie,
    /// It was reaped, and the family has collected what it left.
    Reaped,
}

impl Corpse {
    /// Half of the rounds meet the one, half the other. Not in turn: points often come in pairs, before and after a step.
    fn of_round(number: usize) -> Corpse {
        match (number ^ (number >> 1)) % 2 {
            0 => Corpse::Reaped,
            _ => Corpse::Zombie,
        }
    }
}

impl Outcome {
    /// This one, unless only the other tells anything.
    pub fn or(self, other: Outcome) -> Outcome {
        match self {
            Outcome::Untold => other,
            told => told,
        }
    }
}

const DEFAULT_STRIDE: usize = 16;
/// More failures than this teach nothing new.
const MOST_FAILURES: usize = 40;

/// The sweeps share the family's books, so they run one at a time, on one processor (a switch
/// between a tracer and its victim across processors takes ten times as long).
pub struct Alone {
    _lock: MutexGuard<'static, ()>,
    processors: libc::cpu_set_t,
    personality: i32,
}

static ALONE: Mutex<()> = Mutex::new(());

pub fn alone() -> Alone {
    let lock = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    // The family measures the machine when it begins: before it is narrowed here.
    members();
    // SAFETY: all-zero bytes are an empty set.
    let mut processors: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours and has the size that is named.
    unsafe { libc::sched_getaffinity(0, size_of_val(&processors), &mut processors) };
    // SAFETY: all-zero bytes are an empty set.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: takes nothing.
    let here = unsafe { libc::sched_getcpu() };
    // SAFETY: the number of a processor is within the set.
    unsafe { libc::CPU_SET(here.max(0) as usize, &mut one) };
    // SAFETY: as above. Where it is refused, the sweep is slower.
    unsafe { libc::sched_setaffinity(0, size_of_val(&one), &one) };
    // SAFETY: takes a number; -1 only asks.
    let personality = unsafe { libc::personality(0xffff_ffff) };
    // Victims at equal addresses take equal steps. Where it is refused, kill points are reached
    // by counting alone.
    let fixed = (personality | libc::ADDR_NO_RANDOMIZE) as libc::c_ulong;
    // SAFETY: takes a number; affects programs that this thread starts from now on.
    unsafe { libc::personality(fixed) };
    Alone {
        _lock: lock,
        processors,
        personality,
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let size = size_of_val(&self.processors);
        // SAFETY: the set was filled by the kernel.
        unsafe { libc::sched_setaffinity(0, size, &self.processors) };
        // SAFETY: takes a number.
        unsafe { libc::personality(self.personality as libc::c_ulong) };
    }
}

/// Every how many steps a victim is killed, where no rule asks for more.
pub fn stride() -> usize {
    match env::var("SWEEP_STRIDE") {
        Ok(text) => match text.parse() {
            Ok(stride @ 1..) => stride,
            _ => panic!("SWEEP_STRIDE is a positive number, not {text:?}"),
        },
        Err(_) => DEFAULT_STRIDE,
    }
}

/// What a sweep found out about its operation.
pub struct Report {
    pub trace: Trace,
    /// After how many steps the effect is first seen, when it can be told.
    pub boundary: Option<usize>,
}

impl<W, V: Victim> Sweep<'_, W, V> {
    /// Sweeps; panics with a list of what failed.
    pub fn run(&self, _alone: &Alone) -> Report {
        let begin = Instant::now();
        let watch = watch::start(self.name.to_string());
        let unharmed = || self.rehearse().and_then(|()| self.unharmed());
        let whole = match catch_unwind(AssertUnwindSafe(unharmed)) {
            Ok(Ok(whole)) => whole,
            Ok(Err(error)) => panic!("{}: unharmed: {error}", self.name),
            Err(panic) => panic!("{}: unharmed: {}", self.name, message(&*panic)),
        };
        let points = plan(&whole.steps, stride());
        let mut rounds = Rounds::default();
        for (number, &point) in points.iter().enumerate() {
            watch.round(format!("{} killed after {} steps", self.name, point.after));
            let round = AssertUnwindSafe(|| {
                self.killed_at(&whole, point, Corpse::of_round(number), &mut rounds)
            });
            let failure = match catch_unwind(round) {
                Ok(Ok(outcome)) => {
                    rounds.outcomes.push((point, outcome));
                    continue;
                }
                Ok(Err(error)) => error,
                Err(panic) => message(&*panic),
            };
            rounds.failures.push((point, failure));
            if rounds.failures.len() >= MOST_FAILURES {
                break;
            }
        }
        self.conclude(whole, points.len(), rounds, begin)
    }

    /// A round before the first: killed before its first step. What a family does only once, or other than before once
    /// somebody has died in it, is over then, and the steps of the first round are those of all later ones.
    fn rehearse(&self) -> Result<(), String> {
        let balance = Balance::now();
        let mut world = (self.setup)();
        let mut victim = (self.victim)(&mut world);
        let mut stepper = victim.attach()?;
        let end = stepper.kill()?;
        drop(stepper);
        victim.reap(end)?;
        match (self.check)(world, Corpse::Reaped) {
            Outcome::Done if self.whole == Outcome::Done => Err("done before it has begun".into()),
            _ => balance.check(),
        }
    }

    /// The first round: nobody is killed.
    fn unharmed(&self) -> Result<Trace, String> {
        let balance = Balance::now();
        let mut world = (self.setup)();
        let mut victim = (self.victim)(&mut world);
        let mut stepper = victim.attach()?;
        let trace = trace(&mut stepper, &mut || self.unblock(&mut world))?;
        let told = match trace.ended {
            Some(end) => {
                drop(stepper);
                victim.reap(end)?
            }
            None => {
                stepper.let_go()?;
                victim.finish()?
            }
        };
        let outcome = told.or((self.check)(world, Corpse::Reaped));
        if outcome != self.whole {
            return Err(format!("the effect is {outcome:?}"));
        }
        balance.check()?;
        Ok(trace)
    }

    fn unblock(&self, world: &mut W) {
        if let Some(unblock) = self.unblock {
            unblock(world);
        }
    }

    fn killed_at(
        &self,
        whole: &Trace,
        point: Point,
        corpse: Corpse,
        rounds: &mut Rounds,
    ) -> Result<Outcome, String> {
        let balance = Balance::now();
        let mut world = (self.setup)();
        let mut victim = (self.victim)(&mut world);
        let mut stepper = victim.attach()?;
        let mut unblock = || self.unblock(&mut world);
        let arrived = reach(&mut stepper, whole, point, &mut unblock)?;
        if arrived != Arrived::There {
            rounds.astray += 1;
        }
        let end = stepper.kill()?;
        drop(stepper);
        let outcome = match corpse {
            Corpse::Reaped => {
                let told = victim.reap(end)?;
                told.or((self.check)(world, corpse))
            }
            Corpse::Zombie => {
                let seen = (self.check)(world, corpse);
                victim.reap(end)?.or(seen)
            }
        };
        balance.check()?;
        match arrived {
            Arrived::There => Ok(outcome),
            _ => Ok(Outcome::Untold),
        }
    }

    fn conclude(&self, whole: Trace, planned: usize, rounds: Rounds, begin: Instant) -> Report {
        let (name, steps) = (self.name, whole.len());
        let (boundary, clean) = rounds.boundary();
        let at = boundary.map_or("untold".into(), |n| format!("{n} ({})", whole.place(n - 1)));
        println!(
            "{name}: {steps} steps, {planned} kills, {} astray, effect from {at}, {:.1} s",
            rounds.astray,
            begin.elapsed().as_secs_f32(),
        );
        let mut faults: Vec<String> = rounds
            .failures
            .iter()
            .map(|(point, fault)| {
                let asleep = if point.asleep { ", asleep" } else { "" };
                let around = whole.around(point.after);
                format!("  after {} steps{asleep}, {around}: {fault}", point.after)
            })
            .collect();
        if !clean {
            faults.push(format!("  no clean boundary: {}", rounds.stretches()));
        }
        if self.steady && rounds.astray * 10 > planned {
            faults.push(format!(
                "  {} of {planned} kill points were missed",
                rounds.astray
            ));
        }
        assert!(faults.is_empty(), "{name}:\n{}", faults.join("\n"));
        Report {
            trace: whole,
            boundary,
        }
    }
}

#[derive(Default)]
struct Rounds {
    outcomes: Vec<(Point, Outcome)>,
    failures: Vec<(Point, String)>,
    /// Victims that did not come by the place where they were to be killed.
    astray: usize,
}

impl Rounds {
    /// Where the effect sets in, and whether it does so once.
    fn boundary(&self) -> (Option<usize>, bool) {
        let mut told: Vec<(usize, bool)> = self
            .outcomes
            .iter()
            .filter(|(_, outcome)| *outcome != Outcome::Untold)
            .map(|(point, outcome)| (point.after, *outcome == Outcome::Done))
            .collect();
        told.sort();
        let first = told.iter().find(|(_, done)| *done).map(|(n, _)| *n);
        let clean = told.is_sorted_by_key(|(_, done)| *done);
        (first.filter(|n| *n > 0), clean)
    }

    fn stretches(&self) -> String {
        let mut text = String::new();
        let mut last = None;
        for (point, outcome) in &self.outcomes {
            if last != Some(*outcome) {
                text += &format!("{} {outcome:?}, ", point.after);
                last = Some(*outcome);
            }
        }
        text
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    There,
    /// It ended, or finished its operation, or came elsewhere.
    Elsewhere,
}

/// Kills a victim after so many steps of its operation, and reaps it if it is to be reaped; else it is given back, a zombie.
pub fn kill_after<V: Victim>(
    mut victim: V,
    whole: &Trace,
    after: usize,
    reaped: bool,
) -> Option<V> {
    let mut stepper = victim.attach().expect("the first victim");
    let asleep = false;
    let arrived = reach(&mut stepper, whole, Point { after, asleep }, &mut || {});
    assert_eq!(arrived, Ok(Arrived::There), "the first victim went astray");
    let end = stepper.kill().expect("kill");
    drop(stepper);
    if !reaped {
        return Some(victim);
    }
    victim.reap(end).expect("reap");
    None
}

/// Brings a victim from its first mark to a kill point.
pub fn reach(
    stepper: &mut Stepper,
    whole: &Trace,
    point: Point,
    unblock: &mut dyn FnMut(),
) -> Result<Arrived, String> {
    let mut done = 0;
    // Where addresses are not fixed, only the count says which step this is.
    let fixed = whole.steps.first().map(|step| step.site) == Some(stepper.next()?.site);
    if fixed
        && let Some((site, times, rest)) = whole.shortcut(point.after)
        && stepper.set_breakpoint(None)?
    {
        if stepper.run_to(site, times, unblock)? != Stop::Stepped {
            return Ok(Arrived::Elsewhere);
        }
        done = point.after - rest;
    }
    let mut on_path = true;
    while done < point.after {
        on_path &= !fixed || whole.steps[done].site == stepper.next()?.site;
        let mut stop = stepper.step()?;
        if stop == Stop::Blocked {
            unblock();
            stop = stepper.wait()?;
        }
        if matches!(stop, Stop::Mark | Stop::Ended(_)) {
            return Ok(Arrived::Elsewhere);
        }
        done += 1;
    }
    if point.asleep {
        return match stepper.step()? {
            Stop::Blocked => Ok(Arrived::There),
            _ => Ok(Arrived::Elsewhere),
        };
    }
    let here = stepper.next()?.site;
    match whole.steps.get(point.after) {
        Some(step) if fixed && step.site != here => Ok(Arrived::Elsewhere),
        _ if on_path => Ok(Arrived::There),
        _ => Ok(Arrived::Elsewhere),
    }
}

/// The family's books before a round.
#[derive(PartialEq, Eq)]
pub struct Balance {
    bytes: u64,
    objects: BTreeMap<&'static str, usize>,
}

impl Balance {
    pub fn now() -> Balance {
        let stats = family::stats();
        Balance {
            bytes: stats.bytes_in_use,
            objects: stats.objects,
        }
    }

    /// Everything was given back.
    pub fn check(&self) -> Result<(), String> {
        let now = Balance::now();
        if now == *self {
            return Ok(());
        }
        Err(format!(
            "{} bytes in {:?} before, {} in {:?} after",
            self.bytes, self.objects, now.bytes, now.objects
        ))
    }
}

/// How many processes the family has.
pub fn members() -> usize {
    family::stats().members
}

pub fn message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<String>() {
        return text.clone();
    }
    let text = panic.downcast_ref::<&str>();
    text.copied().unwrap_or("a panic without words").to_string()
}

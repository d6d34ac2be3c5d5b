//! The first, unharmed run of an operation: every step with its effect; and from it the points at
//! which the operation is killed in the rounds that follow.
//!
//! Which steps write shared memory is found by effect: before a step that addresses a shared
//! mapping (by its registers and address form) and after it, that memory is compared. A store
//! that changes nothing is the same to a survivor as no store. What this misses: scatter stores
//! and other instructions whose address is not in their address form (masked-move by `rdi`), and
//! writes that the kernel makes in a system call (each of those is a kill point anyway).

use std::collections::HashMap;
use std::fs;

use crate::arch::Class;
use crate::stepper::{End, Next, Site, Stepper, Stop, read_memory};

/// One step of the unharmed run.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub site: Site,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    /// Shared memory changed.
    Write,
    /// A locked instruction on shared memory, whether it changed anything or not.
    Atomic,
    Syscall,
    /// A system call in which the victim slept until the survivors did something.
    Blocked,
}

/// The unharmed run.
#[derive(Debug)]
pub struct Trace {
    pub steps: Vec<Step>,
    /// True when the victim ended by itself; else it came to its second mark.
    pub ended: Option<End>,
    arrivals: Vec<u32>,
    maps: Vec<Mapping>,
}

#[derive(Clone, Debug)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    shared: bool,
    name: String,
}

/// Steps a victim from its first mark to its second, or to its end. `unblock` is called when the
/// victim sleeps.
pub fn trace(stepper: &mut Stepper, unblock: &mut dyn FnMut()) -> Result<Trace, String> {
    let mut steps = Vec::new();
    let mut maps = mappings(stepper.pid());
    let ended = loop {
        let next = stepper.next()?;
        let before = shared_memory(stepper.pid(), &maps, &next);
        let mut stop = stepper.step()?;
        let mut effect = match next.insn.class {
            Class::Syscall => Effect::Syscall,
            Class::Atomic if before.is_some() => Effect::Atomic,
            _ => Effect::None,
        };
        if stop == Stop::Blocked {
            effect = Effect::Blocked;
            unblock();
            stop = stepper.wait()?;
        }
        match stop {
            Stop::Mark => break None,
            Stop::Ended(end) => {
                steps.push(Step {
                    site: next.site,
                    effect,
                });
                break Some(end);
            }
            _ => {}
        }
        if let Some((address, before)) = before
            && effect == Effect::None
        {
            let mut after = vec![0; before.len()];
            read_memory(stepper.pid(), address, &mut after);
            if before != after {
                effect = Effect::Write;
            }
        }
        if next.syscall().is_some_and(changes_mappings) {
            maps = mappings(stepper.pid());
        }
        steps.push(Step {
            site: next.site,
            effect,
        });
    };
    Ok(Trace {
        arrivals: arrivals(&steps),
        steps,
        ended,
        maps,
    })
}

fn changes_mappings(syscall: u64) -> bool {
    let syscall = syscall as i64;
    [libc::SYS_mmap, libc::SYS_mremap, libc::SYS_munmap].contains(&syscall)
}

/// The bytes that a step may write, where a shared mapping holds them.
fn shared_memory(pid: i32, maps: &[Mapping], next: &Next) -> Option<(u64, Vec<u8>)> {
    let (address, length) = next.touched?;
    let (from, to) = (address, address.saturating_add(length));
    let map = maps
        .iter()
        .find(|map| map.shared && map.start < to && from < map.end)?;
    let (from, to) = (from.max(map.start), to.min(map.end));
    let mut bytes = vec![0; (to - from) as usize];
    read_memory(pid, from, &mut bytes);
    Some((from, bytes))
}

fn mappings(pid: i32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    text.lines().filter_map(mapping).collect()
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        start: number(start)?,
        end: number(end)?,
        offset: number(fields.next()?)?,
        shared: rights.ends_with('s') && rights.contains('w'),
        name: fields.nth(2).unwrap_or("?").to_string(),
    })
}

impl Trace {
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True when the victim slept in a system call.
    pub fn slept(&self) -> bool {
        self.steps.iter().any(|step| step.effect == Effect::Blocked)
    }

    /// Where step `n` is, as an offset in a file that objdump and addr2line know.
    pub fn place(&self, n: usize) -> String {
        let Some(step) = self.steps.get(n) else {
            return "the end".into();
        };
        let map = self
            .maps
            .iter()
            .find(|map| map.start <= step.site.pc && step.site.pc < map.end);
        match map {
            Some(map) => {
                let file = map.name.rsplit('/').next().unwrap_or_default();
                format!("{file}+{:#x}", step.site.pc - map.start + map.offset)
            }
            None => format!("{:#x}", step.site.pc),
        }
    }

    /// What lies around a kill point: the last effect before it, the next step, the next effect.
    pub fn around(&self, n: usize) -> String {
        let effect = |m: &usize| self.steps[*m].effect != Effect::None;
        let tell = |m: Option<usize>| match m {
            Some(m) => format!("{:?} {m} at {}", self.steps[m].effect, self.place(m)),
            None => "nothing".into(),
        };
        let before = tell((0..n.min(self.len())).rev().find(effect));
        let behind = tell((n..self.len()).find(effect));
        format!("before {}, between {before} and {behind}", self.place(n))
    }

    /// How a kill point is reached without stepping all the way: run to a site so many times,
    /// then step the rest. `None` when stepping is as good.
    ///
    /// What turns more often in one round than in another shifts what is counted. So the site is one come by
    /// only once, or else least, among the last steps; those behind it are stepped, where each can be compared.
    pub fn shortcut(&self, n: usize) -> Option<(Site, usize, usize)> {
        const STEPPED: usize = 100;
        /// So far back for one come by only once.
        const FAR: usize = 5 * STEPPED;
        let end = n.min(self.len());
        let from = end.checked_sub(STEPPED).filter(|&m| m > 0)?;
        // In a repeated instruction the breakpoint is met once only.
        let fresh = |m: &usize| self.steps[*m].site != self.steps[m - 1].site;
        let unique = |m: &usize| fresh(m) && self.arrivals[*m] == 1;
        let near = (from..end).rfind(unique);
        let far = || (end.saturating_sub(FAR).max(1)..from).rfind(unique);
        let least = || {
            (from..end)
                .filter(fresh)
                .min_by_key(|&m| (self.arrivals[m], usize::MAX - m))
        };
        let anchor = near.or_else(far).or_else(least)?;
        let arrivals = self.arrivals[anchor] as usize;
        let worth = arrivals + (n - anchor) + STEPPED < n;
        worth.then_some((self.steps[anchor].site, arrivals, n - anchor))
    }
}

/// For each step, how often its instruction has been come by, itself included. A repeated
/// instruction counts once for all its repetitions.
fn arrivals(steps: &[Step]) -> Vec<u32> {
    let mut seen: HashMap<Site, u32> = HashMap::new();
    let mut last = None;
    let count = |step: &Step| {
        let count = seen.entry(step.site).or_default();
        *count += u32::from(last.replace(step.site) != Some(step.site));
        *count
    };
    steps.iter().map(count).collect()
}

/// Where a victim is killed: after so many steps, or asleep in the step that follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub after: usize,
    pub asleep: bool,
}

/// Longer operations are not swept instruction by instruction.
const LONG: usize = 20_000;

/// Chooses the kill points: every instruction; of one that is come by very often, a sample of the
/// times. In a long operation, every system call, every locked instruction and every write to
/// shared memory, before and after; of the rest, and of long runs of one and the same writing
/// instruction, a sample. `stride` above 1 thins them, most where survivors see no difference: between two effects, unless the
/// tracer has missed one.
pub fn plan(steps: &[Step], stride: usize) -> Vec<Point> {
    /// How much more the steps without effect are thinned.
    const QUIET: usize = 4;
    // Steps on each side of a locked instruction, beside those just before it and just after it.
    let near_atomic = if stride == 1 { 3 } else { 1 };
    /// Samples of the steps without effect, and of those of one writing instruction.
    const SAMPLES: usize = 200;
    const WRITES: usize = 100;
    /// Arrivals at one instruction that are never thinned, first and last.
    const EDGES: usize = 3;
    /// Arrivals at one instruction without effect that are kill points.
    const PASSES: usize = 100;

    let length = steps.len();
    let mut chosen = vec![false; length + 1];
    let long = length > LONG;
    let every = match stride {
        _ if long => stride * length / SAMPLES,
        1 => 1,
        _ => stride * QUIET,
    };
    let mut passes: HashMap<u64, usize> = HashMap::new();
    for step in steps {
        *passes.entry(step.site.pc).or_default() += 1;
    }
    let mut passed: HashMap<u64, usize> = HashMap::new();
    for (n, step) in steps.iter().enumerate() {
        let nth = passed.entry(step.site.pc).or_default();
        *nth += 1;
        let rare = *nth % (passes[&step.site.pc] / PASSES).max(1) == 0;
        chosen[n] = n % every == 0 && rare;
    }
    chosen[length] = true;
    let mut total: HashMap<u64, usize> = HashMap::new();
    for step in steps.iter().filter(|step| step.effect != Effect::None) {
        *total.entry(step.site.pc).or_default() += 1;
    }
    let mut seen: HashMap<u64, usize> = HashMap::new();
    for (n, step) in steps.iter().enumerate() {
        if step.effect == Effect::None {
            continue;
        }
        let nth = seen.entry(step.site.pc).or_default();
        *nth += 1;
        let total = total[&step.site.pc];
        let edge = *nth <= EDGES || *nth + EDGES > total;
        let keep = match step.effect {
            Effect::Atomic if stride == 1 => total <= 4 * WRITES || *nth % (total / WRITES) == 0,
            _ => *nth % (stride * (total / WRITES).max(1)) == 0,
        };
        if !edge && !keep {
            continue;
        }
        let near = match step.effect {
            Effect::Atomic if !long => near_atomic,
            _ => 0,
        };
        chosen[n.saturating_sub(near)..=(n + 1 + near).min(length)].fill(true);
    }
    let mut points: Vec<Point> = (0..=length)
        .filter(|&n| chosen[n])
        .map(|after| Point {
            after,
            asleep: false,
        })
        .collect();
    let asleep = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.effect == Effect::Blocked)
        .map(|(after, _)| Point {
            after,
            asleep: true,
        });
    points.extend(asleep);
    points.sort();
    points
}

//! Breadth-first search over all interleavings, with a visited set of packed states.

use crate::model::*;
use crate::state::*;
use std::fmt::Write;

/// What a search found.
pub struct Report {
    pub states: usize,
    pub steps: usize,
    pub finals: usize,
    /// The first violation, with the shortest way to it.
    pub violation: Option<(Fault, String)>,
}

/// Flat storage of packed states with an open-addressing index and the state each came from.
struct Store {
    stride: usize,
    words: Vec<u64>,
    parents: Vec<u32>,
    table: Vec<u32>,
}

const NONE: u32 = u32::MAX;

/// The hash of rustc (FxHash), with the high bits folded down.
fn hash(words: &[u64]) -> usize {
    let mix = |h: u64, w: &u64| (h.rotate_left(5) ^ w).wrapping_mul(0x517c_c1b7_2722_0a95);
    let h = words.iter().fold(0, mix);
    (h ^ h >> 32) as usize
}

impl Store {
    fn new(stride: usize) -> Store {
        Store {
            stride,
            words: Vec::new(),
            parents: Vec::new(),
            table: vec![NONE; 1 << 16],
        }
    }

    fn len(&self) -> usize {
        self.parents.len()
    }

    fn get(&self, id: usize) -> &[u64] {
        &self.words[id * self.stride..][..self.stride]
    }

    /// Where the state is in the table, or the place for it.
    fn place(&self, key: &[u64]) -> usize {
        let mask = self.table.len() - 1;
        let mut at = hash(key) & mask;
        while self.table[at] != NONE && self.get(self.table[at] as usize) != key {
            at = (at + 1) & mask;
        }
        at
    }

    fn find(&self, key: &[u64]) -> usize {
        self.table[self.place(key)] as usize
    }

    fn insert(&mut self, key: &[u64], parent: u32) {
        let at = self.place(key);
        if self.table[at] != NONE {
            return;
        }
        self.table[at] = self.len() as u32;
        self.words.extend_from_slice(key);
        self.parents.push(parent);
        if self.len() * 8 > self.table.len() * 5 {
            let size = self.table.len() * 2;
            self.table.clear();
            self.table.resize(size, NONE);
            for id in 0..self.len() {
                let mut at = hash(self.get(id)) & (size - 1);
                while self.table[at] != NONE {
                    at = (at + 1) & (size - 1);
                }
                self.table[at] = id as u32;
            }
        }
    }
}

pub struct Search<'a> {
    model: &'a Model,
    store: Store,
    steps: usize,
    finals: usize,
}

impl<'a> Search<'a> {
    /// Visits every state, then looks for states from which the living cannot finish.
    /// Panics beyond `limit` states: that is the guard against an endless test.
    pub fn run(model: &'a Model, limit: usize) -> Report {
        let stride = 1 + model.cfg.n + model.roles.len();
        let mut search = Search {
            model,
            store: Store::new(stride),
            steps: 0,
            finals: 0,
        };
        let found = search.forward(limit).or_else(|| search.backward());
        let violation = found.map(|(id, who, fault)| (fault, search.trace(id, who, fault)));
        Report {
            states: search.store.len(),
            steps: search.steps,
            finals: search.finals,
            violation,
        }
    }

    fn load(&self, id: usize) -> State {
        State::unpack(self.model.cfg.n, self.store.get(id))
    }

    fn pack(&self, s: &State, key: &mut Vec<u64>) {
        let procs = self.model.roles.len();
        if self.model.cfg.symmetric {
            self.model.canonical(s).pack(self.model.cfg.n, procs, key);
        } else {
            s.pack(self.model.cfg.n, procs, key);
        }
    }

    fn forward(&mut self, limit: usize) -> Option<(usize, Option<usize>, Fault)> {
        let (mut key, mut out) = (Vec::new(), Vec::new());
        self.pack(&self.model.start(), &mut key);
        self.store.insert(&key, NONE);
        let mut id = 0;
        while id < self.store.len() {
            let s = self.load(id);
            if self.model.is_final(&s) {
                self.finals += 1;
                if let Err(fault) = self.model.check_drain(&s) {
                    return Some((id, None, fault));
                }
            }
            if let Err((who, fault)) = self.model.successors(&s, &mut out) {
                return Some((id, Some(who), fault));
            }
            self.steps += out.len();
            for next in &out {
                self.pack(&next.state, &mut key);
                self.store.insert(&key, id as u32);
            }
            assert!(self.store.len() <= limit, "more than {limit} states");
            id += 1;
        }
        None
    }

    /// From every state, with no further death and no new process, some order of steps must lead
    /// to a state where all the living are done.
    fn backward(&self) -> Option<(usize, Option<usize>, Fault)> {
        let mut ends = vec![false; self.store.len()];
        let (mut key, mut out) = (Vec::new(), Vec::new());
        let mut changed = true;
        while changed {
            changed = false;
            for id in (0..ends.len()).rev() {
                if ends[id] {
                    continue;
                }
                let s = self.load(id);
                let mut end = self.model.is_final(&s);
                if !end && self.model.successors(&s, &mut out).is_ok() {
                    end = out.iter().any(|next| {
                        matches!(next.by, Move::Step(_)) && {
                            self.pack(&next.state, &mut key);
                            ends[self.store.find(&key)]
                        }
                    });
                }
                ends[id] = end;
                changed |= end;
            }
        }
        let stuck = ends.iter().position(|end| !end)?;
        Some((stuck, None, "the survivors can never finish"))
    }

    /// The way from the start to state `id`, and the step of `who` that breaks a promise.
    fn trace(&self, id: usize, who: Option<usize>, fault: Fault) -> String {
        let mut path = vec![id];
        while self.store.parents[path[path.len() - 1]] != NONE {
            path.push(self.store.parents[path[path.len() - 1]] as usize);
        }
        path.reverse();
        let (mut text, mut key, mut out) = (String::new(), Vec::new(), Vec::new());
        let _ = writeln!(text, "{fault}; {} steps:", path.len());
        for pair in path.windows(2) {
            let s = self.load(pair[0]);
            let _ = self.model.successors(&s, &mut out);
            for next in &out {
                self.pack(&next.state, &mut key);
                if self.store.find(&key) == pair[1] {
                    let _ = writeln!(text, "  {}", self.model.describe(next));
                    break;
                }
            }
        }
        let s = self.load(id);
        match who {
            Some(p) => {
                let _ = writeln!(
                    text,
                    "  {} {:?}  <- {fault}",
                    self.model.name(p),
                    s.procs[p].pc
                );
            }
            None => {
                for (p, q) in s.procs[..self.model.roles.len()].iter().enumerate() {
                    let _ = writeln!(
                        text,
                        "  {} is {:?} at {:?}",
                        self.model.name(p),
                        q.life,
                        q.pc
                    );
                }
            }
        }
        text
    }
}

impl Model {
    pub fn name(&self, p: usize) -> String {
        format!("{:?} {}", self.roles[p], p + 1)
    }

    fn describe(&self, next: &Next) -> String {
        let mut text = format!("{} ", self.name(next.who));
        let _ = match next.by {
            Move::Step(pc) => write!(text, "{pc:?}"),
            Move::Dies(pc) => write!(text, "dies before {pc:?}"),
            Move::Joins => write!(text, "joins as a new process"),
        };
        let _ = write!(text, "{:1$}", "", 40usize.saturating_sub(text.len()));
        for slot in &next.state.slots[..self.cfg.n] {
            let Slot {
                claim,
                take,
                published,
                ..
            } = slot;
            let _ = write!(text, " [claim {claim:?}, take {take:?}, pub {published}]");
        }
        text
    }

    /// The same state with the interchangeable processes in a fixed order. Ties stay as they are:
    /// that costs a few states more, and nothing else.
    fn canonical(&self, s: &State) -> State {
        let count = self.roles.len();
        let mut order: [usize; MAX_PROCS] = std::array::from_fn(|p| p);
        let mut keys = [(0u64, 0u32); MAX_PROCS];
        for (p, key) in keys.iter_mut().enumerate().take(count) {
            let q = &s.procs[p];
            let bare = Proc {
                c: q.c.with_owner(0),
                k: q.k.with_owner(0),
                ..*q
            };
            let mut marks = 0;
            for slot in &s.slots[..self.cfg.n] {
                marks = marks << 2
                    | u32::from(slot.claim.owner() == tag(p)) << 1
                    | u32::from(slot.take.owner() == tag(p));
            }
            *key = (bare.pack(), marks);
        }
        let (mut from, mut sorted) = (0, true);
        while from < count {
            let same =
                |p: usize| self.roles[p] == self.roles[from] && self.calls(p) == self.calls(from);
            let to = (from..count).find(|&p| !same(p)).unwrap_or(count);
            if self.roles[from] != Role::Sweeper {
                sorted &= (from + 1..to).all(|p| keys[p - 1] <= keys[p]);
                order[from..to].sort_by_key(|&p| keys[p]);
            }
            from = to;
        }
        if sorted {
            return *s;
        }
        let mut new_tag: [u8; 16] = std::array::from_fn(|t| t as u8);
        for (new, &old) in order.iter().enumerate().take(count) {
            new_tag[usize::from(tag(old))] = tag(new);
        }
        let rename = |w: Word| w.with_owner(new_tag[usize::from(w.owner())]);
        let mut x = *s;
        for slot in &mut x.slots[..self.cfg.n] {
            slot.claim = rename(slot.claim);
            slot.take = rename(slot.take);
        }
        for (new, &old) in order.iter().enumerate().take(count) {
            let mut q = s.procs[old];
            q.c = rename(q.c);
            q.k = rename(q.k);
            if self.roles[new] == Role::Sweeper && q.pc != Pc::Idle {
                q.cur = new_tag[usize::from(q.cur) + 1] - 1;
            }
            x.procs[new] = q;
        }
        x
    }

    /// How many calls the first process of place `p` makes.
    fn calls(&self, p: usize) -> Option<u8> {
        self.cfg.put.iter().chain(self.cfg.get).nth(p).copied()
    }
}

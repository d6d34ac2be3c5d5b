//! The parties of a model: members that die, at each of their writes.

use crate::arena::MemberId;
use crate::primitive::private::AtomicU32;
use crate::primitive::{AtomicU64, Fences, mortal};
use crate::sync::owner::{Me, Owners};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

pub(super) const FENCES: Fences = Fences::Symmetric;

/// Who has died.
pub(super) struct Deaths(AtomicU64);

impl Deaths {
    pub(super) fn new() -> Deaths {
        Deaths(AtomicU64::new(0))
    }

    pub(super) fn add(&self, member: MemberId) {
        self.0.fetch_or(1 << member, AcqRel);
    }

    /// Its number is another's from now on.
    pub(super) fn remove(&self, member: MemberId) {
        self.0.fetch_and(!(1 << member), AcqRel);
    }

    pub(super) fn are_any(&self) -> bool {
        self.0.load(Acquire) != 0
    }

    pub(super) fn have(&self, member: MemberId) -> bool {
        self.0.load(Acquire) & 1 << member != 0
    }
}

/// A member with one thread.
pub(super) struct Member<'a> {
    pub(super) id: MemberId,
    pub(super) deaths: &'a Deaths,
}

impl Owners for Member<'_> {
    fn me(&self) -> Me {
        Me {
            member: self.id,
            thread: 1,
        }
    }

    fn fences(&self) -> Fences {
        FENCES
    }

    fn is_dead(&self, member: MemberId) -> bool {
        self.deaths.have(member)
    }
}

/// Another party of the same model.
pub(super) fn beside<S, R>(
    shared: &loom::sync::Arc<S>,
    f: impl FnOnce(loom::sync::Arc<S>) -> R + 'static,
) -> loom::thread::JoinHandle<R>
where
    S: 'static,
    R: 'static,
{
    let shared = shared.clone();
    loom::thread::spawn(move || f(shared))
}

/// One that is killed.
#[derive(Clone)]
pub(super) struct Victim {
    writes: u32,
    killed: Arc<AtomicU32>,
}

impl Victim {
    /// `None` when it is killed; then `bury` says so to the others.
    pub(super) fn live<R>(&self, f: impl FnOnce() -> R, bury: impl FnOnce()) -> Option<R> {
        let result = mortal::live(self.writes, f);
        if result.is_none() {
            self.killed.store(1, Relaxed);
            bury();
        }
        result
    }
}

/// A model with a victim that is killed at its first write, one at its second, and so on, until it is always through before.
pub(super) fn at_each_write(killing: impl Fn(Victim) + Copy + Sync + Send + 'static) {
    for writes in 0.. {
        let victim = Victim {
            writes,
            killed: Arc::default(),
        };
        let killed = victim.killed.clone();
        model(move || killing(victim.clone()));
        if killed.load(Relaxed) == 0 {
            assert!(writes > 0, "nobody was killed");
            return;
        }
    }
}

pub(super) fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(f);
}

/// The same for a model that is too large for more.
pub(super) fn large_model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.map_or(2, |bound| bound.min(2)));
    builder.check(f);
}

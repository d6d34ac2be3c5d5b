//! What one process remembers of a ring. Hints, but honest ones: everything before `put` has been claimed, everything before
//! `get` taken or skipped, everything before `settled` acknowledged; before `free`, what was in the slot a lap earlier was
//! acknowledged. Threads of the process share them; a store that is
//! overtaken by an older one only costs steps.

use super::tag::Stamp;
use crate::primitive::private::AtomicU64;
use crossbeam_utils::CachePadded;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[derive(Debug)]
struct Producer {
    put: AtomicU64,
    /// The one cursor that hands something on between threads, so that the models have to see it.
    free: crate::primitive::AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Cursors {
    put: CachePadded<Producer>,
    get: CachePadded<AtomicU64>,
    settled: AtomicU64,
    /// The number of deaths after which the ring was last searched for messages of the dead.
    deaths: AtomicU64,
}

impl Cursors {
    pub(super) fn new(start: Stamp) -> Cursors {
        Cursors {
            put: CachePadded::new(Producer {
                put: AtomicU64::new(start.0),
                free: crate::primitive::AtomicU64::new(start.0),
            }),
            get: CachePadded::new(AtomicU64::new(start.0)),
            settled: AtomicU64::new(start.0),
            deaths: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn put(&self) -> Stamp {
        Stamp(self.put.put.load(Relaxed))
    }

    #[inline]
    pub(super) fn set_put(&self, stamp: Stamp) {
        self.put.put.store(stamp.0, Relaxed);
    }

    #[inline]
    pub(super) fn free(&self) -> Stamp {
        // (F) another thread may have read the take words.
        Stamp(self.put.free.load(Acquire))
    }

    pub(super) fn set_free(&self, stamp: Stamp) {
        // (F) pairs with `free`.
        self.put.free.store(stamp.0, Release);
    }

    #[inline]
    pub(super) fn get(&self) -> Stamp {
        Stamp(self.get.load(Relaxed))
    }

    #[inline]
    pub(super) fn set_get(&self, stamp: Stamp) {
        self.get.store(stamp.0, Relaxed);
    }

    pub(super) fn settled(&self) -> Stamp {
        Stamp(self.settled.load(Relaxed))
    }

    pub(super) fn set_settled(&self, stamp: Stamp) {
        self.settled.store(stamp.0, Relaxed);
    }

    #[inline]
    pub(super) fn deaths(&self) -> u64 {
        self.deaths.load(Relaxed)
    }

    /// Makes the next `take` search for messages of the dead.
    pub(super) fn search_again(&self) {
        self.deaths.store(u64::MAX, Relaxed);
    }

    pub(super) fn set_deaths(&self, deaths: u64) {
        self.deaths.store(deaths, Relaxed);
    }
}

//! The workers of a pool, as their parent knows them.
#![forbid(unsafe_code)]

use crate::process::Process;
use crate::ring::{Hand, Serial};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many deaths in a row, without a job between them, are taken as bad luck.
const LUCK: u32 = 3;
/// So many, and nothing will come of it any more.
const MOST_FAILURES: u32 = 16;
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) seat: usize,
    pub(super) serial: Serial,
    pub(super) process: Arc<Process<()>>,
}

/// A place for a worker that is about to be started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recruit {
    pub(super) seat: usize,
    pub(super) serial: Serial,
}

#[derive(Debug)]
pub(super) struct Staff {
    pub(super) workers: Vec<Worker>,
    /// How often one has come or gone.
    pub(super) changes: u64,
    seats: Vec<usize>,
    started: u64,
    /// How many initializers have succeeded.
    pub(super) ready: usize,
    /// How many have died in theirs since one has succeeded: whatever the others do meanwhile.
    stillborn: u32,
    /// How many workers have died, or could not be started, since one gave a job back.
    pub(super) failures: u32,
    not_before: Option<Instant>,
    /// Room for what came back.
    pub(super) hands: Vec<Hand>,
}

impl Staff {
    pub(super) fn new(seats: usize) -> Staff {
        Staff {
            workers: Vec::new(),
            changes: 0,
            seats: (0..seats).rev().collect(),
            started: 0,
            ready: 0,
            stillborn: 0,
            failures: 0,
            not_before: None,
            hands: Vec::new(),
        }
    }

    /// A free place, if there is one and the time has come.
    pub(super) fn recruit(&mut self) -> Option<Recruit> {
        if self.pause().is_some() {
            return None;
        }
        let seat = self.seats.pop()?;
        self.started += 1;
        let serial = Serial(self.started);
        Some(Recruit { seat, serial })
    }

    pub(super) fn hire(&mut self, recruit: Recruit, process: Process<()>) {
        self.changes += 1;
        self.workers.push(Worker {
            seat: recruit.seat,
            serial: recruit.serial,
            process: Arc::new(process),
        });
    }

    pub(super) fn dismiss(&mut self, seat: usize) {
        self.changes += 1;
        self.workers.retain(|worker| worker.seat != seat);
        self.seats.push(seat);
    }

    /// One has died, or could not be started: the next ones wait longer and longer.
    pub(super) fn failed(&mut self) {
        self.failures += 1;
        self.not_before = self.failures.checked_sub(LUCK).map(|exponent| {
            let pause = SHORTEST_PAUSE * (1 << exponent.min(8));
            Instant::now() + pause
        });
    }

    /// An initializer has succeeded.
    pub(super) fn initialized(&mut self) {
        self.ready += 1;
        self.stillborn = 0;
    }

    /// One has died in its initializer. Whether that says something about the initializer.
    pub(super) fn died_in_initializer(&mut self) -> bool {
        self.stillborn += 1;
        self.stillborn >= LUCK
    }

    pub(super) fn is_hopeless(&self) -> bool {
        self.failures >= MOST_FAILURES && self.workers.is_empty()
    }

    /// How long to wait with the next one.
    pub(super) fn pause(&self) -> Option<Duration> {
        if self.failures <= LUCK {
            return None;
        }
        let left = self.not_before?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn has_seats(&self) -> bool {
        !self.seats.is_empty()
    }
}

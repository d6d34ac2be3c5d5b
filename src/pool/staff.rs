//! The workers of a pool, as their parent knows them.
#![forbid(unsafe_code)]

use crate::process::Process;
use crate::ring::{Hand, Serial};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many deaths in a row, without a job between them, are taken as bad luck.
const LUCK: u32 = 3;
/// So many that never began, over so long a time, and nothing will come of it any more.
const MOST_UNBORN: u32 = 16;
const GIVEN: Duration = Duration::from_secs(2);
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
    /// How many workers have died since one gave a job back.
    pub(super) failures: u32,
    unborn: Unborn,
    not_before: Option<Instant>,
    /// Room for what came back.
    pub(super) hands: Vec<Hand>,
}

/// Those in a row that could not be started, or ended (killed, by a constructor, without memory) before they had begun: since one has.
#[derive(Debug, Default)]
struct Unborn {
    count: u32,
    since: Option<Instant>,
    last: u64,
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
            unborn: Unborn::default(),
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

    /// One has died: the next ones wait longer and longer.
    pub(super) fn failed(&mut self) {
        self.failures += 1;
        self.wait_longer();
    }

    fn wait_longer(&mut self) {
        self.not_before = self.in_a_row().checked_sub(LUCK).map(|exponent| {
            let pause = SHORTEST_PAUSE * (1 << exponent.min(8));
            Instant::now() + pause
        });
    }

    /// Other workers' results say nothing of those that never begin.
    fn in_a_row(&self) -> u32 {
        self.failures.max(self.unborn.count)
    }

    /// One could not be started, or ended before it had begun.
    pub(super) fn never_began(&mut self, worker: Serial) {
        self.failures += 1;
        self.unborn.count += 1;
        self.unborn.since.get_or_insert_with(Instant::now);
        self.unborn.last = self.unborn.last.max(worker.0);
        self.wait_longer();
    }

    /// Looks whether one has begun that was started after those that never did.
    pub(super) fn look(&mut self, has_begun: impl Fn(&Worker) -> bool) {
        let later = |worker: &&Worker| worker.serial.0 > self.unborn.last;
        if self.workers.iter().filter(later).any(has_begun) {
            self.unborn = Unborn::default();
        }
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

    /// So many in a row, none of them at work, over so long a time: the pauses between them give a killer time to go away.
    pub(super) fn is_hopeless(&self) -> bool {
        let long = |since: &Instant| since.elapsed() >= GIVEN;
        self.unborn.count >= MOST_UNBORN
            && self.unborn.since.as_ref().is_some_and(long)
            && self.workers.is_empty()
    }

    /// How long to wait with the next one.
    pub(super) fn pause(&self) -> Option<Duration> {
        if self.in_a_row() <= LUCK {
            return None;
        }
        let left = self.not_before?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn has_seats(&self) -> bool {
        !self.seats.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn die_unborn(staff: &mut Staff, workers: std::ops::Range<u64>) {
        workers.for_each(|worker| staff.never_began(Serial(worker)));
    }

    #[test]
    fn many_that_never_begin_over_a_long_time_are_hopeless() {
        let mut staff = Staff::new(2);
        die_unborn(&mut staff, 1..100);
        assert!(staff.pause().is_some());
        assert!(!staff.is_hopeless(), "all at once");
        staff.unborn.since = Instant::now().checked_sub(GIVEN);
        assert!(staff.is_hopeless());
        staff.unborn.count = MOST_UNBORN - 1;
        assert!(!staff.is_hopeless(), "so few");
        staff.never_began(Serial(100));
        assert!(staff.is_hopeless());
    }

    #[test]
    fn other_workers_results_do_not_hasten_those_that_never_begin() {
        let mut staff = Staff::new(2);
        die_unborn(&mut staff, 1..20);
        staff.failures = 0;
        assert!(staff.pause().is_some());
    }
}

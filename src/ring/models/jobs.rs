//! The protocol of a pool's jobs: takers, a parent who cancels, the list that is emptied meanwhile, and a worker who dies at any
//! step.

use crate::primitive::AtomicU64;
use crate::ring::jobs::{Hand, JobStorage, Jobs, Place, Serial, Ticket};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const CARDS: usize = 2;
const TASKS: u64 = 2;

struct Heap {
    returned: AtomicU64,
    taking: [AtomicU64; 2],
    /// Word, progress, next of each card.
    words: [[AtomicU64; 3]; CARDS],
    /// What the parent wrote, and a result for each task.
    args: [UnsafeCell<u64>; CARDS],
    results: [[UnsafeCell<u64>; TASKS as usize]; CARDS],
}

// SAFETY: cells are only touched by whoever has the card's hand, which is what loom checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

fn word() -> AtomicU64 {
    AtomicU64::new(0)
}

fn cell() -> UnsafeCell<u64> {
    UnsafeCell::new(0)
}

impl Heap {
    fn new() -> Arc<Heap> {
        Arc::new(Heap {
            returned: word(),
            taking: [word(), word()],
            words: std::array::from_fn(|_| [word(), word(), word()]),
            args: std::array::from_fn(|_| cell()),
            results: std::array::from_fn(|_| [cell(), cell()]),
        })
    }

    fn jobs(&self) -> Jobs<&Heap> {
        Jobs(self)
    }

    /// A new job with this argument.
    fn queue(&self, slot: usize, args: u64) -> Ticket {
        // SAFETY: nobody knows of the card.
        self.args[slot].with_mut(|at| unsafe { *at = args });
        self.jobs().queue(Hand::of_new(Place::new(0, slot)))
    }

    fn write(&self, hand: &Hand, task: u64) {
        let slot = hand.place.slot();
        // SAFETY: the worker has the hand.
        let args = self.args[slot].with(|at| unsafe { *at });
        // SAFETY: as above.
        self.results[slot][task as usize].with_mut(|at| unsafe { *at = args + task });
    }

    /// What the parent finds of a task that is finished.
    fn check(&self, hand: &Hand, task: u64, args: u64) {
        let result = &self.results[hand.place.slot()][task as usize];
        // SAFETY: the parent has the hand.
        assert_eq!(result.with(|at| unsafe { *at }), args + task);
    }

    /// A worker's life, up to so many steps. How far it came with a job.
    fn work(&self, ticket: Ticket, seat: usize, steps: u64) -> bool {
        let jobs = self.jobs();
        let taken = jobs.take(ticket, seat, Serial(seat as u64 + 1));
        let Some(hand) = taken else {
            return false;
        };
        for task in 0..TASKS {
            if steps <= 2 * task {
                return true;
            }
            jobs.marker(&hand).begin(task);
            if steps <= 2 * task + 1 {
                return true;
            }
            self.write(&hand, task);
        }
        if steps <= 2 * TASKS {
            return true;
        }
        jobs.pause(&hand, TASKS);
        if steps <= 2 * TASKS + 1 {
            return true;
        }
        jobs.give_back(hand);
        true
    }
}

impl JobStorage for &Heap {
    fn returned(&self) -> &AtomicU64 {
        &self.returned
    }
    fn taking(&self, seat: usize) -> &AtomicU64 {
        &self.taking[seat]
    }
    fn word(&self, place: Place) -> &AtomicU64 {
        &self.words[place.slot()][0]
    }
    fn progress(&self, place: Place) -> &AtomicU64 {
        &self.words[place.slot()][1]
    }
    fn next(&self, place: Place) -> &AtomicU64 {
        &self.words[place.slot()][2]
    }
}

const WHOLE: u64 = 100;

#[test]
fn each_job_is_run_once() {
    loom::model(|| {
        let heap = Heap::new();
        let tickets = [heap.queue(0, 10), heap.queue(1, 20)];
        let workers = [0, 1].map(|seat| {
            let heap = heap.clone();
            // The queue may give a ticket to both.
            thread::spawn(move || {
                let order = [tickets[seat], tickets[1 - seat]];
                order.map(|ticket| heap.work(ticket, seat, WHOLE))
            })
        });
        let mut back = [0; CARDS];
        let mut read = || {
            heap.jobs().take_returned(|hand| {
                back[hand.place.slot()] += 1;
                let args = [10, 20][hand.place.slot()];
                assert_eq!(heap.jobs().progress(&hand).finished, TASKS);
                (0..TASKS).for_each(|task| heap.check(&hand, task, args));
            });
        };
        read();
        let [first, second] = workers.map(|worker| worker.join().unwrap());
        assert!(first[0] != second[1] && first[1] != second[0]);
        read();
        assert_eq!(back, [1, 1]);
    });
}

#[test]
fn a_job_is_taken_or_cancelled() {
    loom::model(|| {
        let heap = Heap::new();
        let ticket = heap.queue(0, 10);
        let worker = {
            let heap = heap.clone();
            thread::spawn(move || heap.work(ticket, 0, WHOLE))
        };
        let cancelled = heap.jobs().cancel(ticket);
        // The card is used again at once.
        let again = cancelled.map(|hand| {
            heap.args[0].with_mut(|at| {
                // SAFETY: the parent has the hand.
                unsafe { *at = 30 }
            });
            heap.jobs().queue(hand)
        });
        let ran = worker.join().unwrap();
        assert_ne!(ran, again.is_some());
        if let Some(again) = again {
            assert!(heap.work(again, 1, WHOLE));
        }
        let args = if ran { 10 } else { 30 };
        let mut back = 0;
        heap.jobs().take_returned(|hand| {
            back += 1;
            heap.check(&hand, 1, args);
        });
        assert_eq!(back, 1);
    });
}

/// The parent looks after the dead one while the other worker takes and gives back.
#[test]
fn a_death_costs_what_was_begun() {
    for steps in 0..=2 * TASKS + 2 {
        loom::model(move || {
            let heap = Heap::new();
            let tickets = [heap.queue(0, 10), heap.queue(1, 20)];
            let survivor = {
                let heap = heap.clone();
                thread::spawn(move || {
                    // The dead one's too, in case he did not get to it.
                    let other = heap.work(tickets[1], 1, WHOLE);
                    assert!(other);
                })
            };
            let dead = {
                let heap = heap.clone();
                thread::spawn(move || assert!(heap.work(tickets[0], 0, steps)))
            };
            // The kernel says so.
            dead.join().unwrap();
            let mut back = [0; CARDS];
            let returned = |back: &mut [i32; CARDS]| {
                heap.jobs()
                    .take_returned(|hand| back[hand.place.slot()] += 1);
            };
            returned(&mut back);
            match heap.jobs().left_by(0, Serial(1)) {
                None => assert!(back[0] == 1 && steps > 2 * TASKS + 1),
                Some(hand) => {
                    assert!(back[0] == 0 && steps <= 2 * TASKS + 1);
                    let progress = heap.jobs().progress(&hand);
                    let begun = steps.div_ceil(2).min(TASKS);
                    let finished = if steps > 2 * TASKS {
                        TASKS
                    } else {
                        begun.saturating_sub(1)
                    };
                    assert_eq!(progress.finished, finished);
                    assert_eq!(progress.begun, finished < begun);
                    (0..finished).for_each(|task| heap.check(&hand, task, 10));
                    // And again, by the other one.
                    let again = heap.jobs().queue(hand);
                    assert!(heap.jobs().cancel(again).is_some());
                }
            }
            assert_eq!(heap.jobs().left_by(0, Serial(1)), None);
            survivor.join().unwrap();
            returned(&mut back);
            assert_eq!(back[1], 1);
        });
    }
}

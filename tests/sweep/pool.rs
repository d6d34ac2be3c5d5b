//! Sweeps of a pool's worker: it leaves a result, gives a job back, takes the next one, starts it. Whatever it is killed at, one task
//! at most is lost, which is the one that it was at, and all others have their results.

use std::sync::OnceLock;

use multiprocess::{Pool, Process, Queue, TaskError, spawn};

use crate::arch::trap;
use crate::ring::LONG;
use crate::stepper::{End, Stepper};
use crate::sweep::{Outcome, Sweep, Victim, alone};
use crate::victim::mark;

/// So many tasks there are; in the first the operation begins, in the third it ends.
const TASKS: u64 = 5;
const LAST: u64 = 2;

/// Whether this process is the victim.
static MARKED: OnceLock<()> = OnceLock::new();

type Task = (u64, Queue<u32>, usize);

/// A result on the card, in a block of results, or with a handle.
#[derive(serde::Serialize, serde::Deserialize)]
enum Result {
    Plain(Vec<u64>),
    Queue(Queue<u64>),
}

const HANDLE: usize = usize::MAX;
const WORD: usize = usize::MAX - 1;

fn step((n, pids, size): Task) -> Result {
    if n == 0 {
        MARKED.set(()).expect("once");
        pids.put(std::process::id()).expect("put");
        mark();
    } else if n == LAST && MARKED.get().is_some() {
        trap();
    }
    if size == HANDLE {
        let queue = Queue::bounded(1).expect("a queue");
        queue.put(n).expect("put");
        return Result::Queue(queue);
    }
    Result::Plain(vec![n; size])
}

/// The same with a result that is a number, which is written in a way of its own.
fn step_to_word(task: Task) -> u64 {
    let n = task.0;
    step((task.0, task.1, 0));
    !n
}

/// The numbers of the tasks that were lost.
fn own((pids, size, chunk): (Queue<u32>, usize, usize)) -> Vec<u64> {
    let pool = Pool::new(1).expect("a pool");
    let tasks = (0..TASKS).map(|n| (n, pids.clone(), size));
    let lost = if size == WORD {
        lost(pool.imap_chunked(step_to_word, tasks, chunk), |n, word| {
            assert_eq!(word, !n);
        })
    } else {
        lost(
            pool.imap_chunked(step, tasks, chunk),
            |n, result| match result {
                Result::Plain(numbers) => assert_eq!(numbers, vec![n; size]),
                Result::Queue(queue) => assert_eq!(queue.try_get().expect("get"), n),
            },
        )
    };
    // And it goes on.
    assert_eq!(pool.apply(|n: u64| n + 1, 1).expect("apply"), 2);
    pool.close();
    pool.join().expect("join");
    lost
}

fn lost<R>(
    outcomes: impl Iterator<Item = std::result::Result<R, TaskError>>,
    check: impl Fn(u64, R),
) -> Vec<u64> {
    let outcomes: Vec<_> = outcomes.collect();
    assert_eq!(outcomes.len() as u64, TASKS);
    let mut lost = Vec::new();
    for (n, outcome) in (0..).zip(outcomes) {
        match outcome {
            Ok(result) => check(n, result),
            Err(TaskError::WorkerDied { .. }) => lost.push(n),
            Err(error) => panic!("task {n}: {error:?}"),
        }
    }
    lost
}

/// The worker of a pool that a child owns.
struct Worker {
    owner: Process<Vec<u64>>,
    pids: Queue<u32>,
}

impl Victim for Worker {
    fn attach(&mut self) -> std::result::Result<Stepper, String> {
        let pid = self.pids.get_timeout(LONG).map_err(|e| format!("{e:?}"))?;
        let mut stepper = Stepper::attach_to_grandchild(pid)?;
        stepper.run_to_mark()?;
        Ok(stepper)
    }

    fn reap(self, end: End) -> std::result::Result<Outcome, String> {
        let lost = self.owner.join().map_err(|error| format!("{error:?}"))?;
        let killed = end != End::Exited(0);
        if lost.len() > usize::from(killed) || lost.iter().any(|n| *n > LAST) {
            return Err(format!("ended by {end:?}, lost {lost:?}"));
        }
        Ok(Outcome::from(!lost.contains(&0)))
    }

    fn finish(self) -> std::result::Result<Outcome, String> {
        self.reap(End::Exited(0))
    }
}

#[test]
fn working_in_a_pool() {
    let alone = alone();
    let cases = [(1, 1), (1, 5), (1000, 5), (HANDLE, 1), (HANDLE, 5)];
    for (size, chunk) in cases.into_iter().chain([(WORD, 1), (WORD, 5)]) {
        let results = match size {
            HANDLE => "handles".to_string(),
            WORD => "numbers".to_string(),
            size => format!("results of {size}"),
        };
        Sweep {
            name: &format!("working in a pool, {results}, chunks of {chunk}"),
            setup: &|| (),
            victim: &|(): &mut ()| {
                let pids = Queue::bounded(1).expect("a queue");
                let owner = spawn(own, (pids.clone(), size, chunk)).expect("spawn");
                Worker { owner, pids }
            },
            unblock: None,
            // Who waits for the results may sleep or not.
            steady: false,
            check: &|(), _| Outcome::Untold,
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

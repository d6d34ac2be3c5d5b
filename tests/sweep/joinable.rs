//! Sweeps of joinable queues: whatever was killed, each task is finished by somebody, or reported, and the wait for all of
//! them ends.

use std::time::Duration;

use multiprocess::{GetError, JoinableQueue, OnDeath, Process, Queue, QueueJoinError, spawn};
use serde_bytes::ByteBuf;

use crate::ring::{BLOCK, LONG, SMALL, VICTIM, message, number};
use crate::stepper::End;
use crate::sweep::{Outcome, Sweep, Victim, alone};
use crate::victim::marked;

type Tasks = JoinableQueue<ByteBuf>;

/// A queue and the numbers of the tasks in it.
struct World {
    queue: Tasks,
    sent: Vec<u64>,
    size: usize,
}

impl World {
    fn new(on_death: OnDeath, capacity: usize, size: usize, filled: usize) -> World {
        let queue = JoinableQueue::bounded_with(capacity, on_death).expect("a queue");
        let sent: Vec<u64> = (1..=filled as u64).collect();
        for &number in &sent {
            queue.put(message(number, size)).expect("room");
        }
        World { queue, sent, size }
    }

    /// Finishes everything that is there, the numbers in order.
    fn finish_all(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            match self.queue.try_get_task() {
                Ok(task) => numbers.push(number(&task, self.size)),
                Err(GetError::Empty) => break,
                Err(error) => panic!("after {numbers:?}: {error:?}"),
            }
        }
        // What came back went first.
        numbers.sort();
        numbers
    }

    /// Nothing is unfinished, and the queue is as good as new.
    fn settled(&self, expected: Result<(), QueueJoinError>) {
        assert_eq!(self.queue.join_timeout(LONG), expected);
        for round in 0..3 {
            self.queue.try_put(message(round, self.size)).expect("room");
            let unfinished = self.queue.join_timeout(Duration::ZERO);
            assert_eq!(unfinished, Err(QueueJoinError::TimedOut));
            assert_eq!(self.finish_all(), [round]);
            assert_eq!(self.queue.join_timeout(LONG), expected);
        }
    }
}

const AGAIN: OnDeath = OnDeath::Redeliver { max: 2 };

/// Capacity, size of a message, how many are there.
type Shape = (usize, usize, usize);

fn sweep(
    verb: &str,
    on_death: OnDeath,
    shapes: &[Shape],
    operation: fn((Tasks, usize)),
    check: fn(World) -> Outcome,
    whole: Outcome,
) {
    let alone = alone();
    for &(capacity, size, filled) in shapes {
        Sweep {
            name: &format!("{verb}, {size} B, {filled} of {capacity} filled, {on_death:?}"),
            setup: &|| World::new(on_death, capacity, size, filled),
            victim: &|world: &mut World| {
                spawn(operation, (world.queue.clone(), size)).expect("spawn")
            },
            unblock: None,
            steady: true,
            check: &|world, _| check(world),
            whole,
        }
        .run(&alone);
    }
}

/// After a victim that finished the first task, or did not.
fn first_done_or_not(world: World) -> Outcome {
    let finished = world.finish_all();
    world.settled(Ok(()));
    if finished == world.sent[1..] {
        return Outcome::Done;
    }
    assert_eq!(finished, world.sent);
    Outcome::NotDone
}

#[test]
fn put_of_a_task() {
    fn put((queue, size): (Tasks, usize)) {
        let message = message(VICTIM, size);
        marked(|| queue.put(message)).expect("put");
    }
    fn check(mut world: World) -> Outcome {
        let finished = world.finish_all();
        world.settled(Ok(()));
        if finished == world.sent {
            return Outcome::NotDone;
        }
        world.sent.push(VICTIM);
        assert_eq!(finished, world.sent);
        Outcome::Done
    }
    // The last one makes the table grow.
    let shapes = [(1, SMALL, 0), (3, BLOCK, 2), (100, SMALL, 63)];
    sweep("put", AGAIN, &shapes, put, check, Outcome::Done);
}

#[test]
fn put_of_a_task_in_vain() {
    fn try_put((queue, size): (Tasks, usize)) {
        let message = message(VICTIM, size);
        assert!(marked(|| queue.try_put(message)).is_err());
    }
    fn check(world: World) -> Outcome {
        assert_eq!(world.finish_all(), world.sent);
        world.settled(Ok(()));
        Outcome::Untold
    }
    let shapes = [(1, SMALL, 1), (2, BLOCK, 2)];
    sweep(
        "try_put in vain",
        AGAIN,
        &shapes,
        try_put,
        check,
        Outcome::Untold,
    );
}

const SHAPES: [Shape; 3] = [(1, SMALL, 1), (3, SMALL, 2), (2, BLOCK, 2)];

#[test]
fn get_and_task_done() {
    fn work((queue, size): (Tasks, usize)) {
        let got = marked(|| {
            let got = queue.get();
            queue.task_done().expect("done");
            got
        });
        number(&got.expect("get"), size);
    }
    let check = first_done_or_not;
    sweep("get, done", AGAIN, &SHAPES, work, check, Outcome::Done);
}

#[test]
fn a_task_that_is_dropped() {
    fn work((queue, _): (Tasks, usize)) {
        marked(|| drop(queue.get_task().expect("get")));
    }
    let check = first_done_or_not;
    sweep("task", AGAIN, &SHAPES, work, check, Outcome::Done);
}

/// Got and never finished: it comes back, whenever its consumer ends.
#[test]
fn get_without_an_end() {
    fn get((queue, size): (Tasks, usize)) {
        let got = marked(|| queue.get()).expect("get");
        number(&got, size);
    }
    fn check(world: World) -> Outcome {
        assert_eq!(world.finish_all(), world.sent);
        world.settled(Ok(()));
        Outcome::Untold
    }
    sweep("get", AGAIN, &SHAPES, get, check, Outcome::Untold);
}

#[test]
fn get_that_is_reported() {
    fn get((queue, size): (Tasks, usize)) {
        let got = marked(|| queue.get()).expect("get");
        number(&got, size);
    }
    fn check(world: World) -> Outcome {
        let finished = world.finish_all();
        if finished == world.sent {
            world.settled(Ok(()));
            return Outcome::NotDone;
        }
        assert_eq!(finished, world.sent[1..]);
        world.settled(Err(QueueJoinError::Lost(1)));
        Outcome::Done
    }
    sweep("get", OnDeath::Report, &SHAPES, get, check, Outcome::Done);
}

/// Who waits for the end of all tasks is killed, wherever he is.
#[test]
fn join_that_waits() {
    fn join((queue, _): (Tasks, usize)) {
        assert_eq!(marked(|| queue.join()), Ok(()));
    }
    let alone = alone();
    let report = Sweep {
        name: "join",
        setup: &|| World::new(AGAIN, 2, SMALL, 1),
        victim: &|world: &mut World| spawn(join, (world.queue.clone(), SMALL)).expect("spawn"),
        unblock: Some(&|world: &mut World| {
            world.finish_all();
        }),
        steady: false,
        check: &|world: World, _| {
            world.finish_all();
            world.settled(Ok(()));
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run(&alone);
    assert!(report.trace.slept(), "it never slept: nothing was shown");
}

/// A queue whose first task is in the hands of a process that is killed as soon as the victim is a member: who joins a family
/// looks for the dead.
struct Orphaned {
    world: World,
    dead: Process<()>,
}

impl Orphaned {
    fn new(on_death: OnDeath) -> Orphaned {
        fn stay((queue, told): (Tasks, Queue<()>)) {
            let _task = queue.get_task().expect("get");
            told.put(()).expect("put");
            std::thread::sleep(LONG);
        }
        let world = World::new(on_death, 3, BLOCK, 2);
        let told = Queue::bounded(1).expect("a queue");
        let dead = spawn(stay, (world.queue.clone(), told.clone())).expect("spawn");
        told.get_timeout(LONG).expect("it has the first task");
        Orphaned { world, dead }
    }

    fn start_who_finds_it(&mut self) -> Process<()> {
        fn find((queue, ready, go): (Tasks, Queue<()>, Queue<()>)) {
            ready.put(()).expect("put");
            go.get().expect("get");
            drop((ready, go));
            let both = marked(|| [queue.try_get_task(), queue.try_get_task()]);
            assert!(both.iter().all(Result::is_ok));
        }
        let (ready, go) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
        let queue = self.world.queue.clone();
        let victim = spawn(find, (queue, ready.clone(), go.clone())).expect("spawn");
        ready.get_timeout(LONG).expect("it begins with it");
        self.dead.kill().expect("kill");
        // Without reaping it: then it would be known.
        let stat = format!("/proc/{}/stat", self.dead.pid());
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::sleep(Duration::from_micros(100));
        }
        go.put(()).expect("put");
        victim
    }
}

#[test]
fn tasks_of_the_dead_are_found() {
    let alone = alone();
    Sweep {
        name: "getting the task of the dead",
        setup: &|| Orphaned::new(AGAIN),
        victim: &Orphaned::start_who_finds_it,
        unblock: None,
        steady: false,
        check: &|orphaned: Orphaned, _| {
            let finished = orphaned.world.finish_all();
            // Both were dropped together, at the victim's end.
            assert!(
                finished.is_empty() || finished == orphaned.world.sent,
                "{finished:?}"
            );
            orphaned.world.settled(Ok(()));
            let reaped = orphaned.dead.reap(End::Killed(libc::SIGKILL));
            reaped.expect("the dead consumer");
            Outcome::from(finished.is_empty())
        },
        whole: Outcome::Done,
    }
    .run(&alone);
}

//! Sweeps of queues without a bound: putting that appends a segment, taking that leaves one behind and frees it, closing, letting
//! go, and who repairs what was left of these.

use std::sync::OnceLock;

use multiprocess::{GetError, Process, PutError, Queue, family, spawn};
use serde_bytes::ByteBuf;

use crate::ring::{BLOCK, LONG, SMALL, VICTIM, message, number};
use crate::stepper::End;
use crate::sweep::{Alone, Corpse, Outcome, Report, Sweep, Victim, alone, kill_after};
use crate::trace::Trace;
use crate::victim::marked;

type Argument = (Queue<ByteBuf>, usize, usize);
type Operation = fn(Argument);
type Check = fn(World, Corpse) -> Outcome;

/// How many messages fill a segment.
fn slots() -> usize {
    static SLOTS: OnceLock<usize> = OnceLock::new();
    *SLOTS.get_or_init(|| {
        let queue = Queue::unbounded().expect("a queue");
        let new = family::stats().bytes_in_use;
        let mut count = 0;
        while family::stats().bytes_in_use == new {
            queue.put(message(0, SMALL)).expect("put");
            count += 1;
        }
        // The last one made it grow.
        count - 1
    })
}

/// How a queue is when the victim comes, in segments and messages beyond them, and how many messages the victim gets before its
/// operation begins.
#[derive(Clone, Copy)]
struct Shape {
    segments: usize,
    more: usize,
    size: usize,
    before: usize,
}

fn shape(segments: usize, more: usize, size: usize) -> Shape {
    Shape {
        segments,
        more,
        size,
        before: 0,
    }
}

/// A queue and the numbers that were sent through it and have not arrived.
struct World {
    queue: Option<Queue<ByteBuf>>,
    sent: Vec<u64>,
    shape: Shape,
}

impl World {
    fn new(shape: Shape) -> World {
        let queue = Queue::unbounded().expect("a queue");
        // Who comes into a segment looks for what the dead took; this process is there before somebody dies.
        queue.put(message(0, SMALL)).expect("put");
        queue.get().expect("get");
        let count = shape.segments * slots() + shape.more;
        let sent: Vec<u64> = (1..=count as u64).collect();
        for &number in &sent {
            queue.put(message(number, shape.size)).expect("put");
        }
        World {
            queue: Some(queue),
            sent: sent[shape.before.min(count)..].to_vec(),
            shape,
        }
    }

    fn queue(&self) -> &Queue<ByteBuf> {
        self.queue.as_ref().expect("it was kept")
    }

    fn start(&self, operation: Operation) -> Process<()> {
        let Shape { size, before, .. } = self.shape;
        spawn(operation, (self.queue().clone(), size, before)).expect("spawn")
    }

    /// Everything that is there.
    fn drain(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            match self.queue().try_get() {
                Ok(message) => numbers.push(number(&message, self.shape.size)),
                Err(GetError::Empty | GetError::Closed) => return numbers,
                Err(error) => panic!("draining, after {numbers:?}: {error:?}"),
            }
        }
    }

    /// It goes on, through some segments.
    fn goes_on(&self) {
        let queue = self.queue();
        let count = 2 * slots() as u64 + 3;
        for number in 0..count {
            let put = queue.put_timeout(message(number, SMALL), LONG);
            put.expect("it goes on");
        }
        assert_eq!(queue.len() as u64, count);
        for due in 0..count {
            let got = queue.get_timeout(LONG).expect("it goes on");
            assert_eq!(number(&got, SMALL), due);
        }
        assert!(queue.is_empty());
    }
}

fn after_put(mut world: World, _: Corpse) -> Outcome {
    let arrived = world.drain();
    world.goes_on();
    if arrived == world.sent {
        return Outcome::NotDone;
    }
    world.sent.push(VICTIM);
    assert_eq!(arrived, world.sent);
    Outcome::Done
}

fn after_get(world: World, corpse: Corpse) -> Outcome {
    let mut arrived = world.drain();
    // The first one is not in its place when nobody knew that it must be delivered again.
    if corpse == Corpse::Zombie {
        arrived.sort();
    }
    world.goes_on();
    if arrived == world.sent[1..] {
        return Outcome::Done;
    }
    assert_eq!(arrived, world.sent);
    Outcome::NotDone
}

fn after_nothing(world: World, _: Corpse) -> Outcome {
    assert_eq!(world.drain(), world.sent);
    world.goes_on();
    Outcome::Untold
}

fn after_close(world: World, corpse: Corpse) -> Outcome {
    if !world.queue().is_closed() {
        after_nothing(world, corpse);
        return Outcome::NotDone;
    }
    let refused = world.queue().put(message(0, SMALL));
    assert!(matches!(refused, Err(PutError::Closed(_))), "{refused:?}");
    assert_eq!(world.drain(), world.sent);
    let end = world.queue().get_timeout(LONG);
    assert!(matches!(end, Err(GetError::Closed)), "{end:?}");
    Outcome::Done
}

fn prepare((queue, size, before): &Argument) {
    for _ in 0..*before {
        number(&queue.get().expect("get"), *size);
    }
}

fn put(argument: Argument) {
    prepare(&argument);
    let (queue, size, _) = argument;
    let message = message(VICTIM, size);
    marked(|| queue.put(message)).expect("put");
}

fn get(argument: Argument) {
    prepare(&argument);
    let (queue, size, _) = argument;
    let message = marked(|| queue.get()).expect("get");
    number(&message, size);
}

fn try_get_in_vain(argument: Argument) {
    prepare(&argument);
    let nothing = marked(|| argument.0.try_get());
    assert!(matches!(nothing, Err(GetError::Empty)));
}

fn close((queue, ..): Argument) {
    marked(|| queue.close());
}

fn look((queue, ..): Argument) {
    marked(|| std::hint::black_box((queue.len(), queue.is_empty(), queue.is_full())));
}

fn leave(argument: Argument) {
    prepare(&argument);
    marked(|| drop(argument));
}

fn sweep(
    alone: &Alone,
    verb: &str,
    operation: Operation,
    shape: Shape,
    check: Check,
    whole: Outcome,
) -> Report {
    let Shape {
        segments,
        more,
        size,
        before,
    } = shape;
    Sweep {
        name: &format!("unbounded {verb} {size} B, {segments} segments and {more}, after {before}"),
        setup: &|| World::new(shape),
        victim: &|world: &mut World| world.start(operation),
        unblock: None,
        steady: true,
        check: &check,
        whole,
    }
    .run(alone)
}

#[test]
fn unbounded_put() {
    let alone = alone();
    for shape in [shape(0, 0, SMALL), shape(0, 3, BLOCK), shape(1, 1, SMALL)] {
        sweep(&alone, "put", put, shape, after_put, Outcome::Done);
    }
}

#[test]
fn unbounded_put_that_appends() {
    let alone = alone();
    for shape in [shape(1, 0, SMALL), shape(2, 0, SMALL)] {
        sweep(&alone, "put", put, shape, after_put, Outcome::Done);
    }
}

#[test]
fn unbounded_get() {
    let alone = alone();
    for shape in [shape(0, 1, SMALL), shape(0, 2, BLOCK), shape(1, 1, SMALL)] {
        sweep(&alone, "get", get, shape, after_get, Outcome::Done);
    }
}

/// The victim has drained the first segment, leaves it, and frees it.
fn at_the_end_of_a_segment(segments: usize) -> Shape {
    Shape {
        before: slots(),
        ..shape(segments, 2, SMALL)
    }
}

#[test]
fn unbounded_get_that_leaves_a_segment() {
    let alone = alone();
    for segments in [1, 2] {
        let shape = at_the_end_of_a_segment(segments);
        sweep(&alone, "get", get, shape, after_get, Outcome::Done);
    }
}

#[test]
fn unbounded_get_in_vain() {
    let alone = alone();
    let drained = Shape {
        before: slots(),
        ..shape(1, 0, SMALL)
    };
    for shape in [shape(0, 0, SMALL), drained] {
        let (check, whole) = (after_nothing, Outcome::Untold);
        sweep(&alone, "try_get", try_get_in_vain, shape, check, whole);
    }
}

#[test]
fn unbounded_close() {
    let alone = alone();
    for shape in [shape(0, 0, SMALL), shape(0, 2, BLOCK), shape(1, 0, SMALL)] {
        sweep(&alone, "close", close, shape, after_close, Outcome::Done);
    }
}

#[test]
fn unbounded_look() {
    let alone = alone();
    let (check, whole) = (after_nothing, Outcome::Untold);
    sweep(&alone, "len", look, shape(2, 1, SMALL), check, whole);
}

/// The survivors hold it, too.
#[test]
fn unbounded_drop() {
    let alone = alone();
    let shape = at_the_end_of_a_segment(1);
    let (check, whole) = (after_nothing, Outcome::Untold);
    sweep(&alone, "drop", leave, shape, check, whole);
}

/// Nobody else does.
#[test]
fn unbounded_drop_of_the_last_handle() {
    let alone = alone();
    for shape in [
        shape(0, 2, BLOCK),
        shape(1, 2, SMALL),
        at_the_end_of_a_segment(1),
    ] {
        let Shape { segments, size, .. } = shape;
        Sweep {
            name: &format!("unbounded, drop of the last handle, {size} B, {segments} segments"),
            setup: &|| World::new(shape),
            victim: &|world: &mut World| {
                let queue = world.queue.take().expect("in every fresh world");
                spawn(leave, (queue, size, shape.before)).expect("spawn")
            },
            unblock: None,
            steady: true,
            // The books tell.
            check: &|_, _| Outcome::Untold,
            whole: Outcome::Untold,
        }
        .run(&alone);
    }
}

/// A handle comes in a message; the first use enters the queue.
#[test]
fn unbounded_handle_that_arrives() {
    fn receive((carrier, size): (Queue<Queue<ByteBuf>>, usize)) {
        let message = message(VICTIM, size);
        marked(|| carrier.get().expect("get").put(message).expect("put"));
    }
    let alone = alone();
    Sweep {
        name: "unbounded, a handle that arrives",
        setup: &|| World::new(shape(0, 2, SMALL)),
        victim: &|world: &mut World| {
            let carrier = Queue::bounded(1).expect("a queue");
            carrier.put(world.queue().clone()).expect("put");
            spawn(receive, (carrier, SMALL)).expect("spawn")
        },
        unblock: None,
        steady: true,
        check: &after_put,
        whole: Outcome::Done,
    }
    .run(&alone);
}

/// A process that was killed one step before its operation took effect.
struct Wreck {
    world: World,
    /// Not reaped until the end, in some of the sweeps.
    dead: Option<Process<()>>,
}

struct Brink {
    trace: Trace,
    after: usize,
    shape: Shape,
    operation: Operation,
}

impl Brink {
    fn of(alone: &Alone, verb: &str, operation: Operation, shape: Shape, check: Check) -> Brink {
        let report = sweep(alone, verb, operation, shape, check, Outcome::Done);
        Brink {
            after: report.boundary.expect("it has an effect") - 1,
            trace: report.trace,
            shape,
            operation,
        }
    }

    fn wreck(&self, reaped: bool) -> Wreck {
        let world = World::new(self.shape);
        let dead = kill_after(world.start(self.operation), &self.trace, self.after, reaped);
        Wreck { world, dead }
    }
}

fn sweep_wreck(
    alone: &Alone,
    verb: &str,
    brink: &Brink,
    operation: Operation,
    check: Check,
    whole: Outcome,
) {
    for reaped in [false, true] {
        let corpse = if reaped { "reaped" } else { "zombie" };
        Sweep {
            name: &format!("unbounded {verb}, {corpse}"),
            setup: &|| brink.wreck(reaped),
            victim: &|wreck: &mut Wreck| {
                let queue = wreck.world.queue().clone();
                spawn(operation, (queue, brink.shape.size, 0)).expect("spawn")
            },
            unblock: None,
            steady: true,
            check: &|wreck: Wreck, corpse| {
                let outcome = check(wreck.world, corpse);
                if let Some(dead) = wreck.dead {
                    dead.reap(End::Killed(libc::SIGKILL)).expect("reap");
                }
                outcome
            },
            whole,
        }
        .run(alone);
    }
}

fn collect((queue, ..): Argument) {
    marked(family::stats);
    drop(queue);
}

#[test]
fn unbounded_repair_after_a_put_that_appended() {
    let alone = alone();
    let brink = Brink::of(&alone, "put", put, shape(1, 0, SMALL), after_put);
    let (check, whole) = (after_nothing, Outcome::Untold);
    let verb = "collecting who appended";
    sweep_wreck(&alone, verb, &brink, collect, check, whole);
    let verb = "put behind who appended";
    sweep_wreck(&alone, verb, &brink, put, after_put, Outcome::Done);
}

#[test]
fn unbounded_repair_after_a_get_that_left() {
    let alone = alone();
    let shape = at_the_end_of_a_segment(1);
    let brink = Brink::of(&alone, "get", get, shape, after_get);
    let (check, whole) = (after_nothing, Outcome::Untold);
    let verb = "collecting who took";
    sweep_wreck(&alone, verb, &brink, collect, check, whole);
    let verb = "get behind who took";
    sweep_wreck(&alone, verb, &brink, get, after_get, Outcome::Done);
}

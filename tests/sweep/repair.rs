//! Sweeps of repairs: a victim that clears up after another victim is killed while it does.

use multiprocess::{Process, Queue, family};
use serde_bytes::ByteBuf;

use crate::queue::{Check, Shape, get, put, ring, shape, start, sweep};
use crate::ring::{BLOCK, Ring, SMALL, VICTIM, message};
use crate::stepper::End;
use crate::sweep::{Alone, Corpse, Outcome, Sweep, Victim, alone, kill_after};
use crate::trace::Trace;
use crate::victim::marked;

/// A ring in which somebody died, one step before its operation would have taken effect.
struct Wreck {
    ring: Ring,
    /// Not reaped until the end, in some of the sweeps.
    dead: Option<Process<()>>,
}

/// The last moment at which an operation can be killed without effect.
struct Brink {
    trace: Trace,
    after: usize,
    shape: Shape,
    operation: fn((Queue<ByteBuf>, usize)),
}

impl Brink {
    fn of_put(alone: &Alone, shape: Shape) -> Brink {
        let report = sweep(alone, "put", put, shape, Ring::after_put, Outcome::Done);
        Brink {
            after: report.boundary.expect("put has an effect") - 1,
            trace: report.trace,
            shape,
            operation: put,
        }
    }

    fn of_get(alone: &Alone, shape: Shape) -> Brink {
        let report = sweep(alone, "get", get, shape, Ring::after_get, Outcome::Done);
        Brink {
            after: report.boundary.expect("get has an effect") - 1,
            trace: report.trace,
            shape,
            operation: get,
        }
    }

    /// Leaves a wreck: with a zombie in it, or with the dead process reaped.
    fn wreck(&self, reaped: bool) -> Wreck {
        let ring = ring(self.shape);
        let victim = start(&ring, self.operation);
        let dead = kill_after(victim, &self.trace, self.after, reaped);
        Wreck { ring, dead }
    }
}

impl Wreck {
    fn judge(self, check: Check, corpse: Corpse) -> Outcome {
        let outcome = check(self.ring, corpse);
        if let Some(process) = self.dead {
            process.reap(End::Killed(libc::SIGKILL)).expect("reap");
        }
        outcome
    }
}

/// Sweeps what the second victim does in a wreck.
fn sweep_wreck(
    alone: &Alone,
    name: &str,
    brink: &Brink,
    operation: fn((Queue<ByteBuf>, usize)),
    check: Check,
    whole: Outcome,
) {
    for reaped in [false, true] {
        let corpse = if reaped { "reaped" } else { "zombie" };
        Sweep {
            name: &format!("{name}, {} B, {corpse}", brink.shape.size),
            setup: &|| brink.wreck(reaped),
            victim: &|wreck: &mut Wreck| start(&wreck.ring, operation),
            unblock: None,
            steady: true,
            check: &|wreck: Wreck, corpse| wreck.judge(check, corpse),
            whole,
        }
        .run(alone);
    }
}

fn collect((queue, _): (Queue<ByteBuf>, usize)) {
    marked(family::stats);
    drop(queue);
}

fn put_another((queue, size): (Queue<ByteBuf>, usize)) {
    let message = message(VICTIM + 1, size);
    marked(|| queue.put(message)).expect("put");
}

fn try_get_nothing((queue, _): (Queue<ByteBuf>, usize)) {
    assert!(marked(|| queue.try_get()).is_err());
}

/// After a second victim that put behind a dead producer.
fn after_second_put(mut ring: Ring, _: Corpse) -> Outcome {
    let arrived = ring.drain();
    let sent: Vec<u64> = ring.sent.drain(..).collect();
    let with_second: Vec<u64> = sent.iter().copied().chain([VICTIM + 1]).collect();
    let done = arrived == with_second;
    assert!(done || arrived == sent, "{arrived:?} of {with_second:?}");
    ring.refill();
    done.into()
}

#[test]
fn get_of_an_orphan() {
    let alone = alone();
    for shape in [
        shape(1, SMALL, 1, 1),
        shape(3, SMALL, 2, 2),
        shape(2, BLOCK, 1, 2),
    ] {
        let brink = Brink::of_get(&alone, shape);
        let name = format!("get of an orphan, {} of {}", shape.filled, shape.capacity);
        sweep_wreck(&alone, &name, &brink, get, Ring::after_get, Outcome::Done);
    }
}

#[test]
fn get_over_a_dead_producer() {
    let alone = alone();
    for shape in [shape(1, SMALL, 1, 0), shape(3, BLOCK, 2, 0)] {
        let brink = Brink::of_put(&alone, shape);
        let check = Ring::after_nothing;
        let name = "try_get at a dead producer's slot";
        sweep_wreck(
            &alone,
            name,
            &brink,
            try_get_nothing,
            check,
            Outcome::Untold,
        );
    }
}

#[test]
fn get_behind_a_dead_producer() {
    let alone = alone();
    let brink = Brink::of_put(&alone, shape(3, SMALL, 2, 1));
    let name = "get in front of a dead producer's slot";
    sweep_wreck(&alone, name, &brink, get, Ring::after_get, Outcome::Done);
}

#[test]
fn put_behind_a_dead_producer() {
    let alone = alone();
    for shape in [
        shape(2, SMALL, 1, 0),
        shape(3, SMALL, 1, 1),
        shape(3, BLOCK, 2, 1),
    ] {
        let brink = Brink::of_put(&alone, shape);
        let name = format!(
            "put behind a dead producer, {} of {}",
            shape.filled, shape.capacity
        );
        let check = after_second_put;
        sweep_wreck(&alone, &name, &brink, put_another, check, Outcome::Done);
    }
}

#[test]
fn collecting_a_dead_producer() {
    let alone = alone();
    for shape in [shape(1, SMALL, 1, 0), shape(3, BLOCK, 2, 1)] {
        let brink = Brink::of_put(&alone, shape);
        let check = Ring::after_nothing;
        let name = "collecting a dead producer";
        sweep_wreck(&alone, name, &brink, collect, check, Outcome::Untold);
    }
}

#[test]
fn collecting_a_dead_consumer() {
    let alone = alone();
    for shape in [shape(1, SMALL, 1, 1), shape(3, BLOCK, 2, 2)] {
        let brink = Brink::of_get(&alone, shape);
        let check = Ring::after_nothing;
        let name = "collecting a dead consumer";
        sweep_wreck(&alone, name, &brink, collect, check, Outcome::Untold);
    }
}

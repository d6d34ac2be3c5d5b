//! Sweeps of a bounded queue: every way to put and get, in empty, full and wrapping rings.

use std::time::Duration;

use multiprocess::{GetError, Process, PutError, Queue};
use serde_bytes::ByteBuf;

use crate::ring::{BLOCK, LARGE, LONG, Ring, SMALL, VICTIM, message, number};
use crate::sweep::{Alone, Corpse, Outcome, Report, Sweep, alone};
use crate::victim::marked;

type Argument = (Queue<ByteBuf>, usize);
type Operation = fn(Argument);
pub type Check = fn(Ring, Corpse) -> Outcome;

const MOMENT: Duration = Duration::from_millis(1);

pub fn put((queue, size): Argument) {
    let message = message(VICTIM, size);
    marked(|| queue.put(message)).expect("put");
}

fn try_put((queue, size): Argument) {
    let message = message(VICTIM, size);
    marked(|| queue.try_put(message)).expect("try_put");
}

fn put_timeout((queue, size): Argument) {
    let message = message(VICTIM, size);
    marked(|| queue.put_timeout(message, LONG)).expect("put_timeout");
}

fn try_put_in_vain((queue, size): Argument) {
    let message = message(VICTIM, size);
    let refused = marked(|| queue.try_put(message));
    assert!(matches!(refused, Err(PutError::Full(_))));
}

fn put_timeout_in_vain((queue, size): Argument) {
    let message = message(VICTIM, size);
    let refused = marked(|| queue.put_timeout(message, MOMENT));
    assert!(matches!(refused, Err(PutError::Full(_))));
}

pub fn get((queue, size): Argument) {
    let message = marked(|| queue.get()).expect("get");
    number(&message, size);
}

fn try_get((queue, size): Argument) {
    let message = marked(|| queue.try_get()).expect("try_get");
    number(&message, size);
}

fn get_timeout((queue, size): Argument) {
    let message = marked(|| queue.get_timeout(LONG)).expect("get_timeout");
    number(&message, size);
}

fn try_get_in_vain((queue, _): Argument) {
    let nothing = marked(|| queue.try_get());
    assert!(matches!(nothing, Err(GetError::Empty)));
}

fn get_timeout_in_vain((queue, _): Argument) {
    let nothing = marked(|| queue.get_timeout(MOMENT));
    assert!(matches!(nothing, Err(GetError::Empty)));
}

pub fn close((queue, _): Argument) {
    marked(|| queue.close());
}

fn observe((queue, _): Argument) {
    marked(|| std::hint::black_box((queue.len(), queue.is_empty(), queue.is_full())));
}

/// How a ring is when the victim comes.
#[derive(Clone, Copy)]
pub struct Shape {
    pub capacity: usize,
    pub size: usize,
    pub turned: usize,
    pub filled: usize,
}

pub fn shape(capacity: usize, size: usize, turned: usize, filled: usize) -> Shape {
    Shape {
        capacity,
        size,
        turned,
        filled,
    }
}

pub fn ring(shape: Shape) -> Ring {
    Ring::new(shape.capacity, shape.size, shape.turned, shape.filled)
}

pub fn start(ring: &Ring, operation: Operation) -> Process<()> {
    multiprocess::spawn(operation, (ring.queue.clone(), ring.size)).expect("spawn")
}

fn name(verb: &str, shape: Shape) -> String {
    let Shape {
        capacity,
        size,
        turned,
        filled,
    } = shape;
    format!("{verb} {size} B, {filled} of {capacity} filled, after {turned}")
}

/// Sweeps an operation that needs no help.
pub fn sweep(
    alone: &Alone,
    verb: &str,
    operation: Operation,
    shape: Shape,
    check: Check,
    whole: Outcome,
) -> Report {
    Sweep {
        name: &name(verb, shape),
        setup: &|| ring(shape),
        victim: &|ring: &mut Ring| start(ring, operation),
        unblock: None,
        steady: true,
        check: &check,
        whole,
    }
    .run(alone)
}

/// Sweeps an operation that sleeps until survivors act.
fn sweep_asleep(
    alone: &Alone,
    verb: &str,
    operation: Operation,
    shape: Shape,
    unblock: fn(&mut Ring),
    check: Check,
) {
    let report = Sweep {
        name: &name(verb, shape),
        setup: &|| ring(shape),
        victim: &|ring: &mut Ring| start(ring, operation),
        unblock: Some(&unblock),
        steady: false,
        check: &check,
        whole: Outcome::Done,
    }
    .run(alone);
    let asleep = report.trace.slept();
    assert!(asleep, "{verb} never slept: nothing was shown");
}

#[test]
fn put_small() {
    let alone = alone();
    for shape in [
        shape(1, SMALL, 0, 0),
        shape(1, SMALL, 1, 0),
        shape(2, SMALL, 1, 1),
        shape(3, SMALL, 2, 1),
        shape(3, SMALL, 3, 2),
    ] {
        sweep(&alone, "put", put, shape, Ring::after_put, Outcome::Done);
    }
}

#[test]
fn put_block() {
    let alone = alone();
    for shape in [
        shape(1, BLOCK, 1, 0),
        shape(2, BLOCK, 1, 1),
        shape(3, BLOCK, 2, 2),
    ] {
        sweep(&alone, "put", put, shape, Ring::after_put, Outcome::Done);
    }
}

#[test]
fn put_large() {
    let alone = alone();
    for shape in [shape(1, LARGE, 0, 0), shape(3, LARGE, 2, 1)] {
        sweep(&alone, "put", put, shape, Ring::after_put, Outcome::Done);
    }
}

#[test]
fn try_put_with_room() {
    let alone = alone();
    for shape in [shape(3, SMALL, 2, 2), shape(2, BLOCK, 1, 0)] {
        let check = Ring::after_put;
        sweep(&alone, "try_put", try_put, shape, check, Outcome::Done);
    }
}

#[test]
fn put_timeout_with_room() {
    let alone = alone();
    for shape in [shape(3, SMALL, 2, 2), shape(2, BLOCK, 1, 0)] {
        let check = Ring::after_put;
        sweep(
            &alone,
            "put_timeout",
            put_timeout,
            shape,
            check,
            Outcome::Done,
        );
    }
}

#[test]
fn try_put_into_a_full_ring() {
    let alone = alone();
    for shape in [
        shape(1, SMALL, 0, 1),
        shape(3, SMALL, 2, 3),
        shape(2, BLOCK, 1, 2),
        shape(1, LARGE, 0, 1),
    ] {
        let check = Ring::after_nothing;
        sweep(
            &alone,
            "try_put",
            try_put_in_vain,
            shape,
            check,
            Outcome::Untold,
        );
    }
}

#[test]
fn put_that_waits_for_room() {
    let alone = alone();
    for shape in [
        shape(1, SMALL, 0, 1),
        shape(2, BLOCK, 1, 2),
        shape(3, SMALL, 2, 3),
    ] {
        sweep_asleep(&alone, "put", put, shape, Ring::get, Ring::after_put);
    }
}

#[test]
fn put_timeout_that_waits_for_room() {
    let alone = alone();
    let shape = shape(2, SMALL, 1, 2);
    let check = Ring::after_put;
    sweep_asleep(&alone, "put_timeout", put_timeout, shape, Ring::get, check);
}

#[test]
fn put_timeout_that_runs_out() {
    let alone = alone();
    in_vain(
        &alone,
        "put_timeout",
        put_timeout_in_vain,
        shape(1, SMALL, 0, 1),
    );
    in_vain(
        &alone,
        "put_timeout",
        put_timeout_in_vain,
        shape(2, BLOCK, 1, 2),
    );
}

/// Sweeps a wait that is over before anybody helps.
fn in_vain(alone: &Alone, verb: &str, operation: Operation, shape: Shape) {
    Sweep {
        name: &name(verb, shape),
        setup: &|| ring(shape),
        victim: &|ring: &mut Ring| start(ring, operation),
        unblock: Some(&|_| {}),
        steady: false,
        check: &Ring::after_nothing,
        whole: Outcome::Untold,
    }
    .run(alone);
}

#[test]
fn get_small() {
    let alone = alone();
    for shape in [
        shape(1, SMALL, 0, 1),
        shape(1, SMALL, 1, 1),
        shape(2, SMALL, 1, 2),
        shape(3, SMALL, 2, 1),
        shape(3, SMALL, 2, 3),
    ] {
        sweep(&alone, "get", get, shape, Ring::after_get, Outcome::Done);
    }
}

#[test]
fn get_block() {
    let alone = alone();
    for shape in [
        shape(1, BLOCK, 1, 1),
        shape(2, BLOCK, 1, 2),
        shape(3, BLOCK, 2, 2),
    ] {
        sweep(&alone, "get", get, shape, Ring::after_get, Outcome::Done);
    }
}

#[test]
fn get_large() {
    let alone = alone();
    for shape in [shape(1, LARGE, 0, 1), shape(3, LARGE, 2, 2)] {
        sweep(&alone, "get", get, shape, Ring::after_get, Outcome::Done);
    }
}

#[test]
fn try_get_of_a_message() {
    let alone = alone();
    for shape in [shape(3, SMALL, 2, 2), shape(2, BLOCK, 1, 1)] {
        let check = Ring::after_get;
        sweep(&alone, "try_get", try_get, shape, check, Outcome::Done);
    }
}

#[test]
fn get_timeout_of_a_message() {
    let alone = alone();
    for shape in [shape(3, SMALL, 2, 2), shape(2, BLOCK, 1, 1)] {
        let check = Ring::after_get;
        sweep(
            &alone,
            "get_timeout",
            get_timeout,
            shape,
            check,
            Outcome::Done,
        );
    }
}

#[test]
fn try_get_from_an_empty_ring() {
    let alone = alone();
    for shape in [shape(1, SMALL, 0, 0), shape(3, SMALL, 2, 0)] {
        let check = Ring::after_nothing;
        sweep(
            &alone,
            "try_get",
            try_get_in_vain,
            shape,
            check,
            Outcome::Untold,
        );
    }
}

#[test]
fn get_that_waits_for_a_message() {
    let alone = alone();
    for shape in [
        shape(1, SMALL, 0, 0),
        shape(2, BLOCK, 1, 0),
        shape(3, SMALL, 2, 0),
    ] {
        sweep_asleep(&alone, "get", get, shape, Ring::put, after_waiting_get);
    }
}

#[test]
fn get_timeout_that_waits_for_a_message() {
    let alone = alone();
    let shape = shape(2, SMALL, 1, 0);
    let check = after_waiting_get;
    sweep_asleep(&alone, "get_timeout", get_timeout, shape, Ring::put, check);
}

/// A victim that was killed before it slept found nothing, and nothing was sent.
fn after_waiting_get(ring: Ring, corpse: Corpse) -> Outcome {
    if ring.sent.is_empty() {
        ring.after_nothing(corpse);
        return Outcome::NotDone;
    }
    ring.after_get(corpse)
}

#[test]
fn get_timeout_that_runs_out() {
    let alone = alone();
    in_vain(
        &alone,
        "get_timeout",
        get_timeout_in_vain,
        shape(1, SMALL, 0, 0),
    );
    in_vain(
        &alone,
        "get_timeout",
        get_timeout_in_vain,
        shape(3, BLOCK, 2, 0),
    );
}

#[test]
fn close_of_a_queue() {
    let alone = alone();
    for shape in [shape(1, SMALL, 0, 0), shape(3, BLOCK, 2, 2)] {
        sweep(&alone, "close", close, shape, after_close, Outcome::Done);
    }
}

fn after_close(mut ring: Ring, corpse: Corpse) -> Outcome {
    if !ring.queue.is_closed() {
        ring.after_nothing(corpse);
        return Outcome::NotDone;
    }
    let refused = ring.queue.try_put(message(0, ring.size));
    assert!(matches!(refused, Err(PutError::Closed(_))), "{refused:?}");
    while !ring.sent.is_empty() {
        ring.get();
    }
    let end = ring.queue.get_timeout(LONG);
    assert!(matches!(end, Err(GetError::Closed)), "{end:?}");
    Outcome::Done
}

#[test]
fn looking_at_a_queue() {
    let alone = alone();
    let shape = shape(3, SMALL, 2, 2);
    let check = Ring::after_nothing;
    sweep(
        &alone,
        "len and so on",
        observe,
        shape,
        check,
        Outcome::Untold,
    );
}

//! Sweeps of batches: what was committed arrives, what was not does not; what was acknowledged is gone, what was not comes
//! again, in its order.

use std::time::Duration;

use multiprocess::Queue;
use serde_bytes::ByteBuf;

use crate::queue::{Shape, ring, shape};
use crate::ring::{BLOCK, Ring, SMALL, VICTIM, message, number};
use crate::sweep::{Alone, Corpse, Outcome, Sweep, alone};
use crate::victim::marked;

/// A queue, the size of its messages, and how many of them are one batch.
type Argument = (Queue<ByteBuf>, usize, usize);

fn batch(size: usize, count: usize) -> impl Iterator<Item = ByteBuf> {
    let messages: Vec<_> = (0..count as u64)
        .map(|i| message(VICTIM + i, size))
        .collect();
    messages.into_iter()
}

fn put_many((queue, size, count): Argument) {
    let messages = batch(size, count);
    let sent = marked(|| queue.put_many(messages)).expect("put_many");
    assert_eq!(sent, count);
}

fn try_put_many((queue, size, count): Argument) {
    let messages = batch(size, count);
    let error = marked(|| queue.try_put_many(messages)).expect_err("it was full");
    assert!(error.cause.is_full() && error.sent < count);
    let left: Vec<_> = error.rest.map(|message| number(&message, size)).collect();
    let whole: Vec<_> = (error.sent..count).map(|i| VICTIM + i as u64).collect();
    assert_eq!(left, whole);
}

fn get_many((queue, size, count): Argument) {
    let messages = marked(|| queue.get_many(count)).expect("get_many");
    assert!(!messages.is_empty() && messages.len() <= count);
    for message in &messages {
        number(message, size);
    }
}

fn get_many_timeout((queue, size, count): Argument) {
    let long = Duration::from_secs(30);
    let messages = marked(|| queue.get_many_timeout(count, long)).expect("get_many");
    for message in &messages {
        number(message, size);
    }
}

/// After a victim that put `count`: all others' messages, then the first ones of its own.
fn after_put(mut ring: Ring, count: usize, room: usize) -> Outcome {
    let arrived = ring.drain();
    let others: Vec<u64> = ring.sent.drain(..).collect();
    assert!(arrived.starts_with(&others), "{arrived:?} of {others:?}");
    let own = &arrived[others.len()..];
    let due: Vec<_> = (0..own.len() as u64).map(|i| VICTIM + i).collect();
    assert_eq!(own, due);
    let whole = count.min(room);
    assert!(own.len() <= whole);
    ring.refill();
    Outcome::from(own.len() == whole)
}

/// After a victim that got `count`: all messages but the first ones.
fn after_get(mut ring: Ring, corpse: Corpse, count: usize) -> Outcome {
    let mut arrived = ring.drain();
    let all: Vec<u64> = ring.sent.drain(..).collect();
    // Who does not know yet that somebody died may find the others first.
    if corpse == Corpse::Zombie {
        arrived.sort();
    }
    assert!(all.ends_with(&arrived), "{arrived:?} of {all:?}");
    let gone = all.len() - arrived.len();
    assert!(gone <= count);
    ring.refill();
    Outcome::from(gone == count.min(all.len()))
}

fn sweep(
    alone: &Alone,
    name: &str,
    operation: fn(Argument),
    shape: Shape,
    count: usize,
    check: &dyn Fn(Ring, Corpse) -> Outcome,
) {
    let Shape {
        capacity,
        size,
        turned,
        filled,
    } = shape;
    Sweep {
        name: &format!("{name} {count} of {size} B, {filled} of {capacity} filled, after {turned}"),
        setup: &|| ring(shape),
        victim: &|ring: &mut Ring| {
            let argument = (ring.queue.clone(), size, count);
            multiprocess::spawn(operation, argument).expect("spawn")
        },
        unblock: None,
        steady: true,
        check,
        whole: Outcome::Done,
    }
    .run(alone);
}

#[test]
fn put_many_with_room() {
    let alone = alone();
    for (shape, count) in [
        (shape(1, SMALL, 1, 0), 1),
        (shape(3, SMALL, 2, 0), 3),
        (shape(5, SMALL, 4, 2), 3),
        (shape(4, BLOCK, 3, 1), 3),
        (shape(100, SMALL, 70, 0), 70),
    ] {
        let check = |ring, _| after_put(ring, count, shape.capacity - shape.filled);
        sweep(&alone, "put_many", put_many, shape, count, &check);
    }
}

#[test]
fn try_put_many_that_fill_the_ring() {
    let alone = alone();
    for (shape, count) in [(shape(3, SMALL, 2, 1), 5), (shape(2, BLOCK, 1, 0), 4)] {
        let check = |ring, _| after_put(ring, count, shape.capacity - shape.filled);
        sweep(&alone, "try_put_many", try_put_many, shape, count, &check);
    }
}

#[test]
fn get_many_in_a_ring() {
    let alone = alone();
    for (shape, count) in [
        (shape(1, SMALL, 1, 1), 1),
        (shape(3, SMALL, 2, 3), 3),
        (shape(5, SMALL, 3, 4), 3),
        (shape(4, BLOCK, 2, 4), 3),
        (shape(3, SMALL, 1, 2), 9),
        (shape(100, SMALL, 70, 90), 80),
    ] {
        let check = |ring, corpse| after_get(ring, corpse, count);
        sweep(&alone, "get_many", get_many, shape, count, &check);
    }
}

#[test]
fn get_many_timeout_in_a_ring() {
    let alone = alone();
    let (shape, count) = (shape(3, BLOCK, 2, 3), 2);
    let check = |ring, corpse| after_get(ring, corpse, count);
    sweep(
        &alone,
        "get_many_timeout",
        get_many_timeout,
        shape,
        count,
        &check,
    );
}

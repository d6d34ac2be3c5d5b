//! Sweeps of what lives in the arena: objects made, handles cloned, passed and dropped, blocks
//! given back. Nothing of it shows in the data; the family's books must balance.

use multiprocess::{Process, PutError, Queue, family, spawn};
use serde_bytes::ByteBuf;

use crate::ring::{BLOCK, LARGE, LONG, Ring, SMALL, message};
use crate::sweep::{Corpse, Outcome, Sweep, alone};
use crate::victim::marked;

/// Sweeps an operation that changes nothing but the books.
fn sweep_books<W>(
    name: &str,
    setup: &dyn Fn() -> W,
    victim: &dyn Fn(&mut W) -> Process<()>,
    check: &dyn Fn(W, Corpse) -> Outcome,
) {
    let alone = alone();
    Sweep {
        name,
        setup,
        victim,
        unblock: None,
        steady: true,
        check,
        whole: Outcome::Untold,
    }
    .run(&alone);
}

fn nothing() {}

fn untold<W>(_: W, _: Corpse) -> Outcome {
    Outcome::Untold
}

fn make_queue(capacity: usize) {
    let queue = marked(|| Queue::<ByteBuf>::bounded(capacity));
    assert!(queue.is_ok());
}

#[test]
fn making_a_queue() {
    for capacity in [1, 3, 1000] {
        let name = format!("making a queue of {capacity}");
        let victim = |_: &mut ()| spawn(make_queue, capacity).expect("spawn");
        sweep_books(&name, &nothing, &victim, &untold);
    }
}

fn drop_own_queue((capacity, filled): (usize, usize)) {
    let queue = Queue::bounded(capacity).expect("a queue");
    for number in 0..filled {
        queue.put(message(number as u64, BLOCK)).expect("put");
    }
    marked(|| drop(queue));
}

#[test]
fn dropping_a_queue_of_its_own() {
    for (capacity, filled) in [(1, 0), (3, 2)] {
        let name = format!("dropping its own queue, {filled} of {capacity}");
        let victim = |_: &mut ()| spawn(drop_own_queue, (capacity, filled)).expect("spawn");
        sweep_books(&name, &nothing, &victim, &untold);
    }
}

fn clone_handle(queue: Queue<ByteBuf>) {
    let clone = marked(|| queue.clone());
    drop(clone);
}

fn drop_clone(queue: Queue<ByteBuf>) {
    let clone = queue.clone();
    marked(|| drop(clone));
    drop(queue);
}

fn drop_handle(queue: Queue<ByteBuf>) {
    marked(|| drop(queue));
}

#[test]
fn handles_of_a_queue_that_others_hold() {
    type Operation = fn(Queue<ByteBuf>);
    let operations: [(&str, Operation); 3] = [
        ("cloning a handle", clone_handle),
        ("dropping one of two handles", drop_clone),
        ("dropping a handle", drop_handle),
    ];
    for (name, operation) in operations {
        let setup = || Ring::new(3, BLOCK, 2, 2);
        let victim = |ring: &mut Ring| spawn(operation, ring.queue.clone()).expect("spawn");
        sweep_books(name, &setup, &victim, &Ring::after_nothing);
    }
}

#[test]
fn the_last_handle() {
    for filled in [0, 2] {
        let name = format!("dropping the last handle, {filled} messages");
        let setup = || Some(Ring::new(3, BLOCK, 2, filled));
        let victim = |ring: &mut Option<Ring>| {
            let ring = ring.take().expect("one victim a round");
            spawn(drop_handle, ring.queue).expect("spawn")
        };
        sweep_books(&name, &setup, &victim, &untold);
    }
}

fn put_in_vain((queue, size): (Queue<ByteBuf>, usize)) {
    let message = message(9, size);
    let refused = marked(|| queue.try_put(message));
    assert!(matches!(
        refused,
        Err(PutError::Full(_) | PutError::Closed(_))
    ));
}

#[test]
fn a_block_that_is_not_sent() {
    for size in [BLOCK, LARGE] {
        let name = format!("a put of {size} B to a closed queue");
        let setup = || {
            let ring = Ring::new(2, SMALL, 1, 0);
            ring.queue.close();
            ring
        };
        let victim = |ring: &mut Ring| {
            let arguments = (ring.queue.clone(), size);
            spawn(put_in_vain, arguments).expect("spawn")
        };
        sweep_books(&name, &setup, &victim, &untold);
    }
}

fn look_at_books(_: ()) {
    marked(family::stats);
}

#[test]
fn looking_at_the_books() {
    let victim = |_: &mut ()| spawn(look_at_books, ()).expect("spawn");
    sweep_books("stats", &nothing, &victim, &untold);
}

/// A queue that goes through another one.
struct Parcel {
    outer: Queue<Queue<u64>>,
    inner: Option<Queue<u64>>,
}

fn parcel(sent: bool) -> Parcel {
    let outer = Queue::bounded(2).expect("outer");
    let inner = Queue::bounded(2).expect("inner");
    inner.put(42).expect("put");
    let mut parcel = Parcel {
        outer,
        inner: Some(inner),
    };
    if sent {
        let inner = parcel.inner.take().expect("inner");
        parcel.outer.put(inner).expect("put");
    }
    parcel
}

fn check_inner(inner: &Queue<u64>) {
    assert_eq!(inner.get_timeout(LONG).ok(), Some(42));
    for number in 0..6 {
        inner.put_timeout(number, LONG).expect("put");
        assert_eq!(inner.get_timeout(LONG).ok(), Some(number));
    }
}

impl Parcel {
    /// The inner queue arrived with the message, or it did not.
    fn arrived(&self) -> bool {
        let Ok(inner) = self.outer.try_get() else {
            return false;
        };
        check_inner(&inner);
        assert!(self.outer.try_get().is_err(), "twice");
        true
    }
}

fn put_queue((outer, inner): (Queue<Queue<u64>>, Queue<u64>)) {
    marked(|| outer.put(inner)).expect("put");
}

fn get_queue(outer: Queue<Queue<u64>>) {
    let inner = marked(|| outer.get()).expect("get");
    assert_eq!(inner.get().ok(), Some(42));
}

#[test]
fn putting_a_queue_into_a_queue() {
    let alone = alone();
    for keep in [true, false] {
        let holders = if keep { "shared" } else { "single" };
        Sweep {
            name: &format!("putting a {holders} queue into a queue"),
            setup: &|| parcel(false),
            victim: &|parcel: &mut Parcel| {
                let inner = match keep {
                    true => parcel.inner.clone(),
                    false => parcel.inner.take(),
                };
                let arguments = (parcel.outer.clone(), inner.expect("inner"));
                spawn(put_queue, arguments).expect("spawn")
            },
            unblock: None,
            steady: true,
            check: &|parcel: Parcel, _| {
                if parcel.arrived() {
                    return Outcome::Done;
                }
                if let Some(inner) = &parcel.inner {
                    check_inner(inner);
                }
                Outcome::NotDone
            },
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

#[test]
fn getting_a_queue_out_of_a_queue() {
    let alone = alone();
    Sweep {
        name: "getting a queue out of a queue",
        setup: &|| parcel(true),
        victim: &|parcel: &mut Parcel| spawn(get_queue, parcel.outer.clone()).expect("spawn"),
        unblock: None,
        steady: true,
        check: &|parcel: Parcel, _| Outcome::from(!parcel.arrived()),
        whole: Outcome::Done,
    }
    .run(&alone);
}

//! Sweeps of operations that somebody sleeps for: a victim that is killed between its effect and
//! the wake-up that follows must not leave the sleeper asleep.

use std::fs;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use multiprocess::{GetError, Process, PutError, Queue, spawn};
use serde_bytes::ByteBuf;

use crate::queue::{Check, close, get, put};
use crate::ring::{BLOCK, LONG, Ring, SMALL, VICTIM, message, number};
use crate::sweep::{Alone, Corpse, Outcome, Sweep, alone, members};

/// How long a state must last to count as settled.
const SETTLED: Duration = Duration::from_millis(20);

/// The number that a sleeping producer sends.
const SLEEPER: u64 = 1 << 41;

/// A ring, and a thread of the survivors that sleeps in an operation on it.
struct Attended<R> {
    ring: Ring,
    sleeper: JoinHandle<R>,
}

impl<R: Send + 'static> Attended<R> {
    fn new(ring: Ring, operation: fn(Queue<ByteBuf>, usize) -> R) -> Attended<R> {
        let (queue, size) = (ring.queue.clone(), ring.size);
        let (send, receive) = mpsc::channel();
        let sleeper = thread::spawn(move || {
            // SAFETY: takes nothing.
            let id = unsafe { libc::gettid() };
            send.send(id).expect("the test thread waits for it");
            operation(queue, size)
        });
        let id = receive.recv().expect("the sleeper begins with it");
        await_sleep(id);
        Attended { ring, sleeper }
    }

    /// Waits until the sleeper has ended, or a state without it has settled.
    fn settle(&self, unmoved: impl Fn(&Queue<ByteBuf>) -> bool) -> bool {
        let start = Instant::now();
        let mut since = Instant::now();
        while !self.sleeper.is_finished() {
            assert!(start.elapsed() < LONG, "a sleeper was not woken");
            if !unmoved(&self.ring.queue) {
                since = Instant::now();
            } else if since.elapsed() > SETTLED {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    fn wake(self) -> (Ring, R) {
        let start = Instant::now();
        while !self.sleeper.is_finished() {
            assert!(
                start.elapsed() < LONG,
                "a sleeper was not woken by a survivor"
            );
            thread::sleep(Duration::from_millis(1));
        }
        match self.sleeper.join() {
            Ok(result) => (self.ring, result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Waits until a thread of this process sleeps on a futex.
pub fn await_sleep(id: i32) {
    let start = Instant::now();
    let futex = format!("{} ", libc::SYS_futex);
    let path = format!("/proc/self/task/{id}/syscall");
    while !fs::read_to_string(&path).is_ok_and(|text| text.starts_with(&futex)) {
        assert!(start.elapsed() < LONG, "the sleeper does not sleep");
        thread::sleep(Duration::from_micros(200));
    }
}

fn sweep_attended<R: Send + 'static>(
    alone: &Alone,
    name: &str,
    setup: &dyn Fn() -> Attended<R>,
    operation: fn((Queue<ByteBuf>, usize)),
    check: &dyn Fn(Attended<R>, Corpse) -> Outcome,
) {
    Sweep {
        name,
        setup,
        victim: &|attended: &mut Attended<R>| start(&attended.ring, operation),
        unblock: None,
        steady: false,
        check,
        whole: Outcome::Done,
    }
    .run(alone);
}

fn start(ring: &Ring, operation: fn((Queue<ByteBuf>, usize))) -> Process<()> {
    spawn(operation, (ring.queue.clone(), ring.size)).expect("spawn")
}

type Got = Result<ByteBuf, GetError>;

fn sleep_for_message(queue: Queue<ByteBuf>, _: usize) -> Got {
    queue.get()
}

fn after_put(mut attended: Attended<Got>, _: Corpse) -> Outcome {
    let done = attended.settle(|queue| queue.is_empty());
    if !done {
        attended.ring.put();
    }
    let due = if done { VICTIM } else { attended.ring.sent[0] };
    let (mut ring, got) = attended.wake();
    let got = got.map(|message| number(&message, ring.size));
    assert!(
        matches!(got, Ok(number) if number == due),
        "{got:?} instead of {due}"
    );
    ring.sent.clear();
    ring.refill();
    done.into()
}

#[test]
fn put_for_a_sleeping_consumer() {
    let alone = alone();
    for (capacity, size) in [(1, SMALL), (3, BLOCK)] {
        let name = format!("put of {size} B for a sleeper, room for {capacity}");
        let setup = || Attended::new(Ring::new(capacity, size, 2, 0), sleep_for_message);
        sweep_attended(&alone, &name, &setup, put, &after_put);
    }
}

type Put = Result<(), PutError<ByteBuf>>;

fn sleep_for_room(queue: Queue<ByteBuf>, size: usize) -> Put {
    queue.put(message(SLEEPER, size))
}

fn after_get(mut attended: Attended<Put>, corpse: Corpse) -> Outcome {
    let done = attended.settle(|queue| queue.is_full());
    if done {
        attended.ring.sent.pop_front();
    } else {
        // Now the death is known, and what the dead one had taken comes first.
        members();
        attended.ring.get();
    }
    let (mut ring, put) = attended.wake();
    assert!(put.is_ok(), "{put:?}");
    ring.sent.push_back(SLEEPER);
    ring.after_nothing(corpse);
    done.into()
}

#[test]
fn get_for_a_sleeping_producer() {
    let alone = alone();
    for (capacity, size) in [(1, SMALL), (3, BLOCK)] {
        let name = format!("get of {size} B for a sleeper, room for {capacity}");
        let setup = || Attended::new(Ring::new(capacity, size, 2, capacity), sleep_for_room);
        sweep_attended(&alone, &name, &setup, get, &after_get);
    }
}

fn after_close(mut attended: Attended<Got>, _: Corpse) -> Outcome {
    let done = attended.settle(|queue| !queue.is_closed());
    if !done {
        attended.ring.put();
    }
    let (mut ring, got) = attended.wake();
    if done {
        assert!(matches!(got, Err(GetError::Closed)), "{got:?}");
        return Outcome::Done;
    }
    assert!(got.is_ok(), "{got:?}");
    ring.sent.clear();
    ring.refill();
    Outcome::NotDone
}

#[test]
fn close_for_a_sleeping_consumer() {
    let alone = alone();
    let setup = || Attended::new(Ring::new(2, SMALL, 1, 0), sleep_for_message);
    let name = "close for a sleeper";
    sweep_attended(&alone, name, &setup, close, &after_close);
}

/// A ring that somebody waited at, in vain, and left: the sign of sleepers is up for nobody.
fn deserted(capacity: usize, filled: usize) -> Ring {
    let ring = Ring::new(capacity, SMALL, 2, filled);
    let moment = Duration::from_millis(2);
    if filled == 0 {
        let nothing = ring.queue.get_timeout(moment);
        assert!(matches!(nothing, Err(GetError::Empty)));
    } else {
        let refused = ring.queue.put_timeout(message(0, SMALL), moment);
        assert!(matches!(refused, Err(PutError::Full(_))));
    }
    ring
}

type Operation = fn((Queue<ByteBuf>, usize));

#[test]
fn operations_for_sleepers_that_have_left() {
    let alone = alone();

    let cases: [(&str, Operation, usize, Check); 2] = [
        ("put", put, 0, Ring::after_put),
        ("get", get, 2, Ring::after_get),
    ];
    for (verb, operation, filled, check) in cases {
        Sweep {
            name: &format!("{verb} for a sleeper that has left"),
            setup: &|| deserted(2, filled),
            victim: &|ring: &mut Ring| start(ring, operation),
            unblock: None,
            steady: true,
            check: &check,
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

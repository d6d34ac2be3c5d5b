//! Sweeps of bytes and of messages in place: loans and borrows killed at any step, dropped and forgotten. The books must
//! balance after each.

use std::mem::forget;

use multiprocess::{Bytes, GetError, Pod, Queue, spawn};

use crate::ring::{BLOCK, LARGE, SMALL, VICTIM, message, number};
use crate::sweep::{Corpse, Outcome, Sweep, alone};
use crate::victim::marked;

type Argument = (Queue<Bytes>, usize);

/// A queue of bytes and the numbers of the messages in it.
struct World {
    queue: Queue<Bytes>,
    size: usize,
    sent: Vec<u64>,
}

const CAPACITY: usize = 3;

fn world(size: usize, filled: u64) -> World {
    let queue = Queue::bounded(CAPACITY).expect("a queue");
    for i in 0..2 {
        queue.put_bytes(&message(i, size)).expect("put");
        queue.get_bytes().expect("get");
    }
    for i in 0..filled {
        queue.put_bytes(&message(i, size)).expect("put");
    }
    World {
        queue,
        size,
        sent: (0..filled).collect(),
    }
}

impl World {
    fn drain(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            match self.queue.try_get_bytes() {
                Ok(bytes) => numbers.push(number(&serde_bytes::ByteBuf::from(bytes), self.size)),
                Err(GetError::Empty) => return numbers,
                Err(error) => panic!("{error:?} after {numbers:?}"),
            }
            assert!(numbers.len() <= CAPACITY);
        }
    }

    fn goes_on(&self) {
        for turn in 0..3 * CAPACITY as u64 {
            let mut loan = self.queue.loan(self.size).expect("memory");
            loan.copy_from_slice(&message(turn, self.size));
            loan.put().expect("put");
            let borrowed = self.queue.get_ref().expect("get");
            assert_eq!(&*borrowed, &**message(turn, self.size));
        }
    }

    fn after_put(self, _: Corpse) -> Outcome {
        let arrived = self.drain();
        self.goes_on();
        let done = arrived.last() == Some(&VICTIM);
        assert_eq!(arrived[..arrived.len() - usize::from(done)], self.sent);
        Outcome::from(done)
    }

    fn after_get(self, corpse: Corpse) -> Outcome {
        let mut arrived = self.drain();
        self.goes_on();
        if corpse == Corpse::Zombie {
            arrived.sort();
        }
        match arrived == self.sent[1..] {
            true => Outcome::Done,
            false => {
                assert_eq!(arrived, self.sent);
                Outcome::NotDone
            }
        }
    }

    fn after_nothing(self, _: Corpse) -> Outcome {
        assert_eq!(self.drain(), self.sent);
        self.goes_on();
        Outcome::Untold
    }
}

type Check = fn(World, Corpse) -> Outcome;

fn sweep(name: &str, operation: fn(Argument), filled: u64, check: Check, whole: Outcome) {
    let alone = alone();
    for size in [SMALL, BLOCK, LARGE] {
        Sweep {
            name: &format!("{name}, {size} B"),
            setup: &|| world(size, filled),
            victim: &|world: &mut World| {
                spawn(operation, (world.queue.clone(), size)).expect("spawn")
            },
            unblock: None,
            steady: true,
            check: &check,
            whole,
        }
        .run(&alone);
    }
}

fn put_bytes((queue, size): Argument) {
    let message = message(VICTIM, size);
    marked(|| queue.put_bytes(&message)).expect("put_bytes");
}

fn get_bytes((queue, size): Argument) {
    let got = marked(|| queue.get_bytes()).expect("get_bytes");
    number(&serde_bytes::ByteBuf::from(got), size);
}

fn get_into((queue, size): Argument) {
    let mut buffer = vec![0; size];
    let len = marked(|| queue.get_into(&mut buffer)).expect("get_into");
    assert_eq!(len, size);
}

fn get_into_too_little((queue, size): Argument) {
    let error = marked(|| queue.get_into(&mut [0; 7]));
    let Err(multiprocess::GetIntoError::TooShort(message)) = error else {
        panic!("{size} bytes in 7");
    };
    assert_eq!(message.len(), size);
}

#[test]
fn putting_bytes() {
    sweep("put_bytes", put_bytes, 1, World::after_put, Outcome::Done);
}

#[test]
fn getting_bytes() {
    let check = World::after_get;
    sweep("get_bytes", get_bytes, 2, check, Outcome::Done);
    sweep("get_into", get_into, 2, check, Outcome::Done);
    let name = "get_into of a short buffer";
    sweep(name, get_into_too_little, 2, check, Outcome::Done);
}

fn put_loan((queue, size): Argument) {
    let message = message(VICTIM, size);
    marked(|| {
        let mut loan = queue.loan(size)?;
        loan.copy_from_slice(&message);
        loan.put().map_err(std::io::Error::other)
    })
    .expect("a loan");
}

fn drop_loan((queue, size): Argument) {
    marked(|| queue.loan(size).map(drop)).expect("a loan");
}

fn forget_loan((queue, size): Argument) {
    marked(|| queue.loan(size).map(forget)).expect("a loan");
}

#[test]
fn loans() {
    sweep("loan, put", put_loan, 1, World::after_put, Outcome::Done);
    let check = World::after_nothing;
    sweep("loan, drop", drop_loan, 1, check, Outcome::Untold);
    sweep("loan, forget", forget_loan, 1, check, Outcome::Untold);
}

fn drop_ref((queue, size): Argument) {
    let len = marked(|| queue.get_ref().map(|message| message.len()));
    assert_eq!(len.ok(), Some(size));
}

fn forget_ref((queue, _): Argument) {
    marked(|| queue.get_ref().map(forget)).expect("a message");
}

#[test]
fn borrows() {
    let check = World::after_get;
    sweep("get_ref, drop", drop_ref, 2, check, Outcome::Done);
    sweep("get_ref, forget", forget_ref, 2, check, Outcome::Done);
}

type Frame = [u64; 500];

fn put_frame(queue: Queue<Frame, Pod>) {
    marked(|| {
        let mut loan = queue.loan()?;
        *loan = [7; 500];
        loan.put().map_err(std::io::Error::other)
    })
    .expect("a loan");
}

fn get_frame(queue: Queue<Frame, Pod>) {
    let got = marked(|| queue.get_ref().map(|frame| frame[499]));
    assert_eq!(got.ok(), Some(7));
}

fn put_frames(queue: Queue<Frame, Pod>) {
    let frames = vec![[7; 500]; 2];
    marked(|| queue.put_many(frames)).expect("put_many");
}

fn get_frames(queue: Queue<Frame, Pod>) {
    assert_eq!(
        marked(|| queue.get_many(2)).expect("get_many"),
        [[7; 500]; 2]
    );
}

/// Plain old data, one by one in place and as batches: how many are left tells what took effect.
#[test]
fn frames() {
    type Operation = fn(Queue<Frame, Pod>);
    let operations: [(&str, Operation, usize, usize); 4] = [
        ("putting a frame", put_frame, 1, 2),
        ("getting a frame", get_frame, 2, 1),
        ("putting frames", put_frames, 1, 3),
        ("getting frames", get_frames, 2, 0),
    ];
    let alone = alone();
    for (name, operation, filled, whole) in operations {
        Sweep {
            name,
            setup: &|| {
                let queue = Queue::<Frame, Pod>::bounded_pod(CAPACITY).expect("a queue");
                queue.put_many(vec![[7; 500]; filled]).expect("put");
                queue
            },
            victim: &|queue: &mut Queue<Frame, Pod>| {
                spawn(operation, queue.clone()).expect("spawn")
            },
            unblock: None,
            steady: true,
            check: &|queue: Queue<Frame, Pod>, _| {
                let mut left = 0;
                while let Ok(frame) = queue.try_get() {
                    assert_eq!(frame, [7; 500]);
                    left += 1;
                }
                for _ in 0..3 {
                    assert_eq!(queue.put_many([[8; 500]; CAPACITY]).ok(), Some(CAPACITY));
                    assert_eq!(queue.get_many(9).map(|got| got.len()).ok(), Some(CAPACITY));
                }
                assert!((filled.min(whole)..=filled.max(whole)).contains(&left));
                Outcome::from(left == whole)
            },
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

//! What the sweeps of queues share: numbered messages with a pattern that shows tearing, and a
//! queue together with what must come out of it.

use std::collections::VecDeque;
use std::time::Duration;

use multiprocess::{GetError, Queue};
use serde_bytes::ByteBuf;

use crate::sweep::{Corpse, Outcome};

/// The guard of operations that must succeed: far longer than any of them needs.
pub const LONG: Duration = Duration::from_secs(30);

/// Fits a slot, fits a block, takes a run of chunks.
pub const SMALL: usize = 8;
pub const BLOCK: usize = 3000;
pub const LARGE: usize = 300 * 1024;

/// The number under which a victim sends.
pub const VICTIM: u64 = 1 << 40;

/// A message whose every byte follows from its number and its place.
pub fn message(number: u64, size: usize) -> ByteBuf {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..size).map(|place| pattern(number, place)));
    ByteBuf::from(bytes)
}

fn pattern(number: u64, place: usize) -> u8 {
    (number as usize ^ place ^ (place >> 8)) as u8
}

/// A message's number, after a look at every byte.
pub fn number(message: &ByteBuf, size: usize) -> u64 {
    assert_eq!(message.len(), size, "a message of another length");
    let mut head = [0; 8];
    head.copy_from_slice(&message[..8]);
    let number = u64::from_le_bytes(head);
    let torn = (8..size).find(|&place| message[place] != pattern(number, place));
    assert_eq!(torn, None, "message {number} is torn at this byte");
    number
}

/// A queue and the numbers that were sent through it and have not arrived.
pub struct Ring {
    pub queue: Queue<ByteBuf>,
    pub capacity: usize,
    pub size: usize,
    pub sent: VecDeque<u64>,
    next: u64,
}

impl Ring {
    /// A queue that was used `turned` times before and now holds `filled` messages.
    pub fn new(capacity: usize, size: usize, turned: usize, filled: usize) -> Ring {
        let queue = Queue::bounded(capacity).expect("a queue");
        let mut ring = Ring {
            queue,
            capacity,
            size,
            sent: VecDeque::new(),
            next: 1,
        };
        for _ in 0..turned {
            ring.put();
            ring.get();
        }
        for _ in 0..filled {
            ring.put();
        }
        ring
    }

    /// Sends one message, for which there must be room.
    pub fn put(&mut self) {
        let message = message(self.next, self.size);
        if let Err(error) = self.queue.put_timeout(message, LONG) {
            panic!("put of {}: {error:?}", self.next);
        }
        self.sent.push_back(self.next);
        self.next += 1;
    }

    /// Receives one message, which must be there and the one that is due.
    pub fn get(&mut self) {
        let due = self.sent.pop_front();
        match self.queue.get_timeout(LONG) {
            Ok(message) => assert_eq!(Some(number(&message, self.size)), due, "out of order"),
            Err(error) => panic!("get of {due:?}: {error:?}"),
        }
    }

    /// Everything that is in the queue.
    pub fn drain(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            match self.queue.try_get() {
                Ok(message) => numbers.push(number(&message, self.size)),
                Err(GetError::Empty) => return numbers,
                Err(error) => panic!("draining, after {numbers:?}: {error:?}"),
            }
            assert!(
                numbers.len() <= self.capacity,
                "more than fits: {numbers:?}"
            );
        }
    }

    /// Fills and empties the whole ring, three times.
    pub fn refill(&mut self) {
        assert!(self.sent.is_empty());
        for _ in 0..3 {
            for _ in 0..self.capacity {
                self.put();
            }
            let extra = self.queue.try_put(message(0, self.size));
            let refused = matches!(extra, Err(multiprocess::PutError::Full(_)));
            assert!(refused, "{} fit into {}", self.capacity + 1, self.capacity);
            for _ in 0..self.capacity {
                self.get();
            }
            let left = self.drain();
            assert!(left.is_empty(), "left over: {left:?}");
        }
    }

    /// After a victim that put: all others' messages, then its own or not.
    pub fn after_put(mut self, _: Corpse) -> Outcome {
        self.sent.push_back(VICTIM);
        let arrived = self.drain();
        let all = self.sent.make_contiguous();
        let (done, others) = (arrived == *all, &all[..all.len() - 1]);
        assert!(done || arrived == others, "{arrived:?} of {all:?}");
        self.sent.clear();
        self.refill();
        done.into()
    }

    /// After a victim that got: all messages, or all but the first.
    pub fn after_get(mut self, corpse: Corpse) -> Outcome {
        let mut arrived = self.drain();
        let all = self.sent.make_contiguous();
        let done = arrived == all[1..];
        // The first one is not in its place when nobody knew that it must be delivered again.
        if !done && corpse == Corpse::Zombie {
            arrived.sort();
        }
        assert!(done || arrived == *all, "{arrived:?} of {all:?}");
        self.sent.clear();
        self.refill();
        done.into()
    }

    /// After a victim that moved no message.
    pub fn after_nothing(mut self, _: Corpse) -> Outcome {
        let arrived = self.drain();
        assert_eq!(arrived, self.sent.make_contiguous());
        self.sent.clear();
        self.refill();
        Outcome::Untold
    }
}

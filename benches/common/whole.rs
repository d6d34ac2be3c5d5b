//! Our other ways to pass messages: plain old data, many in one call, bytes, and in place.

use super::machine::Place;
use super::message::{Audit, Message, digest, piece};
use super::ours::Item;
use super::team::{Done, Round, Seat, Team};
use super::throughput::{consume, produce};
use multiprocess::{Bytes, Codec, Pod, Queue, Serde};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// So many messages a call.
const BATCH: u64 = 64;

/// 64 bytes that need no encoding.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Plain([u64; 8]);

impl Message for Plain {
    const LEN: usize = 64;

    fn make(from: u8, i: u64) -> Self {
        let number = u64::make(from, i);
        Self([number, 1, 2, 3, 4, 5, 6, !i])
    }

    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

fn pod_queue(capacity: usize) -> Queue<Plain, Pod> {
    Queue::bounded_pod(capacity).expect("a queue")
}

fn produce_plain((seat, queue): (Seat, Queue<Plain, Pod>)) {
    seat.serve(|round| produce(round, 0, |m| queue.put(m).expect("room in the queue")));
}

fn consume_plain((seat, queue): (Seat, Queue<Plain, Pod>)) {
    seat.serve(|round| consume(round, true, || queue.get().expect("a message")));
}

/// Plain old data, one by one.
pub fn plain(capacity: usize) -> Team {
    let mut team = Team::new("plain old data");
    let queue = pod_queue(capacity);
    team.spawn(Place::First, produce_plain, queue.clone());
    team.spawn(Place::Second, consume_plain, queue);
    team
}

fn put_batches<M: Message, C: Codec<M>>((seat, queue): (Seat, Queue<M, C>)) {
    seat.serve(|round| {
        let mut sum = 0u64;
        let mut next = 0;
        while next < round.messages {
            let end = round.messages.min(next + BATCH);
            let batch = (next..end).map(|i| {
                let message = M::make(0, i);
                sum = sum.wrapping_add(digest(message.bytes()));
                message
            });
            queue.put_many(batch).expect("room in the queue");
            next = end;
        }
        done(sum)
    });
}

fn get_batches<M: Message, C: Codec<M>>((seat, queue): (Seat, Queue<M, C>)) {
    seat.serve(|round| {
        let mut sum = 0u64;
        let mut audit = Audit::default();
        let mut left = round.messages;
        while left > 0 {
            let most = left.min(BATCH) as usize;
            let batch = queue.get_many(most).expect("messages");
            left -= batch.len() as u64;
            for message in batch {
                sum = sum.wrapping_add(digest(message.bytes()));
                if round.check {
                    audit.take::<M>(message.bytes(), true);
                }
            }
        }
        done(sum)
    });
}

fn done(digest: u64) -> Done {
    Done {
        digest,
        spent: None,
    }
}

/// 64 messages a call, encoded.
pub fn batches<M: Item>(capacity: usize) -> Team {
    let mut team = Team::new("batches");
    let queue = Queue::<M>::bounded(capacity).expect("a queue");
    team.spawn(Place::First, put_batches::<M, Serde>, queue.clone());
    team.spawn(Place::Second, get_batches::<M, Serde>, queue);
    team
}

/// 64 messages a call, plain old data.
pub fn plain_batches(capacity: usize) -> Team {
    let mut team = Team::new("plain batches");
    let queue = pod_queue(capacity);
    team.spawn(Place::First, put_batches::<Plain, Pod>, queue.clone());
    team.spawn(Place::Second, get_batches::<Plain, Pod>, queue);
    team
}

/// A queue of bytes and how long the messages are.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Wide(Queue<Bytes>, usize);

/// What `produce` and `consume` pass around instead of the bytes: the digest is taken of the message's ends.
fn ends(round: Round, mut pass: impl FnMut(u64) -> u64) -> Done {
    let mut sum = 0u64;
    for i in 0..round.messages {
        sum = sum.wrapping_add(pass(i));
    }
    done(sum)
}

fn put_copies((seat, Wide(queue, len)): (Seat, Wide)) {
    seat.serve(|round| {
        ends(round, |i| {
            let bytes = piece(i, len);
            queue.put_bytes(bytes).expect("room in the queue");
            digest(bytes)
        })
    });
}

fn get_copies((seat, Wide(queue, len)): (Seat, Wide)) {
    let mut buffer = vec![0; len];
    seat.serve(|round| {
        ends(round, |i| {
            let got = queue.get_into(&mut buffer).expect("a message");
            assert!(!round.check || buffer[..got] == *piece(i, len));
            digest(&buffer[..got])
        })
    });
}

fn put_in_place((seat, Wide(queue, len)): (Seat, Wide)) {
    seat.serve(|round| {
        ends(round, |i| {
            let mut loan = queue.loan(len).expect("memory");
            loan[..8].copy_from_slice(&i.to_ne_bytes());
            loan[len - 8..].copy_from_slice(&(!i).to_ne_bytes());
            let digest = digest(&loan);
            loan.put().expect("room in the queue");
            digest
        })
    });
}

fn get_in_place((seat, Wide(queue, len)): (Seat, Wide)) {
    seat.serve(|round| {
        ends(round, |i| {
            let message = queue.get_ref().expect("a message");
            assert_eq!(message.len(), len);
            assert!(!round.check || message[..8] == i.to_ne_bytes());
            digest(&message)
        })
    });
}

fn wide(name: &'static str, len: usize, capacity: usize, work: [fn((Seat, Wide)); 2]) -> Team {
    let mut team = Team::new(name);
    let queue = Wide(Queue::bounded(capacity).expect("a queue"), len);
    team.spawn(Place::First, work[0], queue.clone());
    team.spawn(Place::Second, work[1], queue);
    team
}

/// Bytes that are copied once in and once out.
pub fn copied(len: usize, capacity: usize) -> Team {
    wide("bytes", len, capacity, [put_copies, get_copies])
}

/// Messages of which only the ends are written and read, where they lie.
pub fn in_place(len: usize, capacity: usize) -> Team {
    wide("in place", len, capacity, [put_in_place, get_in_place])
}

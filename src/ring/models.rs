//! Models of the ring's own code, run by `ci/loom.sh`: orderings, with a payload that loom watches for races. Deaths at every step and
//! more parties than loom can bear are in `tests/ring_model`.

mod chain;
mod jobs;

use super::mpmc::Storage;
use super::tag::Laps;
use super::*;
use crate::arena::MemberId;
use crate::primitive::{AtomicU32, AtomicU64};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64 as LoomU64;
use loom::thread;
use std::sync::atomic::Ordering::SeqCst;

struct Heap {
    closed: AtomicU32,
    tail: AtomicU64,
    head: AtomicU64,
    claims: Vec<AtomicU64>,
    takes: Vec<AtomicU64>,
    published: Vec<AtomicU64>,
    payloads: Vec<UnsafeCell<u64>>,
    /// Bit `id` is set once that party is dead; deaths are counted above.
    dead: LoomU64,
}

// SAFETY: payloads are only touched by whoever has the slot, which is what loom checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    fn new(capacity: usize) -> Arc<Heap> {
        let words = || (0..capacity).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Heap {
            closed: AtomicU32::new(0),
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            claims: words(),
            takes: words(),
            published: words(),
            payloads: (0..capacity).map(|_| UnsafeCell::new(0)).collect(),
            dead: LoomU64::new(0),
        })
    }

    fn kill(&self, id: MemberId) {
        self.dead.fetch_or(1 << id, SeqCst);
    }
}

impl Storage for &Heap {
    fn laps(&self) -> Laps {
        Laps::new(self.claims.len() as u64)
    }
    fn closed(&self) -> &AtomicU32 {
        &self.closed
    }
    fn tail_hint(&self) -> &AtomicU64 {
        &self.tail
    }
    fn head_hint(&self) -> &AtomicU64 {
        &self.head
    }
    fn claim(&self, index: u64) -> &AtomicU64 {
        &self.claims[index as usize]
    }
    fn take(&self, index: u64) -> &AtomicU64 {
        &self.takes[index as usize]
    }
    fn published(&self, index: u64) -> &AtomicU64 {
        &self.published[index as usize]
    }
}

/// One party with its own cursors.
struct Party {
    heap: Arc<Heap>,
    cursors: Cursors,
    id: MemberId,
}

impl Owners for Party {
    fn me(&self) -> MemberId {
        self.id
    }
    fn is_dead(&self, owner: MemberId) -> bool {
        self.heap.dead.load(SeqCst) >> owner & 1 == 1
    }
    fn deaths(&self) -> u64 {
        self.heap.dead.load(SeqCst).count_ones().into()
    }
}

impl Party {
    fn new(heap: &Arc<Heap>, id: MemberId) -> Party {
        Party {
            heap: heap.clone(),
            cursors: Mpmc::new(&**heap).cursors(),
            id,
        }
    }

    fn ring(&self) -> Mpmc<&Heap> {
        Mpmc::new(&self.heap)
    }

    fn claim(&self, value: u64) -> Result<Slot, PutError> {
        let slot = self.ring().claim(&self.cursors, self.id)?;
        // SAFETY: the slot is claimed.
        self.heap.payloads[slot.index as usize].with_mut(|at| unsafe { *at = value });
        Ok(slot)
    }

    fn put(&self, value: u64) -> Result<(), PutError> {
        let slot = self.claim(value)?;
        self.ring().commit(slot, 1);
        Ok(())
    }

    fn get(&self) -> Result<u64, TakeError> {
        let message = self.ring().take(&self.cursors, self)?;
        // SAFETY: the message is taken and not yet acknowledged.
        let value = self.heap.payloads[message.slot.index as usize].with(|at| unsafe { *at });
        self.ring().acknowledge(message, self.id);
        Ok(value)
    }

    /// Everything that is left, with the dead repaired; for the end of a model.
    fn drain(&self) -> Vec<u64> {
        let mut values = Vec::new();
        loop {
            match self.get() {
                Ok(value) => values.push(value),
                Err(TakeError::Busy(_)) if self.ring().skip_dead(&self.cursors, self) => {}
                Err(_) => return values,
            }
        }
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(f);
}

/// The same for a model that is too large for more.
fn large_model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.map_or(2, |bound| bound.min(2)));
    builder.check(f);
}

#[test]
fn loom_two_producers_one_consumer() {
    model(|| {
        let heap = Heap::new(2);
        let producers = [2, 3].map(|id| {
            let party = Party::new(&heap, id);
            thread::spawn(move || party.put(id.into()).unwrap())
        });
        let consumer = Party::new(&heap, 1);
        let mut got: Vec<_> = (0..2).filter_map(|_| consumer.get().ok()).collect();
        for producer in producers {
            producer.join().unwrap();
        }
        got.extend(consumer.drain());
        got.sort();
        assert_eq!(got, [2, 3]);
    });
}

/// One slot, used again: the payload is written after it was read.
#[test]
fn loom_a_slot_wraps() {
    model(|| {
        let heap = Heap::new(1);
        let producer = Party::new(&heap, 2);
        let producer = thread::spawn(move || {
            let mut sent = 0;
            for value in 1..=3 {
                sent += u64::from(producer.put(value).is_ok());
            }
            sent
        });
        let consumer = Party::new(&heap, 1);
        let mut got: Vec<_> = (0..2).filter_map(|_| consumer.get().ok()).collect();
        let sent = producer.join().unwrap();
        got.extend(consumer.drain());
        assert_eq!(got.len() as u64, sent);
        assert!(got.is_sorted());
    });
}

/// Two threads of one process: what one saw free, the other fills.
#[test]
fn loom_a_free_slot_is_filled_by_another_thread() {
    model(|| {
        let heap = Heap::new(2);
        let producer = Arc::new(Party::new(&heap, 2));
        producer.put(1).unwrap();
        producer.put(2).unwrap();
        let threads = [3, 4].map(|value| {
            let producer = producer.clone();
            thread::spawn(move || producer.put(value).is_ok().then_some(value))
        });
        let consumer = Party::new(&heap, 1);
        assert_eq!([consumer.get().unwrap(), consumer.get().unwrap()], [1, 2]);
        let sent = threads.map(|thread| thread.join().unwrap());
        let mut sent: Vec<u64> = sent.into_iter().flatten().collect();
        let mut got = Party::new(&heap, 3).drain();
        got.sort();
        sent.sort();
        assert_eq!(got, sent);
    });
}

#[test]
fn loom_one_message_two_consumers() {
    model(|| {
        let heap = Heap::new(2);
        Party::new(&heap, 4).put(7).unwrap();
        let others = [2, 3].map(|id| {
            let party = Party::new(&heap, id);
            thread::spawn(move || party.get().ok())
        });
        let mut got: Vec<_> = others
            .into_iter()
            .filter_map(|o| o.join().unwrap())
            .collect();
        got.extend(Party::new(&heap, 1).drain());
        assert_eq!(got, [7]);
    });
}

/// A producer that died after its claim: its slot is skipped, and written again only after that.
#[test]
fn loom_a_dead_claim_is_skipped_and_reused() {
    model(|| {
        let heap = Heap::new(1);
        drop(Party::new(&heap, 5).claim(9).unwrap());
        heap.kill(5);
        let consumer = Party::new(&heap, 2);
        let consumer = thread::spawn(move || consumer.drain());
        let producer = Party::new(&heap, 3);
        let mut sent = producer.put(1).is_ok();
        producer.ring().orphan_if_dead(&producer.cursors, &producer);
        sent |= !sent && producer.put(1).is_ok();
        let mut got = consumer.join().unwrap();
        got.extend(Party::new(&heap, 1).drain());
        assert_eq!(got, if sent { vec![1] } else { vec![] });
    });
}

/// A consumer that died before it acknowledged: two others and a sweep meet over its message.
#[test]
fn loom_a_dead_take_goes_to_one() {
    model(|| {
        let heap = Heap::new(1);
        let dying = Party::new(&heap, 5);
        dying.put(7).unwrap();
        drop(dying.ring().take(&dying.cursors, &dying).unwrap());
        heap.kill(5);
        let others = [2, 3].map(|id| {
            let party = Party::new(&heap, id);
            thread::spawn(move || party.get().ok())
        });
        let sweeper = Party::new(&heap, 1);
        sweeper.ring().sweep(|id| sweeper.is_dead(id));
        let mut got: Vec<_> = others
            .into_iter()
            .filter_map(|o| o.join().unwrap())
            .collect();
        got.extend(sweeper.drain());
        assert_eq!(got, [7]);
        Party::new(&heap, 3).put(8).unwrap();
        assert_eq!(sweeper.drain(), [8]);
    });
}

/// After a consumer was told `Closed` nothing is left behind by a put that succeeded.
#[test]
fn loom_close_against_put() {
    model(|| {
        let heap = Heap::new(2);
        let producer = Party::new(&heap, 2);
        let producer = thread::spawn(move || producer.put(7).is_ok());
        let closer = heap.clone();
        let closer = thread::spawn(move || Mpmc::new(&*closer).close());
        let consumer = Party::new(&heap, 1);
        let first = consumer.get();
        let sent = producer.join().unwrap();
        closer.join().unwrap();
        match first {
            Ok(value) => assert!(sent && value == 7),
            Err(TakeError::Closed) => assert!(!sent, "the message was left behind"),
            Err(_) => assert_eq!(consumer.drain(), if sent { vec![7] } else { vec![] }),
        }
    });
}

impl Party {
    /// Claims up to `values.len()` slots, then fills and commits them: how many.
    fn put_run(&self, values: &[u64]) -> usize {
        let Ok(first) = self.ring().claim(&self.cursors, self.id) else {
            return 0;
        };
        let mut run = Run::of(first);
        self.ring()
            .claim_more(&self.cursors, self.id, &mut run, values.len());
        let count = run.count;
        let mut values = values.iter();
        self.ring().commit_all(run, |slot| {
            let value = *values.next().unwrap();
            // SAFETY: the slot is claimed.
            self.heap.payloads[slot.index as usize].with_mut(|at| unsafe { *at = value });
            1
        });
        count
    }

    /// Takes up to `most` messages, then reads and acknowledges them.
    fn get_run(&self, most: usize) -> Vec<u64> {
        let Ok(first) = self.ring().take(&self.cursors, self) else {
            return Vec::new();
        };
        let mut run = Run::of(first.slot);
        self.ring().take_more(&self.cursors, self, &mut run, most);
        let mut values = Vec::new();
        self.ring().acknowledge_all(run, self.id, |message| {
            let at = &self.heap.payloads[message.slot.index as usize];
            // SAFETY: the message is taken and not yet acknowledged.
            values.push(at.with(|at| unsafe { *at }));
        });
        values
    }
}

/// Batches through a ring that is smaller than they are: each slot is read before it is written again.
#[test]
fn loom_batches_wrap() {
    model(|| {
        let heap = Heap::new(2);
        let producer = Party::new(&heap, 2);
        let producer = thread::spawn(move || {
            let first = producer.put_run(&[1, 2]);
            first + producer.put_run(&[3, 4][..2.min(4 - first)])
        });
        let consumer = Party::new(&heap, 1);
        let mut got = consumer.get_run(2);
        got.extend(consumer.get_run(2));
        let sent = producer.join().unwrap();
        got.extend(consumer.drain());
        assert_eq!(got.len(), sent);
        assert!(got.is_sorted());
    });
}

/// Two consumers take batches, one of which may find the other in its way.
#[test]
fn loom_a_batch_is_shared_by_two() {
    model(|| {
        let heap = Heap::new(3);
        assert_eq!(Party::new(&heap, 4).put_run(&[1, 2, 3]), 3);
        let others = [2, 3].map(|id| {
            let party = Party::new(&heap, id);
            thread::spawn(move || party.get_run(2))
        });
        let mut got = Vec::new();
        for other in others {
            let values = other.join().unwrap();
            assert!(values.is_sorted());
            got.extend(values);
        }
        got.extend(Party::new(&heap, 1).drain());
        got.sort();
        assert_eq!(got, [1, 2, 3]);
    });
}

/// A batch and single puts for the same slots.
#[test]
fn loom_a_batch_against_a_single_put() {
    model(|| {
        let heap = Heap::new(2);
        let batch = Party::new(&heap, 2);
        let batch = thread::spawn(move || batch.put_run(&[1, 2]));
        let single = Party::new(&heap, 3);
        let single = thread::spawn(move || single.put(3).is_ok());
        let consumer = Party::new(&heap, 1);
        let mut got = consumer.get_run(2);
        let sent = batch.join().unwrap() + usize::from(single.join().unwrap());
        got.extend(consumer.drain());
        assert_eq!(got.len(), sent);
        let own: Vec<_> = got.iter().filter(|&&value| value < 3).collect();
        assert!(own.is_sorted());
    });
}

/// After a consumer was told `Closed` nothing of a batch is left behind.
#[test]
fn loom_close_against_a_batch() {
    model(|| {
        let heap = Heap::new(2);
        let producer = Party::new(&heap, 2);
        let producer = thread::spawn(move || producer.put_run(&[7, 8]));
        let closer = heap.clone();
        let closer = thread::spawn(move || Mpmc::new(&*closer).close());
        let consumer = Party::new(&heap, 1);
        let mut got = Vec::new();
        let end = loop {
            match consumer.get() {
                Ok(value) => got.push(value),
                Err(end) => break end,
            }
        };
        let sent = producer.join().unwrap();
        closer.join().unwrap();
        if end != TakeError::Closed {
            got.extend(consumer.drain());
        }
        assert_eq!(got, [7, 8][..sent], "{end:?}");
    });
}

/// A producer that died with two claims, and a consumer that died with two messages.
#[test]
fn loom_a_dead_batch_is_repaired() {
    model(|| {
        let heap = Heap::new(3);
        let dying = Party::new(&heap, 5);
        assert_eq!(dying.put_run(&[1]), 1);
        let first = dying.claim(0).unwrap();
        dying
            .ring()
            .claim_more(&dying.cursors, 5, &mut Run::of(first), 2);
        heap.kill(5);
        let others = [2, 3].map(|id| {
            let party = Party::new(&heap, id);
            thread::spawn(move || party.drain())
        });
        let producer = Party::new(&heap, 4);
        let sent = producer.put_run(&[2, 3]);
        let mut got: Vec<_> = others.into_iter().flat_map(|o| o.join().unwrap()).collect();
        got.extend(Party::new(&heap, 1).drain());
        got.sort();
        assert_eq!(got, (1..=1 + sent as u64).collect::<Vec<_>>());
    });
}

use super::mpmc::Storage;
use super::tag::Laps;
use super::*;
use crate::arena::MemberId;
use crate::primitive::{AtomicU32, AtomicU64};
use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};

/// A ring on the heap.
struct Heap {
    capacity: u64,
    closed: AtomicU32,
    tail: AtomicU64,
    head: AtomicU64,
    claims: Vec<AtomicU64>,
    takes: Vec<AtomicU64>,
    published: Vec<AtomicU64>,
}

impl Heap {
    fn new(capacity: u64) -> Heap {
        let words = || (0..capacity).map(|_| AtomicU64::new(0)).collect();
        Heap {
            capacity,
            closed: AtomicU32::new(0),
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            claims: words(),
            takes: words(),
            published: words(),
        }
    }
}

impl Storage for &Heap {
    fn laps(&self) -> Laps {
        Laps::new(self.capacity)
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

#[derive(Default)]
struct Parties {
    me: Cell<MemberId>,
    dead: RefCell<HashSet<MemberId>>,
    deaths: Cell<u64>,
}

impl Parties {
    fn kill(&self, id: MemberId) {
        self.dead.borrow_mut().insert(id);
    }
}

impl Owners for Parties {
    fn me(&self) -> MemberId {
        self.me.get()
    }
    fn is_dead(&self, owner: MemberId) -> bool {
        let dead = self.dead.borrow().contains(&owner);
        if dead {
            self.deaths.set(self.deaths.get() + 1);
        }
        dead
    }
    fn deaths(&self) -> u64 {
        self.deaths.get()
    }
}

fn put(ring: &Mpmc<&Heap>, cursors: &Cursors, value: u16) -> Result<(), PutError> {
    ring.claim(cursors, 1).map(|slot| ring.commit(slot, value))
}

fn get(ring: &Mpmc<&Heap>, cursors: &Cursors, parties: &Parties) -> Result<u16, TakeError> {
    ring.take(cursors, parties).map(|message| {
        let value = message.meta;
        ring.acknowledge(message, parties.me());
        value
    })
}

#[test]
fn it_is_a_bounded_fifo_for_every_capacity_and_any_laggard() {
    for capacity in [1, 2, 3, 4, 7, 64, 100] {
        let heap = Heap::new(capacity);
        let ring = Mpmc::new(&heap);
        let parties = Parties::default();
        parties.me.set(2);
        // Four parties that use the ring in turns, so that their cursors lag behind by up to many laps.
        let cursors: Vec<_> = (0..4).map(|_| ring.cursors()).collect();
        let mut model = VecDeque::new();
        let mut random = 12345_u64;
        for value in 0..20_000_u64 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let party = &cursors[(random >> 33) as usize % if value % 5000 < 2500 { 1 } else { 4 }];
            if random >> 60 & 1 == 0 {
                let put = put(&ring, party, value as u16);
                assert_eq!(put.is_ok(), model.len() < capacity as usize);
                if put.is_ok() {
                    model.push_back(value as u16);
                }
            } else {
                assert_eq!(get(&ring, party, &parties).ok(), model.pop_front());
            }
            assert_eq!(ring.len(party), model.len() as u64);
            assert_eq!(ring.is_full(party), model.len() == capacity as usize);
        }
    }
}

#[test]
fn a_dead_producer_s_slot_is_skipped() {
    let heap = Heap::new(3);
    let ring = Mpmc::new(&heap);
    let (cursors, parties) = (ring.cursors(), Parties::default());
    parties.me.set(2);
    let _dead = ring.claim(&cursors, 9).unwrap();
    put(&ring, &cursors, 1).unwrap();
    assert_eq!(
        ring.take(&cursors, &parties),
        Err(TakeError::Busy(Blocked(9)))
    );
    assert!(!ring.skip_dead(&cursors, &parties), "it lives");
    parties.kill(9);
    assert!(ring.skip_dead(&cursors, &parties));
    assert_eq!(get(&ring, &cursors, &parties), Ok(1));
    assert_eq!(get(&ring, &cursors, &parties), Err(TakeError::Empty));
    for value in 2..20 {
        put(&ring, &cursors, value).unwrap();
        assert_eq!(get(&ring, &cursors, &parties), Ok(value));
    }
}

#[test]
fn a_dead_consumer_s_message_goes_to_another_first() {
    let heap = Heap::new(2);
    let ring = Mpmc::new(&heap);
    let parties = Parties::default();
    let (a, b) = (ring.cursors(), ring.cursors());
    parties.me.set(5);
    put(&ring, &a, 1).unwrap();
    put(&ring, &a, 2).unwrap();
    let _taken = ring.take(&a, &parties).unwrap();
    parties.me.set(6);
    assert_eq!(ring.claim(&b, 1), Err(PutError::Busy(Blocked(5))));
    parties.kill(5);
    assert_eq!(
        ring.taken(&b, &parties),
        Taken::Settled,
        "b has not come past it"
    );
    assert!(ring.orphan_if_dead(&b, &parties));
    assert_eq!(ring.claim(&b, 1), Err(PutError::Orphaned));
    assert_eq!(get(&ring, &b, &parties), Ok(1));
    assert_eq!(get(&ring, &b, &parties), Ok(2));
    put(&ring, &b, 3).unwrap();
    assert_eq!(get(&ring, &b, &parties), Ok(3));
}

#[test]
fn who_finds_nothing_looks_for_dead_takers() {
    let heap = Heap::new(4);
    let ring = Mpmc::new(&heap);
    let parties = Parties::default();
    let cursors = ring.cursors();
    parties.me.set(5);
    put(&ring, &cursors, 1).unwrap();
    let _taken = ring.take(&cursors, &parties).unwrap();
    parties.me.set(6);
    assert_eq!(ring.take(&cursors, &parties), Err(TakeError::Empty));
    assert_eq!(ring.taken(&cursors, &parties), Taken::Held);
    parties.kill(5);
    assert_eq!(ring.taken(&cursors, &parties), Taken::ByDead);
    assert_eq!(get(&ring, &cursors, &parties), Ok(1));
    assert_eq!(ring.taken(&cursors, &parties), Taken::Settled);
}

#[test]
fn a_sweep_removes_every_tag_and_can_be_repeated() {
    let heap = Heap::new(4);
    let ring = Mpmc::new(&heap);
    let parties = Parties::default();
    let cursors = ring.cursors();
    parties.me.set(5);
    put(&ring, &cursors, 1).unwrap();
    let _taken = ring.take(&cursors, &parties).unwrap();
    let _claimed = ring.claim(&cursors, 5).unwrap();
    put(&ring, &cursors, 2).unwrap();
    assert_eq!(ring.sweep(|_| false), 0);
    assert_eq!(ring.sweep(|id| id == 5), 2);
    assert_eq!(ring.sweep(|id| id == 5), 0);
    parties.me.set(6);
    parties.deaths.set(1);
    assert_eq!(ring.orphans(&cursors, &parties), 1);
    assert_eq!(get(&ring, &cursors, &parties), Ok(1));
    assert_eq!(get(&ring, &cursors, &parties), Ok(2));
}

#[test]
fn closing_lets_what_was_put_be_taken() {
    let heap = Heap::new(2);
    let ring = Mpmc::new(&heap);
    let (cursors, parties) = (ring.cursors(), Parties::default());
    parties.me.set(2);
    put(&ring, &cursors, 1).unwrap();
    ring.close();
    assert_eq!(put(&ring, &cursors, 2), Err(PutError::Closed));
    assert_eq!(get(&ring, &cursors, &parties), Ok(1));
    assert_eq!(get(&ring, &cursors, &parties), Err(TakeError::Closed));
}

#[test]
fn a_run_ends_where_somebody_else_was() {
    for capacity in [2, 5, 8, 20] {
        for turned in 0..capacity {
            for held in 1..capacity {
                let heap = Heap::new(capacity);
                let ring = Mpmc::new(&heap);
                let (cursors, parties) = (ring.cursors(), Parties::default());
                parties.me.set(2);
                for value in 0..turned {
                    put(&ring, &cursors, value as u16).unwrap();
                    get(&ring, &cursors, &parties).unwrap();
                }
                // Full; then all are taken but the last, and one of them is still being read.
                for value in 0..capacity {
                    put(&ring, &cursors, value as u16).unwrap();
                }
                for value in 0..capacity - 1 {
                    if value == held {
                        ring.take(&cursors, &parties).unwrap();
                    } else {
                        assert_eq!(get(&ring, &cursors, &parties), Ok(value as u16));
                    }
                }
                let mut run = Run::of(ring.claim(&cursors, 1).unwrap());
                ring.claim_more(&cursors, 1, &mut run, 64);
                assert_eq!(run.count as u64, held, "behind it is one in use");
                ring.commit_all(run, |_| 77);
            }
        }
    }
}

#[test]
fn a_dead_batch_is_taken_again_in_its_order() {
    for turned in 0..6 {
        let heap = Heap::new(5);
        let ring = Mpmc::new(&heap);
        let (cursors, parties) = (ring.cursors(), Parties::default());
        parties.me.set(2);
        for value in 0..turned {
            put(&ring, &cursors, value).unwrap();
            get(&ring, &cursors, &parties).unwrap();
        }
        for value in 10..15 {
            put(&ring, &cursors, value).unwrap();
        }
        let dead = ring.cursors();
        parties.me.set(9);
        let mut run = Run::of(ring.take(&dead, &parties).unwrap().slot);
        ring.take_more(&dead, &parties, &mut run, 4);
        assert_eq!(run.count, 4);
        parties.kill(9);
        parties.deaths.set(1);
        parties.me.set(2);
        let got: Vec<_> = (0..5)
            .map(|_| get(&ring, &cursors, &parties).unwrap())
            .collect();
        assert_eq!(got, [10, 11, 12, 13, 14], "after {turned}");
    }
}

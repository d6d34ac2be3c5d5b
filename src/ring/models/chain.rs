//! Models of chains: entering a segment against leaving and freeing it, appending against the end, putting against the seal.

use super::*;
use crate::arena::Block;
use crate::ring::chain::{Chain, Words};
use crate::ring::{Link, Next};

const PROCESSES: usize = 3;

struct World {
    closed: AtomicU32,
    oldest: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
    segments: Vec<Arc<Heap>>,
    nexts: Vec<AtomicU64>,
    /// Looked at by whoever uses a segment, changed by who makes or frees it: loom sees when that can happen at once.
    alive: Vec<UnsafeCell<bool>>,
    /// For each process what it puts into, takes from and looks at.
    pins: [[AtomicU64; 3]; PROCESSES],
}

// SAFETY: the cells are only changed by who makes or frees a segment, alone, which is what loom checks.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

fn link(index: usize) -> Link {
    Link::of(Block {
        index: index as u32,
        generation: 1,
    })
}

impl World {
    /// A chain of one segment, and others that can be appended.
    fn new(segments: usize, slots: usize) -> Arc<World> {
        let word = || AtomicU64::new(link(0).word());
        Arc::new(World {
            closed: AtomicU32::new(0),
            oldest: word(),
            first: word(),
            last: word(),
            segments: (0..segments).map(|_| Heap::new(slots)).collect(),
            nexts: (0..segments).map(|_| AtomicU64::new(0)).collect(),
            alive: (0..segments).map(|_| UnsafeCell::new(true)).collect(),
            pins: [(); PROCESSES].map(|()| [(); 3].map(|()| AtomicU64::new(0))),
        })
    }

    fn chain(&self) -> Chain<&World> {
        Chain::new(self)
    }

    fn index(&self, at: Link) -> usize {
        let index = at.block().index as usize;
        // SAFETY: see `alive`.
        let alive = self.alive[index].with(|at| unsafe { *at });
        assert!(alive, "a segment is used that was freed");
        index
    }

    /// Before a segment is appended it is its maker's alone.
    fn make(&self, index: usize) -> Link {
        // SAFETY: see `alive`.
        self.alive[index].with_mut(|at| unsafe { *at = true });
        link(index)
    }

    /// As who has the maintenance role does; how many it freed.
    fn release(&self) -> usize {
        let mut freed = 0;
        let pins = || {
            let pins = self.pins.iter().flatten();
            // As in `ChainObject::release`.
            pins.map(|pin| pin.load(std::sync::atomic::Ordering::Acquire))
                .collect()
        };
        self.chain().release(pins, |at, forget| {
            let index = self.index(at);
            forget();
            // SAFETY: see `alive`.
            self.alive[index].with_mut(|at| unsafe { *at = false });
            freed += 1;
        });
        freed
    }
}

impl Words for &World {
    fn closed(&self) -> &AtomicU32 {
        &self.closed
    }
    fn oldest(&self) -> &AtomicU64 {
        &self.oldest
    }
    fn first(&self) -> &AtomicU64 {
        &self.first
    }
    fn last(&self) -> &AtomicU64 {
        &self.last
    }
    fn next(&self, at: Link) -> &AtomicU64 {
        &self.nexts[self.index(at)]
    }
    fn sealed(&self, at: Link) -> &AtomicU32 {
        &self.segments[self.index(at)].closed
    }
}

/// What a process does with a queue without a bound, but that it does not wait.
struct Process {
    world: Arc<World>,
    number: usize,
    /// The segment that it appends when it has to.
    spare: usize,
    put: Option<(Link, Party)>,
    get: Option<(Link, Party)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Nothing {
    Now,
    Forever,
}

impl Process {
    fn new(world: &Arc<World>, number: usize, spare: usize) -> Process {
        Process {
            world: world.clone(),
            number,
            spare,
            put: None,
            get: None,
        }
    }

    fn party(&self, at: Link) -> Party {
        let heap = &self.world.segments[self.world.index(at)];
        Party::new(heap, self.number as MemberId + 1)
    }

    /// False when it was closed.
    fn put(&mut self, value: u64) -> bool {
        let world = self.world.clone();
        let chain = world.chain();
        loop {
            let (at, party) = self.put.take().unwrap_or_else(|| {
                let at = chain.enter_last(&world.pins[self.number][0]);
                (at, self.party(at))
            });
            world.index(at);
            if party.put(value).is_ok() {
                self.put = Some((at, party));
                return true;
            }
            match chain.behind(at) {
                Next::End => return false,
                Next::Segment(_) => chain.leave_last(at),
                Next::Nothing => {
                    chain.append(at, world.make(self.spare));
                }
            }
        }
    }

    fn get(&mut self) -> Result<u64, Nothing> {
        let world = self.world.clone();
        let chain = world.chain();
        loop {
            let (at, party) = self.get.take().unwrap_or_else(|| {
                let at = chain.enter_first(&world.pins[self.number][1]);
                (at, self.party(at))
            });
            world.index(at);
            let error = match party.get() {
                Ok(value) => {
                    self.get = Some((at, party));
                    return Ok(value);
                }
                Err(error) => error,
            };
            let settled = || party.ring().taken(&party.cursors, &party) == Taken::Settled;
            match error {
                TakeError::Busy(_) => return self.nothing_now(at, party),
                TakeError::Empty => {
                    let next = match chain.behind(at) {
                        Next::Nothing if chain.is_closed() => chain.end(at),
                        next => next,
                    };
                    if next == Next::Nothing {
                        return self.nothing_now(at, party);
                    }
                    self.get = Some((at, party));
                }
                TakeError::Closed if !settled() => return self.nothing_now(at, party),
                TakeError::Closed if chain.behind(at) == Next::End => return Err(Nothing::Forever),
                TakeError::Closed => chain.leave_first(at),
            }
        }
    }

    fn nothing_now(&mut self, at: Link, party: Party) -> Result<u64, Nothing> {
        self.get = Some((at, party));
        Err(Nothing::Now)
    }

    fn close(&self) {
        let world = &*self.world;
        let (chain, pin) = (world.chain(), &world.pins[self.number][0]);
        world.closed.store(1, std::sync::atomic::Ordering::Release);
        loop {
            let at = chain.enter_last(pin);
            if chain.end(at) == Next::End {
                return;
            }
            chain.leave_last(at);
        }
    }

    fn drain(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.get().ok()).collect()
    }
}

/// Who enters a segment is in one that is not freed, or in the next one.
#[test]
fn loom_entering_against_leaving_and_freeing() {
    for which in 0..3 {
        model(move || {
            let world = World::new(2, 1);
            assert!(world.chain().append(link(0), link(1)));
            // Entered to put, too: as if the appender had been killed before its last step.
            if which == 1 {
                world.last.store(link(0).word(), SeqCst);
            }
            let other = world.clone();
            let enters = thread::spawn(move || {
                let (chain, pin) = (other.chain(), &other.pins[0][which]);
                let at = match which {
                    0 => chain.enter_first(pin),
                    1 => chain.enter_last(pin),
                    _ => {
                        let first = chain.enter_first(&other.pins[0][0]);
                        let Next::Segment(next) = chain.behind(first) else {
                            return;
                        };
                        if !chain.enter_behind(pin, next, first) {
                            return;
                        }
                        next
                    }
                };
                chain.behind(at);
                chain.leave(pin);
            });
            world.chain().leave_first(link(0));
            let freed = world.release();
            enters.join().unwrap();
            world.pins[0][0].store(0, SeqCst);
            assert_eq!(freed + world.release(), 1);
            assert_eq!(world.oldest.load(SeqCst), link(1).word());
        });
    }
}

/// Who looks at a segment behind the first one may find that it was left and freed on the way there.
#[test]
fn loom_looking_behind_against_freeing() {
    model(|| {
        let world = World::new(3, 1);
        assert!(world.chain().append(link(0), link(1)));
        assert!(world.chain().append(link(1), link(2)));
        let other = world.clone();
        let looks = thread::spawn(move || {
            let (chain, [_, first, look]) = (other.chain(), &other.pins[0]);
            let at = chain.enter_first(first);
            if let Next::Segment(next) = chain.behind(at) {
                if chain.enter_behind(look, next, at) {
                    chain.behind(next);
                }
                chain.leave(look);
            }
            chain.leave(first);
        });
        world.chain().leave_first(link(0));
        world.chain().leave_first(link(1));
        let freed = world.release();
        looks.join().unwrap();
        assert_eq!(freed + world.release(), 2);
    });
}

/// A segment that somebody is in stays, those before and behind it go.
#[test]
fn loom_freeing_around_an_idle_process() {
    model(|| {
        let world = World::new(3, 1);
        assert!(world.chain().append(link(0), link(1)));
        assert!(world.chain().append(link(1), link(2)));
        world.chain().leave_first(link(0));
        let other = world.clone();
        let idles = thread::spawn(move || {
            let chain = other.chain();
            let at = chain.enter_first(&other.pins[0][1]);
            chain.behind(at);
            chain.behind(at);
            at
        });
        world.chain().leave_first(link(1));
        let freed = world.release();
        let at = idles.join().unwrap();
        let pinned = usize::from(at == link(1));
        assert_eq!(freed + world.release(), 2 - pinned);
        world.pins[0][1].store(0, SeqCst);
        assert_eq!(world.release(), pinned);
    });
}

#[test]
fn loom_two_append() {
    model(|| {
        let world = World::new(3, 1);
        let others = [1, 2].map(|new| {
            let world = world.clone();
            thread::spawn(move || {
                let chain = world.chain();
                let at = chain.enter_last(&world.pins[new][0]);
                let won = chain.append(at, world.make(new));
                assert_ne!(chain.enter_last(&world.pins[new][0]), link(0));
                (at, won)
            })
        });
        let won = others.map(|other| other.join().unwrap());
        let behind_first = won.iter().filter(|(at, won)| *won && *at == link(0));
        assert_eq!(behind_first.count(), 1);
        assert_eq!(world.chain().behind(link(0)), {
            let winner = won.iter().position(|(at, won)| *won && *at == link(0));
            Next::Segment(link(winner.unwrap() + 1))
        });
        assert_eq!(world.segments[0].closed.load(SeqCst), 1, "sealed");
    });
}

/// Who has only seen the successor sends others there: for them, too, it is made.
#[test]
fn loom_moving_on_what_another_appends() {
    model(|| {
        let world = World::new(2, 1);
        let other = world.clone();
        let appends = thread::spawn(move || other.chain().append(link(0), other.make(1)));
        let other = world.clone();
        let moves = thread::spawn(move || other.chain().leave_last(link(0)));
        world.index(world.chain().enter_last(&world.pins[0][0]));
        assert!(appends.join().unwrap());
        moves.join().unwrap();
        assert_eq!(world.chain().enter_last(&world.pins[0][0]), link(1));
    });
}

#[test]
fn loom_append_against_end() {
    model(|| {
        let world = World::new(2, 1);
        let closer = Process::new(&world, 1, 0);
        let closer = thread::spawn(move || closer.close());
        let won = world.chain().append(link(0), world.make(1));
        closer.join().unwrap();
        if won {
            assert_eq!(world.chain().behind(link(0)), Next::Segment(link(1)));
            assert_eq!(world.chain().behind(link(1)), Next::End);
        } else {
            assert_eq!(world.chain().behind(link(0)), Next::End);
        }
    });
}

/// A producer that fills segments while a consumer leaves them behind and frees them: everything arrives, in its order.
#[test]
fn loom_put_against_get() {
    model(|| {
        let world = World::new(2, 1);
        let mut producer = Process::new(&world, 0, 1);
        let producer = thread::spawn(move || {
            assert!(producer.put(1) && producer.put(2));
        });
        let mut consumer = Process::new(&world, 1, 0);
        let mut got = consumer.drain();
        world.release();
        producer.join().unwrap();
        got.extend(consumer.drain());
        assert_eq!(got, [1, 2]);
    });
}

/// The seal against a producer that has claimed: it is waited for, or it goes to the next segment.
#[test]
fn loom_put_against_seal() {
    model(|| {
        let world = World::new(2, 2);
        let mut producer = Process::new(&world, 0, 1);
        let producer = thread::spawn(move || producer.put(7));
        // Somebody who found it full before the consumer made room.
        let sealer = world.clone();
        let sealer = thread::spawn(move || sealer.chain().append(link(0), sealer.make(1)));
        let mut consumer = Process::new(&world, 1, 0);
        let mut got = consumer.drain();
        assert!(producer.join().unwrap());
        sealer.join().unwrap();
        got.extend(consumer.drain());
        assert_eq!(got, [7]);
    });
}

/// After a consumer was told that it is over nothing is left behind by a put that succeeded.
#[test]
fn loom_close_against_put_that_appends() {
    large_model(|| {
        let world = World::new(2, 1);
        assert!(Process::new(&world, 0, 1).put(1));
        let mut producer = Process::new(&world, 0, 1);
        let producer = thread::spawn(move || producer.put(2));
        let closer = Process::new(&world, 2, 0);
        let closer = thread::spawn(move || closer.close());
        let mut consumer = Process::new(&world, 1, 0);
        let mut got = Vec::new();
        let end = loop {
            match consumer.get() {
                Ok(value) => got.push(value),
                Err(end) => break end,
            }
        };
        let sent = producer.join().unwrap();
        closer.join().unwrap();
        if end == Nothing::Now {
            got.extend(consumer.drain());
        }
        assert_eq!(got, if sent { vec![1, 2] } else { vec![1] }, "{end:?}");
    });
}

/// Two consumers at the end of a segment.
#[test]
fn loom_two_leave() {
    model(|| {
        let world = World::new(2, 1);
        let mut producer = Process::new(&world, 0, 1);
        assert!(producer.put(1) && producer.put(2));
        let mut other = Process::new(&world, 1, 0);
        let others = thread::spawn(move || {
            let got = other.drain();
            (other, got)
        });
        let mut consumer = Process::new(&world, 2, 0);
        let mut got = consumer.drain();
        world.release();
        let (mut other, theirs) = others.join().unwrap();
        assert!(got.is_sorted() && theirs.is_sorted());
        got.extend(theirs);
        got.extend(consumer.drain());
        got.extend(other.drain());
        got.sort();
        assert_eq!(got, [1, 2]);
        drop(producer);
    });
}

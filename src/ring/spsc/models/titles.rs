//! Models of who owns an end: it is taken, taken back, and looked after for the dead, all at once.

use super::*;
use crate::arena::{Depends, MemberId};

const LENDER: MemberId = 1;
const TAKER: MemberId = 2;
const OTHER: MemberId = 3;

/// An end, one message that may have it, and who is dead.
struct Place {
    word: AtomicU64,
    /// 0: was not sent, 1: in a queue, 2: in somebody's hands, 3: gone.
    message: AtomicU64,
    dead: [AtomicU64; 4],
    /// What owners change, for loom to watch.
    used: UnsafeCell<u64>,
    repairing: loom::sync::Mutex<()>,
}

// SAFETY: `used` is only touched by owners, which is what loom checks.
unsafe impl Sync for Place {}
// SAFETY: as above.
unsafe impl Send for Place {}

impl Place {
    fn new() -> Arc<Place> {
        Arc::new(Place {
            word: AtomicU64::new(Title::first(LENDER)),
            message: AtomicU64::new(0),
            dead: std::array::from_fn(|_| AtomicU64::new(0)),
            used: UnsafeCell::new(0),
            repairing: loom::sync::Mutex::new(()),
        })
    }

    fn title(&self) -> Title<'_> {
        Title::new(&self.word)
    }

    fn use_it(&self) {
        // SAFETY: the end is the caller's.
        self.used.with_mut(|used| unsafe { *used += 1 });
    }

    fn lend(&self) {
        self.use_it();
        self.title().lend(0, LENDER);
    }

    fn send(&self) {
        self.message.store(1, Release);
    }

    /// Receives the message, if it is there, and the end in it: whether that came. The message comes again when `me` dies with it.
    fn receive(&self, me: MemberId, dies: bool) -> bool {
        let sent = self
            .message
            .compare_exchange(1, 2, Acquire, Relaxed)
            .is_ok();
        let took = sent && self.title().take(0, me);
        if took {
            self.use_it();
        }
        if dies {
            self.die(me);
        }
        if sent {
            self.message.store(if dies { 1 } else { 3 }, Release);
        }
        took
    }

    fn take_back(&self) -> bool {
        let took = self.title().take(0, LENDER);
        if took {
            self.use_it();
        }
        took
    }

    fn die(&self, member: MemberId) {
        self.dead[usize::from(member)].store(1, Release);
    }

    fn is_dead(&self, member: MemberId) -> bool {
        self.dead[usize::from(member)].load(Acquire) == 1
    }

    /// What is done under the maintenance role: whether the end is over.
    fn collect(&self) -> bool {
        let _role = self.repairing.lock().unwrap();
        self.title().repair(|owner| self.is_dead(owner));
        // A message that the dead had not sent is gone by now.
        let in_message = || matches!(self.message.load(Acquire), 1 | 2);
        let over = self.title().is_over(in_message);
        if over {
            // Nobody has it.
            self.use_it();
        }
        over
    }
}

/// Received and taken back at once: one of the two has it, and nobody takes it away from who lives.
#[test]
fn loom_an_end_has_one_owner() {
    loom::model(|| {
        let place = Place::new();
        place.lend();
        place.send();
        let other = place.clone();
        let taker = thread::spawn(move || other.receive(TAKER, false));
        let other = place.clone();
        let collector = thread::spawn(move || other.collect());
        let back = place.take_back();
        let took = taker.join().unwrap();
        assert!(back != took, "back: {back}, took: {took}");
        assert!(!collector.join().unwrap());
        let owner = if took { TAKER } else { LENDER };
        assert_eq!(place.title().depends(), Depends::On(owner));
    });
}

/// The lender dies after each of its steps, somebody takes what it has sent, and may die at once, while the dead are looked after: an
/// end that somebody can have is not over, and any other one is.
#[test]
fn loom_an_end_is_over_when_nobody_can_have_it() {
    for (steps, dies) in [(0, false), (1, false), (2, false), (2, true)] {
        loom::model(move || {
            let place = Place::new();
            let other = place.clone();
            let lender = thread::spawn(move || {
                if steps > 0 {
                    other.lend();
                }
                if steps > 1 {
                    other.send();
                }
                other.die(LENDER);
            });
            let other = place.clone();
            let taker = thread::spawn(move || other.receive(TAKER, dies));
            // It may be that nobody is known to be dead yet.
            let early = place.collect();
            lender.join().unwrap();
            let took = taker.join().unwrap();
            let over = place.collect();
            assert!(over || !early, "what is over stays so");
            let in_message = place.message.load(Relaxed) == 1;
            assert_eq!(over, if took { dies } else { !in_message });
            let again = place.receive(OTHER, false);
            assert_eq!(
                again,
                in_message && !took,
                "only out of a message that has it"
            );
        });
    }
}

/// Who gives an end up, while it is received.
#[test]
fn loom_what_was_given_up_is_over_or_received() {
    loom::model(|| {
        let place = Place::new();
        place.lend();
        place.send();
        let other = place.clone();
        let taker = thread::spawn(move || other.receive(TAKER, false));
        let other = place.clone();
        let collector = thread::spawn(move || other.collect());
        place.title().renounce(0, LENDER);
        assert!(taker.join().unwrap() && !collector.join().unwrap());
        assert_eq!(place.title().depends(), Depends::On(TAKER));
    });
}

/// A slow repairer, whose judgement was about an owner before: that one died after it had passed the end on, and its number is
/// another's.
#[test]
fn loom_a_slow_repair_hits_nobody_else() {
    loom::model(|| {
        let place = Place::new();
        let other = place.clone();
        let slow = thread::spawn(move || other.title().repair(|owner| other.is_dead(owner)));
        place.lend();
        place.send();
        place.die(LENDER);
        // Another one has the number of the lender, as soon as nothing bears its name.
        place.title().repair(|owner| place.is_dead(owner));
        place.dead[usize::from(LENDER)].store(0, Release);
        assert!(place.receive(LENDER, false));
        slow.join().unwrap();
        assert_eq!(place.title().depends(), Depends::On(LENDER));
    });
}

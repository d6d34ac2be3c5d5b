//! The protocol of a pool's jobs: who may touch which, what a dead worker had begun, and the list of those that came back.
//! JOBS.md has the states and why they suffice; `cards.rs` has the memory. Storage is a parameter, so that the same code
//! runs in models.

use crate::primitive::AtomicU64;
use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Where a job's card is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

const PLACE_BITS: u32 = 38;
const SLOT_BITS: u32 = 7;

impl Place {
    /// The card in this slot of the page that is this block.
    pub(super) const fn new(page: u32, slot: usize) -> Place {
        Place((page as u64) << SLOT_BITS | slot as u64)
    }

    pub(super) fn page(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32
    }

    pub(super) fn slot(self) -> usize {
        self.0 as usize & ((1 << SLOT_BITS) - 1)
    }

    /// As a word in which 0 is none.
    fn link(self) -> u64 {
        self.0 + 1
    }

    fn linked(word: u64) -> Option<Place> {
        word.checked_sub(1).map(Place)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Place {
        Place(bits & ((1 << PLACE_BITS) - 1))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.page(), self.slot())
    }
}

/// What the queue of tasks carries: a job, and which use of its card is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u64);

impl Ticket {
    fn new(place: Place, generation: u64) -> Ticket {
        Ticket(generation << PLACE_BITS | place.0)
    }

    pub(crate) fn place(self) -> Place {
        Place::from_bits(self.0)
    }

    fn generation(self) -> u64 {
        self.0 >> PLACE_BITS
    }
}

/// `generation:26 | state:2 | worker:36`. The generation rises whenever the parent changes the word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct JobWord(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The parent's.
    Kept,
    /// For whichever worker takes it.
    Queued,
    /// The worker's.
    Taken,
}

const WORKER_BITS: u32 = 36;
const GENERATION: u32 = WORKER_BITS + 2;
const GENERATIONS: u64 = 1 << (64 - GENERATION);

/// Which worker of its pool: a number that none before it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Serial(pub(crate) u64);

impl JobWord {
    fn generation(self) -> u64 {
        self.0 >> GENERATION
    }

    fn state(self) -> State {
        match (self.0 >> WORKER_BITS) & 3 {
            0 => State::Kept,
            1 => State::Queued,
            _ => State::Taken,
        }
    }

    fn with(self, state: State, worker: u64) -> JobWord {
        let state = (state as u64) << WORKER_BITS;
        JobWord(self.generation() << GENERATION | state | worker & ((1 << WORKER_BITS) - 1))
    }

    fn next(self, state: State) -> JobWord {
        let generation = (self.generation() + 1) % GENERATIONS;
        JobWord(generation << GENERATION).with(state, 0)
    }
}

impl fmt::Debug for JobWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worker = self.0 & ((1 << WORKER_BITS) - 1);
        let (generation, state) = (self.generation(), self.state());
        write!(f, "{{ {generation}, {state:?}, worker: {worker} }}")
    }
}

/// A card that its owner alone may touch: the parent one that it keeps, a worker the one that it has taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hand {
    pub(super) place: Place,
    /// As far as its owner knows.
    word: JobWord,
}

impl Hand {
    /// Of a new card, whose words are all zero.
    pub(super) fn of_new(place: Place) -> Hand {
        let word = JobWord(0);
        Hand { place, word }
    }
}

/// How far a job is: so many of its tasks are finished, and whether the next one was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) finished: u64,
    pub(crate) begun: bool,
}

/// Where the owner of a job notes how far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marker<'a>(pub(super) &'a AtomicU64);

impl Marker<'_> {
    /// From here on the task counts as started, and those before it as finished, with all that was written about them.
    #[inline]
    pub(crate) fn begin(self, task: u64) {
        // (P) pairs with `progress`.
        self.0.store(2 * task + 1, Release);
    }

    /// So many tasks are finished, and none is under way.
    #[inline]
    pub(crate) fn pause(self, finished: u64) {
        // (P) as above.
        self.0.store(2 * finished, Release);
    }
}

/// Where a pool's words are: in an arena, or on the heap in a model.
pub(crate) trait JobStorage: Copy {
    /// The list of the jobs that came back.
    fn returned(&self) -> &AtomicU64;
    /// What the worker at this seat took last.
    fn taking(&self, seat: usize) -> &AtomicU64;
    fn word(&self, place: Place) -> &AtomicU64;
    fn progress(&self, place: Place) -> &AtomicU64;
    fn next(&self, place: Place) -> &AtomicU64;
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Jobs<S>(pub(crate) S);

impl<S: JobStorage> Jobs<S> {
    fn load(&self, place: Place) -> JobWord {
        JobWord(self.0.word(place).load(Acquire))
    }

    /// Lets any worker have it. The ticket is to go into the queue of tasks.
    #[inline]
    pub(crate) fn queue(&self, hand: Hand) -> Ticket {
        let word = hand.word.next(State::Queued);
        // (Q) pairs with `take`: what is on the card.
        self.0.word(hand.place).store(word.0, Release);
        Ticket::new(hand.place, word.generation())
    }

    /// Gives it to a worker that does not run yet.
    pub(crate) fn assign(&self, hand: Hand, seat: usize, worker: Serial) -> Place {
        let word = hand.word.next(State::Queued).with(State::Taken, worker.0);
        self.0.word(hand.place).store(word.0, Release);
        self.0.taking(seat).store(hand.place.link(), Release);
        hand.place
    }

    /// The job that was assigned to this worker.
    pub(crate) fn assigned(&self, place: Place, worker: Serial) -> Option<Hand> {
        let word = self.load(place);
        let mine = word.with(State::Taken, worker.0);
        (word == mine).then_some(Hand { place, word })
    }

    /// Takes a queued job back; `None` when a worker has it, or had it.
    pub(crate) fn cancel(&self, ticket: Ticket) -> Option<Hand> {
        let place = ticket.place();
        let old = JobWord(ticket.generation() << GENERATION).with(State::Queued, 0);
        let word = old.next(State::Kept);
        self.0
            .word(place)
            .compare_exchange(old.0, word.0, Acquire, Relaxed)
            .is_ok()
            .then_some(Hand { place, word })
    }

    /// Takes a job for a worker, unless it was taken before: by one who died before he could tell the queue, or by `cancel`.
    /// Before the queue forgets the ticket.
    #[inline]
    pub(crate) fn take(&self, ticket: Ticket, seat: usize, worker: Serial) -> Option<Hand> {
        let place = ticket.place();
        // (T) before the word: whoever looks after this worker looks there.
        self.0.taking(seat).store(place.link(), Relaxed);
        let old = JobWord(ticket.generation() << GENERATION).with(State::Queued, 0);
        let word = old.with(State::Taken, worker.0);
        // (Q) pairs with `queue`; and the release orders `taking` before it.
        self.0
            .word(place)
            .compare_exchange(old.0, word.0, AcqRel, Relaxed)
            .is_ok()
            .then_some(Hand { place, word })
    }

    /// So many tasks are finished, and none is under way.
    pub(crate) fn pause(&self, hand: &Hand, finished: u64) {
        self.marker(hand).pause(finished);
    }

    /// Where a worker notes how far it is.
    pub(super) fn marker(&self, hand: &Hand) -> Marker<'_> {
        Marker(self.0.progress(hand.place))
    }

    pub(crate) fn progress(&self, hand: &Hand) -> Progress {
        // (P) pairs with those of `Marker`.
        let word = self.0.progress(hand.place).load(Acquire);
        Progress {
            finished: word / 2,
            begun: word % 2 == 1,
        }
    }

    /// Gives the job back to the parent, as far as it is.
    #[inline]
    pub(crate) fn give_back(&self, hand: Hand) {
        let list = self.0.returned();
        let mut first = list.load(Relaxed);
        loop {
            self.0.next(hand.place).store(first, Relaxed);
            // (L) pairs with `take_returned`. That the list was emptied and begins with the same card again does no harm:
            // then that card is what comes behind this one.
            match list.compare_exchange(first, hand.place.link(), Release, Relaxed) {
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
    }

    /// Whether jobs came back.
    #[inline]
    pub(crate) fn has_returned(&self) -> bool {
        self.0.returned().load(Relaxed) != 0
    }

    /// Takes the jobs that came back, the last one first.
    #[inline]
    pub(crate) fn take_returned(&self, mut each: impl FnMut(Hand)) {
        // (L) pairs with `give_back`, also with those before the last: they head its release sequence.
        let mut link = self.0.returned().swap(0, Acquire);
        while let Some(place) = Place::linked(link) {
            link = self.0.next(place).load(Relaxed);
            each(self.keep(place));
        }
    }

    /// The job that a worker had in his hands when he died; after `take_returned`, which has all that he gave back.
    pub(crate) fn left_by(&self, seat: usize, worker: Serial) -> Option<Hand> {
        let taking = self.0.taking(seat);
        let place = Place::linked(taking.load(Acquire))?;
        taking.store(0, Relaxed);
        let word = self.load(place);
        (word == word.with(State::Taken, worker.0)).then(|| self.keep(place))
    }

    fn keep(&self, place: Place) -> Hand {
        let at = self.0.word(place);
        let word = JobWord(at.load(Relaxed)).next(State::Kept);
        at.store(word.0, Relaxed);
        Hand { place, word }
    }
}

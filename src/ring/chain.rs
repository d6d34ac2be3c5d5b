//! Rings in a row, for a queue without a bound: messages are put into the last one and taken out of the first one; a full one
//! gets a successor, a drained one is left behind and freed when nobody is in it any more. The protocol alone, over words that
//! are in an arena or in a model; CHAIN.md has the rules. The letters at the orderings are the pairs explained there.

use crate::arena::Block;
use crate::primitive::{AtomicU32, AtomicU64, fence};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// A segment: the generation of its block, and its number + 1. Never the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(u64);

const NONE: u64 = 0;
const END: u64 = u64::MAX;

impl Link {
    pub(super) fn of(block: Block) -> Link {
        Link(u64::from(block.generation) << 32 | (u64::from(block.index) + 1))
    }

    pub(super) fn block(self) -> Block {
        Block {
            index: (self.0 as u32).wrapping_sub(1),
            generation: (self.0 >> 32) as u32,
        }
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// Of a word that names a segment or nothing.
    pub(super) fn from_word(word: u64) -> Option<Link> {
        (word != NONE && word != END).then_some(Link(word))
    }
}

/// What comes behind a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    /// Nothing, for ever.
    End,
    Segment(Link),
}

impl Next {
    fn of(word: u64) -> Next {
        match word {
            NONE => Next::Nothing,
            END => Next::End,
            link => Next::Segment(Link(link)),
        }
    }
}

/// Where the words of a chain are.
pub(crate) trait Words {
    fn closed(&self) -> &AtomicU32;
    /// The first segment that is not freed; the one to take from; the one to put into.
    fn oldest(&self) -> &AtomicU64;
    fn first(&self) -> &AtomicU64;
    fn last(&self) -> &AtomicU64;
    /// The words of a segment that the caller keeps from being freed.
    fn next(&self, at: Link) -> &AtomicU64;
    fn sealed(&self, at: Link) -> &AtomicU32;
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<W> {
    pub(super) words: W,
}

impl<W: Words> Chain<W> {
    pub(crate) fn new(words: W) -> Self {
        Chain { words }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.words.closed().load(Acquire) != 0
    }

    /// Whether this is the segment to take from.
    pub(crate) fn is_first(&self, at: Link) -> bool {
        self.words.first().load(Acquire) == at.word()
    }

    /// Enters the segment to take from: names it in `pin`, which keeps it as long as it stands there.
    pub(crate) fn enter_first(&self, pin: &AtomicU64) -> Link {
        enter(pin, self.words.first())
    }

    /// Enters the segment to put into.
    pub(crate) fn enter_last(&self, pin: &AtomicU64) -> Link {
        enter(pin, self.words.last())
    }

    /// Enters a segment behind `first` as long as that is the first one.
    pub(crate) fn enter_behind(&self, pin: &AtomicU64, at: Link, first: Link) -> bool {
        // (U), (H) as in `enter`.
        pin.store(at.word(), Release);
        fence(SeqCst);
        self.is_first(first)
    }

    /// Leaves the segment that is named there.
    pub(crate) fn leave(&self, pin: &AtomicU64) {
        // (U) as in `enter`.
        pin.store(NONE, Release);
    }

    /// What comes behind a segment that the caller has entered. One that has a successor is sealed when this returns.
    pub(crate) fn behind(&self, at: Link) -> Next {
        // (N) pairs with the compare-exchanges on this word: the new segment is there.
        let next = Next::of(self.words.next(at).load(Acquire));
        if next != Next::Nothing {
            self.seal(at);
        }
        next
    }

    /// Nothing can be put into it from now on. Only after it has a successor.
    fn seal(&self, at: Link) {
        let sealed = self.words.sealed(at);
        if sealed.load(Relaxed) == 0 {
            // (S) who finds it sealed finds the successor.
            sealed.store(1, Release);
        }
    }

    /// Appends a segment to one that the caller has entered; false when that has a successor already.
    pub(crate) fn append(&self, at: Link, new: Link) -> bool {
        let won = self.set_next(at, new.word());
        self.leave_last(at);
        won
    }

    /// Lets nothing follow the segment that the caller has entered; what follows it all the same.
    pub(crate) fn end(&self, at: Link) -> Next {
        self.set_next(at, END);
        self.behind(at)
    }

    fn set_next(&self, at: Link, word: u64) -> bool {
        // (N)
        let next = self.words.next(at);
        next.compare_exchange(NONE, word, AcqRel, Relaxed).is_ok()
    }

    /// Sees to it that nobody else enters this segment, which has a successor, to put into it.
    pub(crate) fn leave_last(&self, at: Link) {
        if let Next::Segment(next) = self.behind(at) {
            let last = self.words.last();
            let _ = last.compare_exchange(at.word(), next.word(), AcqRel, Relaxed);
        }
    }

    /// Sees to it that nobody else enters this segment, in which nothing is left and which has a successor.
    pub(crate) fn leave_first(&self, at: Link) {
        // The last one is never before the first one.
        self.leave_last(at);
        if let Next::Segment(next) = self.behind(at) {
            let first = self.words.first();
            let _ = first.compare_exchange(at.word(), next.word(), AcqRel, Relaxed);
        }
    }

    /// Every segment that is not freed, in order. Only for who has the maintenance role.
    pub(crate) fn for_each(&self, mut f: impl FnMut(Link)) {
        let mut at = self.words.oldest().load(Acquire);
        while let Some(link) = Link::from_word(at) {
            f(link);
            at = self.words.next(link).load(Acquire);
        }
    }

    /// Frees the segments before the first one that nobody is in: `pins` says who is in which, `free` takes a segment, calls its
    /// argument so that the chain forgets it, then frees it. Only for who has the maintenance role; can be killed anywhere.
    pub(crate) fn release(
        &self,
        pins: impl FnOnce() -> Vec<u64>,
        mut free: impl FnMut(Link, &dyn Fn()),
    ) {
        let first = self.words.first().load(Acquire);
        let mut at = self.words.oldest().load(Acquire);
        // Nothing is the first one when the whole is being destroyed.
        if at == first || first == NONE {
            return;
        }
        // (H) pairs with `enter`: either that sees that the segment is not the first one any more, or this sees it named.
        fence(SeqCst);
        let pins = pins();
        let mut before = None;
        while at != first {
            let Some(link) = Link::from_word(at) else {
                return;
            };
            let next = self.words.next(link).load(Acquire);
            if pins.contains(&at) {
                before = Some(link);
            } else {
                free(link, &|| match before {
                    Some(before) => self.words.next(before).store(next, Release),
                    None => self.words.oldest().store(next, Release),
                });
            }
            at = next;
        }
    }
}

fn enter(pin: &AtomicU64, which: &AtomicU64) -> Link {
    loop {
        let word = which.load(Acquire);
        // (U) what was done in the segment that was named before is done when it is named no longer.
        pin.store(word, Release);
        // (H) pairs with `release`.
        fence(SeqCst);
        if which.load(Acquire) == word {
            return Link(word);
        }
    }
}

//! Who owns an end of a pipe: one word, changed as a whole, that every copy of the end and every message with it goes by. SPSC.md
//! has its states.

use crate::arena::{Depends, MEMBER_BITS, MemberId};
use crate::primitive::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// `epoch:48 | state:4 | member:12`. The epoch rises whenever the end gets a new owner. So a word with a member in it says the same
/// whenever it is seen, and who was slow to act on one never hits a later owner's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Title<'a>(&'a AtomicU64);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The member's.
    Owned = 0,
    /// Of whoever takes it: out of a message that carries this epoch, or back, as long as there is a member in the word.
    Lent = 1,
    /// The owner has dropped it or died, or nobody is left who could take it.
    Over = 2,
}

const STATE_SHIFT: u32 = MEMBER_BITS;
const EPOCH_SHIFT: u32 = 16;

impl Word {
    const fn new(epoch: u64, state: State, member: MemberId) -> Word {
        Word(epoch << EPOCH_SHIFT | (state as u64) << STATE_SHIFT | member as u64)
    }

    fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }

    fn state(self) -> State {
        match (self.0 >> STATE_SHIFT) & 15 {
            0 => State::Owned,
            1 => State::Lent,
            _ => State::Over,
        }
    }

    fn member(self) -> MemberId {
        self.0 as MemberId & ((1 << MEMBER_BITS) - 1)
    }

    fn with(self, state: State) -> Word {
        Word::new(self.epoch(), state, 0)
    }
}

impl<'a> Title<'a> {
    pub(crate) fn new(word: &'a AtomicU64) -> Self {
        Title(word)
    }

    /// The word of a new end.
    pub(crate) const fn first(owner: MemberId) -> u64 {
        Word::new(0, State::Owned, owner).0
    }

    fn load(self) -> Word {
        Word(self.0.load(Acquire))
    }

    fn change(self, old: Word, new: Word) -> bool {
        self.0
            .compare_exchange(old.0, new.0, AcqRel, Relaxed)
            .is_ok()
    }

    /// Its owner puts it into messages with this epoch. Before the first of them is sent.
    pub(crate) fn lend(self, epoch: u64, owner: MemberId) {
        // (M): who takes it sees what this owner did. Nobody else changes the word of an owner that lives.
        self.0
            .store(Word::new(epoch, State::Lent, owner).0, Release);
    }

    /// Its owner is done with it.
    pub(crate) fn end(self, epoch: u64) {
        self.0.store(Word::new(epoch, State::Over, 0).0, Release);
    }

    /// Whether it is still where it was put.
    pub(crate) fn is_lent(self, epoch: u64) -> bool {
        let word = self.load();
        word == Word::new(epoch, State::Lent, word.member())
    }

    /// Makes it `me`'s, out of a message or back. One of all that try succeeds.
    pub(crate) fn take(self, epoch: u64, me: MemberId) -> bool {
        let mut word = self.load();
        // A second time if its lender gives up, or is found dead, just then.
        while word == Word::new(epoch, State::Lent, word.member()) {
            // (M): who has it now sees what the last owner did.
            if self.change(word, Word::new(epoch + 1, State::Owned, me)) {
                return true;
            }
            word = self.load();
        }
        false
    }

    /// Its lender will not take it back.
    pub(crate) fn renounce(self, epoch: u64, lender: MemberId) {
        let lent = Word::new(epoch, State::Lent, lender);
        self.change(lent, lent.with(State::Lent));
    }

    /// Takes the name of a dead member off. What he had lent is the messages' alone, what he owned is over.
    pub(crate) fn repair(self, is_dead: impl FnOnce(MemberId) -> bool) -> bool {
        let word = self.load();
        if word.member() == 0 || !is_dead(word.member()) {
            return false;
        }
        let next = match word.state() {
            State::Lent => State::Lent,
            _ => State::Over,
        };
        // Exactly the word for which he was found dead.
        self.change(word, word.with(next))
    }

    /// Whether it is over, which it is from now on when it was lent by somebody who does not want it back and no message that
    /// has it is left.
    pub(crate) fn is_over(self, in_message: impl FnOnce() -> bool) -> bool {
        let word = self.load();
        match (word.state(), word.member()) {
            (State::Over, _) => true,
            (State::Lent, 0) => !in_message() && self.change(word, word.with(State::Over)),
            _ => false,
        }
    }

    /// What must be so that it is not over.
    pub(crate) fn depends(self) -> Depends {
        let word = self.load();
        match (word.state(), word.member()) {
            (State::Over, _) => Depends::OnNobody,
            (_, 0) => Depends::OnMessages,
            (_, member) => Depends::On(member),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_who_takes_it_has_it() {
        let word = AtomicU64::new(Title::first(7));
        let title = Title::new(&word);
        assert_eq!(title.depends(), Depends::On(7));
        assert!(!title.take(0, 8) && !title.is_lent(0), "it is not lent");
        title.lend(0, 7);
        assert!(title.is_lent(0) && !title.is_lent(1) && !title.take(1, 8));
        assert!(title.take(0, 8) && !title.take(0, 7) && !title.is_lent(0));
        assert_eq!(title.depends(), Depends::On(8));
        title.lend(1, 8);
        assert!(title.take(1, 8), "taken back");
    }

    #[test]
    fn what_the_dead_had_is_over_and_what_they_lent_is_not() {
        let word = AtomicU64::new(Title::first(4095));
        let title = Title::new(&word);
        assert!(!title.repair(|member| member == 1) && !title.is_over(|| false));
        title.lend(0, 4095);
        assert!(!title.is_over(|| false), "its lender may want it back");
        assert!(title.repair(|member| member == 4095));
        assert_eq!(title.depends(), Depends::OnMessages);
        assert!(!title.repair(|_| true) && !title.is_over(|| true));
        assert!(title.take(0, 3) && title.repair(|member| member == 3));
        assert_eq!(title.depends(), Depends::OnNobody);
        assert!(title.is_over(|| true) && !title.take(1, 3));

        word.store(Title::first(2), Relaxed);
        title.lend(0, 2);
        title.renounce(0, 3);
        assert_eq!(title.depends(), Depends::On(2));
        title.renounce(0, 2);
        assert!(title.is_over(|| false) && !title.take(0, 2));
    }
}

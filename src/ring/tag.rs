//! The words of a slot.

use crate::arena::{MEMBER_BITS, MemberId};

/// `lap:48 | takes:2 | state:2 | owner:12`, in the claim and take arrays: which lap of the ring, what was done, and by whom.
/// `takes` counts how often a message was taken again after its taker died, so that the word of a later taker with the
/// same number differs from the one that a slow repairer has seen. All zero is lap 0, skipped and done: a fresh ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// claim: nothing will be published in this lap. take: acknowledged.
    Over = 0,
    /// claim: the owner fills the slot or has published it. take: the owner copies the message out.
    Held = 1,
    /// take: its owner died before it acknowledged; the next one takes it again.
    Orphan = 2,
}

const STATE_SHIFT: u32 = MEMBER_BITS;
const TAKES_SHIFT: u32 = 14;
const LAP_SHIFT: u32 = 16;

impl Tag {
    #[inline]
    pub(super) const fn new(lap: u64, state: State, owner: MemberId) -> Tag {
        Tag(lap << LAP_SHIFT | (state as u64) << STATE_SHIFT | owner as u64)
    }

    #[inline]
    pub(super) const fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    /// Whether it says this lap and state, whoever the owner is and however often it was taken.
    #[inline]
    pub(super) const fn is(self, lap: u64, state: State) -> bool {
        (self.0 >> STATE_SHIFT) & !(3 << (TAKES_SHIFT - STATE_SHIFT))
            == lap << (LAP_SHIFT - STATE_SHIFT) | state as u64
    }

    #[inline]
    pub(super) const fn state(self) -> State {
        match (self.0 >> STATE_SHIFT) & 3 {
            0 => State::Over,
            1 => State::Held,
            _ => State::Orphan,
        }
    }

    /// The word of who takes a message again.
    pub(super) const fn taken_again(self, owner: MemberId) -> Tag {
        let takes = ((self.0 >> TAKES_SHIFT) + 1) & 3;
        Tag(Tag::new(self.lap(), State::Held, owner).0 | (takes << TAKES_SHIFT))
    }

    /// The word after the taker died.
    pub(super) const fn orphaned(self) -> Tag {
        Tag((self.0 & !(3 << STATE_SHIFT)) | ((State::Orphan as u64) << STATE_SHIFT))
    }

    #[inline]
    pub(super) const fn owner(self) -> MemberId {
        self.0 as MemberId & ((1 << MEMBER_BITS) - 1)
    }
}

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{{ lap: {}, {:?}, owner: {} }}",
            self.lap(),
            self.state(),
            self.owner()
        )
    }
}

/// `lap:48 | meta:16`, at the head of the slot itself: the only word that both sides poll. Storing it commits the message;
/// `meta` is for whoever fills the slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Published(pub(super) u64);

impl Published {
    #[inline]
    pub(super) const fn new(lap: u64, meta: u16) -> Published {
        Published(lap << LAP_SHIFT | meta as u64)
    }

    #[inline]
    pub(super) const fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    #[inline]
    pub(super) const fn meta(self) -> u16 {
        self.0 as u16
    }
}

/// A position in the ring's endless sequence: `lap | index`, the index in as few bits as hold it. Greater is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(pub(super) u64);

/// The hints are renewed every so many positions: often enough that a process that slept finds the front again.
const MILESTONE: u64 = 32;

impl Stamp {
    /// Whether the hints are to be renewed here.
    #[inline]
    pub(super) fn is_milestone(self) -> bool {
        self.0 % MILESTONE == 0
    }
}

/// The arithmetic of stamps for one capacity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Laps {
    pub(super) capacity: u64,
    bits: u32,
    mask: u64,
}

impl Laps {
    pub(crate) fn new(capacity: u64) -> Laps {
        let bits = u64::BITS - (capacity - 1).leading_zeros();
        Laps {
            capacity,
            bits,
            mask: (1 << bits) - 1,
        }
    }

    /// The first position: lap 1, index 0.
    pub(super) fn start(self) -> Stamp {
        Stamp(1 << self.bits)
    }

    #[inline]
    pub(super) fn index(self, stamp: Stamp) -> u64 {
        stamp.0 & self.mask
    }

    #[inline]
    pub(super) fn lap(self, stamp: Stamp) -> u64 {
        stamp.0 >> self.bits
    }

    #[inline]
    pub(super) fn at(self, lap: u64, index: u64) -> Stamp {
        Stamp(lap << self.bits | index)
    }

    #[inline]
    pub(super) fn next(self, stamp: Stamp) -> Stamp {
        let index = self.index(stamp) + 1;
        if index == self.capacity {
            self.at(self.lap(stamp) + 1, 0)
        } else {
            Stamp(stamp.0 + 1)
        }
    }

    /// How many positions lie from `from` up to `to`; 0 when `to` is not later.
    pub(super) fn distance(self, from: Stamp, to: Stamp) -> u64 {
        let position = |s| self.lap(s) * self.capacity + self.index(s);
        position(to).saturating_sub(position(from))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn stamps_count_through_any_capacity() {
        for capacity in [1, 2, 3, 4, 5, 1000] {
            let laps = Laps::new(capacity);
            let mut stamp = laps.start();
            for position in 0..3 * capacity {
                assert_eq!(laps.lap(stamp), 1 + position / capacity);
                assert_eq!(laps.index(stamp), position % capacity);
                assert_eq!(laps.distance(laps.start(), stamp), position);
                assert!(stamp < laps.next(stamp));
                stamp = laps.next(stamp);
            }
        }
    }

    #[test]
    fn tags_keep_their_parts() {
        let tag = Tag::new((1 << 48) - 1, State::Orphan, 4095);
        assert_eq!(
            (tag.lap(), tag.state(), tag.owner()),
            ((1 << 48) - 1, State::Orphan, 4095)
        );
        assert_eq!(Tag::new(0, State::Over, 0), Tag(0));
        let first = Tag::new(5, State::Held, 9);
        let again = first.orphaned().taken_again(9);
        assert_eq!(
            (again.lap(), again.state(), again.owner()),
            (5, State::Held, 9)
        );
        assert_ne!(
            first, again,
            "a taker with the same number has another word"
        );
        let published = Published::new(7, u16::MAX);
        assert_eq!((published.lap(), published.meta()), (7, u16::MAX));
    }
}

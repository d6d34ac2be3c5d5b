//! A ring and where this process is in it.
#![forbid(unsafe_code)]

use super::chained::Segment;
use super::kind::IN_BLOCK;
use crate::ring::{Cursors, Message, Mpmc, RingObject};
use std::ops::Deref;
use std::sync::RwLockReadGuard;

pub(super) struct Lane {
    pub(super) storage: RingObject,
    pub(super) cursors: Cursors,
}

impl Lane {
    pub(super) fn new(storage: RingObject) -> Lane {
        let cursors = Mpmc::new(&storage).cursors();
        Lane { storage, cursors }
    }

    #[inline]
    pub(super) fn ring(&self) -> Mpmc<&RingObject> {
        Mpmc::new(&self.storage)
    }
}

/// The lane that a message is in: the queue's only one, or one that stays while it is held on to.
pub(super) enum Hold<'q> {
    Only(&'q Lane),
    Chained(RwLockReadGuard<'q, Option<Segment>>),
}

impl Deref for Hold<'_> {
    type Target = Lane;

    #[inline(always)]
    fn deref(&self) -> &Lane {
        match self {
            Hold::Only(lane) => lane,
            Hold::Chained(segment) => match &**segment {
                Some(segment) => &segment.lane,
                None => unreachable!("a message was taken from it"),
            },
        }
    }
}

/// A message that this process has taken. Until it is acknowledged no user code may run.
pub(super) struct Taken<'q> {
    pub(super) message: Message,
    pub(super) lane: Hold<'q>,
}

impl Taken<'_> {
    #[inline]
    pub(super) fn is_in_block(&self) -> bool {
        self.message.meta == IN_BLOCK
    }

    /// How long it is, when it is not in a block.
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.message.meta)
    }
}

//! Waiters for a notification, each a word that names it: being notified, taking note of it and passing on what a dead one left
//! are one step each on one word. See LOCK.md beside this file.

use super::event_count::EventCount;
use super::slots::{SlotWord, Slots};
use crate::arena::MemberId;
use crate::error::Error;
use crate::primitive::{AtomicU64, Fences};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

const FREE: u64 = 0;
/// `ticket | WAITING | owner`: in order of their tickets.
const WAITING: u64 = 1;
/// `limit | NOTIFIED | owner`: the owner has a notification, which was meant for a waiter with a ticket below the limit. Until it
/// takes note of it, so when it dies, others may have it.
const NOTIFIED: u64 = 2;
/// The same when the owner has died: for whoever waits and is entitled.
const ORPHAN: u64 = 3;

/// Access to the waiters of a condition.
#[derive(Clone, Copy)]
pub(super) struct Waiters<'a> {
    /// What they sleep on, by their place in the table: a notification of one shall wake few in vain.
    pub(super) notified: &'a [EventCount],
    /// The next ticket.
    pub(super) tickets: &'a AtomicU64,
    pub(super) slots: Slots<'a>,
    pub(super) fences: Fences,
}

/// A waiter's word, which one it is, and its ticket.
#[derive(Clone, Copy)]
pub(super) struct Waiter<'a> {
    slot: &'a AtomicU64,
    index: usize,
    ticket: u64,
}

#[cfg(all(test, loom))]
impl<'a> Waiter<'a> {
    /// In a model: the waiter that has entered here, as the one with this ticket.
    pub(super) fn in_place(words: &'a [AtomicU64], index: usize) -> Waiter<'a> {
        Waiter {
            slot: &words[index],
            index,
            ticket: index as u64,
        }
    }
}

impl<'a> Waiters<'a> {
    fn words(self) -> impl Iterator<Item = (usize, &'a AtomicU64, SlotWord)> {
        let slots = self.slots.each().enumerate();
        slots.map(|(index, slot)| (index, slot, SlotWord::of(slot)))
    }

    /// Enters a waiter: from now on notifications may be its.
    pub(super) fn enter(self, me: MemberId) -> Result<Waiter<'a>, Error> {
        let ticket = self.tickets.fetch_add(1, Relaxed);
        let mine = SlotWord::new(ticket, WAITING, me);
        loop {
            for (index, slot, word) in self.words() {
                if word.state() == FREE && word.replace(slot, mine, AcqRel) {
                    return Ok(Waiter {
                        slot,
                        index,
                        ticket,
                    });
                }
            }
            // A notification of the dead that nobody is entitled to any more is no use.
            let useless = self.words().find(|&(_, _, word)| {
                word.state() == ORPHAN && !self.is_anybody_below(word.sequence())
            });
            match useless {
                Some((_, slot, word)) => {
                    word.replace(slot, word.next(FREE, 0), AcqRel);
                }
                None => self.slots.grow()?,
            }
        }
    }

    fn is_anybody_below(self, limit: u64) -> bool {
        self.waiting(limit).next().is_some()
    }

    fn waiting(self, limit: u64) -> impl Iterator<Item = (usize, &'a AtomicU64, SlotWord)> {
        let entitled = move |word: SlotWord| word.state() == WAITING && word.sequence() < limit;
        self.words().filter(move |&(_, _, word)| entitled(word))
    }

    /// How many wait, some of them perhaps dead.
    pub(super) fn count(self) -> usize {
        self.waiting(u64::MAX).count()
    }

    /// In a model: words that are neither free nor nobody's.
    #[cfg(all(test, loom))]
    pub(super) fn unfinished(self) -> usize {
        let is_over = |word: SlotWord| matches!(word.state(), FREE | ORPHAN);
        self.words().filter(|(_, _, word)| !is_over(*word)).count()
    }

    /// Notifies `count` of those who wait now, the longest first. `is_gone` says of whom it is known already that it needs none.
    pub(super) fn notify(self, count: usize, is_gone: impl Fn(MemberId) -> bool) {
        let limit = self.tickets.load(Relaxed);
        for _ in 0..count {
            if !self.notify_first(limit, &is_gone) {
                return;
            }
        }
    }

    fn notify_first(self, limit: u64, is_gone: impl Fn(MemberId) -> bool) -> bool {
        loop {
            let first = self
                .waiting(limit)
                .filter(|(_, _, word)| !is_gone(word.owner()))
                .min_by_key(|(_, _, word)| word.sequence());
            let Some((index, slot, word)) = first else {
                return false;
            };
            if self.notify_this(limit, slot, word) {
                self.event(index).notify_all(self.fences);
                return true;
            }
        }
    }

    fn notify_this(self, limit: u64, slot: &AtomicU64, word: SlotWord) -> bool {
        let notified = SlotWord::new(limit, NOTIFIED, word.owner());
        // (N) pairs with (O).
        word.replace(slot, notified, AcqRel)
    }

    /// Notifies everybody who waits now.
    pub(super) fn notify_all(self) {
        let limit = self.tickets.load(Relaxed);
        for (_, slot, word) in self.waiting(limit) {
            // Unless it is just leaving, or being notified by somebody else: then it needs none of this.
            self.notify_this(limit, slot, word);
        }
        self.wake_all();
    }

    fn event(self, index: usize) -> &'a EventCount {
        &self.notified[index % self.notified.len()]
    }

    /// What this one sleeps on.
    pub(super) fn event_of(self, waiter: Waiter<'a>) -> &'a EventCount {
        self.event(waiter.index)
    }

    /// Looks whether the waiter has a notification; or takes one that a dead member has left.
    pub(super) fn look(
        self,
        waiter: Waiter<'_>,
        is_dead: Option<&dyn Fn(MemberId) -> bool>,
    ) -> bool {
        // (O) pairs with (N).
        let mine = SlotWord::of(waiter.slot);
        if mine.state() == NOTIFIED {
            return true;
        }
        let left = self.words().find(|&(_, _, word)| {
            let is_left = match word.state() {
                ORPHAN => true,
                NOTIFIED => is_dead.is_some_and(|is_dead| is_dead(word.owner())),
                _ => false,
            };
            is_left && waiter.ticket < word.sequence()
        });
        let Some((_, slot, word)) = left else {
            return false;
        };
        // First its own, then the other's: killed between, there is one too many and not one too few. So it is when somebody
        // else was quicker with the other's.
        let notified = SlotWord::new(word.sequence(), NOTIFIED, mine.owner());
        if mine.replace(waiter.slot, notified, AcqRel) {
            word.replace(slot, word.next(FREE, 0), AcqRel);
        }
        true
    }

    /// The notification takes effect, when its owner can do what it was notified for.
    pub(super) fn take_note(self, waiter: Waiter<'_>) {
        let word = SlotWord::of(waiter.slot);
        waiter.slot.store(word.next(FREE, 0).0, Release);
    }

    /// Ends a wait whose time is over, unless there is a notification after all.
    pub(super) fn leave(self, waiter: Waiter<'_>) -> bool {
        let word = SlotWord::of(waiter.slot);
        word.state() == WAITING && word.replace(waiter.slot, word.next(FREE, 0), AcqRel)
    }

    pub(super) fn wake_all(self) {
        for event in self.notified {
            event.notify_all(self.fences);
        }
    }

    /// Takes the dead off the table, but for notifications that others are entitled to; how many words were changed.
    pub(super) fn repair(self, is_dead: impl Fn(MemberId) -> bool) -> usize {
        let mut repaired = 0;
        for (_, slot, word) in self.words() {
            if word.owner() == 0 || !is_dead(word.owner()) {
                continue;
            }
            let is_wanted = word.state() == NOTIFIED && self.is_anybody_below(word.sequence());
            let new = if is_wanted {
                SlotWord::new(word.sequence(), ORPHAN, 0)
            } else {
                word.next(FREE, 0)
            };
            repaired += usize::from(word.replace(slot, new, AcqRel));
        }
        self.wake_all();
        repaired
    }
}

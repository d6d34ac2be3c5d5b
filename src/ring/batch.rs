//! Several messages at a time. A batch is the steps of single messages in another order: all are claimed, then all are filled and
//! committed; all are taken, then all copied out and acknowledged. So each kill point has the owner that it has there, and no
//! word has a new state. What it saves are wake-ups, and waiting for one cache line after the other: between two locked
//! instructions the CPU fetches nothing ahead.

use super::cursors::Cursors;
use super::mpmc::{Message, Mpmc, Owners, Slot, Storage};
use crate::arena::MemberId;

impl<S: Storage> Mpmc<S> {
    /// Claims the positions behind, as long as each is the next one and free, until there are `most`. Who holds several must not
    /// wait: consumers wait for him.
    #[inline]
    pub(crate) fn claim_more(
        &self,
        cursors: &Cursors,
        me: MemberId,
        slots: &mut Vec<Slot>,
        most: usize,
    ) {
        while slots.len() < most
            && let Some(slot) = self.claim_next(cursors, me)
        {
            slots.push(slot);
        }
    }

    /// Takes the messages behind, as long as each is the next one and is there, until there are `most`.
    #[inline]
    pub(crate) fn take_more(
        &self,
        cursors: &Cursors,
        owners: &impl Owners,
        messages: &mut Vec<Message>,
        most: usize,
    ) {
        for _ in 0..self.ready(cursors, most.saturating_sub(messages.len())) {
            match self.take_next(cursors, owners) {
                Some(message) => messages.push(message),
                None => return,
            }
        }
    }

    /// How many messages are there from the cursor on, `most` at most. Reads their lines all at once.
    fn ready(&self, cursors: &Cursors, most: usize) -> usize {
        let laps = self.laps();
        let mut at = cursors.get();
        (0..most)
            .take_while(|_| {
                let there = self.load_published(laps.index(at)).lap() == laps.lap(at);
                at = laps.next(at);
                there
            })
            .count()
    }
}

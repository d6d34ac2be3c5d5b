//! For who waits for the end of something that others hold: whether anybody who holds it still lives. The kernel is asked, so
//! this is for those who have waited a while.

use super::words::{HolderWord, MemberId, MemberWord};
use super::{Arena, Block, Depends, View};
use std::sync::atomic::Ordering::Acquire;

impl Arena {
    /// Sees to it that an object that only the dead hold, or that is nobody's though others hold it, comes to its end. The caller need not hold it; nothing happens when it
    /// has gone already, or while somebody else is at such work.
    pub(crate) fn tend(&self, block: Block) {
        self.tend_all(std::iter::once(block));
    }

    /// The same for several, which is cheaper than one after the other: each member is asked for once.
    pub(crate) fn tend_all(&self, blocks: impl Iterator<Item = Block>) {
        if self.check().is_err() {
            return;
        }
        // Under the role, so that the object stays what it is while its holders are looked at.
        let Some(role) = self.try_maintain(true) else {
            return;
        };
        let (mut living, mut tidy) = (Vec::new(), false);
        let mut is_orphan = |block| {
            if !self.is_object(block) {
                return false;
            }
            let Some((kind, view)) = self.kind_and_view(block) else {
                return false;
            };
            match kind.depends(view) {
                Some(Depends::On(member)) => !self.is_living(member, &mut living),
                Some(Depends::OnMessages) if view.is_in_message() => true,
                Some(_) => {
                    tidy = true;
                    true
                }
                // One is enough: usually a single question.
                None => {
                    !view.any_holder(|slot| self.lives(HolderWord(slot.load(Acquire)), &mut living))
                }
            }
        };
        let orphans: Vec<Block> = blocks.filter(|&block| is_orphan(block)).collect();
        self.release(role);
        if orphans.is_empty() {
            return;
        }
        if tidy {
            self.collect(true);
        } else {
            // Of the dead, or held by messages alone, or by nobody. Whose the messages are is found out by collecting.
            self.collect_dead();
        }
        for block in orphans {
            self.destroy_if_unheld(block);
        }
    }

    /// Collects what the dead left if anybody has died. Unlike [`collect`](Self::collect) it does not tidy up otherwise.
    fn collect_dead(&self) {
        if !self.dead_members(true).is_empty() {
            self.collect(false);
        }
    }

    /// Whether this holder is a member that lives, or the seat of one that a living member is about to start. Who was found
    /// `living` is not asked for again.
    fn lives(&self, holder: HolderWord, living: &mut Vec<(MemberId, u64)>) -> bool {
        if holder.kind() != HolderWord::MEMBER || !self.member_holds(holder) {
            return false;
        }
        let id = holder.index() as MemberId;
        let word = MemberWord(self.row(id).word.load(Acquire));
        let asked = match word.state() {
            MemberWord::RESERVED => word.pid() as MemberId,
            _ => id,
        };
        // "Alive" may be said of a later member with the same number.
        self.is_living(asked, living) && self.member_holds(holder)
    }

    /// Whether the member with this number, whichever it is now, lives.
    fn is_living(&self, id: MemberId, living: &mut Vec<(MemberId, u64)>) -> bool {
        let name = (id, self.row(id).word.load(Acquire));
        if !living.contains(&name) {
            if self.is_dead(id) {
                return false;
            }
            living.push(name);
        }
        true
    }

    /// Takes everything out of an object that the caller holds and lets it go: nobody will use it. When somebody else keeps the
    /// maintenance role, it goes with the object.
    pub(crate) fn empty(&self, block: Block) {
        let Some(role) = self.maintain() else {
            return;
        };
        if let Some((kind, view)) = self.kind_and_view(block) {
            let mut unheld = Vec::new();
            kind.destroy(view, &mut |owned| {
                unheld.extend(super::parcel::dismantle(owned))
            });
            self.destroy_all(unheld);
        }
        self.release(role);
    }

    /// An object of this kind that the caller does not hold, if it is still there. Only for who has the maintenance role, as a
    /// kind's hooks do: nothing is destroyed meanwhile.
    pub(crate) fn find(&self, block: Block, kind: u32) -> Option<View<'_>> {
        if !self.is_object(block) {
            return None;
        }
        let (found, view) = self.kind_and_view(block)?;
        (found.id() == kind).then_some(view)
    }
}

//! The members table: who belongs to the family, and who of them is dead.
//!
//! A row goes `FREE -> RESERVED -> JOINING -> ALIVE -> DEAD -> FREE`. Its number is the tag by which words all over the arena
//! name their owner, so a row becomes `FREE` only after every tag of it was removed (`collect.rs`). There is no step
//! for leaving: every end of a process is treated as its death.

use super::words::{HolderWord, MemberId, MemberWord};
use super::{Arena, MemberRow};
use crate::error::Error;
use crate::os::liveness::{self, Identity};
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// A row kept for a child that is being started, and the generation under which it will be a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) id: MemberId,
    pub(crate) generation: u32,
}

/// Members known to be dead before a repair began; nothing of theirs changes any more except by repair.
#[derive(Debug, Default)]
pub(crate) struct Dead(Vec<(MemberId, MemberWord)>);

impl Dead {
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.0.iter().any(|&(dead, _)| u64::from(dead) == id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (MemberId, MemberWord)> + '_ {
        self.0.iter().copied()
    }
}

impl Arena {
    fn ids(&self) -> std::ops::RangeInclusive<MemberId> {
        1..=self.0.layout.max_members as MemberId
    }

    /// The root takes a row in an arena that nobody else knows yet.
    pub(super) fn join_first(&self) -> io::Result<()> {
        let seat = self.reserve()?;
        self.take_seat(seat)
    }

    /// Keeps a row for a child.
    pub(crate) fn reserve(&self) -> Result<Reservation, Error> {
        self.check()?;
        if let Some(seat) = self.reserve_free() {
            return Ok(seat);
        }
        self.collect(true);
        self.reserve_free().ok_or(Error::TooManyMembers)
    }

    fn reserve_free(&self) -> Option<Reservation> {
        self.ids().find_map(|id| {
            let word = MemberWord(self.row(id).word.load(Acquire));
            if word.state() != MemberWord::FREE {
                return None;
            }
            let generation = (word.generation() as u32).wrapping_add(1);
            let kept = MemberWord::new(MemberWord::RESERVED, self.me().into(), generation.into());
            self.row(id)
                .word
                .compare_exchange(word.0, kept.0, AcqRel, Relaxed)
                .ok()?;
            // Where the number will hold under which the child joins.
            let numbered = Identity::numbered(0, liveness::namespace_of_children());
            write_identity(self.row(id), &numbered);
            Some(Reservation { id, generation })
        })
    }

    /// Gives a reserved row back whose child did not come to join.
    pub(crate) fn cancel(&self, seat: Reservation) {
        let word = MemberWord::new(
            MemberWord::RESERVED,
            self.me().into(),
            seat.generation.into(),
        );
        let free = MemberWord::new(MemberWord::FREE, 0, seat.generation.into());
        let _ = self
            .row(seat.id)
            .word
            .compare_exchange(word.0, free.0, AcqRel, Relaxed);
    }

    /// Makes the row that of the child which was just started: from now on it stays reserved as long as the child lives,
    /// whatever becomes of this process.
    pub(crate) fn hand_over(&self, seat: Reservation, pid: u32) {
        let word = MemberWord::new(
            MemberWord::RESERVED,
            self.me().into(),
            seat.generation.into(),
        );
        let joining = MemberWord::new(MemberWord::JOINING, pid.into(), seat.generation.into());
        // A failure means that the child was quicker.
        let _ = self
            .row(seat.id)
            .word
            .compare_exchange(word.0, joining.0, AcqRel, Relaxed);
    }

    /// Makes this process the member for which the row was reserved.
    pub(super) fn take_seat(&self, seat: Reservation) -> io::Result<()> {
        if seat.id == 0 || !self.ids().contains(&seat.id) {
            return Err(Error::StaleHandle.into());
        }
        let identity = Identity::current()?;
        let row = self.row(seat.id);
        let pid = u64::from(identity.pid);
        let joining = MemberWord::new(MemberWord::JOINING, pid, seat.generation.into());
        loop {
            let word = MemberWord(row.word.load(Acquire));
            let kept = matches!(word.state(), MemberWord::RESERVED | MemberWord::JOINING);
            if !kept || word.generation() != u64::from(seat.generation) {
                return Err(Error::StaleHandle.into());
            }
            // A failure means that the parent hands it over.
            if row
                .word
                .compare_exchange(word.0, joining.0, AcqRel, Relaxed)
                .is_ok()
            {
                break;
            }
        }
        write_identity(row, &identity);
        let alive = MemberWord::new(MemberWord::ALIVE, pid, seat.generation.into());
        row.word.store(alive.0, Release);
        self.set_me(seat.id, seat.generation.into());
        Ok(())
    }

    /// Whether the member with this tag has ended, or is no member any more. Asks the kernel: for slow paths. Load the
    /// tagged word first, ask then, and change exactly that word: so a tag that was recycled meanwhile stays untouched.
    pub(crate) fn is_dead(&self, id: MemberId) -> bool {
        let row = self.row(id);
        loop {
            let word = MemberWord(row.word.load(Acquire));
            let dead = match word.state() {
                MemberWord::FREE | MemberWord::DEAD => return true,
                MemberWord::RESERVED => return false,
                _ if id == self.me() => return false,
                MemberWord::JOINING => liveness::is_gone(&joining_identity(row, word)),
                _ => liveness::is_dead(&read_identity(row), self.0.file),
            };
            // The answer is about what was read only if the row is still the same.
            if row.word.load(Acquire) == word.0 {
                if dead {
                    self.mark_dead(id, word);
                }
                return dead;
            }
        }
    }

    /// Marks the member with this pid, which the caller knows to have ended (it has reaped it).
    pub(crate) fn mark_ended(&self, seat: Reservation) {
        let word = MemberWord(self.row(seat.id).word.load(Acquire));
        if word.generation() != u64::from(seat.generation) {
            return;
        }
        match word.state() {
            MemberWord::RESERVED => self.cancel(seat),
            MemberWord::JOINING | MemberWord::ALIVE => self.mark_dead(seat.id, word),
            _ => {}
        }
    }

    fn mark_dead(&self, id: MemberId, word: MemberWord) {
        // First: whoever sees the new count looks at the tags of the dead and asks for himself.
        self.header().deaths.fetch_add(1, AcqRel);
        let dead = MemberWord::new(MemberWord::DEAD, word.pid(), word.generation());
        let _ = self
            .row(id)
            .word
            .compare_exchange(word.0, dead.0, AcqRel, Relaxed);
    }

    /// Every dead member whose tags may still be around. With `ask`, members are asked for; else only the marked ones.
    pub(super) fn dead_members(&self, ask: bool) -> Dead {
        let mut dead = Vec::new();
        for id in self.ids() {
            if ask && self.row(id).word.load(Relaxed) != 0 {
                self.is_dead(id);
            }
            let word = MemberWord(self.row(id).word.load(Acquire));
            if word.state() == MemberWord::DEAD {
                dead.push((id, word));
            }
        }
        Dead(dead)
    }

    /// Frees the rows that the dead had reserved. Nothing is tagged with them.
    pub(super) fn free_reserved(&self, dead: &Dead) {
        for id in self.ids() {
            let word = MemberWord(self.row(id).word.load(Acquire));
            if word.state() == MemberWord::RESERVED && dead.contains(word.pid()) {
                let free = MemberWord::new(MemberWord::FREE, 0, word.generation());
                let _ = self
                    .row(id)
                    .word
                    .compare_exchange(word.0, free.0, AcqRel, Relaxed);
            }
        }
    }

    /// Frees the rows of the dead. Only after all their tags are gone.
    pub(super) fn recycle(&self, dead: &Dead) {
        for (id, word) in dead.rows() {
            let free = MemberWord::new(MemberWord::FREE, 0, word.generation());
            if self
                .row(id)
                .word
                .compare_exchange(word.0, free.0, AcqRel, Relaxed)
                .is_ok()
            {
                self.count_repair();
            }
        }
    }

    /// Whether a holder word names somebody who can hold something.
    pub(super) fn member_holds(&self, holder: HolderWord) -> bool {
        let word = MemberWord(self.row(holder.index() as MemberId).word.load(Acquire));
        let seated = matches!(
            word.state(),
            MemberWord::RESERVED | MemberWord::JOINING | MemberWord::ALIVE
        );
        seated && word.generation() & ((1 << 30) - 1) == holder.generation()
    }

    pub(super) fn generation_of(&self, id: MemberId) -> u64 {
        MemberWord(self.row(id).word.load(Acquire)).generation()
    }

    /// The process with this number in the table, by the number that it has for itself.
    pub(crate) fn pid_of(&self, id: MemberId) -> Option<u32> {
        let word = MemberWord(self.row(id).word.load(Acquire));
        let seated = matches!(word.state(), MemberWord::JOINING | MemberWord::ALIVE);
        seated.then(|| word.pid() as u32)
    }

    /// How many members live, those included that were started and have not come to join yet.
    pub(super) fn members(&self) -> usize {
        self.ids()
            .filter(|&id| {
                let word = MemberWord(self.row(id).word.load(Acquire));
                matches!(word.state(), MemberWord::JOINING | MemberWord::ALIVE)
            })
            .count()
    }
}

fn write_identity(row: &MemberRow, identity: &Identity) {
    let parts = [
        identity.pid.into(),
        identity.pid_ns,
        identity.pidfd_inode,
        identity.start,
    ];
    for (at, part) in row.identity.iter().zip(parts) {
        at.store(part, Relaxed);
    }
}

/// Who is to be asked about while a row is `JOINING`. The namespace is the one that its parent has written down, or its own
/// as soon as the number is its own.
fn joining_identity(row: &MemberRow, word: MemberWord) -> Identity {
    Identity::numbered(word.pid() as u32, row.identity[1].load(Relaxed))
}

fn read_identity(row: &MemberRow) -> Identity {
    let [pid, pid_ns, pidfd_inode, start] = [0, 1, 2, 3].map(|i| row.identity[i].load(Relaxed));
    Identity {
        pid: pid as u32,
        pid_ns,
        pidfd_inode,
        start,
    }
}
